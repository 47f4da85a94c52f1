// Parts of pages packed and unpacked by a real adapter: lossless containers are those of the reference, every bit comes back,
// ec keeps to its error or its bits, what would not become smaller stays as it is, and a changed byte is seen.
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { encodeLossless } from '../../../core/codec/lossless.ts';
import { floatsOf } from '../../../core/codec/means.ts';
import { isWhole, pack, unpack } from '../../../core/codec/packing.ts';
import type { Desk, Packing, PagePart } from '../../../core/codec/packing-desk.ts';
import type { KvDtype } from '../../../core/contract/kv.ts';
import type { GpuLease } from '../../../core/gpu/gpu-lease.ts';
import { startPool } from '../../support/adapters.ts';
import { assertSameBytes } from '../../support/bytes.ts';
import { gaussian } from '../../support/gaussian.ts';
import { narrowed } from '../../support/kv.ts';
import { seeded } from '../../support/seeded.ts';

const random = seeded();
const normal = gaussian(random);
const DTYPE = { f16: 'F16', bf16: 'BF16', f32: 'F32' } as const satisfies Record<string, KvDtype>;
type Exact = keyof typeof DTYPE;

/** An adapter with a lease of a page for each content, all of one size; and the parts that fill them. */
async function desk(t: TestContext, contents: readonly Uint8Array[], codec: PagePart['codec'], dim: number) {
  const { pool, pieces } = await startPool(t);
  const [first = new Uint8Array(256)] = contents;
  const lease: GpuLease = pool.lease({ pageBytes: first.length });
  assert.ok(lease.grow(contents.length * first.length));
  const piece = await pieces.take();
  t.after(() => piece.release());
  const desk: Desk = { piece, run: (work) => lease.run(work) };
  const vectors = (first.length * 8) / (codec === 'f32' ? 32 : 16) / dim;
  const parts = contents.map((_, page): PagePart => {
    const { binding, byteOffset } = lease.range(page);
    return { range: { at: binding, offset: byteOffset, size: first.length }, codec, vectors, dim };
  });
  async function write(all: readonly Uint8Array[]): Promise<void> {
    for (const [page, bytes] of all.entries()) {
      piece.bytes.set(bytes);
      await lease.write(page * first.length, piece, bytes.length);
    }
  }
  async function read(page: number): Promise<Uint8Array> {
    await lease.read(page * first.length, piece, first.length);
    return Uint8Array.from(piece.bytes.subarray(0, first.length));
  }
  await write(contents);
  return { desk, parts, write, read };
}

const contentOf = (codec: Exact, vectors: number, dim: number, next: (i: number) => number) =>
  narrowed(
    Float32Array.from({ length: vectors * dim }, (_, i) => next(i)),
    DTYPE[codec],
  ).slice();

for (const codec of ['f16', 'bf16', 'f32'] as const)
  test(`pack() makes the lossless containers of the reference of ${codec}, and every bit comes back`, async (t) => {
    const contents: Uint8Array[] = Array.from({ length: 5 }, () => contentOf(codec, 128, 80, normal));
    contents.push(random.bytes(contents[0]?.length ?? 0)); // not smaller: as it is
    const { desk: own, parts, write, read } = await desk(t, contents, codec, 80);
    const packed = await pack(
      parts.map((part) => ({ part, packing: 'lossless' as Packing })),
      own,
    );
    for (const [i, { how, bytes }] of packed.entries()) {
      const content = contents[i] ?? bytes;
      assert.equal(how, i === 5 ? 'records' : 'lossless');
      assertSameBytes(bytes, i === 5 ? content : encodeLossless(content, codec), `part ${i}`);
    }
    assert.ok(packed.every(isWhole));
    await write(contents.map((content) => new Uint8Array(content.length)));
    await unpack(
      parts.flatMap((part, i) => (packed[i] ? [{ part, packed: packed[i] }] : [])),
      own,
    );
    for (const [i, content] of contents.entries()) assertSameBytes(await read(i), content, `page ${i}`);
    for (const each of packed) {
      const at = random.below(each.bytes.length * 8);
      each.bytes[at >> 3] = (each.bytes[at >> 3] ?? 0) ^ (1 << (at & 7));
      assert.ok(!isWhole(each), `bit ${at} of ${each.how}, SEED=${random.seed}`);
    }
  });

test('pack() keeps coded records as they are', async (t) => {
  const contents = [random.bytes(64 * 17 * 4), random.bytes(64 * 17 * 4)];
  const { desk: own, parts, write, read } = await desk(t, contents, 'tq4', 128);
  const packed = await pack(
    parts.map((part) => ({ part, packing: { axis: 'channels', error: 0.1 } as Packing })),
    own,
  );
  assert.deepEqual(
    packed.map(({ how }) => how),
    ['records', 'records'],
  );
  await write(contents.map((content) => new Uint8Array(content.length)));
  await unpack(
    parts.flatMap((part, i) => (packed[i] ? [{ part, packed: packed[i] }] : [])),
    own,
  );
  for (const [i, content] of contents.entries()) assertSameBytes(await read(i), content, `page ${i}`);
});

function relativeError(found: Uint8Array, wanted: Uint8Array, dtype: KvDtype): number {
  const [a, b] = [floatsOf(found, dtype), floatsOf(wanted, dtype)];
  const square = (sum: number, x: number) => sum + x * x;
  return b.map((x, i) => x - (a[i] ?? 0)).reduce(square, 0) / b.reduce(square, 0);
}

for (const codec of ['f16', 'bf16', 'f32'] as const)
  test(`pack() keeps to the error or the bits that are asked of ec, from ${codec} and back`, async (t) => {
    const large = Float32Array.from({ length: 128 }, () => (random.below(16) === 0 ? 8 : 0));
    const keys = () => contentOf(codec, 256, 128, (i) => normal() + (large[i % 128] ?? 0));
    const contents = [keys(), contentOf(codec, 256, 128, normal), keys(), contentOf(codec, 256, 128, () => 0)];
    const noNumbers = contentOf(codec, 256, 128, (i) => (i === 77 ? Number.NaN : normal()));
    contents.push(noNumbers);
    const { desk: own, parts, write, read } = await desk(t, contents, codec, 128);
    const grades: Packing[] = [
      { axis: 'channels', error: 0.0031 },
      { axis: 'vectors', error: 0.0094 },
      { axis: 'channels', bits: 4.5 },
      { axis: 'vectors', error: 0.0094 },
      { axis: 'vectors', error: 0.0094 },
    ];
    const packed = await pack(
      parts.flatMap((part, i) => (grades[i] ? [{ part, packing: grades[i] }] : [])),
      own,
    );
    assert.deepEqual(
      packed.map(({ how }) => how),
      ['ec', 'ec', 'ec', 'ec', 'lossless'],
      'what has no energy in numbers keeps every bit',
    );
    const bits = packed.map(({ bytes }) => (bytes.length * 8) / (256 * 128));
    assert.ok((bits[2] ?? 0) <= 4.5 && (bits[2] ?? 0) > 4.2, `${bits} bits`);
    assert.ok((bits[0] ?? 9) < 6 && (bits[1] ?? 9) < 5 && (bits[3] ?? 9) < 0.2, `${bits} bits`);
    await write(contents.map((content) => new Uint8Array(content.length)));
    await unpack(
      parts.flatMap((part, i) => (packed[i] ? [{ part, packed: packed[i] }] : [])),
      own,
    );
    const rounding = codec === 'bf16' ? 2e-6 : 0;
    for (const [i, error] of [0.0031, 0.0094].entries()) {
      const found = relativeError(await read(i), contents[i] ?? new Uint8Array(0), DTYPE[codec]);
      assert.ok(found > 0 && found <= error * 1.02 + rounding, `part ${i} has an error of ${found}`);
    }
    assert.ok(floatsOf(await read(3), DTYPE[codec]).every((x) => x === 0));
    assertSameBytes(await read(4), noNumbers, 'no numbers');
  });
