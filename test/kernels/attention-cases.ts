// What each kernel of attention is tried with, one at a time: small shapes with rows that fill no quad, chunks that are not
// full, pages in any order, tokens before `begin` and behind `end` whose records are NaN. How they work together over all
// codecs and dimensions is tried in attention-suite.ts.

import { NOTHING, PAGE_TOKENS } from '../../shaders/attention.ts';
import type { ATTENTION_KERNELS } from '../../shaders/attention-kernels.ts';
import { RECORDS } from '../../shaders/records.ts';
import type { Seeded } from '../support/seeded.ts';
import type { Case } from './cases.ts';

const ROUNDING = 2 ** -24;
const places = (n: number) => Array.from({ length: n }, (_, i) => i);

function normals(seed: Seeded, n: number, size = 1): Float32Array<ArrayBuffer> {
  const draw = () => Math.sqrt(-2 * Math.log(1 - seed.next())) * Math.cos(2 * Math.PI * seed.next());
  return Float32Array.from(places(n), () => size * draw());
}

interface Shape {
  readonly kvHeads: number;
  readonly rows: number;
  readonly queries: number;
  readonly dim: number;
  readonly pages: number;
  readonly chunk: number;
  readonly begin: number;
  readonly end: number;
  readonly causal: number;
  readonly window: number;
  readonly position: number;
}

const SHAPES: readonly Shape[] = [
  {
    ...{ kvHeads: 2, rows: 3, queries: 3, dim: 80, pages: 3, chunk: 2 },
    ...{ begin: 5, end: 150, causal: 1, window: 0, position: 147 },
  },
  {
    ...{ kvHeads: 1, rows: 34, queries: 17, dim: 80, pages: 2, chunk: 1 },
    ...{ begin: 0, end: 128, causal: 1, window: 40, position: 50 },
  },
  {
    ...{ kvHeads: 3, rows: 1, queries: 1, dim: 80, pages: 5, chunk: 4 },
    ...{ begin: 70, end: 300, causal: 0, window: 0, position: 0 },
  },
];

const quadsOf = ({ kvHeads, rows }: Shape) => kvHeads * Math.ceil(rows / 4);
const chunksOf = ({ pages, chunk }: Shape) => Math.ceil(pages / chunk);
const nameOf = (shape: Shape) => Object.values(shape).join(' ');

function isSeen({ begin, end, causal, window, position, queries }: Shape, row: number, token: number): boolean {
  const here = position + (row % queries);
  return token >= begin && token < end && (causal === 0 || token <= here) && (window === 0 || token + window > here);
}

/** f16 records, pages in reverse order; what is not there is NaN. */
function makePages(seed: Seeded, { kvHeads, dim, pages, begin, end }: Shape) {
  const half = kvHeads * PAGE_TOKENS * dim;
  const page = 2 * half;
  const all = Float16Array.from(normals(seed, page * pages));
  const isThere = (token: number) => token >= begin && token < end;
  const at = (kv: number, token: number) =>
    (pages - 1 - Math.floor(token / PAGE_TOKENS)) * page + (kv * PAGE_TOKENS + (token % PAGE_TOKENS)) * dim;
  for (const kv of places(kvHeads))
    for (const token of places(pages * PAGE_TOKENS))
      if (!isThere(token))
        for (const from of [at(kv, token), at(kv, token) + half]) all.fill(Number.NaN, from, from + dim);
  // one entry in front that nobody asked for
  const table = Uint32Array.from([
    9,
    9,
    ...places(pages).flatMap((i) => [((pages - 1 - i) * page) / 2, i * PAGE_TOKENS]),
  ]);
  return {
    ...{ all, table },
    key: (kv: number, token: number, d: number) => all[at(kv, token) + d] ?? 0,
    value: (kv: number, token: number, d: number) => all[at(kv, token) + half + d] ?? 0,
  };
}

const reading = ({ dim }: Shape) => ({ DIM: dim, K_CODEC: RECORDS.f16.number, V_CODEC: RECORDS.f16.number });
const sight = (shape: Shape, extent: number) => {
  const { kvHeads, rows, queries, pages, chunk, position, begin, end, causal, window } = shape;
  return {
    octets: shape.dim / 8,
    kv_heads: kvHeads,
    rows,
    queries,
    first: 1,
    pages,
    chunk,
    extent,
    position,
    begin,
    end,
    causal,
    window,
  };
};

/** Rows as quads: what attentionQueries gives. */
function quadded(rows: Float32Array, shape: Shape): Float32Array {
  const { kvHeads, dim } = shape;
  const result = new Float32Array(quadsOf(shape) * dim * 4);
  for (const kv of places(kvHeads))
    for (const row of places(shape.rows))
      for (const d of places(dim)) {
        const quad = (kv * quadsOf(shape)) / kvHeads + Math.floor(row / 4);
        result[(quad * dim + d) * 4 + (row % 4)] = rows[(kv * shape.rows + row) * dim + d] ?? 0;
      }
  return result;
}

const f32 = { element: 'f32' } as const;

function* queries(seed: Seeded): Generator<Case> {
  for (const shape of SHAPES) {
    const source = normals(seed, shape.kvHeads * shape.rows * shape.dim);
    const scale = Math.fround(0.1 + seed.next());
    const values = Float64Array.from(quadded(source, shape), (x) => x * scale);
    yield {
      ...{ name: nameOf(shape), kernel: 'attentionQueries', ...f32, constants: { DIM: shape.dim } },
      parameters: { kv_heads: shape.kvHeads, rows: shape.rows, scale },
      sources: { queries: source },
      expected: { values, bound: (i) => ROUNDING * Math.abs(values[i] ?? 0), ...f32 },
    };
  }
}

/** For each row of each quad and each token, the score or nothing; rows that there are not are of no interest. */
function scoresOf(seed: Seeded, shape: Shape) {
  const { kvHeads, rows, dim, pages } = shape;
  const source = makePages(seed, shape);
  const query = normals(seed, kvHeads * rows * dim, 0.3);
  const tokens = pages * PAGE_TOKENS;
  const score = (kv: number, row: number, token: number, size = (x: number) => x) => {
    let sum = 0;
    for (let d = 0; d < dim; d++) sum += size((query[(kv * rows + row) * dim + d] ?? 0) * source.key(kv, token, d));
    return sum;
  };
  return { source, query, tokens, score };
}

function* scores(seed: Seeded): Generator<Case> {
  for (const shape of SHAPES) {
    const { source, query, tokens, score } = scoresOf(seed, shape);
    const values = new Float64Array(quadsOf(shape) * tokens * 4);
    const bounds = new Float64Array(values.length).fill(Number.POSITIVE_INFINITY);
    for (const kv of places(shape.kvHeads))
      for (const row of places(shape.rows))
        for (const token of places(tokens)) {
          const quad = (kv * quadsOf(shape)) / shape.kvHeads + Math.floor(row / 4);
          const at = (quad * tokens + token) * 4 + (row % 4);
          const seen = isSeen(shape, row, token);
          values[at] = seen ? score(kv, row, token) : NOTHING;
          bounds[at] = seen ? shape.dim * ROUNDING * score(kv, row, token, Math.abs) : 0;
        }
    yield {
      ...{ name: nameOf(shape), kernel: 'attentionScores', ...f32, constants: reading(shape) },
      parameters: sight(shape, source.all.length / 2),
      sources: { pages: source.all, table: source.table, quadded: quadded(query, shape) },
      expected: { values, bound: (i) => bounds[i] ?? 0, ...f32 },
    };
  }
}

function* weights(seed: Seeded): Generator<Case> {
  for (const { pages, chunk } of SHAPES) {
    const quads = 1 + seed.below(20);
    const source = normals(seed, quads * pages * PAGE_TOKENS * 4, 3);
    for (const i of source.keys()) if (seed.below(5) === 0) source[i] = NOTHING;
    // one chunk in which the rows of the first quad see nothing
    source.fill(NOTHING, 0, chunk * PAGE_TOKENS * 4);
    const chunks = Math.ceil(pages / chunk);
    const wide = pages * PAGE_TOKENS + chunks * 2;
    const values = new Float64Array(quads * wide * 4);
    const bounds = new Float64Array(values.length).fill(Number.POSITIVE_INFINITY);
    for (const quad of places(quads))
      for (const number of places(chunks))
        for (const row of places(4)) {
          const count = Math.min(chunk, pages - number * chunk) * PAGE_TOKENS;
          const from = (quad * pages + number * chunk) * PAGE_TOKENS;
          const own = places(count).map((t) => source[(from + t) * 4 + row] ?? 0);
          const largest = own.reduce((a, b) => Math.max(a, b));
          const shares = own.map((x) => (x > NOTHING ? Math.exp(x - largest) : 0));
          const sum = shares.reduce((a, b) => a + b);
          const to = quad * wide + number * (chunk * PAGE_TOKENS + 2);
          const put = (place: number, value: number, bound: number) => {
            values[(to + place) * 4 + row] = value;
            bounds[(to + place) * 4 + row] = bound;
          };
          for (const [t, share] of shares.entries())
            put(t, share, (1e-6 + 3e-7 * Math.abs(own[t] ?? 0) + 3e-7 * Math.abs(largest)) * share + 1e-30);
          put(count, sum, 2e-6 * sum);
          put(count + 1, sum > 0 ? largest + Math.log(sum) : NOTHING, sum > 0 ? 3e-6 : 0);
        }
    yield {
      ...{ name: `${quads} quads, ${pages} pages by ${chunk}`, kernel: 'attentionWeights', ...f32, constants: {} },
      parameters: { quads, pages, chunk },
      sources: { scores: source },
      expected: { values, bound: (i) => bounds[i] ?? 0, ...f32 },
    };
  }
}

/** Outputs and log-sum-exps of each chunk from weights of each row and token; what weighs nothing is not there. */
function partialsOf(
  shape: Shape,
  weigh: (kv: number, row: number, token: number) => number,
  value: (kv: number, token: number, d: number) => number,
  exponent: (kv: number, row: number, chunk: number) => number,
) {
  const { kvHeads, rows, dim, pages, chunk } = shape;
  const size = kvHeads * rows * (dim + 1);
  const values = new Float64Array(chunksOf(shape) * size);
  const bounds = new Float64Array(values.length);
  for (const number of places(chunksOf(shape)))
    for (const kv of places(kvHeads))
      for (const row of places(rows)) {
        const first = number * chunk * PAGE_TOKENS;
        const tokens = places(Math.min(chunk, pages - number * chunk) * PAGE_TOKENS)
          .map((t) => first + t)
          .filter((token) => weigh(kv, row, token) > 0);
        const sum = tokens.reduce((all, token) => all + weigh(kv, row, token), 0);
        for (const d of places(dim)) {
          const at = number * size + (kv * rows + row) * dim + d;
          for (const token of tokens) {
            const part = (weigh(kv, row, token) / sum) * value(kv, token, d);
            values[at] = (values[at] ?? 0) + part;
            bounds[at] = (bounds[at] ?? 0) + Math.abs(part) * (tokens.length + 40) * ROUNDING;
          }
        }
        const at = number * size + kvHeads * rows * dim + kv * rows + row;
        values[at] = exponent(kv, row, number);
        bounds[at] = tokens.length > 0 ? 4e-6 : 0;
      }
  return { values, bound: (i: number) => bounds[i] ?? 0, ...f32 };
}

function* values(seed: Seeded): Generator<Case> {
  for (const shape of SHAPES) {
    const { kvHeads, rows, pages, chunk } = shape;
    const source = makePages(seed, shape);
    const wide = pages * PAGE_TOKENS + chunksOf(shape) * 2;
    const weights = new Float32Array(quadsOf(shape) * wide * 4);
    /** Where a row's weights begin, and where those of a token lie behind that: two places are between chunks. */
    const begin = (kv: number, row: number) =>
      ((kv * quadsOf(shape)) / kvHeads + Math.floor(row / 4)) * wide * 4 + (row % 4);
    const chunkOf = (token: number) => Math.floor(token / PAGE_TOKENS / chunk);
    const at = (kv: number, row: number, token: number) => begin(kv, row) + (token + chunkOf(token) * 2) * 4;
    for (const kv of places(kvHeads))
      for (const row of places(rows))
        for (const token of places(pages * PAGE_TOKENS)) {
          const weight = isSeen(shape, row, token) ? Math.fround(seed.next()) : 0;
          weights[at(kv, row, token)] = weight;
          const last = Math.min((chunkOf(token) + 1) * chunk, pages) * PAGE_TOKENS - 1;
          const sum = at(kv, row, last) + 4;
          weights[sum] = (weights[sum] ?? 0) + weight;
          weights[sum + 4] = -5;
        }
    yield {
      ...{ name: nameOf(shape), kernel: 'attentionValues', ...f32, constants: reading(shape) },
      parameters: sight(shape, source.all.length / 2),
      sources: { pages: source.all, table: source.table, weights },
      expected: partialsOf(
        shape,
        (kv, row, token) => weights[at(kv, row, token)] ?? 0,
        source.value,
        () => -5,
      ),
    };
  }
}

function* chunks(seed: Seeded): Generator<Case> {
  for (const shape of SHAPES) {
    const { source, query, tokens, score } = scoresOf(seed, shape);
    const known = new Map<number, number>();
    const weigh = (kv: number, row: number, token: number) => {
      if (!isSeen(shape, row, token)) return 0;
      const key = (kv * shape.rows + row) * tokens + token;
      const weight = known.get(key) ?? Math.exp(score(kv, row, token));
      known.set(key, weight);
      return weight;
    };
    const exponent = (kv: number, row: number, number: number) => {
      const first = number * shape.chunk * PAGE_TOKENS;
      const own = places(Math.min(shape.chunk * PAGE_TOKENS, tokens - first)).map((t) => weigh(kv, row, first + t));
      const sum = own.reduce((a, b) => a + b, 0);
      return sum > 0 ? Math.log(sum) : NOTHING;
    };
    yield {
      ...{ name: nameOf(shape), kernel: 'attentionChunks', ...f32, constants: reading(shape) },
      parameters: sight(shape, source.all.length / 2),
      sources: { pages: source.all, table: source.table, quadded: quadded(query, shape) },
      expected: partialsOf(shape, weigh, source.value, exponent),
    };
  }
}

function* merges(seed: Seeded): Generator<Case> {
  for (const [parts, rows, dim, biased] of [
    [1, 3, 64, 0],
    [5, 7, 80, 1],
    [40, 33, 256, 1],
  ] as const) {
    const apart = rows * (dim + 1) + seed.below(9);
    const partials = normals(seed, parts * apart);
    const bias = normals(seed, rows);
    const exponent = (part: number, row: number) => part * apart + rows * dim + row;
    // some saw nothing; the last row nowhere
    for (const part of places(parts))
      for (const row of places(rows))
        if ((seed.below(4) === 0 && part > 0) || row === rows - 1) {
          partials[exponent(part, row)] = NOTHING;
          partials.fill(0, part * apart + row * dim, part * apart + (row + 1) * dim);
        }
    const values = new Float64Array(rows * (dim + 1));
    const bounds = new Float64Array(values.length);
    for (const row of places(rows)) {
      const shares = places(parts).map((part) => {
        const own = partials[exponent(part, row)] ?? 0;
        return own > NOTHING ? Math.exp(own) : 0;
      });
      const sum = shares.reduce((a, b) => a + b);
      for (const d of places(dim))
        for (const [part, share] of shares.entries()) {
          const each = sum > 0 ? (share / sum) * (partials[part * apart + row * dim + d] ?? 0) : 0;
          values[row * dim + d] = (values[row * dim + d] ?? 0) + each;
          bounds[row * dim + d] = (bounds[row * dim + d] ?? 0) + Math.abs(each) * (parts + 40) * ROUNDING;
        }
      values[rows * dim + row] = sum > 0 ? Math.log(sum) + (biased ? (bias[row] ?? 0) : 0) : NOTHING;
      bounds[rows * dim + row] = sum > 0 ? 4e-6 : 0;
    }
    yield {
      ...{ name: `${parts} of ${rows} x ${dim}`, kernel: 'attentionMerge', ...f32, constants: { DIM: dim } },
      parameters: { parts, apart, rows, biased },
      sources: { partials, bias },
      expected: { values, bound: (i) => bounds[i] ?? 0, ...f32 },
    };
  }
}

export const ATTENTION_CASES: Readonly<Record<keyof typeof ATTENTION_KERNELS, (seed: Seeded) => Generator<Case>>> = {
  attentionQueries: queries,
  attentionScores: scores,
  attentionWeights: weights,
  attentionValues: values,
  attentionChunks: chunks,
  attentionMerge: merges,
};
