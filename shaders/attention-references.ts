// Attention as its definition says, in f64, over keys and values that are there as numbers. For tests and benchmarks: nothing
// that serves imports this.
import { NOTHING } from './attention.ts';

export interface Sequence {
  readonly kvHeads: number;
  readonly dim: number;
  readonly tokens: number;
  /** kvHeads x tokens x dim. */
  readonly keys: ArrayLike<number>;
  readonly values: ArrayLike<number>;
}

export interface Sight {
  readonly heads: number;
  readonly queries: number;
  /** Of the first query. */
  readonly position: number;
  readonly begin: number;
  readonly end: number;
  readonly causal: boolean;
  readonly window: number;
  readonly scale: number;
}

/** Outputs of heads x queries x dim, then their log-sum-exps; `bias`, one for each row, is added to its scores. */
export function attend(
  rows: ArrayLike<number>,
  sequence: Sequence,
  sight: Sight,
  bias?: ArrayLike<number>,
): Float64Array {
  const { heads, queries } = sight;
  const { dim } = sequence;
  const result = new Float64Array(heads * queries * (dim + 1));
  for (let row = 0; row < heads * queries; row++) {
    const kv = Math.floor(row / queries / (heads / sequence.kvHeads));
    const query = Float64Array.from({ length: dim }, (_, d) => rows[row * dim + d] ?? 0);
    const output = result.subarray(row * dim, (row + 1) * dim);
    result[heads * queries * dim + row] =
      attendRow(query, kv, sequence, sight, row % queries, output) + (bias?.[row] ?? 0);
  }
  return result;
}

function attendRow(
  query: Float64Array,
  kv: number,
  { tokens, dim, keys, values }: Sequence,
  { position, begin, end, causal, window, scale }: Sight,
  number: number,
  output: Float64Array,
): number {
  const here = position + number;
  const first = Math.max(begin, window > 0 ? here + 1 - window : 0);
  const last = Math.min(end, tokens, causal ? here + 1 : tokens);
  if (last <= first) return NOTHING;
  const scores = new Float64Array(last - first);
  for (let token = first; token < last; token++) {
    const at = (kv * tokens + token) * dim;
    let sum = 0;
    for (let d = 0; d < dim; d++) sum += (query[d] ?? 0) * (keys[at + d] ?? 0);
    scores[token - first] = sum * scale;
  }
  const largest = scores.reduce((a, b) => Math.max(a, b));
  let sum = 0;
  for (let token = first; token < last; token++) {
    const at = (kv * tokens + token) * dim;
    const weight = Math.exp((scores[token - first] ?? 0) - largest);
    sum += weight;
    for (let d = 0; d < dim; d++) output[d] = (output[d] ?? 0) + weight * (values[at + d] ?? 0);
  }
  for (let d = 0; d < dim; d++) output[d] = (output[d] ?? 0) / sum;
  return largest + Math.log(sum);
}
