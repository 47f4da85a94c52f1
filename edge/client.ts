// The client: tensors by name, and the KV of token sequences (client-kv.ts), over signed requests, for whoever imports it.
// Pure: it runs on Node, Bun, Deno, Workers and in browsers, over the `fetch` and the crypto port it is given.
//
// Every request is signed with a nonce of its own and is sent once: nothing is retried but kv.events, no redirect is followed.
// What the server refuses throws `BlatamError`; an answer that did not come whole, or is not what it says it is, throws
// `TransferError`; what the caller gives wrongly throws `RangeError`, or a `Problem` where tensors are malformed.
// A missing tensor is no error: `undefined`, or false. `bytes()` answers the very bytes that were stored, or throws.
// `stream` fails when it is cut, and leaves the digest to its reader, as WebCrypto cannot hash piece by piece.
// A stream that is neither read to its end nor cancelled keeps its connection.

import { z } from 'zod';
import { parseContentDigest } from '../core/contract/content-digest.ts';
import type { Crypto } from '../core/contract/crypto.ts';
import { webCrypto } from '../core/contract/crypto-web.ts';
import {
  type Durability,
  keySchema,
  type ListAnswer,
  listAnswerSchema,
  type PutAnswer,
  putAnswerSchema,
  SAFETENSORS,
  type TensorEntry,
} from '../core/contract/messages.ts';
import { joinParts, parseTensors, type TensorData, tensorBytes, tensorParts } from '../core/contract/tensors.ts';
import { collect, isMissing, readJson, refusal, withQuery } from './client-answers.ts';
import { type ClientBackups, clientBackups } from './client-backups.ts';
import { type ClientBatch, clientBatch } from './client-batch.ts';
import { type ClientCache, clientCache, type Stats } from './client-cache.ts';
import { type ClientCompute, clientCompute } from './client-compute.ts';
import { type ClientErasures, clientErasures } from './client-erasures.ts';
import { type ClientKeys, clientKeys } from './client-keys.ts';
import { type ClientKv, clientKv } from './client-kv.ts';
import { type Answer, lengthOf, openWire, type StreamBody, TransferError, type WireOptions } from './client-wire.ts';

export type { BackupAnswer, BackupJob } from '../core/contract/backups.ts';
export type { KeyAnswer, NewKeyAnswer, Restrictions } from '../core/contract/keys.ts';
export type { KvBlock, KvDtype, KvShape, KvStoreAnswer, RopeAsked } from '../core/contract/kv.ts';
export type {
  KvClearAnswer,
  KvExplanation,
  KvLookupAnswer,
  KvMoveAnswer,
  KvNumberedEvent,
  KvPinAnswer,
  KvPrefetchAnswer,
  KvRecodeAnswer,
  KvUnpinAnswer,
} from '../core/contract/kv-calls.ts';
export type { ListAnswer, PutAnswer, TensorEntry } from '../core/contract/messages.ts';
export type { TensorData } from '../core/contract/tensors.ts';
export { BlatamError } from './client-answers.ts';
export type { BackupWatch, ClientBackups, RestoreOptions } from './client-backups.ts';
export type { BatchFile, BatchGot, BatchPut } from './client-batch.ts';
export type { Compute, ComputeOptions } from './client-compute.ts';
export type { KvEventsOptions } from './client-events.ts';
export type { AuditEntry, KeyAsked } from './client-keys.ts';
export type * from './client-kv.ts';
export { type StreamBody, TransferError, type TransferFault } from './client-wire.ts';

export interface ClientOptions extends WireOptions {
  readonly crypto?: Crypto;
}

export interface PutOptions {
  readonly codec?: string | undefined;
  /** Seconds. */
  readonly ttl?: number | undefined;
  /** 0 to 100. */
  readonly priority?: number | undefined;
  readonly durability?: Durability | undefined;
}

export interface Held {
  /** The sha-256 in hex, without quotes: the `digest` of a put or of a list. */
  readonly etag: string;
  /** Where it was: `hot` on an adapter, `cold` on disk. */
  readonly cache: string | null;
  /** Bytes; undefined where something in between took the length away. */
  readonly length: number | undefined;
}

/** Read it once: by `bytes()`, or by `stream`. */
export interface Fetched extends Held {
  readonly digest: Uint8Array;
  readonly stream: ReadableStream<Uint8Array>;
  bytes(): Promise<Uint8Array>;
}

export interface ListOptions {
  readonly prefix?: string | undefined;
  /** The `cursor` of the page before. */
  readonly cursor?: string | undefined;
  readonly limit?: number | undefined;
}

const adapterSchema = z.looseObject({
  id: z.string(),
  name: z.string(),
  state: z.string(),
  backend: z.string().optional(),
  software: z.boolean().optional(),
  memory: z.looseObject({ used: z.number(), capacity: z.number() }),
  /** 0 to 1. This and `queue` are told to keys with `metrics:read` or `cache:admin` only, and to others their own tenant's memory. */
  utilization: z.number().optional(),
  queue: z.number().optional(),
  restarts: z.number(),
});
const adaptersSchema = z.looseObject({ adapters: z.array(adapterSchema) });

export type { PolicyAnswer } from '../core/contract/policy.ts';
export type { Stats } from './client-cache.ts';
export type Adapter = z.infer<typeof adapterSchema>;

export interface Client extends ClientBatch, ClientCompute {
  put(key: string, body: Uint8Array | StreamBody, options?: PutOptions): Promise<PutAnswer & { created: boolean }>;
  get(key: string): Promise<Fetched | undefined>;
  /** `'unchanged'` if what is held still has this etag. */
  get(key: string, options: { readonly etag?: string | undefined }): Promise<Fetched | 'unchanged' | undefined>;
  head(key: string): Promise<Held | undefined>;
  /** False if there was none. */
  delete(key: string): Promise<boolean>;
  list(options?: ListOptions): Promise<ListAnswer>;
  listAll(prefix?: string): AsyncGenerator<TensorEntry, void, undefined>;
  stats(): Promise<Stats>;
  adapters(): Promise<Adapter[]>;
  putTensors(
    key: string,
    tensors: readonly TensorData[],
    options?: PutOptions,
  ): Promise<PutAnswer & { created: boolean }>;
  /** Views into one array, which any of them keeps alive. */
  getTensors(key: string): Promise<TensorData[] | undefined>;
  /** The KV of token sequences. */
  readonly kv: ClientKv;
  /** Copies of all that is on disk. */
  readonly backups: ClientBackups;
  /** The cache as a whole. */
  readonly cache: ClientCache;
  /** Keys, and the audit log. */
  readonly keys: ClientKeys;
  /** What is to leave nothing behind. */
  readonly erasures: ClientErasures;
}

export function createClient(options: ClientOptions): Client {
  const { crypto = webCrypto } = options;
  const ask = openWire(options, crypto);

  const client: Client = {
    put,
    get: fetchTensors as Client['get'],
    async head(key) {
      const answer = await ask({ method: 'HEAD', path: pathOf(key) });
      answer.close();
      if (answer.status === 404) return undefined;
      if (answer.status !== 200) throw await refusal(answer);
      return heldOf(answer);
    },
    async delete(key) {
      const answer = await ask({ method: 'DELETE', path: pathOf(key) });
      if (await isMissing(answer, 'tensor_unknown')) return false;
      if (answer.status !== 204) throw await refusal(answer);
      answer.close();
      return true;
    },
    list: async ({ prefix, cursor, limit } = {}) =>
      readJson(await ask({ path: withQuery('/v1/tensors', { prefix, cursor, limit }) }), listAnswerSchema),
    async *listAll(prefix) {
      let cursor: string | undefined;
      do {
        const page = await client.list({ prefix, cursor });
        yield* page.entries;
        cursor = page.cursor ?? undefined;
      } while (cursor !== undefined);
    },
    stats: () => client.cache.stats(),
    adapters: async () => (await readJson(await ask({ path: '/v1/adapters' }), adaptersSchema)).adapters,
    putTensors: (key, tensors, putOptions) => client.put(key, joinParts(tensorParts(tensors)), putOptions),
    async getTensors(key) {
      const file = await (await client.get(key))?.bytes();
      if (file === undefined) return undefined;
      const layout = parseTensors(file);
      return layout.tensors.map((info) => ({
        name: info.name,
        dtype: info.dtype,
        shape: info.shape,
        data: tensorBytes(file, layout, info),
      }));
    },
    ...clientBatch({ ask, crypto, put, get: (key) => client.get(key) }),
    ...clientCompute({
      ask,
      crypto,
      signal: options.signal,
      put,
      get: async (key) => (await client.get(key))?.bytes(),
    }),
    kv: clientKv(ask, crypto),
    backups: clientBackups(ask),
    cache: clientCache(ask, crypto),
    keys: clientKeys(ask, crypto),
    erasures: clientErasures(ask, crypto),
  };
  return client;

  async function put(key: string, body: Uint8Array | StreamBody, given: PutOptions & { claim?: string } = {}) {
    const { codec, ttl, priority, durability, claim } = given;
    const path = withQuery(pathOf(key), { codec, ttl, priority, durability, claim });
    const digest = body instanceof Uint8Array ? await crypto.sha256(body) : body.digest;
    const answer = await ask({ method: 'PUT', path, body, digest, headers: { 'content-type': SAFETENSORS } });
    return { ...(await readJson(answer, putAnswerSchema)), created: answer.status === 201 };
  }

  async function fetchTensors(
    key: string,
    { etag }: { etag?: string } = {},
  ): Promise<Fetched | 'unchanged' | undefined> {
    const answer = await ask({
      path: pathOf(key),
      headers: etag === undefined ? {} : { 'if-none-match': `"${etag}"` },
    });
    if (answer.status === 304) {
      answer.close();
      return 'unchanged';
    }
    if (await isMissing(answer, 'tensor_unknown')) return undefined;
    if (answer.status !== 200) throw await refusal(answer);
    const held = heldOf(answer);
    const digest = digestOf(answer);
    const { stream } = answer;
    return { ...held, digest, stream, bytes: () => checkedBytes(answer, held.length, digest, crypto) };
  }
}

// Every character that a key may have stands for itself in a path.
function pathOf(key: string): string {
  const parsed = keySchema.safeParse(key);
  if (parsed.success) return `/v1/tensors/${parsed.data}`;
  throw new RangeError(`The key ${JSON.stringify(key)} is malformed: ${parsed.error.issues[0]?.message}.`);
}

// ---- what an answer holds

function heldOf({ headers }: Answer): Held {
  return {
    etag: headers.get('etag')?.replace(/^(?:W\/)?"(.*)"$/, '$1') ?? '',
    cache: headers.get('x-cache'),
    length: lengthOf(headers),
  };
}

function digestOf(answer: Answer): Uint8Array {
  const field = answer.headers.get('content-digest');
  try {
    if (field !== null) return parseContentDigest(field);
  } catch (cause) {
    answer.close();
    throw new TransferError('unreadable', `The answer to ${answer.asked} has a content-digest that cannot be read.`, {
      cause,
    });
  }
  answer.close();
  throw new TransferError('unreadable', `The answer to ${answer.asked} has no content-digest to check it by.`);
}

async function checkedBytes(answer: Answer, length: number | undefined, digest: Uint8Array, crypto: Crypto) {
  const bytes = await collect(answer.stream, length);
  if (crypto.equal(await crypto.sha256(bytes), digest)) return bytes;
  throw new TransferError('damaged', `The bytes of the answer to ${answer.asked} do not match its content-digest.`);
}
