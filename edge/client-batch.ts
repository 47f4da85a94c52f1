// Many small tensors put or fetched by few requests: as many to a batch as the server takes, one batch after the other. Each
// entry succeeds or fails by itself; only what fails a whole request throws. `getMany` compares every file with its digest.
// A file too large for a batch is put or fetched by a request of its own; it is in memory all the same. Pure.

import {
  BATCH,
  BATCH_BYTES_MAX,
  BATCH_ENTRIES_MAX,
  type BatchFound,
  type BatchRefused,
  filesOf,
  frameHead,
  getAnswersSchema,
  openFrame,
  putAnswersSchema,
} from '../core/contract/batch.ts';
import { type Crypto, toHex } from '../core/contract/crypto.ts';
import type { PutAnswer } from '../core/contract/messages.ts';
import { Problem } from '../core/contract/problems.ts';
import { joinParts } from '../core/contract/tensors.ts';
import type { PutOptions } from './client.ts';
import { BlatamError, collect, readJson, refusal } from './client-answers.ts';
import { type Answer, type Ask, lengthOf, TransferError } from './client-wire.ts';

export interface BatchFile extends Omit<PutOptions, 'codec'> {
  readonly key: string;
  /** A safetensors file. */
  readonly file: Uint8Array;
}

/** Stored, or refused. */
export type BatchPut =
  | { readonly key: string; readonly stored: PutAnswer & { created: boolean }; readonly error?: undefined }
  | { readonly key: string; readonly stored?: undefined; readonly error: BlatamError };

/** Found, refused, or neither: then nothing is held under the key. */
export interface BatchGot {
  readonly key: string;
  readonly file?: Uint8Array;
  /** Where it was: `hot` on an adapter, `cold` on disk. */
  readonly cache?: string;
  readonly error?: BlatamError;
}

export interface ClientBatch {
  /** In the order of the entries; a key may stand there once. */
  putMany(entries: readonly BatchFile[]): Promise<BatchPut[]>;
  getMany(keys: readonly string[]): Promise<BatchGot[]>;
}

const PATH = '/v1/tensors:batch';

export interface BatchParts {
  readonly ask: (ask: Ask) => Promise<Answer>;
  readonly crypto: Crypto;
  readonly put: (key: string, file: Uint8Array, options: PutOptions) => Promise<PutAnswer & { created: boolean }>;
  readonly get: (key: string) => Promise<{ cache: string | null; bytes(): Promise<Uint8Array> } | undefined>;
}

export function clientBatch({ ask, crypto, put, get }: BatchParts): ClientBatch {
  async function post(type: string, body: Uint8Array): Promise<Answer> {
    const digest = await crypto.sha256(body);
    return ask({ method: 'POST', path: PATH, body, digest, headers: { 'content-type': type } });
  }

  async function putBatch(entries: readonly BatchFile[]): Promise<BatchPut[]> {
    const put = entries.map(({ file, ...entry }) => ({ ...entry, bytes: file.length }));
    const answer = await post(BATCH, joinParts([frameHead({ put }), ...entries.map(({ file }) => file)]));
    const { origin, requestId } = sourceOf(answer);
    const { entries: told } = await readJson(answer, putAnswersSchema);
    return told.map((one): BatchPut => {
      if ('code' in one) return { key: one.key, error: refused(`PUT ${origin}`, one, requestId) };
      const { status, ...stored } = one;
      return { key: one.key, stored: { ...stored, created: status === 201 } };
    });
  }

  /** As many of the first keys as one answer holds. */
  async function getBatch(keys: readonly string[]): Promise<BatchGot[]> {
    const answer = await post('application/json', new TextEncoder().encode(JSON.stringify({ get: keys })));
    if (answer.status !== 200) throw await refusal(answer);
    const { origin, requestId } = sourceOf(answer);
    const { entries, files } = openAnswer(answer, await collect(answer.stream, lengthOf(answer.headers)));
    const told = new Set(entries.map(({ key }) => key));
    const missing = keys.find((key) => !told.has(key));
    if (missing !== undefined)
      throw new TransferError(
        'unreadable',
        `The answer to ${answer.asked} says nothing of ${missing}, which was asked for. Is ${origin} a Blatam of this version?`,
      );
    const found = files.values();
    return Promise.all(
      entries.map(async (one): Promise<BatchGot> => {
        const { key } = one;
        if (!('code' in one)) return { key, file: await checked(answer, one, found.next().value), cache: one.cache };
        return one.code === 'tensor_unknown' ? { key } : { key, error: refused(`GET ${origin}`, one, requestId) };
      }),
    );
  }

  async function checked(
    { asked }: Answer,
    { key, digest }: BatchFound,
    file: Uint8Array = new Uint8Array(),
  ): Promise<Uint8Array> {
    if (toHex(await crypto.sha256(file)) === digest) return file;
    throw new TransferError('damaged', `The bytes of ${key} in the answer to ${asked} do not match their digest.`);
  }

  async function putAlone({ key, file, ...options }: BatchFile): Promise<BatchPut> {
    return { key, ...(await outcome(async () => ({ stored: await put(key, file, options) }))) };
  }

  async function getAlone(key: string): Promise<BatchGot> {
    const got = await outcome(async () => {
      const found = await get(key);
      return found && { file: await found.bytes(), cache: found.cache ?? '' };
    });
    return { key, ...got };
  }

  return {
    async putMany(entries) {
      const done: BatchPut[] = [];
      for (const batch of batchesOf(entries)) {
        const [first] = batch;
        if (first && first.file.length > BATCH_BYTES_MAX) done.push(await putAlone(first));
        else done.push(...(await putBatch(batch)));
      }
      return done;
    },
    async getMany(keys) {
      const done = new Map<string, BatchGot>();
      let left = [...new Set(keys)];
      while (left.length > 0) {
        const asked = left.slice(0, BATCH_ENTRIES_MAX);
        const got = await getBatch(asked);
        // What was beyond the bounds of an answer is asked for in the next; the first one had the whole of it.
        for (const one of got) {
          if (one.error?.code !== 'batch_full') done.set(one.key, one);
          else if (one.key === asked[0]) done.set(one.key, await getAlone(one.key));
        }
        left = left.filter((key) => !done.has(key));
      }
      return keys.map((key) => done.get(key) ?? { key });
    },
  };
}

function* batchesOf(entries: readonly BatchFile[]): Generator<BatchFile[], void, void> {
  let batch: BatchFile[] = [];
  let bytes = 0;
  for (const entry of entries) {
    if (batch.length === BATCH_ENTRIES_MAX || (batch.length > 0 && bytes + entry.file.length > BATCH_BYTES_MAX)) {
      yield batch;
      batch = [];
      bytes = 0;
    }
    batch.push(entry);
    bytes += entry.file.length;
  }
  if (batch.length > 0) yield batch;
}

/** What the server refuses is the entry's own; that it does not answer is everybody's. */
async function outcome<T>(work: () => Promise<T>): Promise<T | { error: BlatamError }> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof BlatamError) return { error };
    throw error;
  }
}

const sourceOf = ({ origin, headers }: Answer) => ({
  origin,
  requestId: headers.get('x-request-id') ?? undefined,
});

const refused = (asked: string, { key, ...document }: BatchRefused, requestId: string | undefined): BlatamError =>
  new BlatamError(`${asked}, ${key} of a batch,`, { ...document, requestId, document });

function openAnswer(answer: Answer, frame: Uint8Array) {
  try {
    const { header, files } = openFrame(frame);
    const { entries } = getAnswersSchema.parse(header);
    const lengths = entries.flatMap((one) => ('code' in one ? [] : [one.bytes]));
    return { entries, files: filesOf(files, lengths) };
  } catch (cause) {
    const why = cause instanceof Problem ? cause.message : 'Its header has another shape.';
    const advice = `Is ${answer.origin} a Blatam of this version?`;
    throw new TransferError('unreadable', `The answer to ${answer.asked} is no batch. ${why} ${advice}`, { cause });
  }
}
