// The client's calls for the KV of token sequences: typed arrays in and out, or safetensors bodies as they are. Pure.
//
// What was stored is found by its model, salt and tokens, from the first token on. `load` answers the longest held beginning,
// `undefined` where nothing is held. `attention` needs all of its tokens held: else it throws the `BlatamError` kv_unknown,
// whose `document.matchedTokens` says how many are. Tokens go ahead of K and V, so that the server keeps nothing twice.
// A loaded body has no digest, as it is decoded on its way; its stream fails where it is not as long as its header says.

import type { z } from 'zod';
import type { Crypto } from '../core/contract/crypto.ts';
import {
  type KvDtype,
  type KvShape,
  type KvStoreAnswer,
  kvLoadSchema,
  kvStoreAnswerSchema,
  type RopeAsked,
  readAttentionBody,
  readStoreBody,
} from '../core/contract/kv.ts';
import {
  type KvClearAnswer,
  type KvLookupAnswer,
  type KvMoveAnswer,
  type KvNumberedEvent,
  type KvPinAnswer,
  type KvPrefetchAnswer,
  type KvRecodeAnswer,
  type KvUnpinAnswer,
  kvClearAnswerSchema,
  kvClearSchema,
  kvLookupAnswerSchema,
  kvLookupSchema,
  kvMoveAnswerSchema,
  kvMoveSchema,
  kvPinAnswerSchema,
  kvPinSchema,
  kvPrefetchAnswerSchema,
  kvPrefetchSchema,
  kvRecodeAnswerSchema,
  kvRecodeSchema,
  kvUnpinAnswerSchema,
  kvUnpinSchema,
} from '../core/contract/kv-calls.ts';
import { SAFETENSORS } from '../core/contract/messages.ts';
import type { Layout, TensorData } from '../core/contract/tensors.ts';
import { collect, isMissing, readJson, refusal, withQuery } from './client-answers.ts';
import { type KvEventsOptions, kvEvents } from './client-events.ts';
import { bytesOf, fileOf, holds, numbersOf, openTensors } from './client-tensors.ts';
import type { Answer, Ask, StreamBody } from './client-wire.ts';

export interface KvOwner {
  readonly model: string;
  /** Tenants that name the same salt share what they store; without one, a tenant has its own. */
  readonly salt?: string | undefined;
}

export interface KvStoreOptions extends KvOwner {
  /** Default `raw`: bit for bit. */
  readonly codecK?: string | undefined;
  readonly codecV?: string | undefined;
  /** K is given as it was before this rotary embedding, and gets it when it is attended to. Default: K is taken as it comes. */
  readonly rope?: RopeAsked | undefined;
  /** Seconds after which it is not found any more; default never. */
  readonly ttl?: number | undefined;
  /** 0 to 100, default 50: the lowest leave first. */
  readonly priority?: number | undefined;
}

/** Sixteen-bit numbers are given as their bits. */
export type KvNumbers<D extends KvDtype> = D extends 'F32' ? Float32Array : Uint16Array;

export interface KvValues<D extends KvDtype> {
  readonly shape: KvShape;
  readonly dtype: D;
  /** [layers, kvHeads, tokens, dim] */
  readonly k: KvNumbers<D>;
  readonly v: KvNumbers<D>;
}

/** K and V may be those of the last tokens alone, from a multiple of 64 on, where the tokens before them are held. */
export interface KvSequence<D extends KvDtype> extends KvStoreOptions, KvValues<D> {
  readonly tokens: Int32Array;
}

export interface KvLoadOptions<D extends KvDtype = KvDtype> extends KvOwner {
  readonly tokens: Int32Array;
  /** Default F16. */
  readonly dtype?: D | undefined;
  /** True: K with its rotary embedding, where it was stored before it. */
  readonly rope?: boolean | undefined;
}

export interface KvLoaded<D extends KvDtype> extends KvValues<D> {
  readonly matchedTokens: number;
}

/** A safetensors file with `k` and `v`; read its stream once. */
export interface KvFetched {
  readonly matchedTokens: number;
  readonly shape: KvShape;
  readonly dtype: KvDtype;
  /** Of the whole file, in bytes. */
  readonly length: number;
  readonly stream: ReadableStream<Uint8Array>;
}

export interface KvQuestion extends KvOwner {
  readonly tokens: Int32Array;
  readonly layer: number;
  /** [heads, queries, dim]: of the last tokens, one for each. */
  readonly q: Float32Array;
  readonly heads: number;
  readonly dim: number;
  /** Default 1 / sqrt(dim). */
  readonly scale?: number | undefined;
  /** Default true. */
  readonly causal?: boolean | undefined;
  /** How many of the latest tokens a query sees, itself counted; default all. */
  readonly window?: number | undefined;
}

export interface KvAttended {
  /** [heads, queries, dim] */
  readonly o: Float32Array;
  /** The log-sum-exp of each query's scores: [heads, queries]. */
  readonly lse: Float32Array;
}

/** The tokens of a sequence, from its first one on. */
export interface KvBeginning extends KvOwner {
  readonly tokens: Int32Array;
}

export interface KvLookupOptions extends KvBeginning {
  /** Why it is not more. */
  readonly explain?: boolean | undefined;
  /** Counts as a use: what was found leaves last. */
  readonly use?: boolean | undefined;
  /** Only what is held in a layout like this. */
  readonly layout?: { readonly [name in keyof KvShape]?: number | undefined } | undefined;
}

/** What is not said restricts nothing. */
export interface KvClearOptions {
  readonly model?: string | undefined;
  readonly salt?: string | undefined;
  /** Only of sequences that begin with these, from where they end on; needs a model. */
  readonly prefix?: Int32Array | undefined;
}

export interface ClientKv {
  store<D extends KvDtype>(sequence: KvSequence<D>): Promise<KvStoreAnswer>;
  /** A safetensors file with `tokens`, `k` and `v`, as it is. */
  storeBody(body: Uint8Array | StreamBody, options: KvStoreOptions): Promise<KvStoreAnswer>;
  /** Undefined where nothing is held. Views into one array, which any of them keeps alive. */
  load<D extends KvDtype = 'F16'>(options: KvLoadOptions<D>): Promise<KvLoaded<D> | undefined>;
  /** The same as it comes, for those who do not want it in memory. */
  loadBody(options: KvLoadOptions): Promise<KvFetched | undefined>;
  attention(question: KvQuestion): Promise<KvAttended>;
  /** What is held of it. */
  lookup(options: KvLookupOptions): Promise<KvLookupAnswer>;
  /** Keeps what is held of it for so many seconds, whatever else comes. */
  pin(options: KvBeginning & { readonly ttl: number }): Promise<KvPinAnswer>;
  /** One pin, by its id or by what it was made for. */
  unpin(options: { readonly pin: string } | KvBeginning): Promise<KvUnpinAnswer>;
  /** Forgets what your tenant has stored. */
  clear(options: KvClearOptions): Promise<KvClearAnswer>;
  /** Keeps it in these codecs from now on, where it is exact yet. */
  recode(options: KvBeginning & { codecK?: string | undefined; codecV?: string | undefined }): Promise<KvRecodeAnswer>;
  /** To another adapter, or into memory (`cold`) and back (`hot`). */
  move(options: KvBeginning & ({ adapter: string } | { tier: 'hot' | 'cold' | 'disk' })): Promise<KvMoveAnswer>;
  /** Out of memory to adapters, before it is read. */
  prefetch(options: KvBeginning): Promise<KvPrefetchAnswer>;
  /** What happens to the blocks that your tenant has stored; goes on where the connection was cut. */
  events(options?: KvEventsOptions): AsyncGenerator<KvNumberedEvent, void, undefined>;
}

export function clientKv(ask: (ask: Ask) => Promise<Answer>, crypto: Crypto): ClientKv {
  const kv: ClientKv = {
    async store(sequence) {
      return kv.storeBody(storeFile(sequence), sequence);
    },
    async storeBody(body, { model, salt, codecK, codecV, ttl, priority, rope: { theta, scale, pairs, dims } = {} }) {
      const rope = { rope: theta, ropeScale: scale, ropePairs: pairs, ropeDims: dims };
      const path = withQuery('/v1/kv/store', { model, salt, codecK, codecV, ttl, priority, ...rope });
      return readJson(await post(path, SAFETENSORS, body), kvStoreAnswerSchema);
    },
    async load<D extends KvDtype = 'F16'>(options: KvLoadOptions<D>) {
      const found = await openKv(options);
      if (!found) return undefined;
      const { layout, stream, meaning } = found;
      const { shape, dtype, matchedTokens } = meaning;
      const file = await collect(stream, layout.totalBytes);
      const numbers = (name: string) => numbersOf(dtype, file, layout, name) as KvNumbers<D>; // the dtype asked for
      return { shape, dtype: dtype as D, k: numbers('k'), v: numbers('v'), matchedTokens };
    },
    async loadBody(options) {
      const found = await openKv(options);
      return found && { ...found.meaning, length: found.layout.totalBytes, stream: found.stream };
    },
    async attention(question) {
      const { model, salt, layer, scale, causal, window, heads, dim, q } = question;
      const path = withQuery('/v1/kv/attention', { model, salt, layer, scale, causal, window });
      const answer = await post(path, SAFETENSORS, questionFile(question));
      if (answer.status !== 200) throw await refusal(answer);
      const rows = [heads, q.length / heads / dim];
      const isAsked = (layout: Layout) =>
        holds(layout, { o: ['F32', [...rows, dim]], lse: ['F32', rows] }) || undefined;
      const { layout, stream } = await openTensors(answer, isAsked);
      const file = await collect(stream, layout.totalBytes);
      const numbers = (name: string) => numbersOf('F32', file, layout, name) as Float32Array;
      return { o: numbers('o'), lse: numbers('lse') };
    },
    lookup: (options) => act('lookup', withNumbers(options), kvLookupSchema, kvLookupAnswerSchema),
    pin: (options) => act('pin', withNumbers(options), kvPinSchema, kvPinAnswerSchema),
    unpin(options) {
      const asked = 'pin' in options ? options : withNumbers(options);
      return act('unpin', asked, kvUnpinSchema, kvUnpinAnswerSchema);
    },
    clear({ prefix, ...options }) {
      const asked = { ...options, prefix: prefix && [...prefix] };
      return act('clear', asked, kvClearSchema, kvClearAnswerSchema);
    },
    recode: (options) => act('recode', withNumbers(options), kvRecodeSchema, kvRecodeAnswerSchema),
    move: (options) => act('move', withNumbers(options), kvMoveSchema, kvMoveAnswerSchema),
    prefetch: (options) => act('prefetch', withNumbers(options), kvPrefetchSchema, kvPrefetchAnswerSchema),
    events: (options = {}) => kvEvents(ask, options),
  };
  return kv;

  /** A call that takes and answers JSON. */
  async function act<A extends z.ZodType, B extends z.ZodType>(call: string, asked: object, takes: A, answers: B) {
    const parsed = takes.safeParse(asked);
    if (!parsed.success) throw refused(parsed.error, call);
    const body = new TextEncoder().encode(JSON.stringify(asked));
    return readJson(await post(`/v1/kv/${call}`, 'application/json', body), answers);
  }

  async function post(path: string, type: string, body: Uint8Array | StreamBody): Promise<Answer> {
    const digest = body instanceof Uint8Array ? await crypto.sha256(body) : body.digest;
    return ask({ method: 'POST', path, body, digest, headers: { 'content-type': type } });
  }

  async function openKv({ model, salt, tokens, dtype, rope }: KvLoadOptions) {
    const parsed = kvLoadSchema.safeParse({ model, salt, tokens: [...tokens], dtype, rope });
    if (!parsed.success) throw refused(parsed.error, 'load');
    const body = new TextEncoder().encode(JSON.stringify(parsed.data));
    const answer = await post('/v1/kv/load', 'application/json', body);
    if (await isMissing(answer, 'kv_unknown')) return undefined;
    if (answer.status !== 200) throw await refusal(answer);
    return openTensors(answer, (layout) => readLoaded(layout, parsed.data.dtype));
  }
}

// ---- what is sent

const withNumbers = <T extends KvBeginning>({ tokens, ...asked }: T) => ({ ...asked, tokens: [...tokens] });

function refused({ issues: [issue] }: z.ZodError, call: string): RangeError {
  return new RangeError(`The ${issue?.path.join('.') || 'whole'} to ${call}: ${issue?.message}.`);
}

function storeFile<D extends KvDtype>({ shape, dtype, tokens, k, v }: KvSequence<D>): Uint8Array {
  const { layers, kvHeads, dim } = shape;
  const held = k.length / (layers * kvHeads * dim);
  if (!Number.isInteger(held))
    throw new RangeError(`k has ${k.length} numbers; they must be layers × kvHeads × tokens × dim.`);
  const file = (name: string, data: Uint8Array): TensorData => ({
    ...{ name, dtype, data },
    shape: [layers, kvHeads, held, dim],
  });
  return fileOf([tokensOf(tokens), file('k', bytesOf(k)), file('v', bytesOf(v))], readStoreBody);
}

function questionFile({ tokens, q, heads, dim }: KvQuestion): Uint8Array {
  const queries = q.length / heads / dim;
  if (!Number.isInteger(queries))
    throw new RangeError(`q has ${q.length} numbers; they must be heads × queries × dim.`);
  const queried: TensorData = { name: 'q', dtype: 'F32', shape: [heads, queries, dim], data: bytesOf(q) };
  return fileOf([tokensOf(tokens), queried], readAttentionBody);
}

const tokensOf = (tokens: Int32Array): TensorData => ({
  ...{ name: 'tokens', dtype: 'I32', shape: [tokens.length] },
  data: bytesOf(tokens),
});

// ---- what comes

interface Loaded {
  readonly matchedTokens: number;
  readonly shape: KvShape;
  readonly dtype: KvDtype;
}

/** What a layout says, where it is that of loaded KV. */
function readLoaded(layout: Layout, dtype: KvDtype): Loaded | undefined {
  const [layers = 0, kvHeads = 0, matchedTokens = 0, dim = 0] = layout.tensors[0]?.shape ?? [];
  const shape = [layers, kvHeads, matchedTokens, dim];
  if (!holds(layout, { k: [dtype, shape], v: [dtype, shape] })) return undefined;
  return { matchedTokens, shape: { layers, kvHeads, dim }, dtype };
}
