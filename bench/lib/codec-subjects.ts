// What the codec benchmark times on an adapter: the copy of plain values in every form that it can run, and each codec's encode and
// decode in the form that is chosen there. The records that are decoded are those that the kernel made, and both are
// compared with the CPU reference, at the beginning and at the end.
import { recordCodec } from '../../core/codec/record-codecs.ts';
import { type AnyDispatch, type BufferRange, entry } from '../../core/gpu/kernel-choice.ts';
import { RECORDS, type RecordName } from '../../shaders/records.ts';
import { entropySubjects } from './entropy-subjects.ts';
import type { Desk } from './kernel-subjects.ts';
import { DIM, gaussian } from './kv-data.ts';
import { WrongAnswer } from './report.ts';
import type { TimedSubject } from './timed-subject.ts';

const PLAIN_BYTES = DIM * 4;
const TIMED: readonly RecordName[] = ['f16', 'q8r', 'tq4', 'tcq4', 'tcq3', 'tcq2', 'tcq4e', 'tcq4f', 'tcq3f', 'tcq2f'];
const COMPARED = 16;
/** What is compared as a whole with the CPU reference may not take minutes there. */
const ENTROPY_VECTORS_MAX = 1 << 14;

export function copySubjects({ kernels, buffer }: Desk, vectors: number): TimedSubject[] {
  const bytes = vectors * PLAIN_BYTES;
  const [source, target] = [buffer(bytes), buffer(bytes)];
  return entry('copy').variants.flatMap(({ name: variant }): TimedSubject[] => {
    const dispatch = { kernel: 'copy', variant, parameters: { words: bytes / 4 }, bindings: { source, target } };
    return isAble(() => kernels.variantOf(dispatch as unknown as AnyDispatch))
      ? [{ name: 'copy', variant, plainBytes: bytes, dispatches: [dispatch as unknown as AnyDispatch] }]
      : [];
  });
}

function isAble(choose: () => string): boolean {
  try {
    return choose() !== '';
  } catch {
    return false;
  }
}

export async function codecSubjects(desk: Desk, vectors: number): Promise<TimedSubject[]> {
  // the same vectors again and again: what a codec does hardly depends on them, and to make millions would take longer
  const { values } = gaussian(1, Math.min(vectors, 1 << 12));
  const plain = new Float32Array(vectors * DIM);
  for (let at = 0; at < plain.length; at += values.length) plain.set(values.subarray(0, plain.length - at), at);
  const source = desk.buffer(plain);
  const target = desk.buffer(plain.byteLength);
  const subjects: TimedSubject[] = [];
  for (const name of TIMED) subjects.push(...(await subjectsOf(desk, name, { source, target, plain, vectors })));
  return [...subjects, ...(await entropySubjects(desk, plain.subarray(0, ENTROPY_VECTORS_MAX * DIM)))];
}

interface Ranges {
  readonly source: BufferRange;
  readonly target: BufferRange;
  readonly plain: Float32Array;
  readonly vectors: number;
}

async function subjectsOf(desk: Desk, name: RecordName, { source, target, plain, vectors }: Ranges) {
  const words = recordCodec(name).words(DIM);
  const records = desk.buffer(vectors * words * 4);
  const dispatch = (
    kernel: 'encode' | 'decode',
    from: BufferRange,
    fromStep: number,
    to: BufferRange,
    toStep: number,
  ) =>
    ({
      ...{ kernel, constants: { CODEC: RECORDS[name].number, DIM }, bindings: { source: from, target: to } },
      parameters: {
        ...{ vectors, run: vectors },
        ...{ source_first: 0, source_step: fromStep, source_jump: 0 },
        ...{ target_first: 0, target_step: toStep, target_jump: 0 },
      },
    }) as unknown as AnyDispatch;
  const encode = dispatch('encode', source, DIM, records, words);
  const decode = dispatch('decode', records, words, target, DIM);
  await desk.kernels.run([encode, decode]);
  await compare(desk, name, plain, records, target);
  return [encode, decode].map(
    (each): TimedSubject => ({
      ...{ name: `${name} ${each.kernel}`, variant: desk.kernels.variantOf(each) },
      ...{ plainBytes: vectors * PLAIN_BYTES, dispatches: [each] },
    }),
  );
}

async function compare(desk: Desk, name: RecordName, plain: Float32Array, records: BufferRange, target: BufferRange) {
  const codec = recordCodec(name);
  const words = codec.words(DIM);
  const count = plain.length / DIM;
  for (const first of [0, count - COMPARED]) {
    const made = new Uint32Array(await desk.read(records, first * words * 4, COMPARED * words * 4));
    const back = new Uint32Array(await desk.read(target, first * PLAIN_BYTES, COMPARED * PLAIN_BYTES));
    for (let i = 0; i < COMPARED; i++) {
      const record = new Uint32Array(words);
      const vector = new Float32Array(DIM);
      codec.encode(plain.subarray((first + i) * DIM, (first + i + 1) * DIM), record);
      codec.decode(record, vector);
      const bits = new Uint32Array(vector.buffer);
      const isSame =
        record.every((word, at) => word === made[i * words + at]) &&
        bits.every((word, at) => word === back[i * DIM + at]);
      if (!isSame) throw new WrongAnswer(`${name}: vector ${first + i} is not what its CPU reference gives`);
    }
  }
}
