// Many small tensors at once: each is put or read as it would be alone, all of them side by side, and what they move to and
// from adapters travels as one (gpu/freight.ts). Each entry succeeds or fails by itself. Larger ones go their own way, a few
// at a time, as they need pieces. What is read is whole in memory, so it is bounded in bytes.
import { asProblem, Problem, problem } from '../contract/problems.ts';
import { createFreight, type Party } from '../gpu/freight.ts';
import type { Cache, Found } from './cache.ts';
import { PRIVATE_BYTES_MAX } from './pour.ts';
import type { PutAnswer, PutOptions } from './put.ts';

const LARGE_ABREAST = 4;

export interface BatchPutting extends Omit<PutOptions, 'body' | 'digest' | 'party'> {
  readonly file: Uint8Array;
}

export interface Gotten {
  readonly digest: string;
  readonly source: Found['source'];
  readonly file: Uint8Array;
}

/** What became of each, in order. */
export function putMany(
  cache: Pick<Cache, 'put'>,
  entries: readonly BatchPutting[],
): Promise<readonly (PutAnswer | Problem)[]> {
  return sideBySide(
    entries,
    ({ file }) => file.length,
    ({ file, ...entry }, party) =>
      cache.put({ ...entry, body: { chunks: once(file), length: file.length }, digest: undefined, party }),
  );
}

export interface Getting {
  readonly tenant: string;
  readonly keys: readonly string[];
  /** Of all files; those beyond are refused with `batch_full`. */
  readonly bytesMax: number;
  readonly signal: AbortSignal;
}

export async function getMany(cache: Pick<Cache, 'get' | 'peek'>, asked: Getting): Promise<(Gotten | Problem)[]> {
  const { tenant, bytesMax, signal } = asked;
  let bytes = 0;
  const found = asked.keys.map((key): Found | Problem => {
    const size = cache.peek(tenant, key)?.bytes ?? 0;
    if (bytes + size > bytesMax) return full(key, size, bytesMax);
    bytes += size;
    return cache.get(tenant, key) ?? problem('tensor_unknown', `No tensor is held under ${key}.`);
  });
  return sideBySide(found, sizeOf, async (one, party) => {
    if (one instanceof Problem) throw one;
    const { entry, source } = one;
    return { digest: entry.digest, source, file: await readWhole(one, signal, party) };
  });
}

const sizeOf = (one: Found | Problem): number => (one instanceof Problem ? 0 : one.entry.bytes);

const full = (key: string, bytes: number, bytesMax: number): Problem =>
  problem('batch_full', `With ${bytes} bytes of ${key} the answer would have more than ${bytesMax}. Ask again for it.`);

async function readWhole({ entry, read }: Found, signal: AbortSignal, party: Party | undefined): Promise<Uint8Array> {
  const file = new Uint8Array(entry.bytes);
  let at = 0;
  for await (const { piece, length } of read(signal, party)) {
    file.set(piece.bytes.subarray(0, length), at);
    piece.release();
    at += length;
  }
  return file;
}

async function* once(file: Uint8Array): AsyncGenerator<Uint8Array, void, void> {
  if (file.length > 0) yield file;
}

/** Small ones all at once as parties of one freight; others a few at a time. */
async function sideBySide<T, R>(
  all: readonly T[],
  bytesOf: (one: T) => number,
  work: (one: T, party?: Party) => Promise<R>,
): Promise<(R | Problem)[]> {
  const isSmall = (one: T): boolean => bytesOf(one) <= PRIVATE_BYTES_MAX;
  const parties = createFreight(all.filter(isSmall).length).values();
  const done: (R | Problem)[] = [];
  const settle = async (one: T, i: number, party?: Party): Promise<void> => {
    try {
      done[i] = await work(one, party);
    } catch (error) {
      done[i] = asProblem(error);
    } finally {
      party?.leave();
    }
  };
  const large = [...all.entries()].filter(([, one]) => !isSmall(one)).values();
  const next = async (): Promise<void> => {
    for (const [i, one] of large) await settle(one, i);
  };
  await Promise.all([
    ...all.map((one, i) => (isSmall(one) ? settle(one, i, parties.next().value) : undefined)),
    ...Array.from({ length: LARGE_ABREAST }, next),
  ]);
  return done;
}
