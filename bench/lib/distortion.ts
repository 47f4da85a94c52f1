// What a codec does to vectors, in numbers that other people publish too. Pure.
import type { Coded } from './coded.ts';
import type { Vectors } from './kv-data.ts';

export interface Distortion {
  readonly bits: number;
  /** Squared error by squared size, over all vectors: a share of the energy. */
  readonly error: number;
  /** The same after each channel's mean is taken from both: what softmax can see of K. */
  readonly centredError: number;
  /** The error of the vector that suffers most. */
  readonly worst: number;
  /** 1 - the cosine of the angle between a vector and what came back of it, mean over vectors. */
  readonly angle: number;
  /** The error by 4^-bits, the least that N(0,1) can have at so many bits (Shannon): below 1 only where data have structure. */
  readonly overLimit: number;
}

export function distortionOf(vectors: Vectors, { values, bits }: Coded): Distortion {
  const source = vectors.values;
  if (values.length !== source.length) throw new Error(`${values.length} values came back of ${source.length}`);
  const error = relativeError(source, values);
  const centred = relativeError(centredChannels(source, vectors.dim), centredChannels(values, vectors.dim));
  return { bits, error, centredError: centred, ...byVector(vectors, values), overLimit: error * 4 ** bits };
}

function relativeError(source: ArrayLike<number>, coded: ArrayLike<number>): number {
  let [error, energy] = [0, 0];
  for (let i = 0; i < source.length; i++) {
    const value = source[i] ?? 0;
    error += ((coded[i] ?? Number.NaN) - value) ** 2;
    energy += value ** 2;
  }
  return error / energy;
}

function centredChannels(values: Float32Array, dim: number): Float64Array {
  const means = new Float64Array(dim);
  const count = values.length / dim;
  for (let i = 0; i < values.length; i++) means[i % dim] = (means[i % dim] ?? 0) + (values[i] ?? 0) / count;
  return Float64Array.from(values, (value, i) => value - (means[i % dim] ?? 0));
}

function byVector({ values, dim }: Vectors, coded: Float32Array): { readonly angle: number; readonly worst: number } {
  let [angles, worst] = [0, 0];
  for (let at = 0; at < values.length; at += dim) {
    const [vector, back] = [values.subarray(at, at + dim), coded.subarray(at, at + dim)];
    angles += 1 - cosine(vector, back);
    const error = relativeError(vector, back);
    if (!(error <= worst)) worst = error;
  }
  return { angle: (angles * dim) / values.length, worst };
}

export function cosine(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let [product, sizeA, sizeB] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    const [x, y] = [a[i] ?? 0, b[i] ?? Number.NaN];
    product += x * y;
    sizeA += x * x;
    sizeB += y * y;
  }
  return sizeA === 0 && sizeB === 0 ? 1 : product / Math.sqrt(sizeA * sizeB);
}
