// q8r: a rotated vector at exactly 8 bits a value, all included. Levels lie denser in the middle: an odd number v, |v| < 256,
// stands for v (65536 + v^2) / 2^25 of the scale, which is the least (scale.ts) that holds the largest value.
//   bits 0..7 of word 0   scale code
//   octet 0               values 0..7, 7 bits each, from bit 8 of word 0 to the end of word 1: v = 4 i - 254
//   octet o > 0           values 8 o..8 o + 7, 8 bits each, in words 2 o and 2 o + 1, lowest first: v = 2 i - 255
// A value becomes the nearest level, the upper one of two. Record of zeros: all bits 0; of a vector that is not finite:
// word 0 is 255, all others 0.
import { recordWords } from '../../shaders/records.ts';
import type { RecordCodec } from './codec.ts';
import { inverseOf, largestCode, measure, NOT_FINITE, scaleOf, storedCode } from './scale.ts';

const CENTRE = 65_536;
/** What v = 256 would stand for: the scale. */
const TOP = 2 ** 25;

const level = (v: number): number => v * (CENTRE + v * v);

/** In steps of `step`, so many levels, the lowest of them at `lowest`. */
interface Ladder {
  readonly bits: number;
  readonly step: number;
  readonly lowest: number;
  /** Halfway between levels i - 1 and i. */
  readonly bounds: Int32Array;
}

function ladder(bits: number): Ladder {
  const step = 512 / 2 ** bits;
  const bounds = Int32Array.from({ length: 2 ** bits }, (_, i) => {
    const middle = step * i - 256;
    return middle * (CENTRE + 3 * (step / 2) ** 2 + middle * middle);
  });
  return { bits, step, lowest: step / 2 - 256, bounds };
}

const COARSE = ladder(7);
const FINE = ladder(8);
const ladderOf = (i: number): Ladder => (i < 8 ? COARSE : FINE);

/** How many bounds, but for the lowest, are not above this. */
function indexOf(target: number, { bits, bounds }: Ladder): number {
  let index = 0;
  for (let half = 2 ** (bits - 1); half >= 1; half /= 2) if ((bounds[index + half] ?? 0) <= target) index += half;
  return index;
}

/** Where value i's bits begin. */
const placeOf = (i: number): number => (i < 8 ? 8 + 7 * i : 8 * i);

export const q8r: RecordCodec = {
  name: 'q8r',
  rotated: true,
  exact: false,
  words: (dim) => recordWords('q8r', dim),

  encode(vector, record) {
    record.fill(0);
    const measured = measure(vector);
    if (measured.kind === 'not finite') record[0] = NOT_FINITE;
    if (measured.kind !== 'finite') return;
    const code = largestCode(measured);
    if (code < 1) return;
    record[0] = storedCode(code);
    const toTop = inverseOf(code);
    for (const [i, value] of vector.entries()) {
      const index = indexOf(Math.trunc(Math.fround(value * toTop) * TOP), ladderOf(i));
      const at = placeOf(i);
      const word = at >> 5;
      record[word] = (record[word] ?? 0) | (index << (at & 31));
      if (i < 8 && (at & 31) > 25) record[word + 1] = (record[word + 1] ?? 0) | (index >>> (32 - (at & 31)));
    }
  },

  decode(record, vector) {
    const unit = scaleOf((record[0] ?? 0) & 0xff) / TOP;
    for (let i = 0; i < vector.length; i++) {
      const { bits, step, lowest } = ladderOf(i);
      const at = placeOf(i);
      const word = at >> 5;
      const low = (record[word] ?? 0) >>> (at & 31);
      const high = (at & 31) > 32 - bits ? (record[word + 1] ?? 0) << (32 - (at & 31)) : 0;
      vector[i] = Math.fround(level(step * ((low | high) & (2 ** bits - 1)) + lowest)) * unit;
    }
  },
};
