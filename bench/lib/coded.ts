// How a codec enters the comparison: as a function from vectors to the vectors that it gives back, and the bits that it took.
// What can be put around any of them is here too: the rotation, and the subtraction of a head's mean. Pure.
import { rotate, unrotate } from '../../shaders/rotation.ts';
import { countOf, SINKS, type Vectors, vectorsOf } from './kv-data.ts';

export interface Coded {
  readonly values: Float32Array<ArrayBuffer>;
  /** For each value, with all metadata. */
  readonly bits: number;
}
export type Coder = (vectors: Vectors) => Coded;

/** A codec as a cache would use it: K and V may be coded in different ways. */
export interface Contestant {
  readonly name: string;
  readonly isOurs: boolean;
  /** Contestants of one series are one codec at several rates. */
  readonly series?: string | undefined;
  readonly keys: Coder;
  readonly values: Coder;
  /** Whether a head's mean is taken from K before it is coded, as its maker would do it. */
  readonly takesMean?: true;
}

/** The codec sees rotated vectors: fixed random signs and a Hadamard transform of each. */
export const rotated =
  (code: Coder): Coder =>
  (vectors) => {
    const { values, bits } = code(eachVector(vectors, rotate));
    return { values: eachVector(vectorsOf(values, vectors.dim), unrotate).values, bits };
  };

function eachVector({ values, dim }: Vectors, change: (vector: Float32Array) => void): Vectors {
  const changed = values.slice();
  for (let at = 0; at < changed.length; at += dim) change(changed.subarray(at, at + dim));
  return vectorsOf(changed, dim);
}

// ---- the mean of a head

/** From how many tokens a head's mean is taken; the sinks before them are not like the others. */
const MEAN_TOKENS = 256;

/** The mean of each channel, in f16, once for each vector. */
export function meanOfHead(vectors: Vectors): Vectors {
  const { values, dim } = vectors;
  const mean = new Float64Array(dim);
  const end = Math.min(SINKS + MEAN_TOKENS, countOf(vectors));
  for (let at = SINKS * dim; at < end * dim; at++) mean[at % dim] = (mean[at % dim] ?? 0) + (values[at] ?? 0);
  const rounded = mean.map((sum) => Math.f16round(sum / (end - SINKS)));
  return vectorsOf(
    Float32Array.from(values, (_, i) => rounded[i % dim] ?? 0),
    dim,
  );
}

/**
 * What is left of vectors without the mean of their head; `mean` comes from before a rotary embedding and is turned with
 * each token after it. Softmax does not see a mean of K, whatever error is in it.
 */
export const lessMean = (vectors: Vectors, mean: Vectors): Vectors =>
  vectorsOf(
    vectors.values.map((value, i) => value - (mean.values[i] ?? 0)),
    vectors.dim,
  );

/** What a codec made of the rest, with the mean again: one f16 vector for the whole head. */
export const plusMean = ({ values, bits }: Coded, mean: Vectors): Coded => ({
  values: values.map((value, i) => value + (mean.values[i] ?? 0)),
  bits: bits + 16 / countOf(mean),
});

/** Codes each vectors once: what comes back is the same object then. */
export function remembering(code: Coder): Coder {
  const known = new WeakMap<Vectors, Coded>();
  return (vectors) => {
    const coded = known.get(vectors) ?? code(vectors);
    known.set(vectors, coded);
    return coded;
  };
}

/** The same coder for K and V. */
export const both = (name: string, code: Coder, isOurs = false): Contestant => ({
  ...{ name, isOurs, keys: code, values: code },
});

/** Groups of `size` values, each coded by itself: `code` fills `target` from `source`. */
export function inGroups(
  { values }: Vectors,
  size: number,
  code: (source: Float32Array, target: Float32Array) => void,
): Float32Array<ArrayBuffer> {
  const result = new Float32Array(values.length);
  for (let at = 0; at < values.length; at += size) code(values.subarray(at, at + size), result.subarray(at, at + size));
  return result;
}
