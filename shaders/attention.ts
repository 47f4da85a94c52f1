// Attention over KV pages as a list of dispatches: from what is attended to, to runs whose steps name kernels, parameters
// and ranges; and how results that cover different tokens become one. Pure: whoever runs it brings buffers and bytes.
//
// A result is an array of f32: the outputs of all rows (heads x queries x dim), then their log-sum-exps (heads x queries);
// its outputs are normalised. A row that sees no token has zeros and NOTHING. Results over different tokens of the same rows
// (other bindings, codecs, adapters, nodes) merge by `mergeResults`, exactly but for rounding; a row that is NaN in one of
// them is NaN, and never one that sees nothing.
//
// A run fits into scratch, and no dispatch of it is long: many queries are taken in blocks, a run for each; many pages in
// spans, several in a run. A dispatch never reads and writes one scratch buffer. Their use: 0 queries, page table and bias
// (uploaded); 1 queries laid out, then the results of spans; 2 scores, then partial results; 3 weights. Decoded pages, for
// codecs that kernels cannot read, may lie in scratch 3 from SCRATCH_PAGES_AT on: nothing of a run is written there.
// Not here: rotating queries and outputs for codecs whose records are rotated.
import { type ATTENTION_KERNELS, PAGE_TOKENS } from './attention-kernels.ts';
import { type Kernel, parts } from './kernel.ts';
import { RECORDS, type RecordName, recordWords } from './records.ts';

export { PAGE_TOKENS };
/** Stands for minus infinity in a log-sum-exp. */
export const NOTHING = Math.fround(-1e30);
export const SCRATCH_BYTES = 32 << 20;
/** From here on scratch 3 may hold decoded pages: 24 MiB. */
export const SCRATCH_PAGES_AT = 8 << 20;

/** A GPU buffer of an adapter: a binding of its arena, or one of its scratch buffers. */
export type Place = { readonly binding: number } | { readonly scratch: 0 | 1 | 2 | 3 };
export interface Range {
  readonly at: Place;
  readonly offset: number;
  readonly size: number;
}

export interface KvPage {
  readonly at: Place;
  /** In that buffer; a multiple of 4. */
  readonly offset: number;
  /** Of its first token in the sequence. */
  readonly position: number;
}

export interface Attention {
  readonly heads: number;
  /** Divides heads. */
  readonly kvHeads: number;
  /** One of HEAD_DIMS. */
  readonly dim: number;
  /** The codecs of the records of keys and of values. */
  readonly keys: RecordName;
  readonly values: RecordName;
  readonly pages: readonly KvPage[];
  readonly queries: number;
  /** Of the first query in the sequence; the others follow it. */
  readonly position: number;
  /** Only tokens at positions from `begin` and below `end` are seen. */
  readonly begin: number;
  readonly end: number;
  /** A query sees no token after it. */
  readonly causal: boolean;
  /** A query sees the last so many tokens up to its own; 0: all. */
  readonly window: number;
  /** Scores are multiplied by this: usually 1 / sqrt(dim). */
  readonly scale: number;
  /** A bias for each row (heads x queries) is added to all of its scores. */
  readonly biased: boolean;
  /** Take the kernels for GPUs; those without barriers otherwise, which software adapters like. */
  readonly gpu: boolean;
}

type Entries = typeof ATTENTION_KERNELS;
type Shape<N extends keyof Entries> =
  Entries[N] extends Kernel<infer B, infer P, infer C>
    ? {
        readonly kernel: N;
        readonly constants: Readonly<Record<C, number>>;
        readonly parameters: Readonly<Record<P, number>>;
        readonly bindings: Readonly<Record<B, Range>>;
      }
    : never;
/** A dispatch, with ranges where it will have buffers. */
export type AttentionStep = { [N in keyof Entries]: Shape<N> }[keyof Entries];

/** All that a block of queries needs. */
export interface AttentionRun {
  /** The queries of this block: `count` from `first` on. */
  readonly first: number;
  readonly count: number;
  /** Where the block's queries go: f32, heads x count x dim. `rowsOf` picks them. */
  readonly queries: Range;
  /** Where the page table goes, and what it is. */
  readonly table: Range;
  readonly tableWords: Uint32Array<ArrayBuffer>;
  /** Those of the table, in its order. */
  readonly pages: readonly KvPage[];
  /** Where the biases go, if there are any: f32, heads x count. */
  readonly bias: Range | undefined;
  readonly steps: readonly AttentionStep[];
  /** The block's result, `resultFloats(heads * count, dim)` floats; the range may be a little longer. */
  readonly result: Range;
}

const ALIGNMENT = 256;
/** What a run may bring and take away. */
const UPLOAD_BYTES_MAX = 16 << 20;
const RESULT_BYTES_MAX = 4 << 20;
/** Queries of a run: enough that decoding a page is a small part of it. */
export const QUERIES_MAX = 128;
/** Products and sums of one dispatch: about a second on the slowest adapter, less than a millisecond on a GPU. */
const PRODUCTS_MAX = 2 ** 30;
/** Longer sums would show their rounding. */
const CHUNK_PAGES_MAX = 8;
/** What a workgroup on a GPU takes at a time. */
const CHUNK_PAGES_GPU = 4;
/** So many workgroups keep a GPU busy, or the cores of a processor. */
const WORKGROUPS_GPU = 512;
const WORKGROUPS_SOFTWARE = 64;

/** Of a result over `rows` = heads x queries. */
export const resultFloats = (rows: number, dim: number): number => rows * (dim + 1);
const resultBytes = (rows: number, dim: number): number => padded(resultFloats(rows, dim) * 4);
const padded = (bytes: number): number => parts(bytes, ALIGNMENT) * ALIGNMENT;
const quadsOf = ({ heads, kvHeads }: Attention, queries: number): number =>
  kvHeads * parts((heads / kvHeads) * queries, 4);

const scratch = (number: 0 | 1 | 2 | 3, offset: number, bytes: number): Range => {
  return { at: { scratch: number }, offset, size: padded(bytes) };
};

/** The runs of an attention, of dispatches of so many products at most. A block of queries none of whose tokens are in these pages has no run. */
export function planAttention(attention: Attention, { productsMax = PRODUCTS_MAX } = {}): AttentionRun[] {
  checkAttention(attention);
  const block = blockOf(attention, productsMax);
  const runs: AttentionRun[] = [];
  for (let first = 0; first < attention.queries; first += block)
    runs.push(...planRun(attention, first, Math.min(block, attention.queries - first), productsMax));
  return runs;
}

function checkAttention(attention: Attention): void {
  const { heads, kvHeads, dim, queries, position, end, pages } = attention;
  for (const [name, value] of Object.entries({ heads, kvHeads, dim, queries }))
    if (!Number.isInteger(value) || value < 1) throw new RangeError(`${name} has to be a whole number, not ${value}`);
  if (heads % kvHeads !== 0) throw new RangeError(`${heads} heads cannot share ${kvHeads} kv heads evenly`);
  for (const name of [attention.keys, attention.values]) recordWords(name, dim); // throws for a dim that it does not have
  if (Math.max(position + queries, end) >= 2 ** 31) throw new RangeError('positions have to be below 2^31');
  const odd = pages.find(({ offset }) => offset % 4 !== 0);
  if (odd) throw new RangeError(`a page begins at byte ${odd.offset}; that has to be a multiple of 4`);
}

/** Queries of a run: as many as fit, with the results of all spans in scratch 1. */
function blockOf(attention: Attention, productsMax: number): number {
  const { queries, heads, dim, pages } = attention;
  const byPlace = Map.groupBy(pages, ({ at }) => placeName(at));
  for (let block = Math.min(queries, QUERIES_MAX); block >= 1; block = Math.floor(block / 2)) {
    const span = spanPages(attention, block, productsMax);
    const spans = [...byPlace.values()].reduce((sum, own) => sum + parts(own.length, span), 0);
    const quadded = padded(quadsOf(attention, block) * dim * 16);
    const size = resultBytes(heads * block, dim);
    const isFitting = quadded + spans * size <= SCRATCH_BYTES && size <= RESULT_BYTES_MAX;
    if (span >= 1 && isFitting) return block;
  }
  throw new RangeError(`${pages.length} pages of ${heads} heads of ${dim} do not fit into scratch; attend in parts`);
}

/** Pages of a span at most, for a block of so many queries. */
function spanPages(attention: Attention, block: number, productsMax: number): number {
  const { heads, dim, gpu, pages } = attention;
  const quads = quadsOf(attention, block);
  const isDecoded = pages.some(({ at }) => placeName(at) === placeName({ scratch: 3 }));
  const bounds = [
    productsMax / (quads * 4 * dim * PAGE_TOKENS),
    Math.floor(SCRATCH_BYTES / resultBytes(heads * block, dim)) * (gpu ? CHUNK_PAGES_GPU : CHUNK_PAGES_MAX),
    ...(gpu ? [] : [((isDecoded ? SCRATCH_PAGES_AT : SCRATCH_BYTES) - ALIGNMENT) / (quads * (PAGE_TOKENS + 2) * 16)]),
  ];
  // where one page is more than enough for a dispatch, it still is what a dispatch takes
  const [products = 1, ...hard] = bounds;
  return Math.floor(Math.min(Math.max(1, products), ...hard));
}

const placeName = (at: Place): string => ('binding' in at ? `binding ${at.binding}` : `scratch ${at.scratch}`);

/** One buffer's pages that are worked on together. */
interface Span {
  readonly at: Place;
  /** Where they begin in the run's page table. */
  readonly first: number;
  readonly pages: readonly KvPage[];
}

function spansOf(attention: Attention, first: number, count: number, productsMax: number): Span[] {
  const { begin, end, causal, window, position, pages } = attention;
  const last = causal ? Math.min(end, position + first + count) : end;
  const oldest = window > 0 ? Math.max(begin, position + first + 1 - window) : begin;
  if (last <= oldest) return [];
  const seen = pages.filter((page) => page.position < last && page.position + PAGE_TOKENS > oldest);
  const spans: Span[] = [];
  let at = 0;
  for (const own of Map.groupBy(seen, (page) => placeName(page.at)).values()) {
    const most = spanPages(attention, count, productsMax);
    // of even length, so that none is a small rest
    const length = parts(own.length, parts(own.length, most));
    for (let from = 0; from < own.length; from += length) {
      const some = own.slice(from, from + length);
      const [page] = some;
      if (page) spans.push({ at: page.at, first: at, pages: some });
      at += some.length;
    }
  }
  return spans;
}

function planRun(attention: Attention, first: number, count: number, productsMax: number): AttentionRun[] {
  const spans = spansOf(attention, first, count, productsMax);
  if (spans.length === 0) return [];
  const { heads, kvHeads, dim, biased, scale } = attention;
  const all = heads * count;
  const pages = spans.flatMap((span) => span.pages);
  const tableWords = Uint32Array.from(pages.flatMap(({ offset, position }) => [offset / 4, position]));
  const queries = scratch(0, 0, all * dim * 4);
  const table = scratch(0, queries.size, tableWords.byteLength);
  const bias = biased ? scratch(0, table.offset + table.size, all * 4) : undefined;
  if (table.offset + table.size + (bias?.size ?? 0) > UPLOAD_BYTES_MAX)
    throw new RangeError(`${pages.length} pages do not fit into what is uploaded to a run; attend in parts`);
  const quadded = scratch(1, 0, quadsOf(attention, count) * dim * 16);
  const merge = (parts: number, apart: number, partials: Range, merged: Range, isLast: boolean): AttentionStep => ({
    ...{ kernel: 'attentionMerge', constants: { DIM: dim } },
    parameters: { parts, apart, rows: all, biased: isLast && biased ? 1 : 0 },
    bindings: { partials, bias: bias ?? queries, merged },
  });
  const size = resultBytes(all, dim);
  const steps: AttentionStep[] = [
    {
      ...{ kernel: 'attentionQueries', constants: { DIM: dim } },
      parameters: { kv_heads: kvHeads, rows: all / kvHeads, scale },
      bindings: { queries, quadded },
    },
  ];
  for (const [i, span] of spans.entries()) {
    const { chunks, partials, steps: own } = spanSteps(attention, span, { first, count, table, quadded });
    const merged = scratch(1, quadded.size + i * size, size);
    steps.push(...own, merge(chunks, resultFloats(all, dim), partials, merged, spans.length === 1));
  }
  const results = scratch(1, quadded.size, spans.length * size);
  const result = spans.length === 1 ? results : scratch(2, 0, size);
  if (spans.length > 1) steps.push(merge(spans.length, size / 4, results, result, true));
  return [{ first, count, queries, table, tableWords, pages, bias, steps, result }];
}

interface Block {
  readonly first: number;
  readonly count: number;
  readonly table: Range;
  readonly quadded: Range;
}

/** From laid out queries to the partial results of a span's chunks. */
function spanSteps(attention: Attention, span: Span, { first, count, table, quadded }: Block) {
  const { heads, kvHeads, dim, keys, values, position, begin, end, causal, window, gpu } = attention;
  const quads = quadsOf(attention, count);
  const chunk = chunkPages(attention, span.pages.length, count);
  const chunks = parts(span.pages.length, chunk);
  const pageBytes = kvHeads * PAGE_TOKENS * (recordWords(keys, dim) + recordWords(values, dim)) * 4;
  const extent = Math.max(...span.pages.map(({ offset }) => offset + pageBytes));
  const pages: Range = { at: span.at, offset: 0, size: parts(extent, 16) * 16 };
  const constants = { DIM: dim, K_CODEC: RECORDS[keys].number, V_CODEC: RECORDS[values].number };
  const parameters = {
    ...{ octets: dim / 8, kv_heads: kvHeads, rows: (heads / kvHeads) * count, queries: count },
    ...{ first: span.first, pages: span.pages.length, chunk, extent: extent / 4 },
    ...{ position: position + first, begin, end, causal: causal ? 1 : 0, window },
  };
  const partials = scratch(2, 0, chunks * resultFloats(heads * count, dim) * 4);
  const shared = { constants, parameters };
  if (gpu) {
    const bindings = { pages, table, quadded, partials };
    const steps: AttentionStep[] = [{ kernel: 'attentionChunks', ...shared, bindings }];
    return { chunks, partials, steps };
  }
  const scores = scratch(2, 0, quads * span.pages.length * PAGE_TOKENS * 16);
  const weights = scratch(3, 0, quads * (span.pages.length * PAGE_TOKENS + chunks * 2) * 16);
  const steps: AttentionStep[] = [
    { kernel: 'attentionScores', ...shared, bindings: { pages, table, quadded, scores } },
    {
      ...{ kernel: 'attentionWeights', constants: {}, parameters: { quads, pages: span.pages.length, chunk } },
      bindings: { scores, weights },
    },
    { kernel: 'attentionValues', ...shared, bindings: { pages, table, weights, partials } },
  ];
  return { chunks, partials, steps };
}

/** Long enough that partial results fit and are few, short enough that there is work for all. */
function chunkPages(attention: Attention, pages: number, count: number): number {
  const { heads, dim, gpu } = attention;
  const fitting = Math.floor(SCRATCH_BYTES / resultBytes(heads * count, dim));
  const busy = Math.floor((pages * quadsOf(attention, count)) / (gpu ? WORKGROUPS_GPU : WORKGROUPS_SOFTWARE));
  const least = Math.max(gpu ? CHUNK_PAGES_GPU : 1, parts(pages, fitting));
  return Math.max(least, Math.min(busy, CHUNK_PAGES_MAX));
}

// ---- on the processor

type Rows = Pick<Attention, 'heads' | 'queries'>;
type Queries = Pick<AttentionRun, 'first' | 'count'>;

/** Of heads x queries x width values those of `count` queries from `first` on: what a run's queries and biases are. */
export function rowsOf(all: Float32Array, { heads, queries }: Rows, { first, count }: Queries): Float32Array {
  const width = all.length / (heads * queries);
  const some = new Float32Array(heads * count * width);
  for (let head = 0; head < heads; head++) {
    const from = (head * queries + first) * width;
    some.set(all.subarray(from, from + count * width), head * count * width);
  }
  return some;
}

/** A result in which no row has seen anything. */
export function emptyResult({ heads, queries, dim }: Rows & Pick<Attention, 'dim'>): Float32Array<ArrayBuffer> {
  const rows = heads * queries;
  return new Float32Array(resultFloats(rows, dim)).fill(NOTHING, rows * dim);
}

/** Puts the result of a run into that of all queries. */
export function placeResult(
  into: Float32Array,
  { heads, queries, dim }: Rows & Pick<Attention, 'dim'>,
  { first, count }: Queries,
  result: Float32Array,
): void {
  for (let head = 0; head < heads; head++) {
    const [from, to] = [head * count, head * queries + first];
    into.set(result.subarray(from * dim, (from + count) * dim), to * dim);
    const exponents = heads * count * dim + from;
    into.set(result.subarray(exponents, exponents + count), heads * queries * dim + to);
  }
}

/** One result of several over different tokens of the same rows; in f64, rounded once. */
export function mergeResults(results: readonly Float32Array[], dim: number): Float32Array<ArrayBuffer> {
  const [one] = results;
  if (!one) throw new RangeError('no results to merge');
  const odd = results.find(({ length }) => length !== one.length || length % (dim + 1) !== 0);
  if (odd)
    throw new RangeError(
      `results of ${one.length} and ${odd.length} floats, with ${dim} dimensions: not of the same rows`,
    );
  const merged = new Float32Array(one.length);
  const rows = one.length / (dim + 1);
  const sums = new Float64Array(dim);
  for (let row = 0; row < rows; row++) mergeRow(results, row, rows, sums, merged);
  return merged;
}

function mergeRow(
  results: readonly Float32Array[],
  row: number,
  rows: number,
  sums: Float64Array,
  merged: Float32Array,
): void {
  const dim = sums.length;
  const exponents = results.map((result) => result[rows * dim + row] ?? NOTHING);
  const largest = exponents.reduce((a, b) => Math.max(a, b), NOTHING);
  const shares = exponents.map((exponent) => (exponent === NOTHING ? 0 : Math.exp(exponent - largest)));
  const sum = shares.reduce((a, b) => a + b, 0);
  merged[rows * dim + row] = sum === 0 ? NOTHING : largest + Math.log(sum);
  if (sum === 0) return;
  sums.fill(0);
  for (const [i, result] of results.entries()) addScaled(sums, result, row * dim, shares[i] ?? 0);
  for (let d = 0; d < dim; d++) merged[row * dim + d] = (sums[d] ?? 0) / sum;
}

/** One result after the other, as memory lies: this is what answers of many queries wait for. */
function addScaled(sums: Float64Array, values: Float32Array, from: number, factor: number): void {
  for (let d = 0; d < sums.length; d++) sums[d] = (sums[d] ?? 0) + factor * (values[from + d] ?? 0);
}
