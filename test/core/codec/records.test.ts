// The record formats: their sizes, the numbers that are stored for ever, and what the searches rely on.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { recordCodec } from '../../../core/codec/record-codecs.ts';
import {
  formatOf,
  HEAD_DIMS,
  levelsOf,
  nameOf,
  RECORD_NAMES,
  RECORDS,
  recordWords,
  SCALE_BITS,
  stretchOf,
  type Trellis,
} from '../../../shaders/records.ts';

const TRELLISES = RECORD_NAMES.flatMap((name) => formatOf(name).trellis ?? []);

test('numbers and sizes of formats stay what they are', () => {
  const table = RECORD_NAMES.map((name) => [
    name,
    RECORDS[name].number,
    ...HEAD_DIMS.map((dim) => recordWords(name, dim)),
  ]);
  assert.deepEqual(table, [
    ['f32', 0, 64, 80, 96, 128, 256],
    ['f16', 1, 32, 40, 48, 64, 128],
    ['bf16', 2, 32, 40, 48, 64, 128],
    ['q8r', 3, 16, 20, 24, 32, 64],
    ['tq4', 4, 9, 11, 13, 17, 33],
    ['tcq4', 5, 9, 11, 13, 17, 34],
    ['tcq3', 6, 7, 8, 10, 13, 26],
    ['tcq2', 7, 5, 6, 7, 9, 18],
    ['tcq4e', 8, 8, 10, 12, 16, 32],
    ['tcq3e', 9, 6, 7, 9, 12, 24],
    ['tcq2e', 10, 4, 5, 6, 8, 16],
    ['tcq4f', 11, 9, 11, 13, 17, 34],
    ['tcq3f', 12, 7, 8, 10, 13, 26],
    ['tcq2f', 13, 5, 6, 7, 9, 18],
  ]);
  assert.equal(nameOf(7), 'tcq2');
  assert.equal(nameOf(14), undefined);
});

test('words() throws for a dimension that there is not, and says which there are', () => {
  for (const name of RECORD_NAMES)
    assert.throws(() => recordCodec(name).words(100), /has records of 64, 80, 96, 128, 256 values, not of 100/);
});

test('stretchOf() spreads all bits: the last state ends in the record, and a wider one would not', () => {
  for (const name of RECORD_NAMES)
    for (const dim of HEAD_DIMS) {
      const { trellis } = formatOf(name);
      if (!trellis) continue;
      const bits = recordWords(name, dim) * 32;
      const stretch = stretchOf(trellis, dim, recordWords(name, dim));
      const end = (wide: number) => SCALE_BITS + (((dim - 1) * wide) >> 8) + trellis.stateBits;
      assert.ok(end(stretch) <= bits && end(stretch + (trellis.evenOctets ? 32 : 1)) > bits, `${name} of ${dim}`);
      assert.equal(stretch >> 8, trellis.shiftBits, `${name} of ${dim}`);
      assert.ok(trellis.evenOctets ? stretch % 32 === 0 : true);
    }
});

test('levelsOf() are the same whatever an adapter makes of a quotient: none is near the middle of two integers', () => {
  for (const trellis of TRELLISES) {
    const { stateBits, multiplier, p0, p1, q } = trellis;
    for (const [state, level] of levelsOf(trellis).entries()) {
      const u = ((state * multiplier + (multiplier - 1) / 2) % 2 ** stateBits) - (2 ** stateBits - 1) / 2;
      const exact = (u * (p0 + p1 * u * u)) / (1 - q * u * u);
      // a dozen roundings of f32, of terms of which none is larger than twice the result, and a division within 2.5 units
      const uncertain = Math.abs(exact) * 16 * 2 ** -24;
      assert.ok(Math.abs(exact - level) + uncertain < 0.5, `${multiplier}: state ${state} is ${exact}`);
    }
  }
});

test('no cost of a search reaches 2^32', () => {
  for (const trellis of TRELLISES)
    for (const dim of HEAD_DIMS) assert.ok(highestCost(trellis, dim) < 2 ** 32, `${trellis.multiplier} of ${dim}`);
});

/**
 * The cheapest path costs no more than an average one: per value, the squares of values and of levels, which average 0. Any
 * other that goes on has left the cheapest for as many values as states have bits to exchange.
 */
function highestCost(trellis: Trellis, dim: number): number {
  const levels = levelsOf(trellis);
  assert.equal(
    levels.reduce((sum, level) => sum + level, 0),
    0,
  );
  const unit = 8 * 256;
  const power = levels.reduce((sum, level) => sum + (level / 256) ** 2, 0) / levels.length;
  const largest = Math.max(...levels) / 256;
  const valuePower = 2 ** (1 / 8) * 1.01; // the scale is at most half a step below the root mean square
  const apart = Math.ceil(trellis.stateBits / trellis.shiftBits) * (4.01 + largest) ** 2;
  return unit ** 2 * (dim * (valuePower + power) + apart);
}
