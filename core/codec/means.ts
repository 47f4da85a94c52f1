// The mean of K over the first block of a chain, for each layer and head. Coded K is stored without it, all along the chain:
// outliers of single channels are mostly mean, and what every token shares adds the same to every score. Found on the way
// in, from the body's own bytes. Pure.
import type { KvDtype, KvShape } from '../contract/kv.ts';

export interface Means {
  /** [layers, kvHeads, dim] */
  readonly values: Float32Array;
}

export const createMeans = ({ layers, kvHeads, dim }: KvShape): Means => ({
  values: new Float32Array(layers * kvHeads * dim),
});

/** Sets the mean of one row (layer * kvHeads + head) from its vectors; zero in channels that are not finite throughout. */
export function setMean({ values }: Means, row: number, dim: number, bytes: Uint8Array, dtype: KvDtype): void {
  const vectors = floatsOf(bytes, dtype);
  const mean = values.subarray(row * dim, (row + 1) * dim).fill(0);
  const count = vectors.length / dim;
  for (let at = 0; at < vectors.length; at += dim)
    for (let i = 0; i < dim; i++) mean[i] = (mean[i] ?? 0) + (vectors[at + i] ?? 0) / count;
  for (let i = 0; i < dim; i++) if (!Number.isFinite(mean[i])) mean[i] = 0;
}

/** A copy, as 32-bit numbers. */
export function floatsOf(bytes: Uint8Array, dtype: KvDtype): Float32Array {
  const { buffer } = Uint8Array.from(bytes); // aligned
  if (dtype === 'F32') return new Float32Array(buffer);
  if (dtype === 'F16') return new Float32Array(new Float16Array(buffer));
  const halves = new Uint16Array(buffer);
  const words = new Uint32Array(halves.length);
  for (let i = 0; i < halves.length; i++) words[i] = (halves[i] ?? 0) << 16; // `from` takes several times as long
  return new Float32Array(words.buffer);
}

/** What each score of a query lacks where K's mean was taken out: scale * q . mean, for [heads, queries]. */
export function scoreBias(
  means: Means,
  shape: KvShape,
  layer: number,
  { q, heads, scale }: { readonly q: Float32Array; readonly heads: number; readonly scale: number },
): Float32Array {
  const { kvHeads, dim } = shape;
  const queries = q.length / dim / heads;
  const bias = new Float32Array(heads * queries);
  for (let head = 0; head < heads; head++) {
    const row = layer * kvHeads + Math.floor((head * kvHeads) / heads);
    for (let query = 0; query < queries; query++) {
      let sum = 0;
      const at = (head * queries + query) * dim;
      for (let i = 0; i < dim; i++) sum += (q[at + i] ?? 0) * (means.values[row * dim + i] ?? 0);
      bias[head * queries + query] = scale * sum;
    }
  }
  return bias;
}
