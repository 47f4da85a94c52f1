// Attention over held pages: the blocks in groups that one plan can take (an adapter, a form, a mean), each group's result
// from its adapter, all of them merged by their log-sum-exps. Queries are turned once on the way in and outputs once on the
// way out, where a group's records are rotated; records stay as they are. But K that was stored before its rotary embedding
// is staged (staging.ts): decoded and embedded in scratch by the run that attends to it, so many pages at a time as fit.
import {
  type Attention,
  type AttentionRun,
  type AttentionStep,
  emptyResult,
  mergeResults,
  placeResult,
  planAttention,
  QUERIES_MAX,
  type Range,
  resultFloats,
  rowsOf,
} from '../../shaders/attention.ts';
import { SIGNS } from '../../shaders/catalogue.ts';
import type { KvShape, Rope } from '../contract/kv.ts';
import type { GpuLease } from '../gpu/gpu-lease.ts';
import { PIECE_BYTES, type Piece, privatePiece } from '../gpu/pieces.ts';
import { together } from '../gpu/together.ts';
import { type Move, scratch, type Work, type WorkDispatch, type WorkRange } from '../gpu/work.ts';
import { rotation } from './coding.ts';
import { type Means, scoreBias } from './means.ts';
import { BLOCK_TOKENS, type Form, isRotated } from './pages.ts';
import { type Staging, stagedAt, stagedForm, stagedPagesMax, staging } from './staging.ts';

export interface Query {
  readonly layer: number;
  readonly heads: number;
  /** f32 [heads, queries, dim]: the last positions of the sequence. */
  readonly q: Float32Array;
  readonly queries: number;
  readonly scale: number;
  readonly causal: boolean;
  /** 0: all. */
  readonly window: number;
}

/** The same of its last queries only. */
export function lastOf(query: Query, most: number): Query {
  const count = Math.min(most, query.queries);
  return { ...query, q: rowsOf(query.q, query, { first: query.queries - count, count }), queries: count };
}

export interface KvResult {
  /** f32 [heads, queries, dim] */
  readonly o: Float32Array;
  /** f32 [heads, queries] */
  readonly lse: Float32Array;
}

/** A block's pages, one a layer. */
export interface CodedPages {
  readonly lease: GpuLease;
  readonly form: Form;
  /** What coded K lacks. */
  readonly means: Means | undefined;
}

export interface AttendOptions {
  readonly shape: KvShape;
  /** What K is to be given first. */
  readonly rope: Rope | undefined;
  /** Of the sequence's blocks, in order. */
  readonly pages: readonly CodedPages[];
  /** Of the sequence; the last block's may be fewer. */
  readonly tokens: number;
  readonly query: Query;
  /** Whether an adapter takes the kernels for GPUs. */
  readonly isGpu: (adapter: string) => boolean;
  readonly signal: AbortSignal;
}

/** Of one run: seconds on the slowest adapter, far below any deadline. */
const RUN_PRODUCTS_MAX = 2 ** 32;
const RUN_PAGES_MAX = 4096;
/** Of an adapter: what they result in is merged before there are more. */
const PARTS_AT_ONCE = 8;

/** Pages that one plan can take. */
interface Group {
  readonly lease: GpuLease;
  readonly form: Form;
  readonly means: Means | undefined;
  readonly pages: { readonly held: CodedPages; readonly block: number }[];
}

/** Some queries of a question, and where the first of them is in the sequence. */
interface Asked extends AttendOptions {
  readonly position: number;
}

/** A block of queries after the other: beside the answer there are never more than the results of one block in memory. */
export async function attend(options: AttendOptions): Promise<KvResult> {
  const { shape, query, tokens } = options;
  const { heads, queries } = query;
  const { dim } = shape;
  const whole = { heads, queries, dim };
  const all = emptyResult(whole);
  const adapters = [...Map.groupBy(groupsOf(options), ({ lease }) => lease.adapter).values()];
  const most = Math.min(QUERIES_MAX, Math.max(1, Math.floor(PIECE_BYTES / (resultFloats(heads, dim) * 4))));
  for (let first = 0; first < queries; first += most) {
    const block = { first, count: Math.min(most, queries - first) };
    const some = { ...query, q: rowsOf(query.q, whole, block), queries: block.count };
    const asked = { ...options, query: some, position: tokens - queries + first };
    const results = await together(adapters.map((groups) => attendOn(groups, asked)));
    placeResult(all, whole, block, mergeResults(results, dim));
  }
  const rows = heads * queries;
  return { o: all.subarray(0, rows * dim), lse: all.subarray(rows * dim) };
}

function groupsOf({ pages }: AttendOptions): Group[] {
  const groups = new Map<string, Group>();
  const numbers = new Map<Means | undefined, number>();
  for (const [block, held] of pages.entries()) {
    const means = isRotated(held.form.k) ? held.means : undefined;
    if (!numbers.has(means)) numbers.set(means, numbers.size);
    const key = [held.lease.adapter, held.form.k, held.form.v, numbers.get(means)].join(' ');
    const group = groups.get(key) ?? { lease: held.lease, form: held.form, means, pages: [] };
    groups.set(key, group);
    group.pages.push({ held, block });
  }
  return [...groups.values()];
}

/** What lies on one adapter, some parts of it at once. */
async function attendOn(groups: readonly Group[], asked: Asked): Promise<Float32Array> {
  const { shape, query } = asked;
  const parts = groups.flatMap((group) => partsOf(group, asked));
  let merged: Float32Array = emptyResult({ ...query, dim: shape.dim });
  for (let first = 0; first < parts.length; first += PARTS_AT_ONCE) {
    const some = parts.slice(first, first + PARTS_AT_ONCE).map((part) => attendPart(part, asked));
    merged = mergeResults([merged, ...(await together(some))], shape.dim);
  }
  return merged;
}

/** So many pages at a time that no run takes long (a canary waits behind it), and no more than are staged at once. */
function partsOf(group: Group, { shape, rope, query }: Asked): Group[] {
  const rows = query.heads * query.queries;
  const swift = Math.floor(RUN_PRODUCTS_MAX / (rows * shape.dim * BLOCK_TOKENS));
  const most = Math.max(1, Math.min(RUN_PAGES_MAX, swift, rope ? stagedPagesMax(shape, group.form) : RUN_PAGES_MAX));
  const parts: Group[] = [];
  for (let at = 0; at < group.pages.length; at += most)
    parts.push({ ...group, pages: group.pages.slice(at, at + most) });
  return parts;
}

async function attendPart(group: Group, asked: Asked): Promise<Float32Array> {
  const { query, shape, rope } = asked;
  const attention = attentionOf(group, asked);
  const bias = group.means && !rope ? scoreBias(group.means, shape, query.layer, query) : undefined;
  const all = emptyResult(attention);
  for (const run of planAttention(attention))
    placeResult(all, attention, run, await send(run, group, attention, bias, asked));
  return all;
}

function attentionOf({ form, pages, lease, means }: Group, asked: Asked): Attention {
  const { shape, rope, query, position: first, tokens, isGpu } = asked;
  const { kvHeads, dim } = shape;
  const seen = rope ? stagedForm(form) : form;
  const { heads, queries, causal, window, scale, layer } = query;
  return {
    ...{ heads, kvHeads, dim, queries, causal, window, scale },
    keys: seen.k,
    values: seen.v,
    pages: pages.map(({ held, block }, index) => {
      const position = block * BLOCK_TOKENS;
      if (rope) return { at: { scratch: 3 }, offset: stagedAt(shape, form, index), position };
      const { binding, byteOffset } = held.lease.range(layer);
      return { at: { binding }, offset: byteOffset, position };
    }),
    ...{ position: first, begin: 0, end: tokens },
    biased: means !== undefined && !rope,
    gpu: isGpu(lease.adapter),
  };
}

async function send(
  run: AttentionRun,
  group: Group,
  attention: Attention,
  bias: Float32Array | undefined,
  options: AttendOptions,
): Promise<Float32Array> {
  const answer = new Float32Array(resultFloats(attention.heads * run.count, attention.dim));
  const work = workOf(run, attention, {
    queries: rowsOf(options.query.q, attention, run),
    bias: bias && rowsOf(bias, attention, run),
    answer: privatePiece(bytesOf(answer)),
    staged: stagingOf(run, group, attention, options),
  });
  await group.lease.run(work, { signal: options.signal });
  return answer;
}

/** Only what the run looks at is staged. */
function stagingOf(run: AttentionRun, group: Group, { pages }: Attention, options: AttendOptions): Staging | undefined {
  const { shape, rope, query } = options;
  if (!rope) return undefined;
  const { form, means } = group;
  const seen = run.pages.flatMap((seenPage) => {
    const index = pages.indexOf(seenPage);
    const page = group.pages[index]?.held.lease.range(query.layer);
    return page ? [{ page, index, position: seenPage.position }] : [];
  });
  const ends = [run.queries, run.table].map(({ offset, size }) => offset + size);
  return staging({ shape, form, rope, means, layer: query.layer }, seen, Math.max(...ends));
}

interface Payload {
  readonly queries: Float32Array;
  readonly bias: Float32Array | undefined;
  readonly answer: Piece;
  readonly staged: Staging | undefined;
}

/** Scratch 3 takes queries that are yet to be turned: nothing is there before the first scores. Outputs are turned into 0. */
const TO_TURN = 3;

function workOf(run: AttentionRun, { heads, dim, keys, values }: Attention, payload: Payload): Work {
  const { queries, bias, answer, staged } = payload;
  const outputBytes = heads * run.count * dim * 4;
  const asked = { at: scratch(TO_TURN), offset: 0, size: queries.byteLength };
  const uploads: Move[] = [
    move(queries, isRotated(keys) ? asked : rangeOf(run.queries, queries.byteLength)),
    move(run.tableWords, rangeOf(run.table, run.tableWords.byteLength)),
    ...(bias && run.bias ? [move(bias, rangeOf(run.bias, bias.byteLength))] : []),
    ...(staged?.uploads ?? []),
  ];
  const outputs = rangeOf(run.result, outputBytes);
  const turned = { at: scratch(0), offset: 0, size: outputBytes };
  const exponents = { ...outputs, offset: outputs.offset + outputBytes, size: answer.bytes.length - outputBytes };
  return {
    uploads,
    dispatches: [
      ...(staged?.dispatches ?? []),
      ...(isRotated(keys) ? [rotation(SIGNS.forward, dim, asked, rangeOf(run.queries, queries.byteLength))] : []),
      ...run.steps.map(dispatchOf),
      ...(isRotated(values) ? [rotation(SIGNS.inverse, dim, outputs, turned)] : []),
    ],
    downloads: [
      { piece: answer, from: 0, range: isRotated(values) ? turned : outputs },
      { piece: answer, from: outputBytes, range: exponents },
    ],
  };
}

const bytesOf = ({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint8Array =>
  new Uint8Array(buffer as ArrayBuffer, byteOffset, byteLength);
const move = (data: ArrayBufferView, range: WorkRange): Move => ({
  piece: privatePiece(bytesOf(data)),
  from: 0,
  range,
});

const rangeOf = ({ at, offset, size }: Range, bytes = size): WorkRange => ({
  at: 'binding' in at ? at.binding : scratch(at.scratch),
  offset,
  size: bytes,
});

const dispatchOf = ({ bindings, ...step }: AttentionStep): WorkDispatch =>
  ({
    ...step,
    bindings: Object.fromEntries(Object.entries<Range>(bindings).map(([name, range]) => [name, rangeOf(range)])),
  }) as WorkDispatch; // the same dispatch, its places by number
