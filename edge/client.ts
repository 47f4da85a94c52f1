// The client: tensors by name over signed requests, for whoever imports it. Pure: it runs on Node, Bun, Deno, Workers and
// in browsers, over the `fetch` and the crypto port it is given.
//
// Every request is signed with a nonce of its own and is sent once: nothing is retried, no redirect is followed.
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
import {
  type Answer,
  lengthOf,
  openWire,
  pieces,
  readText,
  type StreamBody,
  TransferError,
  type WireOptions,
} from './client-wire.ts';

export type { ListAnswer, PutAnswer, TensorEntry } from '../core/contract/messages.ts';
export type { TensorData } from '../core/contract/tensors.ts';
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

const statsSchema = z.looseObject({
  entries: z.number(),
  hits: z.looseObject({ hot: z.number(), cold: z.number() }),
  misses: z.number(),
  puts: z.number(),
  deletes: z.number(),
  evictions: z.number(),
  expired: z.number(),
  lost: z.number(),
  bytes: z.looseObject({ hot: z.number(), disk: z.number() }),
});
const adapterSchema = z.looseObject({
  id: z.string(),
  name: z.string(),
  state: z.string(),
  backend: z.string().optional(),
  software: z.boolean().optional(),
  memory: z.looseObject({ used: z.number(), capacity: z.number() }),
  /** 0 to 1. */
  utilization: z.number(),
  queue: z.number(),
  restarts: z.number(),
});
const adaptersSchema = z.looseObject({ adapters: z.array(adapterSchema) });

export type Stats = z.infer<typeof statsSchema>;
export type Adapter = z.infer<typeof adapterSchema>;

export interface Client {
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
}

/** The server answered no. */
export class BlatamError extends Error {
  readonly status: number;
  /** A code of the problem document; `http_<status>` where whoever answered sent none. */
  readonly code: string;
  readonly detail: string;
  readonly requestId: string | undefined;
  /** The problem document; empty where there was none. */
  readonly document: Readonly<Record<string, unknown>>;
  constructor(asked: string, answer: Pick<BlatamError, 'status' | 'code' | 'detail' | 'requestId' | 'document'>) {
    super(`${asked} was refused with ${answer.status} ${answer.code}: ${answer.detail}`);
    this.name = 'BlatamError';
    this.status = answer.status;
    this.code = answer.code;
    this.detail = answer.detail;
    this.requestId = answer.requestId;
    this.document = answer.document;
  }
}

const PROBLEM_BYTES_MAX = 64 * 1024;
const JSON_BYTES_MAX = 64 * 1024 * 1024;
const TEXT_SHOWN = 200;

export function createClient(options: ClientOptions): Client {
  const { crypto = webCrypto } = options;
  const ask = openWire(options, crypto);

  const client: Client = {
    async put(key, body, { codec, ttl, priority, durability } = {}) {
      const path = withQuery(pathOf(key), { codec, ttl, priority, durability });
      const digest = body instanceof Uint8Array ? await crypto.sha256(body) : body.digest;
      const answer = await ask({ method: 'PUT', path, body, digest, headers: { 'content-type': SAFETENSORS } });
      return { ...(await readJson(answer, putAnswerSchema)), created: answer.status === 201 };
    },
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
      if (await isMissing(answer)) return false;
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
    stats: async () => readJson(await ask({ path: '/v1/cache/stats' }), statsSchema),
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
  };
  return client;

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
    if (await isMissing(answer)) return undefined;
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

function withQuery(path: string, query: Readonly<Record<string, string | number | undefined>>): string {
  const given = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) if (value !== undefined) given.set(name, String(value));
  return given.size === 0 ? path : `${path}?${given}`;
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

/** All bytes, without a second copy where their number is known. */
async function collect(stream: ReadableStream<Uint8Array>, length: number | undefined): Promise<Uint8Array> {
  if (length === undefined) {
    const parts: Uint8Array[] = [];
    for await (const part of pieces(stream)) parts.push(part);
    return joinParts(parts);
  }
  const bytes = new Uint8Array(length);
  let at = 0;
  for await (const part of pieces(stream)) {
    bytes.set(part, at); // fits, as `stream` fails at the first byte too many
    at += part.length;
  }
  return bytes;
}

async function readJson<S extends z.ZodType>(answer: Answer, schema: S): Promise<z.infer<S>> {
  if (answer.status < 200 || answer.status > 299) throw await refusal(answer);
  const parsed = schema.safeParse(jsonOf(await readText(answer, JSON_BYTES_MAX)));
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const fault = `${issue?.path.join('.') || 'the whole'}: ${issue?.message}`;
  const advice = `Is ${answer.origin} a Blatam of this version?`;
  throw new TransferError('unreadable', `The answer to ${answer.asked} has another shape (${fault}). ${advice}`);
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

// ---- refusals

async function refusal(answer: Answer): Promise<BlatamError> {
  const { asked, status, headers } = answer;
  const text = await readText(answer, PROBLEM_BYTES_MAX).catch(() => '');
  const parsed = jsonOf(text);
  const document = z.record(z.string(), z.unknown()).catch({}).parse(parsed);
  const said = (name: string) => (typeof document[name] === 'string' ? document[name] : undefined);
  return new BlatamError(asked, {
    status,
    code: said('code') ?? `http_${status}`,
    detail: said('detail') ?? said('title') ?? undocumented(text, headers),
    requestId: said('requestId') ?? headers.get('x-request-id') ?? undefined,
    document,
  });
}

function undocumented(text: string, headers: Headers): string {
  const location = headers.get('location');
  if (location !== null) return `It points to ${location}. Use the url that answers itself.`;
  const shown = text.trim().slice(0, TEXT_SHOWN);
  return shown === '' ? 'The answer says no more.' : shown;
}

/** That there is no such tensor, as against no such route, or a server that is none of ours. */
async function isMissing(answer: Answer): Promise<boolean> {
  if (answer.status !== 404) return false;
  const error = await refusal(answer);
  if (error.code === 'tensor_unknown') return true;
  throw error;
}
