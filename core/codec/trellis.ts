// The trellis codecs: tcq4, tcq3 and tcq2 at 1/4 bit a value over their number, tcq4e, tcq3e and tcq2e at exactly 4, 3 and
// 2 bits, all included, both searched over 512 states; tcq4f, tcq3f and tcq2f over 128, for encoders in a hurry. What a
// reader computes depends on the number of states, so it is part of the name.
//   bits 0..7             scale code (scale.ts)
//   from bit 8 + off(t)   value t's state, as many bits as the code has, off(t) = (t * stretch) >> 8, lowest bit first
// Neighbours share bits: a value costs only what `stretch` gives it, and what bits are left at the end are spread over all
// (records.ts), so that any number of words is a rate. A state stands for a level by a formula of two multiplications, a
// division and a rounding; no level lies so near to the middle of two integers that an adapter's division could turn it.
// The record is the one with the least sum of squared differences, on a grid of 1/256 of the scale. All costs are integers
// below 2^32, the low 6 bits of which carry where they came from: the lowest wins a tie, and every adapter finds the same.
// Record of zeros: all bits 0; of a vector that is not finite: word 0 is 255, all others 0.
import {
  formatOf,
  levelsOf,
  type RecordName,
  recordWords,
  SCALE_BITS,
  stretchOf,
  type Trellis,
} from '../../shaders/records.ts';
import type { RecordCodec } from './codec.ts';
import { inverseOf, largestCode, measure, NOT_FINITE, rmsCode, rounded, scaleOf, storedCode, ZERO } from './scale.ts';

/** Levels and values, for each scale. */
const GRID = 256;
/** Grid steps to a unit of the search: squares are multiples of 64. */
const SPREAD = 8;
/** The largest value is at most 4 scales away from 0: where rms is less, this many steps above it, which holds it. */
const OUTLIER_STEPS = 16;
const HELD_STEPS = 2;

export function trellisCodec(name: RecordName): RecordCodec {
  const { trellis } = formatOf(name);
  if (!trellis) throw new Error(`${name} is no trellis codec`);
  const levels = levelsOf(trellis);
  const searches = new Map<number, Search>();
  const searchOf = (dim: number): Search => {
    const known = searches.get(dim) ?? createSearch(trellis, levels, dim, recordWords(name, dim));
    searches.set(dim, known);
    return known;
  };
  return {
    name,
    rotated: true,
    exact: false,
    words: (dim) => recordWords(name, dim),

    encode(vector, record) {
      const { run, states } = searchOf(vector.length);
      record.fill(0);
      const { code, targets } = normalised(vector);
      record[0] = code;
      if (!targets) return;
      run(targets);
      const stretch = stretchOf(trellis, vector.length, record.length);
      for (const [t, state] of states.entries()) putBits(record, SCALE_BITS + ((t * stretch) >> 8), state);
    },

    decode(record, vector) {
      const stretch = stretchOf(trellis, vector.length, recordWords(name, vector.length));
      const unit = scaleOf((record[0] ?? 0) & 0xff) / GRID;
      const mask = 2 ** trellis.stateBits - 1;
      for (let t = 0; t < vector.length; t++)
        vector[t] = (levels[getBits(record, SCALE_BITS + ((t * stretch) >> 8)) & mask] ?? 0) * unit;
    },
  };
}

/** The scale code, and the values in units of the search; none where there is nothing to search for. */
export function normalised(vector: Float32Array): { code: number; targets?: Int32Array } {
  const measured = measure(vector);
  if (measured.kind !== 'finite') return { code: measured.kind === 'zero' ? ZERO : NOT_FINITE };
  const rms = rmsCode(measured, vector.length);
  const held = largestCode(measured) - OUTLIER_STEPS;
  const code = held > rms ? held + HELD_STEPS : rms;
  if (code < 1) return { code: ZERO };
  const inverse = inverseOf(code);
  const targets = new Int32Array(vector.length);
  for (const [i, value] of vector.entries()) targets[i] = SPREAD * rounded(Math.fround(value * inverse) * (2 * GRID));
  return { code: storedCode(code), targets };
}

function putBits(record: Uint32Array, at: number, value: number): void {
  const word = at >> 5;
  const shift = at & 31;
  record[word] = (record[word] ?? 0) | (value << shift);
  if (shift > 0 && word + 1 < record.length) record[word + 1] = (record[word + 1] ?? 0) | (value >>> (32 - shift));
}

function getBits(record: Uint32Array, at: number): number {
  const shift = at & 31;
  const low = (record[at >> 5] ?? 0) >>> shift;
  return shift > 0 ? low | ((record[(at >> 5) + 1] ?? 0) << (32 - shift)) : low;
}

interface Search {
  run(targets: Int32Array): void;
  /** What the last run found. */
  readonly states: Int32Array;
}

/**
 * Viterbi's search. What the next value's state has in common with this one's is its upper bits; so of all states with the
 * same upper bits, a class, only the cheapest goes on. Where a value takes a bit more, two classes become one.
 * `as number`: every index is below the length, by how the arrays are made, and these loops are all of the time.
 */
function createSearch(trellis: Trellis, levels: Int32Array, dim: number, words: number): Search {
  const { stateBits, shiftBits } = trellis;
  const stretch = stretchOf(trellis, dim, words);
  const classes = 2 ** (stateBits - shiftBits);
  const members = 2 ** shiftBits;
  const wide = Float64Array.from(levels, (level) => level * SPREAD);
  const cheapest = new Float64Array(classes);
  const before = new Float64Array(classes);
  const cameFrom = new Uint8Array(dim * classes);
  const tookUpper = new Uint8Array(dim * classes);
  const states = new Int32Array(dim);
  const dropped = (t: number) => (((t + 1) * stretch) >> 8) - ((t * stretch) >> 8);

  /** Of each class, the cheapest way to it, its member in the low 6 bits. */
  function step(target: number): void {
    let state = 0;
    for (let each = 0; each < classes; each++) {
      let least = 2 ** 32;
      for (let member = 0; member < members; member++, state++) {
        const difference = target - (wide[state] as number);
        const cost = (before[state & (classes - 1)] as number) + difference * difference + member;
        if (cost < least) least = cost;
      }
      cheapest[each] = least;
    }
  }

  function forward(targets: Int32Array): void {
    before.fill(0);
    for (let t = 0; t + 1 < dim; t++) {
      step(targets[t] ?? 0);
      const own = t * classes;
      for (let each = 0; each < classes; each++) {
        const cost = cheapest[each] as number;
        const member = cost & 63;
        cameFrom[own + each] = member;
        cheapest[each] = cost - member;
      }
      if (dropped(t) === shiftBits) before.set(cheapest);
      else merge(own);
    }
    step(targets[dim - 1] ?? 0);
  }

  function merge(own: number): void {
    const half = classes / 2;
    for (let pair = 0; pair < half; pair++) {
      const lower = cheapest[2 * pair] as number;
      const upper = cheapest[2 * pair + 1] as number;
      const least = upper < lower ? upper : lower;
      tookUpper[own + pair] = upper < lower ? 1 : 0;
      before[pair] = least;
      before[pair + half] = least;
    }
  }

  function back(): void {
    let best = 0;
    for (let each = 1; each < classes; each++)
      if (Math.floor((cheapest[each] ?? 0) / 64) < Math.floor((cheapest[best] ?? 0) / 64)) best = each;
    let state = best * members + ((cheapest[best] ?? 0) & 63);
    states[dim - 1] = state;
    for (let t = dim - 2; t >= 0; t--) {
      const bits = dropped(t);
      let each = state & (2 ** (stateBits - bits) - 1);
      if (bits > shiftBits) each = 2 * each + (tookUpper[t * classes + each] ?? 0);
      state = each * members + (cameFrom[t * classes + each] ?? 0);
      states[t] = state;
    }
  }

  return {
    states,
    run(targets) {
      forward(targets);
      back();
    },
  };
}
