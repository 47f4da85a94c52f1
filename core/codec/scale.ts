// What the codecs of rotated vectors know of a vector before they code it, in integers, so that every adapter finds the same:
//   a scale code c stands for 2^((c - 128) / 8), an eighth of an octave to a step: 1 to 254, from 1.7e-5 to 5.5e4, about
//   what f16 spans. 0 is the scale 0: a vector of zeros, or one too small for code 1. 255 is NaN: a vector with a value
//   that is not finite. It decodes to NaN throughout, as such a vector was all NaN after its rotation too; nothing is made
//   up for it, and whoever attends to it sees it.
// A vector too large for code 254 keeps its direction, not its length.

export const ZERO = 0;
export const NOT_FINITE = 255;
const CODE_MAX = 254;
const CODE_ONE = 128; // the scale 1
const STEPS = 8; // to an octave

/** 2^(i / 8) and its inverse, as f32. */
export const SCALES = Float32Array.from({ length: STEPS }, (_, i) => 2 ** (i / STEPS));
export const INVERSES = SCALES.map((scale) => 1 / scale);

export function scaleOf(code: number): number {
  if (code === ZERO) return 0;
  if (code === NOT_FINITE) return Number.NaN;
  return (SCALES[code & 7] ?? 0) * 2 ** ((code - CODE_ONE) >> 3);
}

/** What codes beyond 1 to 254 are stored as. */
export const storedCode = (code: number): number => Math.min(code, CODE_MAX);

export interface Measure {
  readonly kind: 'finite' | 'zero' | 'not finite';
  readonly largest: number;
  /** Every size is below 2^exponent, the largest not below half of that. */
  readonly exponent: number;
  /** Sum of the squares of the values times 2^(11 - exponent), rounded to integers: below 2^31. */
  readonly squares: number;
}

const EXPONENT_MIN = -89;
/** The values times 2^(11 - exponent) are below this. */
export const GRID = 2 ** 11;

export function measure(vector: Float32Array): Measure {
  const bits = new Uint32Array(vector.buffer, vector.byteOffset, vector.length);
  let top = 0;
  for (const each of bits) top = Math.max(top, each & 0x7fff_ffff);
  const exponent = (top >>> 23) - 126;
  if (exponent > 128) return { kind: 'not finite', largest: Number.NaN, exponent, squares: 0 };
  if (exponent < EXPONENT_MIN) return { kind: 'zero', largest: 0, exponent, squares: 0 };
  const onGrid = GRID * 2 ** -exponent;
  let squares = 0;
  let largest = 0;
  for (const value of vector) {
    const whole = rounded(value * onGrid * 2);
    squares += whole * whole;
    largest = Math.max(largest, Math.abs(value));
  }
  return { kind: 'finite', largest, exponent, squares };
}

/** Half of this, to the nearest integer, ties up: a product is only cut off, so that no adapter can fuse it with a sum. */
export const rounded = (twice: number): number => (Math.floor(twice) + 1) >> 1;

/** Of 4 log2 of a number, what its mantissa adds: as many as it reaches of these, of 2^24 to 2^25. */
const QUARTERS = [0.5, 1.5, 2.5, 3.5].map((quarter) => Math.floor(2 ** (quarter / 4) * 2 ** 24));

/** The code nearest to the root mean square; below 1 or above 254 where it does not fit. */
export function rmsCode({ squares, exponent }: Measure, dim: number): number {
  // as if of 128 values: the fraction has to be one of small integers, so that 32 bits hold the product
  const common = Math.min(dim & -dim, 128);
  const of128 = Math.floor((squares * (128 / common)) / (dim / common));
  const leading = Math.clz32(of128);
  const mantissa = leading <= 7 ? of128 >>> (7 - leading) : of128 * 2 ** (leading - 7);
  const quarters = 4 * (31 - leading) + QUARTERS.filter((least) => mantissa >= least).length;
  return CODE_ONE + quarters - 4 * 7 + STEPS * (exponent - 11);
}

/** The smallest code whose scale is not below the largest size. */
export function largestCode({ largest, exponent }: Measure): number {
  const mantissa = largest * 2 ** (1 - exponent);
  return CODE_ONE + STEPS * (exponent - 1) + SCALES.filter((scale) => mantissa > scale).length;
}

/** 1 / scale of a code, also of one that is not stored. */
export const inverseOf = (code: number): number => (INVERSES[code & 7] ?? 0) * 2 ** -((code - CODE_ONE) >> 3);
