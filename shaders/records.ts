// Records: what one vector of a head becomes at a fixed rate, always whole 32-bit words, so that any record can be read
// alone. Here stand each format's number (the constant CODEC of kernels), its words per head dimension, and the numbers of
// the trellis codes; core/codec/ has their CPU references and layouts, record.wgsl reads them on adapters.
// Numbers are stored with what was encoded: they and their meaning never change; a new format takes a new number.

/** The dimensions that records are made for. */
export const HEAD_DIMS: readonly number[] = [64, 80, 96, 128, 256];

/**
 * The computed code of a trellis: a state of `stateBits` bits is spread by `multiplier` over the integers, and the curve
 * u (p0 + p1 u^2) / (1 - q u^2) makes a level of it, rounded to 1/256 of the scale.
 */
export interface Trellis {
  readonly stateBits: number;
  /** A value moves on by so many bits, or by one more. */
  readonly shiftBits: number;
  readonly multiplier: number;
  readonly p0: number;
  readonly p1: number;
  readonly q: number;
  /** Octets of values all take the same number of bits: a little more error, constant shifts for the reader. */
  readonly evenOctets: boolean;
}

export interface RecordFormat {
  /** The constant CODEC. */
  readonly number: number;
  /** Words of a record by head dimension, in the order of HEAD_DIMS. */
  readonly wordsByDim: readonly [number, number, number, number, number];
  /** Records hold rotated vectors (random signs, then Hadamard). */
  readonly rotated: boolean;
  readonly trellis?: Trellis;
}

/** By the number of states: how steep the curve ends. */
const Q_512 = 0.00001370239260722883;
const Q_128 = 0.00021398926037363708;

/** By states and bits per value: the curve that fits normal values at this rate. */
const CURVES = {
  512: {
    4: { stateBits: 9, p0: 1.5372081995010376, p1: -0.000018199214537162334, q: Q_512 },
    3: { stateBits: 9, p0: 1.4842455387115479, p1: -0.0000175716559169814, q: Q_512 },
    2: { stateBits: 9, p0: 1.3914384841918945, p1: -0.00001647342651267536, q: Q_512 },
  },
  128: {
    4: { stateBits: 7, p0: 6.283900260925293, p1: -0.001130079966969788, q: Q_128 },
    3: { stateBits: 7, p0: 5.969705104827881, p1: -0.001073575927875936, q: Q_128 },
    2: { stateBits: 7, p0: 5.603144645690918, p1: -0.001007654587738216, q: Q_128 },
  },
} as const;

export const RECORDS = {
  f32: { number: 0, rotated: false, wordsByDim: [64, 80, 96, 128, 256] },
  f16: { number: 1, rotated: false, wordsByDim: [32, 40, 48, 64, 128] },
  bf16: { number: 2, rotated: false, wordsByDim: [32, 40, 48, 64, 128] },
  q8r: { number: 3, rotated: true, wordsByDim: [16, 20, 24, 32, 64] },
  tq4: { number: 4, rotated: true, wordsByDim: [9, 11, 13, 17, 33] },
  tcq4: {
    ...{ number: 5, rotated: true, wordsByDim: [9, 11, 13, 17, 34] },
    trellis: { ...CURVES[512][4], shiftBits: 4, multiplier: 159, evenOctets: true },
  },
  tcq3: {
    ...{ number: 6, rotated: true, wordsByDim: [7, 8, 10, 13, 26] },
    trellis: { ...CURVES[512][3], shiftBits: 3, multiplier: 445, evenOctets: true },
  },
  tcq2: {
    ...{ number: 7, rotated: true, wordsByDim: [5, 6, 7, 9, 18] },
    trellis: { ...CURVES[512][2], shiftBits: 2, multiplier: 135, evenOctets: true },
  },
  tcq4e: {
    ...{ number: 8, rotated: true, wordsByDim: [8, 10, 12, 16, 32] },
    trellis: { ...CURVES[512][4], shiftBits: 3, multiplier: 151, evenOctets: false },
  },
  tcq3e: {
    ...{ number: 9, rotated: true, wordsByDim: [6, 7, 9, 12, 24] },
    trellis: { ...CURVES[512][3], shiftBits: 2, multiplier: 369, evenOctets: false },
  },
  tcq2e: {
    ...{ number: 10, rotated: true, wordsByDim: [4, 5, 6, 8, 16] },
    trellis: { ...CURVES[512][2], shiftBits: 1, multiplier: 201, evenOctets: false },
  },
  tcq4f: {
    ...{ number: 11, rotated: true, wordsByDim: [9, 11, 13, 17, 34] },
    trellis: { ...CURVES[128][4], shiftBits: 4, multiplier: 7, evenOctets: true },
  },
  tcq3f: {
    ...{ number: 12, rotated: true, wordsByDim: [7, 8, 10, 13, 26] },
    trellis: { ...CURVES[128][3], shiftBits: 3, multiplier: 47, evenOctets: true },
  },
  tcq2f: {
    ...{ number: 13, rotated: true, wordsByDim: [5, 6, 7, 9, 18] },
    trellis: { ...CURVES[128][2], shiftBits: 2, multiplier: 99, evenOctets: true },
  },
} as const satisfies Readonly<Record<string, RecordFormat>>;

export type RecordName = keyof typeof RECORDS;
export const RECORD_NAMES = Object.keys(RECORDS) as readonly RecordName[];

export const formatOf = (name: RecordName): RecordFormat => RECORDS[name];

/** The format that a kernel's CODEC says; undefined for a number that none has. */
export const nameOf = (number: number): RecordName | undefined =>
  RECORD_NAMES.find((name) => RECORDS[name].number === number);

/** 32-bit words of a record of `dim` values; throws for a dimension that records are not made for. */
export function recordWords(name: RecordName, dim: number): number {
  const words = formatOf(name).wordsByDim[HEAD_DIMS.indexOf(dim)];
  if (words === undefined) throw new RangeError(`${name} has records of ${HEAD_DIMS.join(', ')} values, not of ${dim}`);
  return words;
}

/** The first bits of a trellis record are its scale. */
export const SCALE_BITS = 8;

/**
 * How far apart the values' bits begin, in 1/256 of a bit: value t's begin at (t * stretch) >> 8, counted from the scale.
 * The largest at which the last value's bits still fit.
 */
export function stretchOf({ stateBits, evenOctets }: Trellis, dim: number, words: number): number {
  const lastAt = words * 32 - SCALE_BITS - stateBits;
  const widest = Math.floor((256 * (lastAt + 1) - 1) / (dim - 1));
  return evenOctets ? widest - (widest % 32) : widest;
}

/** Level of every state, in 1/256 of the scale. */
export function levelsOf({ stateBits, multiplier, p0, p1, q }: Trellis): Int32Array {
  const states = 2 ** stateBits;
  return Int32Array.from({ length: states }, (_, state) => {
    const spread = (state * multiplier + (multiplier - 1) / 2) % states;
    const u = spread - (states - 1) / 2;
    return Math.round((u * (p0 + p1 * u * u)) / (1 - q * u * u));
  });
}
