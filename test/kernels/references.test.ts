// The references themselves, against what does not come from us: Float16Array, definitions, and, for the checksum, the
// properties that it is there for. Its bits are part of what is stored: they must never change.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FORMAT, hadamardBlock, OPERATION } from '../../shaders/catalogue.ts';
import * as references from '../../shaders/references.ts';
import { rotate, unrotate } from '../../shaders/rotation.ts';
import { signOf } from '../../shaders/signs.ts';
import { checksumSteps } from '../../shaders/steps.ts';
import { seeded } from '../support/seeded.ts';

const hex = (words: Uint32Array) => [...words].map((word) => word.toString(16).padStart(8, '0')).join('');

test('packF16() and unpackF16() round as Float16Array does', () => {
  const { below, seed } = seeded();
  const half = new Float16Array(1);
  const bits16 = new Uint16Array(half.buffer);
  const float = new Float32Array(1);
  const bits32 = new Uint32Array(float.buffer);
  for (let i = 0; i < 65_536; i++) {
    bits16[0] = i;
    if (Number.isNaN(half[0])) continue;
    bits32[0] = references.unpackF16(i);
    assert.ok(Object.is(float[0], half[0]), `unpack ${i}`);
    assert.equal(references.packF16(bits32[0] ?? 0), i);
  }
  for (let i = 0; i < 200_000; i++) {
    bits32[0] = i < 100_000 ? below(2 ** 32) : (0x3300_0000 + below(0x1500_0000)) | (below(2) << 31);
    const wanted = Number.isNaN(float[0]) ? undefined : float[0];
    if (wanted === undefined) continue;
    half[0] = wanted;
    assert.equal(references.packF16(bits32[0] ?? 0), bits16[0], `pack ${wanted}, SEED=${seed}`);
  }
});

test('packBf16() takes the nearest, the even one of two', () => {
  const cases = [
    [0x3f80_0000, 0x3f80],
    [0x3f80_8000, 0x3f80], // a tie, down to even
    [0x3f81_8000, 0x3f82], // a tie, up to even
    [0x3f80_8001, 0x3f81],
    [0x7f7f_ffff, 0x7f80], // beyond the largest: infinity
    [0x8000_0000, 0x8000],
    [0x0000_8001, 0x0001], // denormal
    [0xff80_0000, 0xff80],
  ] as const;
  for (const [bits, wanted] of cases) assert.equal(references.packBf16(bits), wanted, bits.toString(16));
});

test('NaN keeps its sign and upper payload, and becomes quiet', () => {
  assert.equal(references.packF16(0xffa0_2000), 0xff01);
  assert.equal(references.packBf16(0xffa0_0001), 0xffe0);
  assert.equal(references.packBf16(0x7f80_0001), 0x7fc0);
  assert.equal(references.unpackF16(0x7d01), 0x7fa0_2000);
});

test('hadamard() is its own inverse and keeps lengths; blocks of 80 and 96 are 16 and 32', () => {
  assert.deepEqual([64, 80, 96, 128, 256, 512].map(hadamardBlock), [64, 16, 32, 128, 256, 256]);
  const { next } = seeded();
  const source = Float64Array.from({ length: 160 }, () => next() - 0.5);
  const once = references.hadamard(source, 16);
  const twice = references.hadamard(once, 16);
  const norm = (x: Float64Array) => references.reduce(x, x.length, OPERATION.sumOfSquares)[0] ?? 0;
  assert.ok(Math.abs(norm(once) - norm(source)) < 1e-12);
  assert.ok(source.every((value, i) => Math.abs(value - (twice[i] ?? 0)) < 1e-12));
});

test('signOf() has these signs for ever, about half of them negative', () => {
  const signs = Array.from({ length: 64 }, (_, channel) => (signOf(channel) < 0 ? '-' : '+')).join('');
  assert.equal(signs, '++-++-++--+++-+---+--++-+-------+-+--+++-++--+--+---++-+++++++++');
  const negative = Array.from({ length: 256 }, (_, channel) => signOf(channel)).filter((sign) => sign < 0).length;
  assert.ok(Math.abs(negative - 128) < 4 * 8, `${negative} of 256`);
});

test('rotate() is signs and then the transform; unrotate() undoes it', () => {
  const { next, seed } = seeded();
  for (const dim of [64, 80, 96, 128, 256]) {
    const vector = Float32Array.from({ length: dim }, () => next() - 0.5);
    const expected = references.hadamard(
      vector.map((value, channel) => value * signOf(channel)),
      hadamardBlock(dim),
    );
    const turned = Float32Array.from(vector);
    rotate(turned);
    const isNear = (value: number, i: number) => Math.abs(value - (expected[i] ?? 0)) < 1e-6;
    assert.ok(turned.every(isNear), `${dim}, SEED=${seed}`);
    unrotate(turned);
    assert.ok(
      turned.every((value, i) => Math.abs(value - (vector[i] ?? 0)) < 1e-6),
      `${dim}, SEED=${seed}`,
    );
  }
  assert.throws(() => rotate(new Float32Array(72)), { message: /a multiple of 16 values, not 72/ });
});

test('pack() and unpack() are exact where both formats agree', () => {
  const source = new Uint32Array(Float32Array.of(1, -0, 0.5, -2, 1024).buffer);
  for (const format of Object.values(FORMAT))
    assert.deepEqual(references.unpack(references.pack(source, format), format), source);
});

test('checksum() has these bits for ever', () => {
  const bytes = Uint8Array.from({ length: 100_000 }, (_, i) => (i * 31) ^ (i >> 8));
  const found = [0, 1, 16, 1000, 100_000].map((length) => hex(references.checksum(bytes.subarray(0, length))));
  assert.deepEqual(found, KNOWN);
});

test('checksum() changes in half of its bits, and always, with any bit, length or order', () => {
  const { bytes, below, seed } = seeded();
  const seen = new Map<string, string>();
  const meet = (data: Uint8Array, what: string) => {
    const key = hex(references.checksum(data));
    assert.equal(seen.get(key), undefined, `${what}, SEED=${seed}`);
    seen.set(key, what);
    return references.checksum(data);
  };
  for (let zeros = 0; zeros < 600; zeros++) meet(new Uint8Array(zeros), `${zeros} zeros`);
  const base = bytes(70_000);
  const plain = meet(base, 'the base');
  let changed = 0;
  for (let i = 0; i < 200; i++) {
    const bit = i * 2800 + below(2800);
    const other = base.slice();
    other[bit >> 3] = (other[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    const sum = meet(other, `bit ${bit}`);
    for (let word = 0; word < 4; word++) changed += ones((sum[word] ?? 0) ^ (plain[word] ?? 0));
  }
  // 25,600 coins: within 6 standard deviations of half
  assert.ok(Math.abs(changed - 12_800) < 6 * 80, `${changed} of 25600 bits`);
  const swapped = base.slice();
  swapped.set(base.subarray(16, 32), 1040);
  swapped.set(base.subarray(1040, 1056), 16);
  meet(swapped, 'two units exchanged');
});

function ones(word: number): number {
  let count = 0;
  for (let left = word >>> 0; left > 0; left = Math.floor(left / 2)) count += left & 1;
  return count;
}

test('checksumSteps() end in one unit, after few levels', () => {
  for (const bytes of [0, 1, 512, 513, 65_536, 2 ** 21, 2 ** 27, 2 ** 32 - 1]) {
    const steps = checksumSteps(bytes);
    assert.equal(steps.at(-1)?.streams, 1);
    assert.ok(steps.length <= 6, `${bytes}: ${steps.length}`);
  }
});

const KNOWN = [
  '6e44aae91c1f9f195bcac4ed705733da',
  '85507258870dc820db141c4487acfd86',
  'd76d2fce4afba0b2e014a068d9c107c5',
  '7514212d9d5a39f4345f33d043c2a201',
  '3c0cb1c75733f81336875a059a7019a0',
];
