// lossless and ec on an adapter, from values to a container and back, all kernels one after the other: the very bytes of the
// CPU references. And what a damaged container does there: it is found, and nothing outside the target is written.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { sealed } from '../../core/codec/checksum.ts';
import { EC_HEADER_WORDS, type EcAxis, ec, ecHead, ecStreams, stepForError } from '../../core/codec/ec.ts';
import { classWords } from '../../core/codec/ec-classes.ts';
import * as ecSteps from '../../core/codec/ec-steps.ts';
import { encodeLossless, type LosslessCoded, losslessHead, losslessLayout } from '../../core/codec/lossless.ts';
import * as losslessSteps from '../../core/codec/lossless-steps.ts';
import { frequenciesOf, ransTable } from '../../core/codec/rans.ts';
import { OPERATION } from '../../shaders/catalogue.ts';
import { EC_AXIS, EC_BLOCK, EC_SLOT, LOSSLESS_LANES, LOSSLESS_SLOT, workBytes } from '../../shaders/entropy-kernels.ts';
import { checksumSteps } from '../../shaders/steps.ts';
import { assertSameBytes } from '../support/bytes.ts';
import { type Seeded, seeded } from '../support/seeded.ts';
import { type Opened, openSource, type Source, workOn } from './adapters.ts';
import { ecContent, normalContent } from './entropy-cases.ts';

const SEAL_BYTES = 16;
const KINDS = ['f16', 'bf16', 'f32'] as const;
const bytesOf = ({ buffer, byteOffset, byteLength }: ArrayBufferView) =>
  new Uint8Array(buffer, byteOffset, byteLength).slice();
const wordsOf = (bytes: Uint8Array) => new Uint32Array(bytes.slice().buffer);

export async function testEntropyOn(source: Source): Promise<void> {
  const opened = await openSource(source, { robustness: false });
  if (typeof opened === 'string') {
    test(`${source}`, { skip: opened }, () => {});
    return;
  }
  const random = seeded();
  const desk = createDesk(opened);
  const where = (what: string) => `${source}: ${what}, SEED=${random.seed}`;
  after(() => opened.device.destroy());

  for (const kind of KINDS)
    test(where(`lossless ${kind} is coded and decoded as by its reference`), async () => {
      for (const values of [1030, 50_003]) await losslessRound(desk, kind, normalContent(random, kind, values));
    });

  for (const axis of Object.keys(EC_AXIS) as EcAxis[])
    test(where(`ec by ${axis} is coded and decoded as by its reference`), async () => {
      for (const [vectors, dim] of [
        [64, 128],
        [200, 80],
      ] as const)
        await ecRound(desk, axis, ecContent(random, vectors, dim), { vectors, dim });
    });

  test(where('damage is found, and stays inside'), async () => {
    await losslessDamage(desk, random);
    await ecDamage(desk, random);
    await wrongTable(desk, random);
  });

  test(where('a sum of squares from the adapter gives the step of the reference, or its neighbour'), async () => {
    const values = ecContent(random, 64, 128).map((x) => (Math.abs(x) < 1e3 ? x : 1));
    const energy = await energyOf(desk, values);
    const wanted = values.reduce((sum, x) => sum + x * x, 0) / values.length;
    const apart = Math.abs(stepForError(0.003, energy) / stepForError(0.003, wanted) - 1);
    assert.ok(apart <= 2 ** -7, `${energy} for ${wanted}`);
  });

  test(where('no error went unseen'), () => assert.deepEqual(opened.errors, []));
}

function createDesk(opened: Opened) {
  const { kernels, bench } = workOn(opened);
  return { kernels, ...bench, run: kernels.run, zeros: (bytes: number) => bench.target(bytes, new Uint8Array(bytes)) };
}
type Desk = ReturnType<typeof createDesk>;

function clear(desk: Desk): void {
  for (const buffer of desk.made()) desk.kernels.forget(buffer);
  desk.clear();
}

/** The checksum kernel gives the last bytes of a container. */
async function assertSealed(desk: Desk, container: Uint8Array): Promise<void> {
  let source = desk.source(container);
  for (const parameters of checksumSteps(container.length - SEAL_BYTES)) {
    const target = desk.target(parameters.streams * 16);
    await desk.run([{ kernel: 'checksum', parameters: { ...parameters }, bindings: { source, target } }]);
    source = target;
    if (parameters.streams === 1)
      assertSameBytes(await target.read(16), container.subarray(-SEAL_BYTES), 'the checksum');
  }
}

async function losslessRound(desk: Desk, kind: LosslessCoded, content: Uint8Array): Promise<void> {
  const source = desk.source(content);
  const counting = losslessSteps.countStep(kind, content.length);
  const counts = desk.target(counting.parameters.parts * 1024);
  await desk.run([{ ...counting, bindings: { source, counts } }]);
  const sums = new Uint32Array(256);
  for (const [i, count] of wordsOf(await counts.read(counting.parameters.parts * 1024)).entries())
    sums[i % 256] = (sums[i % 256] ?? 0) + count;

  const frequencies = frequenciesOf(sums);
  const { encode, decode } = ransTable(frequencies);
  const { blocks, directory } = losslessLayout(kind, content.length, frequencies);
  const wordsMax = Math.ceil(content.length / 4);
  const work = desk.target(workBytes(2 * (blocks + 1) * LOSSLESS_LANES, LOSSLESS_SLOT));
  const container = desk.target(wordsMax * 4);
  const [coding, apart, listing, gathering] = losslessSteps.encodeSteps(kind, content.length, frequencies, wordsMax);
  await desk.run([
    { ...coding, bindings: { source, encoding: desk.source(encode), work } },
    { ...apart, bindings: { source, container } },
    { ...listing, bindings: { work, container } },
    { ...gathering, bindings: { work, container } },
  ]);
  const words = wordsOf(await container.read(wordsMax * 4));
  const end = losslessSteps.streamsEnd(words, directory, LOSSLESS_LANES, blocks);
  const whole = words.slice(0, end + SEAL_BYTES / 4);
  whole.set(losslessHead(kind, content.length, whole.length, frequencies));
  const bytes = sealed(whole);
  assertSameBytes(bytes, encodeLossless(content, kind), `${content.length} bytes of ${kind}`);
  await assertSealed(desk, bytes);

  const decoding = losslessSteps.decodeStep(kind, content.length, frequencies, end);
  const got = desk.target(content.length);
  const faults = desk.zeros(2 * (blocks + 1) * LOSSLESS_LANES * 4);
  await desk.run([
    {
      ...decoding,
      bindings: { container: desk.source(bytes), decoding: desk.source(decode), content: got, faults },
    },
  ]);
  assertSameBytes(await got.read(content.length), content, `${content.length} bytes of ${kind} again`);
  assert.ok((await faults.read(faults.size)).every((byte) => byte === 0));
  clear(desk);
}

type Shape = { readonly vectors: number; readonly dim: number };

async function ecRound(desk: Desk, axis: EcAxis, values: Float32Array, shape: Shape): Promise<void> {
  const blocks = Math.ceil(shape.vectors / EC_BLOCK);
  const steps = Array.from({ length: blocks }, (_, i) => stepForError(0.002, 1 + i));
  const wanted = ec.encode(values, shape, { axis, steps });
  const wordsMax = values.length;
  const work = desk.target(workBytes(blocks * ecStreams(shape.dim), EC_SLOT));
  const scales = desk.target(blocks * Math.max(EC_BLOCK, shape.dim) * 4);
  const container = desk.target(wordsMax * 4);
  const [scaling, coding, listing, gathering] = ecSteps.encodeSteps(axis, shape, wordsMax);
  const classes = classWords();
  const given = {
    source: desk.source(values),
    steps: desk.source(ecSteps.stepWords(steps, shape)),
    classes: desk.source(classes.encode),
  };
  await desk.run([
    { ...scaling, bindings: { ...given, scales } },
    { ...coding, bindings: { ...given, scales, work } },
    { ...listing, bindings: { work, container } },
    { ...gathering, bindings: { work, container } },
  ]);
  const words = wordsOf(await container.read(wordsMax * 4));
  const end = losslessSteps.streamsEnd(words, EC_HEADER_WORDS, ecStreams(shape.dim), blocks);
  const whole = words.slice(0, end + SEAL_BYTES / 4);
  whole.set(ecHead(EC_AXIS[axis], shape, whole.length));
  const bytes = sealed(whole);
  assertSameBytes(bytes, wanted, `${shape.vectors} x ${shape.dim} by ${axis}`);

  const got = desk.target(values.byteLength);
  const faults = desk.zeros(blocks * shape.dim);
  await desk.run([
    {
      ...ecSteps.decodeStep(axis, shape, end),
      bindings: { container: desk.source(bytes), classes: desk.source(classes.decode), content: got, faults },
    },
  ]);
  assertSameBytes(await got.read(values.byteLength), bytesOf(ec.decode(wanted).values), 'the values');
  assert.ok((await faults.read(faults.size)).every((byte) => byte === 0));
  clear(desk);
}

/** Of one word in a stream, or of all words there are. */
function* damages(container: Uint8Array, streamsAt: number, random: Seeded) {
  for (let round = 0; round < 8; round++) {
    const words = wordsOf(container);
    const at = streamsAt + random.below(words.length - streamsAt - SEAL_BYTES / 4);
    words[at] = random.below(2 ** 32);
    yield words;
  }
  for (let round = 0; round < 4; round++) yield new Uint32Array(random.bytes(container.length).slice().buffer);
  yield new Uint32Array(container.length / 4).fill(0xffff_ffff);
}

async function losslessDamage(desk: Desk, random: Seeded): Promise<void> {
  const content = normalContent(random, 'bf16', 9001);
  const container = encodeLossless(content, 'bf16');
  const values = new Uint16Array(content.buffer).subarray(0, 9000);
  const counts = new Uint32Array(256);
  for (const value of values) counts[(value >> 7) & 0xff] = (counts[(value >> 7) & 0xff] ?? 0) + 1;
  const frequencies = frequenciesOf(counts);
  const decoding = desk.source(ransTable(frequencies).decode);
  const { streams } = losslessLayout('bf16', content.length, frequencies);
  for (const words of damages(container, streams, random)) {
    const step = losslessSteps.decodeStep('bf16', content.length, frequencies, words.length - SEAL_BYTES / 4);
    const got = desk.target(content.length);
    const faults = desk.zeros(LOSSLESS_LANES * 4);
    const bindings = { container: desk.source(words), decoding, content: got, faults };
    await desk.run([{ ...step, bindings }]);
    await got.read(content.length);
    const found = await faults.read(faults.size);
    assert.ok(
      found.some((byte) => byte !== 0),
      'damage of a stream is found',
    );
  }
  clear(desk);
}

/** A table that is not that of the values: what comes out is nothing, and stays in its slots. */
async function wrongTable(desk: Desk, random: Seeded): Promise<void> {
  const content = random.bytes(8200);
  const step = losslessSteps.encodeSteps('f16', content.length, new Uint16Array(256), 0)[0];
  const length = workBytes(LOSSLESS_LANES, LOSSLESS_SLOT);
  for (const table of [new Uint8Array(1024), new Uint8Array(1024).fill(0xff), random.bytes(1024)])
    for (const variant of ['branch', 'select']) {
      const work = desk.target(length);
      const bindings = { source: desk.source(content), encoding: desk.source(table), work };
      await desk.run([{ ...step, variant, bindings }]);
      await work.read(length);
    }
  clear(desk);
}

async function ecDamage(desk: Desk, random: Seeded): Promise<void> {
  const shape = { vectors: 64, dim: 64 };
  const values = ecContent(random, shape.vectors, shape.dim);
  const axis = 'channels';
  const container = ec.encode(values, shape, { axis, steps: [0.5] });
  const classes = desk.source(classWords().decode);
  const streamsAt = EC_HEADER_WORDS + 4 + 1 + shape.dim / 8 + shape.dim / 2; // behind what scales have at most
  for (const words of damages(container, streamsAt, random)) {
    const got = desk.target(values.byteLength);
    const faults = desk.zeros(shape.dim);
    const bindings = { container: desk.source(words), classes, content: got, faults };
    await desk.run([{ ...ecSteps.decodeStep(axis, shape, words.length - SEAL_BYTES / 4), bindings }]);
    await got.read(values.byteLength);
    const found = await faults.read(faults.size);
    assert.ok(
      found.some((byte) => byte !== 0),
      'damage of a stream is found',
    );
  }
  clear(desk);
}

async function energyOf(desk: Desk, values: Float32Array): Promise<number> {
  const target = desk.target(4);
  await desk.run([
    {
      kernel: 'reduce',
      constants: { OPERATION: OPERATION.sumOfSquares },
      parameters: { length: values.length, span: values.length },
      bindings: { source: desk.source(values), target },
    },
  ]);
  const [sum = 0] = new Float32Array((await target.read(4)).buffer);
  clear(desk);
  return sum / values.length;
}
