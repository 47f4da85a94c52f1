// The engine's face: tensors by name, on an adapter while there is room, on disk if they were asked to last.
// An entry is immutable; a PUT of its key puts another in its place, and readers of the old one finish on the old one.
// Invariants: what is answered to a PUT `through` is synced on disk; an entry without pages and without a record does not
// exist; pages of an entry are released once, after its last reader. Everything that changes one key happens in the
// key's own order. First form of the cache: least recently used entries leave the adapter, one tier above the disk.

import type { Durability, TensorEntry } from '../contract/messages.ts';
import { problem } from '../contract/problems.ts';
import type { Layout } from '../contract/tensors.ts';
import type { Pieces } from '../gpu/pieces.ts';
import type { GpuLease, Pool } from '../gpu/pool.ts';
import { createKeyedLock } from '../store/keyed-lock.ts';
import type { StoredRecord } from '../store/records.ts';
import type { Store, StoreWriter } from '../store/store.ts';
import type { Digests } from './digest.ts';
import { type Drained, drain } from './drain.ts';
import { createHoldings, type Entry, idOf, isHot, newEntry } from './holdings.ts';
import { type Body, PRIVATE_BYTES_MAX, pour, type Sink } from './pour.ts';

const SWEEP_MS = 5000;
const FLUSHES_MAX = 64;

export interface CacheOptions {
  readonly pool: () => Pool;
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
  readonly digest: { readonly bytes: Uint8Array; readonly proven: boolean } | undefined;
  readonly ttlSeconds: number | undefined;
  readonly priority: number;
  readonly durability: Durability;
  readonly signal: AbortSignal;
}

export interface Held {
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

export interface Cache {
  put(options: PutOptions): Promise<TensorEntry & { created: boolean; deduplicated: boolean }>;
  peek(tenant: string, key: string): TensorEntry | undefined;
  get(tenant: string, key: string): Held | undefined;
  delete(tenant: string, key: string): Promise<boolean>;
  list(tenant: string, prefix: string, after: string, limit: number): { entries: TensorEntry[]; cursor: string | null };
  /** An adapter's process is gone: forget what was only there. */
  dropLost(): void;
  stats(): CacheStats;
  close(): Promise<void>;
}

export function openCache(options: CacheOptions): Cache {
  const { store, pieces, digests, now, log } = options;
  const held = createHoldings(now);
  const keys = createKeyedLock();
  const flushes = new Set<Promise<void>>();
  const count = { hot: 0, cold: 0, misses: 0, puts: 0, deletes: 0, expired: 0, lost: 0 };
  /** What the disk holds for an id, which may be older than its entry while a flush is on its way. */
  const records = new Map<string, StoredRecord>();

  for (const record of store.found) {
    const entry = newEntry(record, undefined, true);
    records.set(entry.id, record);
    held.insert(entry);
  }

  /** Pages for `bytes` on the adapter with most room, or undefined. */
  function findRoom(bytes: number): GpuLease | undefined {
    const lease = options.pool().lease();
    if (held.makeRoom(lease, bytes)) return lease;
    lease.release();
    return undefined;
  }

  async function put(o: PutOptions): ReturnType<Cache['put']> {
    if (held.size >= options.entriesMax && !held.at(idOf(o.tenant, o.key)))
      throw problem('capacity_exhausted', `The cache holds ${held.size} entries, its limit (CACHE_ENTRIES_MAX).`);
    let lease: GpuLease | undefined;
    let writer: StoreWriter | undefined;
    const sinks = async ({ totalBytes }: Layout): Promise<Sink[]> => {
      const room = findRoom(totalBytes);
      lease = room;
      if (!room && o.durability === 'none')
        throw problem('capacity_exhausted', `No adapter has room for ${totalBytes} bytes that are not to be on disk.`);
      if (o.durability !== 'none')
        writer = await store.begin(pieces.descriptor !== undefined && totalBytes > PRIVATE_BYTES_MAX);
      const disk = writer;
      const toDisk: Sink[] = disk ? [(p, n, at) => disk.write(p.bytes, n, at)] : [];
      return room ? [...toDisk, (p, n, at) => room.write(at, p, n)] : toDisk;
    };
    try {
      const poured = await pour(o.body, {
        pieces,
        digests,
        bytesMax: options.bodyBytesMax,
        signal: o.signal,
        sinks,
        digest: o.digest?.proven ? o.digest.bytes : undefined,
      });
      if (o.digest && !Buffer.from(poured.digest).equals(o.digest.bytes))
        throw problem(
          'digest_mismatch',
          'The body is not the one that was signed: its sha-256 differs from content-digest.',
        );
      const entry = newEntry(describe(o, poured.layout, poured.digest, now()), lease, false);
      return await keys.run(entry.id, () => settle(entry, writer, o.durability));
    } catch (error) {
      lease?.release();
      await writer?.abort();
      throw error;
    }
  }

  /** The body is in: make it the key's entry. Runs in the key's order. */
  async function settle(entry: Entry, writer: StoreWriter | undefined, durability: Durability) {
    const created = held.find(entry.record.tenant, entry.record.key) === undefined;
    const later = durability === 'back' && isHot(entry) && flushes.size < FLUSHES_MAX;
    let deduplicated = false;
    if (writer && !later) deduplicated = await commit(entry, writer);
    if (!writer) await forgetRecord(entry.id);
    held.insert(entry);
    count.puts++;
    if (writer && later) flushLater(entry, writer);
    dropIfLost(entry); // its adapter may have died since the last byte
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
    entry.flushing = true;
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
        entry.flushing = false;
        flushes.delete(flush);
        dropIfLost(entry);
      });
    flushes.add(flush);
  }

  function get(tenant: string, key: string): Held | undefined {
    const entry = held.find(tenant, key);
    if (!entry) {
      count.misses++;
      return undefined;
    }
    const source = isHot(entry) ? 'hot' : 'cold';
    count[source]++;
    held.touch(entry);
    return { entry: face(entry), source, read: (signal) => read(entry, signal) };
  }

  async function* read(entry: Entry, signal: AbortSignal): AsyncGenerator<Drained, void, void> {
    const release = held.hold(entry);
    const promotion = isHot(entry) ? undefined : promote(entry);
    let whole = false;
    try {
      yield* drain({
        pieces,
        bytes: entry.record.bytes,
        lease: entry.lease,
        openStored: entry.onDisk ? () => store.open(entry.record.digest) : undefined,
        promote: promotion?.write,
        signal,
      });
      whole = true;
    } finally {
      promotion?.end(whole);
      release();
    }
  }

  /** Room on an adapter for an entry that is read from disk; the first reader fills it. */
  function promote(entry: Entry) {
    if (entry.promoting || entry.replaced || !options.pool().ready) return undefined;
    held.cool(entry); // what it had was lost with its adapter
    const lease = findRoom(entry.record.bytes);
    if (!lease) return undefined;
    entry.promoting = true;
    let failed = false;
    return {
      write: (piece: Drained['piece'], length: number, offset: number): Promise<void> =>
        lease.write(offset, piece, length).catch(() => {
          failed = true;
        }),
      end(whole: boolean): void {
        entry.promoting = false;
        if (whole && !failed && !entry.replaced && !lease.lost) held.heat(entry, lease);
        else lease.release();
      },
    };
  }

  function dropLost(): void {
    for (const entry of held.hot()) dropIfLost(entry);
  }

  function dropIfLost(entry: Entry): void {
    if (isHot(entry) || entry.replaced) return;
    if (!entry.onDisk && !entry.flushing) {
      count.lost++;
      held.remove(entry);
    } else if (entry.readers === 0) held.cool(entry);
  }

  /** Removes what the key holds by then, from disk and index; with `only`, if it is still that. */
  async function discard(id: string, only?: Entry): Promise<boolean> {
    return keys.run(id, async () => {
      const entry = held.at(id);
      if (!entry || (only && entry !== only)) return false;
      await forgetRecord(id);
      held.remove(entry);
      return true;
    });
  }

  const sweep = setInterval(() => {
    for (const entry of held.expired()) {
      discard(entry.id, entry).then(
        (gone) => {
          if (gone) count.expired++;
        },
        (error: unknown) => log(`an expired entry stays for now: ${String(error)}`),
      );
    }
  }, SWEEP_MS).unref();

  return {
    put,
    get,
    peek(tenant, key) {
      const entry = held.find(tenant, key);
      return entry && face(entry);
    },
    async delete(tenant, key) {
      if (!held.find(tenant, key) || !(await discard(idOf(tenant, key)))) return false;
      count.deletes++;
      return true;
    },
    list(tenant, prefix, after, limit) {
      const found: TensorEntry[] = [];
      let cursor: string | null = null;
      for (const entry of held.from(tenant, prefix, after)) {
        if (found.length === limit) {
          cursor = found.at(-1)?.key ?? null;
          break;
        }
        found.push(face(entry));
      }
      return { entries: found, cursor };
    },
    dropLost,
    stats: () => ({
      entries: held.size,
      hits: { hot: count.hot, cold: count.cold },
      misses: count.misses,
      puts: count.puts,
      deletes: count.deletes,
      evictions: held.evictions,
      expired: count.expired,
      lost: count.lost,
      bytes: { hot: held.hotBytes, disk: store.bytes },
    }),
    async close() {
      clearInterval(sweep);
      await Promise.all(flushes);
    },
  };
}

function describe(o: PutOptions, layout: Layout, digest: Uint8Array, now: number): StoredRecord {
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
