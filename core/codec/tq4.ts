// tq4: a rotated vector as 16 levels that suit normal values, no table needed: the cheapest to read of those at 4 bits.
//   word 0      the scale, f32: the root mean square, unless a value lies beyond 4 of it; then the largest value stands at
//               the outermost level. 0 for a vector with nothing as large as 2^-90; NaN for one that is not finite
//   word 1 + o  octet o: values 8 o..8 o + 7, 4 bits each, lowest first; i stands for the odd number v = 2 i - 15
// v stands for v (A + B v^2 + C v^4) / 2^22 of the scale: whole numbers below 2^24, so that f32 is exact on every adapter,
// fused or not. A value becomes the nearest level, the outer one of two.
import { recordWords } from '../../shaders/records.ts';
import type { RecordCodec } from './codec.ts';
import { GRID, measure } from './scale.ts';

/** The polynomial nearest to the 16 best levels for N(0, 1). */
const [A, B, C] = [553_000, 32, 4];
const ONE = 2 ** 22;
const OUTLIER = 4;

const level = (v: number): number => v * (A + v * v * (B + C * v * v));
const OUTERMOST = level(15) / ONE;
/** Between |v| = 2 n - 1 and 2 n + 1. */
const BOUNDS = Float32Array.from([1, 2, 3, 4, 5, 6, 7], (n) => (level(2 * n - 1) + level(2 * n + 1)) / 2 / ONE);

export const tq4: RecordCodec = {
  name: 'tq4',
  rotated: true,
  exact: false,
  words: (dim) => recordWords('tq4', dim),

  encode(vector, record) {
    record.fill(0);
    const scale = scaleFor(vector);
    new Float32Array(record.buffer, record.byteOffset, 1)[0] = scale;
    if (!(scale > 0)) return;
    const bounds = BOUNDS.map((bound) => bound * scale);
    for (const [i, value] of vector.entries()) {
      const size = Math.abs(value);
      let beyond = 0;
      for (const bound of bounds) if (size >= bound) beyond++;
      const index = value < 0 ? 7 - beyond : 8 + beyond;
      const word = 1 + (i >> 3);
      record[word] = (record[word] ?? 0) | (index << (4 * (i & 7)));
    }
  },

  decode(record, vector) {
    const unit = (new Float32Array(record.buffer, record.byteOffset, 1)[0] ?? 0) / ONE;
    for (let i = 0; i < vector.length; i++)
      vector[i] = level(2 * (((record[1 + (i >> 3)] ?? 0) >>> (4 * (i & 7))) & 15) - 15) * unit;
  },
};

/** In f32 steps, each rounded once: a kernel finds the same. */
function scaleFor(vector: Float32Array): number {
  const measured = measure(vector);
  if (measured.kind !== 'finite') return measured.largest;
  const { squares, largest, exponent } = measured;
  const perRoot = Math.fround(1 / Math.sqrt(vector.length)) * (2 ** exponent / GRID);
  const rms = Math.fround(Math.floor(Math.sqrt(squares)) * perRoot);
  return largest > OUTLIER * rms ? Math.fround(largest * Math.fround(1 / OUTERMOST)) : rms;
}
