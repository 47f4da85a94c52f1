// Means of K: of each dtype, of what is not finite, and what a score lacks without them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createMeans, floatsOf, scoreBias, setMean } from '../../../core/codec/means.ts';
import type { KvDtype } from '../../../core/contract/kv.ts';

const SHAPE = { layers: 2, kvHeads: 2, dim: 4 };
const F32 = (...values: number[]) => new Uint8Array(Float32Array.from(values).buffer);

test('floatsOf() reads each dtype, wherever the bytes begin', () => {
  const bits: readonly (readonly [KvDtype, Uint8Array])[] = [
    ['F32', F32(1.5, -2, 0, 3e38)],
    ['F16', new Uint8Array(Uint16Array.of(0x3e00, 0xc000, 0, 0x7c00).buffer)],
    ['BF16', new Uint8Array(Uint16Array.of(0x3fc0, 0xc000, 0, 0x7f80).buffer)],
  ];
  for (const [dtype, bytes] of bits) {
    const shifted = new Uint8Array([7, ...bytes]).subarray(1);
    const [a, b, c, d] = floatsOf(shifted, dtype);
    assert.deepEqual([a, b, c], [1.5, -2, 0], dtype);
    assert.equal(d, dtype === 'F32' ? Math.fround(3e38) : Number.POSITIVE_INFINITY, dtype);
  }
});

test('setMean() sets one row, whatever was there, and zero where a channel is not finite throughout', () => {
  const means = createMeans(SHAPE);
  means.values.fill(9);
  setMean(means, 2, 4, F32(1, Number.NaN, Number.POSITIVE_INFINITY, 3e38, 3, 1, 1, 3e38), 'F32');
  assert.deepEqual([...means.values.subarray(8, 12)], [2, 0, 0, Math.fround(3e38)]);
  assert.ok([...means.values.subarray(0, 8), ...means.values.subarray(12)].every((value) => value === 9));
});

test('scoreBias() is scale * q . mean of the kv head that a head belongs to', () => {
  const means = createMeans(SHAPE);
  means.values.set([1, 2, 3, 4, 10, 20, 30, 40], 8); // layer 1
  const q = Float32Array.from({ length: 4 * 1 * 4 }, (_, i) => (i % 4 === Math.floor(i / 4) ? 1 : 0)); // head h asks channel h
  const bias = scoreBias(means, SHAPE, 1, { q, heads: 4, scale: 0.5 });
  assert.deepEqual([...bias], [0.5, 1, 15, 20]);
});
