// Many small tensors at once: each is put or read as it would be alone, all of them side by side, and what they move to and
// from adapters travels as one (gpu/freight.ts). Each entry succeeds or fails by itself. Larger ones go their own way, a few
// at a time, as they need pieces. What is read is whole in memory, so it is bounded in bytes.
import { asProblem, type Problem, problem } from '../contract/problems.ts';
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
  let left = bytesMax;
  const sized = asked.keys.map((key): Sized => {
    const bytes = cache.peek(tenant, key)?.bytes ?? 0;
    const fits = bytes <= left;
    if (fits) left -= bytes;
    return { key, bytes, fits };
  });
  // Looked up when its turn comes: what the key held at the beginning may be gone by then, and another there.
  return sideBySide(sized, sizeOf, async ({ key, bytes, fits }, party) => {
    const now = cache.peek(tenant, key)?.bytes ?? 0;
    if (!fits || now > bytes) throw full(key, now, bytesMax);
    const found = cache.get(tenant, key);
    if (!found) throw problem('tensor_unknown', `No tensor is held under ${key}.`);
    const { entry, source } = found;
    return { digest: entry.digest, source, file: await readWhole(found, signal, party) };
  });
}

interface Sized {
  readonly key: string;
  /** Room for it in the answer. */
  readonly bytes: number;
  readonly fits: boolean;
}

const sizeOf = ({ bytes, fits }: Sized): number => (fits ? bytes : 0);

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
