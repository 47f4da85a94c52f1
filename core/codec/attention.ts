// Attention over held pages: the blocks in groups that one plan can take (an adapter, a form, a mean), each group's result
// from its adapter, all of them merged by their log-sum-exps. Queries are turned once on the way in and outputs once on the
// way out, where a group's records are rotated; records stay as they are.
import {
  type Attention,
  type AttentionRun,
  type AttentionStep,
  emptyResult,
  mergeResults,
  placeResult,
  planAttention,
  type Range,
  resultFloats,
  rowsOf,
} from '../../shaders/attention.ts';
import { SIGNS } from '../../shaders/catalogue.ts';
import type { KvShape } from '../contract/kv.ts';
import type { GpuLease } from '../gpu/gpu-lease.ts';
import { PIECE_BYTES, type Piece, privatePiece } from '../gpu/pieces.ts';
import { together } from '../gpu/together.ts';
import { type Move, scratch, type Work, type WorkDispatch, type WorkRange } from '../gpu/work.ts';
import { rotation } from './coding.ts';
import { type Means, scoreBias } from './means.ts';
import { BLOCK_TOKENS, type Form, isRotated } from './pages.ts';

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
/** As many queries as a run takes at most (shaders/attention.ts). */
const RUN_QUERIES = 128;

/** Pages that one plan can take. */
interface Group {
  readonly lease: GpuLease;
  readonly form: Form;
  readonly means: Means | undefined;
  readonly pages: { readonly held: CodedPages; readonly block: number }[];
}

export async function attend(options: AttendOptions): Promise<KvResult> {
  const { shape, query } = options;
  const { heads, queries } = query;
  const { dim } = shape;
  const results: Promise<Float32Array>[] = [];
  for (const group of groupsOf(options)) results.push(attendGroup(group, options));
  const merged = mergeResults(await together(results), dim);
  const rows = heads * queries;
  return { o: merged.subarray(0, rows * dim), lse: merged.subarray(rows * dim) };
}

function groupsOf({ pages, query }: AttendOptions): Group[] {
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
  return [...groups.values()].flatMap((group) => inParts(group, query));
}

/** So many pages at a time that no run takes long: a canary waits behind it. */
function inParts(group: Group, { heads, queries, q }: Query): Group[] {
  const rows = heads * Math.min(queries, RUN_QUERIES);
  const dim = q.length / (heads * queries);
  const most = Math.max(1, Math.min(RUN_PAGES_MAX, Math.floor(RUN_PRODUCTS_MAX / (rows * dim * BLOCK_TOKENS))));
  const parts: Group[] = [];
  for (let at = 0; at < group.pages.length; at += most)
    parts.push({ ...group, pages: group.pages.slice(at, at + most) });
  return parts;
}

/** As many queries at a time as an answer has room for. */
async function attendGroup(group: Group, options: AttendOptions): Promise<Float32Array> {
  const { query, shape } = options;
  const attention = attentionOf(group, options);
  const most = Math.max(1, Math.floor(PIECE_BYTES / (resultFloats(query.heads, shape.dim) * 4)));
  const bias = group.means && scoreBias(group.means, shape, query.layer, query);
  const all = emptyResult(attention);
  for (let first = 0; first < query.queries; first += most) {
    const some = { ...attention, queries: Math.min(most, query.queries - first), position: attention.position + first };
    for (const run of planAttention(some)) {
      const here = { ...run, first: first + run.first };
      const answer = await send(here, group, attention, query.q, bias, options.signal);
      placeResult(all, attention, here, answer);
    }
  }
  return all;
}

function attentionOf({ form, pages, lease, means }: Group, { shape, query, tokens, isGpu }: AttendOptions): Attention {
  const { kvHeads, dim } = shape;
  const { heads, queries, causal, window, scale, layer } = query;
  return {
    ...{ heads, kvHeads, dim, queries, causal, window, scale },
    keys: form.k,
    values: form.v,
    pages: pages.map(({ held, block }) => {
      const { binding, byteOffset } = held.lease.range(layer);
      return { at: { binding }, offset: byteOffset, position: block * BLOCK_TOKENS };
    }),
    ...{ position: tokens - queries, begin: 0, end: tokens },
    biased: means !== undefined,
    gpu: isGpu(lease.adapter),
  };
}

async function send(
  run: AttentionRun,
  { lease, form }: Group,
  attention: Attention,
  q: Float32Array,
  bias: Float32Array | undefined,
  signal: AbortSignal,
): Promise<Float32Array> {
  const answer = new Float32Array(resultFloats(attention.heads * run.count, attention.dim));
  const work = workOf(run, form, attention, {
    queries: rowsOf(q, attention, run),
    bias: bias && rowsOf(bias, attention, run),
    answer: privatePiece(bytesOf(answer)),
  });
  await lease.run(work, { signal });
  return answer;
}

interface Payload {
  readonly queries: Float32Array;
  readonly bias: Float32Array | undefined;
  readonly answer: Piece;
}

/** Scratch 3 takes queries that are yet to be turned: nothing is there before the first scores. Outputs are turned into 0. */
const TO_TURN = 3;

function workOf(run: AttentionRun, form: Form, { heads, dim }: Attention, { queries, bias, answer }: Payload): Work {
  const outputBytes = heads * run.count * dim * 4;
  const asked = { at: scratch(TO_TURN), offset: 0, size: queries.byteLength };
  const uploads: Move[] = [
    move(queries, isRotated(form.k) ? asked : rangeOf(run.queries, queries.byteLength)),
    move(run.tableWords, rangeOf(run.table, run.tableWords.byteLength)),
    ...(bias && run.bias ? [move(bias, rangeOf(run.bias, bias.byteLength))] : []),
  ];
  const outputs = rangeOf(run.result, outputBytes);
  const turned = { at: scratch(0), offset: 0, size: outputBytes };
  const exponents = { ...outputs, offset: outputs.offset + outputBytes, size: answer.bytes.length - outputBytes };
  return {
    uploads,
    dispatches: [
      ...(isRotated(form.k) ? [rotation(SIGNS.forward, dim, asked, rangeOf(run.queries, queries.byteLength))] : []),
      ...run.steps.map(dispatchOf),
      ...(isRotated(form.v) ? [rotation(SIGNS.inverse, dim, outputs, turned)] : []),
    ],
    downloads: [
      { piece: answer, from: 0, range: isRotated(form.v) ? turned : outputs },
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
