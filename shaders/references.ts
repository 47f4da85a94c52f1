// What each kernel must give, computed plainly. For tests and benchmarks: nothing that serves imports this. Sums are in
// f64, so that a kernel's error is its own; what has to be the same bits (pack, unpack, checksum) is in integers.
import { CHECKSUM_UNITS, FORMAT, OPERATION } from './catalogue.ts';
import { angleOf, type Rotary } from './rope.ts';
import { packBf16, packF16, unpackBf16, unpackF16 } from './sixteen-bits.ts';
import { type ChecksumStep, checksumSteps } from './steps.ts';

export { packBf16, packF16, unpackBf16, unpackF16 };

// ---- sixteen bits

export function pack(source: Uint32Array, format: number): Uint16Array {
  return Uint16Array.from(source, format === FORMAT.f16 ? packF16 : packBf16);
}

export function unpack(source: Uint16Array, format: number): Uint32Array {
  return Uint32Array.from(source, format === FORMAT.f16 ? unpackF16 : unpackBf16);
}

// ---- checksum

type State = Uint32Array;
const SPREAD = [0x9e37_79b1, 0x85eb_ca77, 0xc2b2_ae3d, 0x27d4_eb2f];
const TURN = [0x1656_67b1, 0xd3a2_646d, 0xfd70_46c5, 0xb55a_4f09];
const PLACES = [13, 15, 17, 19];

function mix(s: State, units: Uint32Array, at: number): void {
  for (let i = 0; i < 4; i++) {
    const x = (s[i] ?? 0) ^ Math.imul(units[at + i] ?? 0, SPREAD[i] ?? 0);
    const places = PLACES[i] ?? 0;
    s[i] = Math.imul((x << places) | (x >>> (32 - places)), TURN[i] ?? 0);
  }
  const [x = 0, y = 0, z = 0, w = 0] = s;
  s[0] = x + y;
  s[2] = z + w;
  s[1] = y + (s[2] ?? 0);
  s[3] = w + (s[0] ?? 0);
}

function shiftInto(s: State, places: number): void {
  for (let i = 0; i < 4; i++) s[i] = (s[i] ?? 0) ^ ((s[i] ?? 0) >>> places);
}

/** What one level makes of its source. */
export function checksumLevel(source: Uint8Array, { bytes, streams, lanes, level }: ChecksumStep): Uint32Array {
  const count = Math.ceil(bytes / 16);
  const units = new Uint32Array(count * 4);
  new Uint8Array(units.buffer).set(source);
  const digests = new Uint32Array(streams * 4);
  for (let stream = 0; stream < streams; stream++) {
    const state = Uint32Array.from(SPREAD);
    mix(state, Uint32Array.of(stream, level, bytes, 0), 0);
    const first = Math.floor(stream / lanes) * lanes * CHECKSUM_UNITS + (stream % lanes);
    const end = Math.min(count, first + lanes * CHECKSUM_UNITS);
    for (let at = first; at < end; at += lanes) mix(state, units, at * 4);
    for (let round = 0; round < 3; round++) {
      shiftInto(state, 15);
      mix(state, Uint32Array.of(round, round, round, round), 0);
      shiftInto(state, 13);
    }
    digests.set(state, stream * 4);
  }
  return digests;
}

/** 16 bytes of any number of bytes: the same on every machine, for finding equals and faults. Not against an enemy. */
export function checksum(source: Uint8Array): Uint32Array {
  let level: Uint8Array = source;
  for (const step of checksumSteps(source.length)) level = new Uint8Array(checksumLevel(level, step).buffer);
  return new Uint32Array(level.buffer, 0, 4);
}

// ---- floats

export type Numbers = ArrayLike<number>;

/** By definition, not by butterflies: the sign of a place is the parity of the bits that row and column share. */
export function hadamard(source: Numbers, block: number): Float64Array {
  const result = new Float64Array(source.length);
  for (let first = 0; first < source.length; first += block)
    for (let row = 0; row < block; row++) {
      let sum = 0;
      for (let column = 0; column < block; column++) {
        const value = source[first + column] ?? 0;
        sum += parity(row & column) ? -value : value;
      }
      result[first + row] = sum / Math.sqrt(block);
    }
  return result;
}

function parity(bits: number): boolean {
  let odd = false;
  for (let left = bits; left > 0; left &= left - 1) odd = !odd;
  return odd;
}

export function reduce(source: Numbers, span: number, operation: number): Float64Array {
  const result = new Float64Array(Math.ceil(source.length / span));
  for (let row = 0; row < result.length; row++) {
    const own = Array.from(
      { length: Math.min(span, source.length - row * span) },
      (_, i) => source[row * span + i] ?? 0,
    );
    if (operation === OPERATION.max) result[row] = own.reduce((a, b) => Math.max(a, b));
    else if (operation === OPERATION.min) result[row] = own.reduce((a, b) => Math.min(a, b));
    else result[row] = own.reduce((a, b) => a + (operation === OPERATION.sumOfSquares ? b * b : b), 0);
  }
  return result;
}

/** How large what is added up is, segment by segment: what the error of a sum is measured by. */
export function sumsOfSizes(source: Numbers, span: number): Float64Array {
  const sums = new Float64Array(Math.ceil(source.length / span));
  for (let i = 0; i < source.length; i++) {
    const row = Math.floor(i / span);
    sums[row] = (sums[row] ?? 0) + Math.abs(source[i] ?? 0);
  }
  return sums;
}

export interface MatrixShape {
  readonly rows: number;
  readonly inner: number;
  readonly columns: number;
}

/** Only some rows, where all would take long. */
export function matmul(left: Numbers, right: Numbers, shape: MatrixShape, rows?: readonly number[]): Float64Array {
  const { inner, columns } = shape;
  const wanted = rows ?? Array.from({ length: shape.rows }, (_, row) => row);
  const result = new Float64Array(wanted.length * columns);
  for (const [at, row] of wanted.entries())
    for (let k = 0; k < inner; k++) {
      const a = left[row * inner + k] ?? 0;
      for (let column = 0; column < columns; column++)
        result[at * columns + column] = (result[at * columns + column] ?? 0) + a * (right[k * columns + column] ?? 0);
    }
  return result;
}

/** Vectors of `dim` values, with `factor` times their row added; the first row has been taken `begun` times before. */
export function shift(
  source: Float32Array,
  rows: Float32Array,
  { dim, each, begun, factor }: Readonly<Record<'dim' | 'each' | 'begun' | 'factor', number>>,
): Float64Array {
  return Float64Array.from(source, (value, i) => {
    const row = Math.floor((Math.floor(i / dim) + begun) / each);
    return value + factor * (rows[row * dim + (i % dim)] ?? 0);
  });
}

/** Vectors of `dim` values, each turned by the angles of its position. */
export function rope(
  source: Numbers,
  rotary: Rotary,
  dim: number,
  positionOf: (vector: number) => number,
): Float64Array {
  const { dims, pairs } = rotary;
  const result = Float64Array.from(source);
  for (let vector = 0; vector * dim < source.length; vector++)
    for (let pair = 0; pair < dims / 2; pair++) {
      const angle = angleOf(rotary, positionOf(vector), pair);
      const [a, b] = pairs === 'halves' ? [pair, pair + dims / 2] : [2 * pair, 2 * pair + 1];
      const [x, y] = [source[vector * dim + a] ?? 0, source[vector * dim + b] ?? 0];
      result[vector * dim + a] = x * Math.cos(angle) - y * Math.sin(angle);
      result[vector * dim + b] = x * Math.sin(angle) + y * Math.cos(angle);
    }
  return result;
}
