// The engine's face: tensors by name, on an adapter while there is room, on disk if they were asked to last.
// An entry is immutable; a PUT of its key puts another in its place, and readers of the old one finish on the old one.
// Invariants: what is answered to a PUT `through` is synced on disk; an entry without pages and without a record does not
// exist; pages of an entry are released once, after its last reader. Everything that changes one key happens in the
// key's own order. First form of the cache: least recently used entries leave the adapter, one tier above the disk.
// What comes to an adapter while it drains leaves it again, as soon as it is the key's entry.

import type { Durability, TensorEntry } from '../contract/messages.ts';
import { Problem, problem } from '../contract/problems.ts';
import type { Layout } from '../contract/tensors.ts';
import { pageBytesFor } from '../gpu/arena.ts';
import type { GpuLease } from '../gpu/gpu-lease.ts';
import type { Piece, Pieces } from '../gpu/pieces.ts';
import type { AdapterReport, Pool } from '../gpu/pool.ts';
import { createKeyedLock } from '../store/keyed-lock.ts';
import type { StoredRecord } from '../store/records.ts';
import type { Store, StoreReader, StoreWriter } from '../store/store.ts';
import type { Digests } from './digest.ts';
import { type Drained, drain } from './drain.ts';
import { type Entry, idOf, isHot, newEntry } from './entry.ts';
import { createHoldings } from './holdings.ts';
import { createMoves, type Drained as DrainedCounts, type Moved } from './moves.ts';
import { type Body, PRIVATE_BYTES_MAX, pour, type SignedDigest, type Sink } from './pour.ts';

const SWEEP_MS = 5000;
const SWEEP_ABREAST = 16;
const FLUSHES_MAX = 64;

export interface CacheOptions {
  readonly pool: Pool;
  readonly pieces: Pieces;
  readonly digests: Digests;
  readonly store: Store;
  readonly bodyBytesMax: number;
  readonly entriesMax: number;
  readonly now: () => number;
  readonly log: (line: string) => void;
}

export interface PutOptions {
  readonly tenant: string;
  readonly key: string;
  readonly body: Body;
  /** The sha-256 that the caller signed; anything else is refused. `proven`: the body was compared with it already. */
  readonly digest: SignedDigest | undefined;
  readonly ttlSeconds: number | undefined;
  readonly priority: number;
  readonly durability: Durability;
  readonly signal: AbortSignal;
}

export interface Found {
  readonly entry: TensorEntry;
  readonly source: 'hot' | 'cold';
  /** The bytes, once; whoever asks reads to the end or calls `return()`. */
  read(signal: AbortSignal): AsyncGenerator<Drained, void, void>;
}

export interface CacheStats {
  entries: number;
  hits: { hot: number; cold: number };
  misses: number;
  puts: number;
  deletes: number;
  evictions: number;
  expired: number;
  lost: number;
  bytes: { hot: number; disk: number };
}

export type Moving = { readonly key: string } | { readonly prefix: string };
type AdapterState = AdapterReport['state'];

export interface Restarted {
  state: AdapterState;
  restarts: number;
  /** Served from disk from now on. */
  cold: number;
  /** Were only there. */
  lost: number;
}

export interface Cache {
  put(options: PutOptions): Promise<TensorEntry & { created: boolean; deduplicated: boolean }>;
  peek(tenant: string, key: string): TensorEntry | undefined;
  get(tenant: string, key: string): Found | undefined;
  delete(tenant: string, key: string): Promise<boolean>;
  list(tenant: string, prefix: string, after: string, limit: number): { entries: TensorEntry[]; cursor: string | null };
  /** To one adapter: what a key holds (`tensor_unknown` if nothing), or everything under a prefix. */
  move(tenant: string, what: Moving, adapter: string, signal: AbortSignal): Promise<Moved>;
  /** No new tensors there, and those it holds go elsewhere as far as they can. */
  drain(adapter: string, signal: AbortSignal): Promise<DrainedCounts & { state: AdapterState }>;
  /** Its process ends and another begins; what was only there is lost. */
  restart(adapter: string, signal: AbortSignal): Promise<Restarted>;
  /** Tensors leave the lease's adapter until it has grown to `bytes`; false, and nothing changed, if that is not enough. */
  makeRoom(lease: GpuLease, bytes: number): boolean;
  /** What contradicts the invariants of arenas and index, a line each; none if all is well. */
  check(): string[];
  /** An adapter's process is gone: forget what was only there. */
  dropLost(): void;
  stats(): CacheStats;
  close(): Promise<void>;
}

export function openCache(options: CacheOptions): Cache {
  const { pool, store, pieces, digests, now, log } = options;
  const holdings = createHoldings(now);
  const moves = createMoves({ holdings, pool, pieces });
  const leaving = new Set<Promise<void>>();
  const closing = new AbortController();
  const keys = createKeyedLock();
  const flushes = new Set<Promise<void>>();
  const count = { hot: 0, cold: 0, misses: 0, puts: 0, deletes: 0, expired: 0, lost: 0 };
  /** What the disk holds for an id, which may be older than its entry while a flush is on its way. */
  const records = new Map<string, StoredRecord>();

  for (const record of store.found) {
    const entry = newEntry(record, undefined, true);
    records.set(entry.id, record);
    holdings.insert(entry);
  }

  /** A lease that can come to hold `bytes`, on the best adapter that can give it; nobody has left for it yet. */
  function findRoom(bytes: number): GpuLease | undefined {
    const pageBytes = pageBytesFor(bytes);
    for (const adapter of pool.places(pageBytes)) {
      const lease = pool.lease({ adapter, pageBytes });
      if (holdings.couldMakeRoom(lease, bytes)) return lease;
      lease.release();
    }
    return undefined;
  }

  /** Others leave the adapter only for bytes that have really come. */
  async function writeGrowing(lease: GpuLease, piece: Piece, length: number, offset: number): Promise<void> {
    if (lease.lost)
      throw problem('adapter_lost', `${lease.adapter} was lost while the tensors came in. Send them again.`);
    if (!holdings.makeRoom(lease, offset + length))
      throw problem('capacity_exhausted', 'The adapter filled up while the tensors came in. Send them again.');
    await lease.write(offset, piece, length);
  }

  async function put(o: PutOptions): ReturnType<Cache['put']> {
    if (holdings.size >= options.entriesMax && !holdings.at(idOf(o.tenant, o.key)))
      throw problem('capacity_exhausted', `The cache holds ${holdings.size} entries, its limit (CACHE_ENTRIES_MAX).`);
    let lease: GpuLease | undefined;
    let writer: StoreWriter | undefined;
    let overflowed = false;
    const sinks = async ({ totalBytes }: Layout): Promise<Sink[]> => {
      const room = findRoom(totalBytes);
      lease = room;
      if (!room && o.durability === 'none')
        throw problem('capacity_exhausted', `No adapter has room for ${totalBytes} bytes that are not to be on disk.`);
      if (o.durability !== 'none')
        writer = await store.begin(pieces.descriptor !== undefined && totalBytes > PRIVATE_BYTES_MAX);
      const disk = writer;
      const toDisk: Sink[] = disk ? [(p, n, at) => disk.write(p.bytes, n, at)] : [];
      if (!room) return toDisk;
      const toAdapter: Sink = async (p, n, at) => {
        if (overflowed) return;
        await writeGrowing(room, p, n, at).catch((error: unknown) => {
          if (!disk || !isFull(error)) throw error;
          overflowed = true; // others filled the adapter meanwhile: the disk will do
        });
      };
      return [...toDisk, toAdapter];
    };
    try {
      const poured = await pour(o.body, {
        pieces,
        digests,
        bytesMax: options.bodyBytesMax,
        signal: o.signal,
        sinks,
        digest: o.digest,
      });
      if (overflowed) {
        lease?.release();
        lease = undefined;
      }
      const entry = newEntry(recordOf(o, poured.layout, poured.digest, now()), lease, false);
      return await keys.run(entry.id, () => settle(entry, writer, o.durability));
    } catch (error) {
      lease?.release();
      await writer?.abort();
      throw error;
    }
  }

  /** The body is in: make it the key's entry. Runs in the key's order. */
  async function settle(entry: Entry, writer: StoreWriter | undefined, durability: Durability) {
    const created = holdings.find(entry.record.tenant, entry.record.key) === undefined;
    const later = durability === 'back' && isHot(entry) && flushes.size < FLUSHES_MAX;
    let deduplicated = false;
    if (writer && !later) deduplicated = await commit(entry, writer);
    if (!writer) await forgetRecord(entry.id);
    holdings.insert(entry);
    count.puts++;
    if (writer && later) flushLater(entry, writer);
    dropIfLost(entry); // its adapter may have died since the last byte
    leaveIfDraining(entry);
    return { ...face(entry), created, deduplicated };
  }

  async function commit(entry: Entry, writer: StoreWriter): Promise<boolean> {
    const { deduplicated } = await writer.commit(entry.record, records.get(entry.id));
    records.set(entry.id, entry.record);
    entry.onDisk = true;
    return deduplicated;
  }

  async function forgetRecord(id: string): Promise<void> {
    const record = records.get(id);
    if (!record) return;
    await store.remove(record);
    records.delete(id);
  }

  /** `back`: answered already, on disk as soon as the key's turn comes. */
  function flushLater(entry: Entry, writer: StoreWriter): void {
    const flush = keys
      .run(entry.id, async () => {
        if (entry.replaced) return writer.abort();
        try {
          await commit(entry, writer);
        } catch (error) {
          log(`a write answered from memory did not reach the disk (${entry.record.key}): ${String(error)}`);
          await writer.abort();
          await forgetRecord(entry.id); // the older one must not come back with the next start
        }
      })
      .catch((error: unknown) => log(`an outdated record stays (${entry.record.key}): ${String(error)}`))
      .finally(() => {
        flushed();
        flushes.delete(flush);
        dropIfLost(entry);
        leaveIfDraining(entry);
      });
    const flushed = holdings.flush(entry, flush);
    flushes.add(flush);
  }

  function get(tenant: string, key: string): Found | undefined {
    const entry = holdings.find(tenant, key);
    if (!entry) {
      count.misses++;
      return undefined;
    }
    const source = isHot(entry) ? 'hot' : 'cold';
    count[source]++;
    holdings.touch(entry);
    return { entry: face(entry), source, read: (signal) => read(entry, signal) };
  }

  async function* read(entry: Entry, signal: AbortSignal): AsyncGenerator<Drained, void, void> {
    const release = holdings.hold(entry);
    const promotion = isHot(entry) ? undefined : promote(entry);
    let whole = false;
    try {
      yield* drain({
        pieces,
        bytes: entry.record.bytes,
        lease: entry.lease,
        stored:
          entry.onDisk || entry.flushing
            ? { open: () => openStored(entry), digests, digest: entry.record.digest }
            : undefined,
        promote: promotion?.write,
        signal,
      });
      whole = true;
    } catch (error) {
      if (error instanceof Problem && error.code === 'record_damaged') {
        store.distrust(entry.record);
        log(`damaged on disk: ${entry.record.tenant}/${entry.record.key} (${error.message})`);
      }
      throw error;
    } finally {
      promotion?.end(whole);
      release();
    }
  }

  /** Its payload goes with the record: a reader that began on an adapter may come too late for it. */
  async function openStored(entry: Entry): Promise<StoreReader> {
    await entry.flushing;
    try {
      if (entry.onDisk) return await store.open(entry.record);
    } catch (error) {
      if (!entry.replaced) throw error;
    }
    throw problem(
      'adapter_lost',
      'An adapter was lost, and the tensors on it are nowhere else. Send the request again.',
    );
  }

  /** Room on an adapter for an entry that is read from disk; the first reader fills it. */
  function promote(entry: Entry) {
    if (entry.promoting || entry.replaced || !pool.ready) return undefined;
    holdings.cool(entry); // what it had was lost with its adapter
    const lease = findRoom(entry.record.bytes);
    if (!lease) return undefined;
    entry.promoting = true;
    let failed = false;
    return {
      write: (piece: Piece, length: number, offset: number): Promise<void> =>
        writeGrowing(lease, piece, length, offset).catch(() => {
          failed = true;
        }),
      end(whole: boolean): void {
        entry.promoting = false;
        if (whole && !failed && !entry.replaced && !lease.lost) holdings.heat(entry, lease);
        else lease.release();
        leaveIfDraining(entry);
      },
    };
  }

  /** It was on its way when its adapter was told to drain. */
  function leaveIfDraining(entry: Entry): void {
    const { lease } = entry;
    if (!lease || !isHot(entry) || entry.replaced || !pool.isDraining(lease.adapter)) return;
    const left = moves
      .leave(entry)
      .catch((error: unknown) => log(`${entry.record.key} stays on ${lease.adapter}: ${String(error)}`))
      .finally(() => leaving.delete(left));
    leaving.add(left);
  }

  /** What was moved may have come to an adapter that was told to drain meanwhile. */
  function clearIfDraining(except?: string): void {
    for (const { id } of pool.report()) {
      if (id === except || !pool.isDraining(id)) continue;
      const left = moves
        .clear(id, closing.signal)
        .then(() => {})
        .catch((error: unknown) => log(`${id} is not drained: ${String(error)}`))
        .finally(() => leaving.delete(left));
      leaving.add(left);
    }
  }

  function moving(tenant: string, what: Moving): Entry[] {
    if ('prefix' in what) return [...holdings.from(tenant, what.prefix, '')];
    const entry = holdings.find(tenant, what.key);
    if (!entry) throw problem('tensor_unknown', `No tensor is held under ${what.key}.`);
    return [entry];
  }

  async function restart(adapter: string, signal: AbortSignal): Promise<Restarted> {
    const held = holdings.hot().filter(({ lease }) => lease?.adapter === adapter);
    const { state, restarts } = await pool.restart(adapter, signal);
    const lost = held.filter(({ replaced, onDisk }) => replaced && !onDisk).length;
    return { state, restarts, cold: held.filter(({ replaced }) => !replaced).length, lost };
  }

  function dropLost(): void {
    for (const entry of holdings.hot()) dropIfLost(entry);
  }

  function dropIfLost(entry: Entry): void {
    if (isHot(entry) || entry.replaced) return;
    if (!entry.onDisk && !entry.flushing) {
      count.lost++;
      holdings.remove(entry);
    } else if (entry.readers === 0) holdings.cool(entry);
  }

  /** Removes what the key holds by then, from disk and index; with `only`, if it is still that. */
  async function discard(id: string, only?: Entry): Promise<boolean> {
    return keys.run(id, async () => {
      const entry = holdings.at(id);
      if (!entry || (only && entry !== only)) return false;
      await forgetRecord(id);
      holdings.remove(entry);
      return true;
    });
  }

  let sweeping: Promise<void> | undefined;
  const sweep = setInterval(() => {
    sweeping ??= removeExpired().finally(() => {
      sweeping = undefined;
    });
  }, SWEEP_MS).unref();

  /** A few at a time: expiry is no reason to keep writers from the disk. */
  async function removeExpired(): Promise<void> {
    const due = holdings.expired();
    let failed = 0;
    const next = async (): Promise<void> => {
      for (let entry = due.pop(); entry; entry = due.pop()) {
        const gone = await discard(entry.id, entry).catch(() => {
          failed++;
          return false;
        });
        if (gone) count.expired++;
      }
    };
    await Promise.all(Array.from({ length: SWEEP_ABREAST }, next));
    if (failed > 0) log(`${failed} expired tensors could not be removed from disk; tried again soon`);
  }

  return {
    put,
    get,
    peek(tenant, key) {
      const entry = holdings.find(tenant, key);
      return entry && face(entry);
    },
    async delete(tenant, key) {
      if (!holdings.find(tenant, key) || !(await discard(idOf(tenant, key)))) return false;
      count.deletes++;
      return true;
    },
    list(tenant, prefix, after, limit) {
      const found: TensorEntry[] = [];
      let cursor: string | null = null;
      for (const entry of holdings.from(tenant, prefix, after)) {
        if (found.length === limit) {
          cursor = found.at(-1)?.key ?? null;
          break;
        }
        found.push(face(entry));
      }
      return { entries: found, cursor };
    },
    async move(tenant, what, adapter, signal) {
      const entries = moving(tenant, what);
      pool.lease({ adapter }).release(); // says now what no entry could say better
      try {
        return await moves.move(entries, adapter, signal);
      } finally {
        clearIfDraining();
      }
    },
    async drain(adapter, signal) {
      pool.drain(adapter);
      try {
        const done = await moves.clear(adapter, signal);
        return { ...done, state: pool.reportOf(adapter).state };
      } finally {
        clearIfDraining(adapter);
      }
    },
    restart,
    makeRoom: holdings.makeRoom,
    check: () => [...pool.faults(), ...holdings.faults()],
    dropLost,
    stats: () => ({
      entries: holdings.size,
      hits: { hot: count.hot, cold: count.cold },
      misses: count.misses,
      puts: count.puts,
      deletes: count.deletes,
      evictions: holdings.evictions,
      expired: count.expired,
      lost: count.lost,
      bytes: { hot: holdings.hotBytes, disk: store.bytes },
    }),
    async close() {
      clearInterval(sweep);
      closing.abort(new Error('the cache is closed'));
      await sweeping;
      await Promise.all(flushes);
      await Promise.all(leaving);
    },
  };
}

const isFull = (error: unknown): boolean => error instanceof Problem && error.code === 'capacity_exhausted';

function recordOf(o: PutOptions, layout: Layout, digest: Uint8Array, now: number): StoredRecord {
  const [only, ...others] = layout.tensors;
  const single = others.length === 0 ? only : undefined;
  return {
    tenant: o.tenant,
    key: o.key,
    digest: Buffer.from(digest).toString('hex'),
    bytes: layout.totalBytes,
    codec: 'raw',
    dtype: single?.dtype ?? null,
    shape: single ? [...single.shape] : null,
    tensors: layout.tensors.length,
    priority: o.priority,
    createdAt: now,
    expiresAt: o.ttlSeconds === undefined ? null : now + o.ttlSeconds * 1000,
  };
}

/** An entry as callers see it. */
function face(entry: Entry): TensorEntry {
  const { record, lease } = entry;
  const hot = isHot(entry);
  return {
    key: record.key,
    digest: record.digest,
    codec: record.codec,
    dtype: record.dtype,
    shape: record.shape,
    tensors: record.tensors,
    bytes: record.bytes,
    storedBytes: record.bytes,
    tier: hot ? 'hot' : 'cold',
    adapter: hot && lease ? lease.adapter : null,
    priority: record.priority,
    expiresAt: record.expiresAt === null ? null : new Date(record.expiresAt).toISOString(),
  };
}
