// Seeded vectors that look like what a KV cache holds, in head_dim 128: the same numbers on every machine, and the first of a
// long run are those of a short one. What is known of real models is in them (outlier channels with large means, tokens that
// resemble their neighbours, sinks, heavy tails), yet they are made, not recorded: they rank codecs, they do not promise
// a model's quality.

export const DIM = 128;
export const SINKS = 4;

/** `values` holds vector after vector: one token's K or V of one head each. */
export interface Vectors {
  readonly values: Float32Array<ArrayBuffer>;
  readonly dim: number;
}

export const countOf = ({ values, dim }: Vectors): number => values.length / dim;
export const vectorsOf = (values: Float32Array<ArrayBuffer>, dim = DIM): Vectors => ({ values, dim });

/** From 0, below 1 (mulberry32). */
export function uniform(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b_79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Of the standard normal distribution (Box and Muller), two at a time. */
export function normal(seed: number): () => number {
  const next = uniform(seed);
  let kept: number | undefined;
  return () => {
    if (kept !== undefined) {
      const value = kept;
      kept = undefined;
      return value;
    }
    const radius = Math.sqrt(-2 * Math.log(1 - next()));
    const angle = 2 * Math.PI * next();
    kept = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  };
}

export function gaussian(seed: number, count: number): Vectors {
  return vectorsOf(new Float32Array(count * DIM).map(normal(seed)));
}

/** Gaussian vectors, each of length 1. */
export function unitSphere(seed: number, count: number): Vectors {
  const { values } = gaussian(seed, count);
  for (let at = 0; at < values.length; at += DIM) {
    const vector = values.subarray(at, at + DIM);
    const scale = 1 / Math.sqrt(sumOfSquares(vector));
    for (let i = 0; i < DIM; i++) vector[i] = (vector[i] ?? 0) * scale;
  }
  return vectorsOf(values);
}

/** Channels whose mean is far above their deviation, as K of real models has a few. */
const OUTLIERS: ReadonlyMap<number, { readonly mean: number; readonly deviation: number }> = new Map([
  [11, { mean: 14, deviation: 2 }],
  [37, { mean: -11, deviation: 1.5 }],
  [75, { mean: 16, deviation: 2.5 }],
  [101, { mean: -10, deviation: 2 }],
]);
const LIKENESS = 0.7;
const SINK_SIZE = 0.1;

/**
 * K before its rotary embedding: each channel has a mean and a log-normal deviation, a token is 0.7 of its neighbour plus
 * what is new in it, the new is heavy-tailed (Student's t of 6 degrees), and all but the outliers are small in the sinks.
 */
export function outlierKeys(seed: number, count: number): Vectors {
  const next = normal(seed);
  const channels = Array.from({ length: DIM }, () => {
    const deviation = Math.exp(0.6 * next());
    return { mean: 0.8 * next() * deviation, deviation };
  }).map((usual, channel) => OUTLIERS.get(channel) ?? usual);
  const state = new Float64Array(DIM);
  const fresh = Math.sqrt(1 - LIKENESS ** 2);
  const values = new Float32Array(count * DIM);
  for (let token = 0; token < count; token++) {
    const tail = Math.sqrt(4 / chiSquare(next, 6));
    for (const [channel, { mean, deviation }] of channels.entries()) {
      const now = LIKENESS * (state[channel] ?? 0) + fresh * next() * tail;
      state[channel] = now;
      const isSmall = token < SINKS && !OUTLIERS.has(channel);
      values[token * DIM + channel] = (mean + deviation * now) * (isSmall ? SINK_SIZE : 1);
    }
  }
  return vectorsOf(values);
}

const ROTARY_BASE = 500_000;

/** Pairs of channels half a vector apart, turned by an angle that grows with the token. */
export function rotaryEmbedding({ values, dim }: Vectors): Vectors {
  const half = dim / 2;
  const turned = new Float32Array(values.length);
  for (let token = 0; token < values.length / dim; token++)
    for (let i = 0; i < half; i++) {
      const angle = token * ROTARY_BASE ** ((-2 * i) / dim);
      const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
      const first = token * dim + i;
      const [x, y] = [values[first] ?? 0, values[first + half] ?? 0];
      turned[first] = x * cos - y * sin;
      turned[first + half] = x * sin + y * cos;
    }
  return vectorsOf(turned, dim);
}

/** V: Student's t of 4 degrees, times a log-normal size of the token; no channel differs from another. */
export function heavyValues(seed: number, count: number): Vectors {
  const next = normal(seed);
  const values = new Float32Array(count * DIM);
  for (let token = 0; token < count; token++) {
    const size = Math.exp(0.4 * next());
    for (let i = 0; i < DIM; i++) {
      const tail = Math.sqrt(chiSquare(next, 4) / 4);
      values[token * DIM + i] = (size * next()) / tail;
    }
  }
  return vectorsOf(values);
}

/** The same, each channel moved by a mean of its own. */
export function withChannelMeans(vectors: Vectors, seed: number): Vectors {
  const next = normal(seed);
  const means = Array.from({ length: vectors.dim }, () => 0.7 * next());
  return vectorsOf(
    vectors.values.map((value, i) => value + (means[i % vectors.dim] ?? 0)),
    vectors.dim,
  );
}

function chiSquare(next: () => number, degrees: number): number {
  let sum = 0;
  for (let i = 0; i < degrees; i++) sum += next() ** 2;
  return sum;
}

export function sumOfSquares(values: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += (values[i] ?? 0) ** 2;
  return sum;
}
