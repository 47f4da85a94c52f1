// Seeded keys and values like those of a model: the distributions that the codecs' figures are stated on. Vector after
// vector; the same numbers for the same seed for ever.

function uniform(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b_79f5) >>> 0;
    let x = Math.imul(state ^ (state >>> 15), state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  };
}

function gaussian(seed: number): () => number {
  const next = uniform(seed);
  let spare: number | undefined;
  return () => {
    if (spare !== undefined) {
      const kept = spare;
      spare = undefined;
      return kept;
    }
    const radius = Math.sqrt(-2 * Math.log(1 - next()));
    const angle = 2 * Math.PI * next();
    spare = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  };
}

export const kvRandom = { uniform, gaussian };

export function normalVectors(seed: number, vectors: number, dim: number): Float32Array<ArrayBuffer> {
  const next = gaussian(seed);
  return new Float32Array(vectors * dim).map(() => next());
}

const chiSquared = (next: () => number, degrees: number) =>
  Array.from({ length: degrees }, () => next() ** 2).reduce((a, b) => a + b, 0);

/**
 * Keys before their rotation by place: channels of log-normal width with means, four of them far outside, heavy tails
 * (Student's t with 6 degrees), correlated from token to token (.7), and four first tokens of a tenth of the size.
 */
export function outlierKeys(seed: number, tokens: number, dim = 128): Float32Array<ArrayBuffer> {
  const next = gaussian(seed);
  const widths = new Float64Array(dim);
  const means = new Float64Array(dim);
  for (let channel = 0; channel < dim; channel++) {
    const width = Math.exp(0.6 * next());
    widths[channel] = width;
    means[channel] = 0.8 * next() * width;
  }
  for (const [channel, mean, width] of [
    [11, 14, 2],
    [37, -11, 1.5],
    [75, 16, 2.5],
    [101, -10, 2],
  ] as const) {
    means[channel] = mean;
    widths[channel] = width;
  }
  const before = new Float64Array(dim);
  const keys = new Float32Array(tokens * dim);
  for (let token = 0; token < tokens; token++) {
    const tail = Math.sqrt(4 / chiSquared(next, 6));
    for (let channel = 0; channel < dim; channel++) {
      const mean = means[channel] ?? 0;
      const state = 0.7 * (before[channel] ?? 0) + Math.sqrt(1 - 0.7 ** 2) * next() * tail;
      before[channel] = state;
      const key = mean + (widths[channel] ?? 0) * state;
      keys[token * dim + channel] = token < 4 && Math.abs(mean) < 9 ? key * 0.1 : key;
    }
  }
  return keys;
}

/** Values: heavy tails (Student's t with 4 degrees), tokens of log-normal size, no channels that differ. */
export function heavyValues(seed: number, tokens: number, dim = 128): Float32Array<ArrayBuffer> {
  const next = gaussian(seed);
  const values = new Float32Array(tokens * dim);
  for (let token = 0; token < tokens; token++) {
    const size = Math.exp(0.4 * next());
    for (let channel = 0; channel < dim; channel++) {
      const tail = Math.sqrt(chiSquared(next, 4) / 4);
      values[token * dim + channel] = (size * next()) / tail;
    }
  }
  return values;
}

/** The mean square of the difference, relative to the mean square. */
export function relativeError(values: ArrayLike<number>, got: ArrayLike<number>): number {
  let error = 0;
  let energy = 0;
  for (let i = 0; i < values.length; i++) {
    const value = values[i] ?? 0;
    error += (value - (got[i] ?? 0)) ** 2;
    energy += value ** 2;
  }
  return error / energy;
}
