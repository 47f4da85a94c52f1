// What coded K and V do to the output of attention: one head's keys and values, and queries that are a little like one of
// its keys, scaled until their logits have a given standard deviation over the tokens (1: nearly all tokens count; 2: some
// tens to hundreds; 4: a few). The error of a query's output is relative (its length by the output's) against exact K and V in
// f64; given is the mean over queries and repetitions, never one figure over all of them, which a few queries would rule. Pure.
import type { Coded } from './coded.ts';
import { cosine } from './distortion.ts';
import {
  countOf,
  gaussian,
  heavyValues,
  normal,
  outlierKeys,
  SINKS,
  uniform,
  type Vectors,
  withChannelMeans,
} from './kv-data.ts';

export const LOGIT_DEVIATIONS = [1, 2, 4] as const;
const QUERIES = 64;
/** How much of a query points at a key; the rest is random. */
const LIKENESS = 0.35;

export interface Scene {
  readonly keys: Vectors;
  readonly values: Vectors;
  readonly queries: readonly Float64Array[];
  /** Of each query, for each of the deviations. */
  readonly outputs: readonly (readonly Float64Array[])[];
}

export interface AttentionError {
  readonly error: number;
  /** 1 - cosine of outputs. */
  readonly angle: number;
}

/** `repetition` gives other data of the same kind; 0 is what one looks at alone. */
export const SCENES: Readonly<Record<'gauss' | 'outliers', (repetition: number, tokens: number) => Scene>> = {
  gauss: (i, tokens) => sceneOf(gaussian(11 + 100 * i, tokens), gaussian(12 + 100 * i, tokens), i),
  outliers: (i, tokens) =>
    sceneOf(outlierKeys(13 + 100 * i, tokens), withChannelMeans(heavyValues(14 + 100 * i, tokens), 15 + 100 * i), i),
};

function sceneOf(keys: Vectors, values: Vectors, repetition: number): Scene {
  const queries = queriesFor(keys, repetition);
  return { keys, values, queries, outputs: queries.map((query) => outputsOf(query, keys, values)) };
}

/** Of logits with deviation 1 over the keys. */
function queriesFor(keys: Vectors, repetition: number): Float64Array[] {
  const { values, dim } = keys;
  const count = countOf(keys);
  const mean = new Float64Array(dim);
  for (const [i, value] of values.entries()) mean[i % dim] = (mean[i % dim] ?? 0) + value / count;
  const next = normal(77 + 1000 * repetition);
  return Array.from({ length: QUERIES }, (_, i) => {
    const token = SINKS + Math.floor(uniform(500 + i + 1000 * repetition)() * (count - 2 * SINKS));
    const key = mean.map((middle, channel) => (values[token * dim + channel] ?? 0) - middle);
    const length = Math.hypot(...key);
    const query = key.map((value) => (LIKENESS * value) / length + next() / Math.sqrt(dim));
    const scale = 1 / deviation(logitsOf(query, keys));
    return query.map((value) => value * scale);
  });
}

function deviation(values: Float64Array): number {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length);
}

function logitsOf(query: Float64Array, { values, dim }: Vectors): Float64Array {
  const logits = new Float64Array(values.length / dim);
  for (let token = 0, at = 0; token < logits.length; token++) {
    let sum = 0;
    for (let i = 0; i < dim; i++, at++) sum += (query[i] ?? 0) * (values[at] ?? 0);
    logits[token] = sum;
  }
  return logits;
}

function softmax(logits: Float64Array, scale: number): Float64Array {
  const most = logits.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const weights = logits.map((logit) => Math.exp((logit - most) * scale));
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / sum);
}

/** One for each deviation: a query's logits are computed once and scaled. */
function outputsOf(query: Float64Array, keys: Vectors, { values, dim }: Vectors): Float64Array[] {
  const logits = logitsOf(query, keys);
  return LOGIT_DEVIATIONS.map((scale) => {
    const output = new Float64Array(dim);
    for (const [token, weight] of softmax(logits, scale).entries())
      for (let i = 0; i < dim; i++) output[i] = (output[i] ?? 0) + weight * (values[token * dim + i] ?? 0);
    return output;
  });
}

/** For each deviation, the mean over the scene's queries. */
export function attentionErrors(scene: Scene, keys: Coded, values: Coded): AttentionError[] {
  const { dim } = scene.keys;
  const got = scene.queries.map((query) =>
    outputsOf(query, { values: keys.values, dim }, { values: values.values, dim }),
  );
  return LOGIT_DEVIATIONS.map((_, level) => {
    let [error, angle] = [0, 0];
    for (const [i, outputs] of scene.outputs.entries()) {
      const [exact, coded] = [outputs[level] ?? new Float64Array(), got[i]?.[level] ?? new Float64Array()];
      error += Math.hypot(...exact.map((value, channel) => value - (coded[channel] ?? 0))) / Math.hypot(...exact);
      angle += 1 - cosine(exact, coded);
    }
    return { error: error / QUERIES, angle: angle / QUERIES };
  });
}
