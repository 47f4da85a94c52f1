// The entropy-coded codecs in the codec benchmark: what encodes on an adapter in one run, and what decodes. The streams that the
// adapter makes are compared with those of the CPU reference, word by word, and so is all that comes back of them.
import { type EcAxis, ec, ecStreams, stepForError } from '../../core/codec/ec.ts';
import { classWords } from '../../core/codec/ec-classes.ts';
import * as ecSteps from '../../core/codec/ec-steps.ts';
import { encodeLossless, losslessLayout } from '../../core/codec/lossless.ts';
import * as losslessSteps from '../../core/codec/lossless-steps.ts';
import { frequenciesOf, ransTable, SYMBOLS } from '../../core/codec/rans.ts';
import type { AnyDispatch, BufferRange } from '../../core/gpu/kernel-choice.ts';
import { EC_BLOCK, EC_SLOT, LOSSLESS_LANES, LOSSLESS_SLOT, workBytes } from '../../shaders/entropy-kernels.ts';
import { packBf16, packF16 } from '../../shaders/references.ts';
import type { Desk } from './kernel-subjects.ts';
import { DIM, outlierKeys, sumOfSquares } from './kv-data.ts';
import { WrongAnswer } from './report.ts';
import type { TimedSubject } from './timed-subject.ts';

/** `plain`: vectors of normal values. */
export async function entropySubjects(desk: Desk, plain: Float32Array): Promise<TimedSubject[]> {
  const words = new Uint32Array(plain.buffer, plain.byteOffset, plain.length);
  return [
    ...(await losslessSubjects(desk, 'f16', Uint16Array.from(words, packF16))),
    ...(await losslessSubjects(desk, 'bf16', Uint16Array.from(words, packBf16))),
    ...(await ecSubjects(desk, 'channels', outlierKeys(3, plain.length / DIM).values, 0.0031)),
    ...(await ecSubjects(desk, 'vectors', plain, 0.0094)),
  ];
}

/** Steps of core/codec get their ranges by the names that the catalogue has for them. */
function bound(steps: readonly object[], bindings: Readonly<Record<string, BufferRange>>): AnyDispatch[] {
  return steps.map((step) => ({ ...step, bindings }) as unknown as AnyDispatch);
}

const timed = (
  { kernels }: Desk,
  name: string,
  plainBytes: number,
  dispatches: readonly AnyDispatch[],
): TimedSubject => {
  const [first] = dispatches;
  return { name, variant: first ? kernels.variantOf(first) : '', plainBytes, dispatches };
};

const wordsFrom = async (desk: Desk, range: BufferRange, count: number) =>
  new Uint32Array(await desk.read(range, 0, count * 4));

function assertSame(got: Uint32Array, wanted: Uint32Array, from: number, what: string): void {
  for (let at = from; at < wanted.length; at++)
    if (got[at] !== wanted[at]) throw new WrongAnswer(`${what}: word ${at} is ${got[at]}, not ${wanted[at]}`);
}

/** Containers end in their checksum, which is made on the processor. */
const SEAL_WORDS = 4;
const wordsOf = (bytes: Uint8Array) => new Uint32Array(bytes.slice().buffer);

// ---- lossless

async function losslessSubjects(desk: Desk, kind: 'f16' | 'bf16', values: Uint16Array): Promise<TimedSubject[]> {
  const content = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  const bytes = content.length;
  const wanted = wordsOf(encodeLossless(content, kind));
  const end = wanted.length - SEAL_WORDS;
  const source = desk.buffer(content);
  const counting = losslessSteps.countStep(kind, bytes);
  const counts = desk.buffer(counting.parameters.parts * SYMBOLS * 4);
  const count = bound([counting], { source, counts });
  await desk.kernels.run(count);
  const frequencies = frequenciesOf(added(await wordsFrom(desk, counts, counts.size / 4)));
  const table = ransTable(frequencies);
  const { blocks, directory } = losslessLayout(kind, bytes, frequencies);
  const ranges = {
    ...{ source, container: desk.buffer(wanted.byteLength), content: desk.buffer(bytes) },
    ...{ encoding: desk.buffer(table.encode), decoding: desk.buffer(table.decode) },
    work: desk.buffer(workBytes(blocks * LOSSLESS_LANES, LOSSLESS_SLOT)),
    faults: desk.buffer(blocks * LOSSLESS_LANES * 4),
  };
  const encode = [...count, ...bound(losslessSteps.encodeSteps(kind, bytes, frequencies, end), { ...ranges, counts })];
  const decode = bound([losslessSteps.decodeStep(kind, bytes, frequencies, end)], ranges);
  await desk.kernels.run([...encode, ...decode]);
  const what = `lossless ${kind}`;
  assertSame(await wordsFrom(desk, ranges.container, end), wanted.subarray(0, end), directory, what);
  assertSame(await wordsFrom(desk, ranges.content, bytes / 4), wordsOf(content), 0, `${what}, decoded`);
  return [timed(desk, `${what} encode`, bytes, encode), timed(desk, `${what} decode`, bytes, decode)];
}

function added(parts: Uint32Array): Uint32Array {
  const sums = new Uint32Array(SYMBOLS);
  for (const [i, count] of parts.entries()) sums[i % SYMBOLS] = (sums[i % SYMBOLS] ?? 0) + count;
  return sums;
}

// ---- ec

async function ecSubjects(desk: Desk, axis: EcAxis, values: Float32Array, error: number): Promise<TimedSubject[]> {
  const shape = { vectors: values.length / DIM, dim: DIM };
  const steps = Array.from({ length: Math.ceil(shape.vectors / EC_BLOCK) }, (_, block) => {
    const part = values.subarray(block * EC_BLOCK * DIM, (block + 1) * EC_BLOCK * DIM);
    return stepForError(error, sumOfSquares(part) / part.length);
  });
  const container = ec.encode(values, shape, { axis, steps });
  const wanted = wordsOf(container);
  const end = wanted.length - SEAL_WORDS;
  const { encode: encodeClasses, decode: decodeClasses } = classWords();
  const ranges = {
    ...{ source: desk.buffer(values), steps: desk.buffer(ecSteps.stepWords(steps, shape)) },
    ...{ container: desk.buffer(wanted.byteLength), content: desk.buffer(values.byteLength) },
    scales: desk.buffer(steps.length * Math.max(EC_BLOCK, DIM) * 4),
    work: desk.buffer(workBytes(steps.length * ecStreams(DIM), EC_SLOT)),
    faults: desk.buffer(steps.length * ecStreams(DIM) * 4),
  };
  const encode = bound(ecSteps.encodeSteps(axis, shape, end), { ...ranges, classes: desk.buffer(encodeClasses) });
  const decode = bound([ecSteps.decodeStep(axis, shape, end)], { ...ranges, classes: desk.buffer(decodeClasses) });
  await desk.kernels.run([...encode, ...decode]);
  const what = `ec ${axis}`;
  assertSame(await wordsFrom(desk, ranges.container, end), wanted.subarray(0, end), 4, what);
  const back = new Uint32Array(ec.decode(container).values.buffer);
  assertSame(await wordsFrom(desk, ranges.content, back.length), back, 0, `${what}, decoded`);
  return [
    timed(desk, `${what} encode`, values.byteLength, encode),
    timed(desk, `${what} decode`, values.byteLength, decode),
  ];
}
