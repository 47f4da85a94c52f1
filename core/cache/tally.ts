// What the cache counts: what was asked for and answered from where, what left and why, and what there is now. One number for
// each thing; who counts it otherwise (holdings, sweep, departures) is asked.
import { pageBytesFor, pagesFor } from '../gpu/pages.ts';
import type { Pool } from '../gpu/pool.ts';
import type { Store } from '../store/store.ts';
import { createByTenant } from './by-tenant.ts';
import type { Curve, Ratios } from './curve.ts';
import type { Departures } from './departures.ts';
import type { DiskRoom } from './disk-room.ts';
import { type Entry, idOf } from './entry.ts';
import type { Flushes } from './flush.ts';
import type { Holdings } from './holdings.ts';
import { hashOf } from './policy/hash.ts';
import type { PrefetchStats } from './prefetch.ts';
import type { PutAnswer } from './put.ts';
import type { Sweep } from './sweep.ts';

export interface CacheStats {
  entries: number;
  hits: { hot: number; cold: number };
  misses: number;
  puts: number;
  deletes: number;
  evictions: number;
  expired: number;
  lost: number;
  prefetch: PrefetchStats;
  /** `saved`: what equal payloads under several names would take beside `hot`. */
  bytes: {
    hot: number;
    disk: number;
    saved: number;
    adapters: Record<string, number>;
    codecs: Record<string, number>;
  };
  /** Bytes of reads, by where they were answered from. */
  hitBytes: { hot: number; cold: number };
  /** Entries that left adapters or the cache, by cause. */
  removals: Record<Removal, number>;
  /** All that the store has on disk, and may have; null: no budget. */
  disk: { bytes: number; bytesMax: number | null };
  /** Of the reads of late: those answered from adapters, and what it would be with other room (curve.ts). */
  hitRatio: Ratios;
  /** Of what is on adapters: bytes as they came by bytes as they are kept, and by those of distinct payloads. */
  compressionRatio: number;
  dedupRatio: number;
  /** Answered, and not yet on disk. */
  flushing: { entries: number; bytes: number; ageMs: number };
}

export type Removal = 'room' | 'quota' | 'expired' | 'deleted' | 'replaced' | 'lost' | 'disk';

/** What a tenant has asked for; of those seen last. */
interface Counted extends Pick<CacheStats, 'hits' | 'hitBytes' | 'misses' | 'puts' | 'deletes'> {}

/** A tenant's own. */
export interface TenantStats extends Counted {
  entries: number;
  /** `hot`: pages on all adapters. */
  bytes: { hot: number; disk: number; adapters: Record<string, number> };
  /** Null where there is none. */
  quota: { entries: number | null; diskBytes: number | null; memoryShare: number };
}

export interface Tally {
  put(tenant: string, answer: PutAnswer): void;
  found(entry: Entry, source: 'hot' | 'cold'): void;
  missed(tenant: string, key: string): void;
  deleted(tenant: string): void;
  stats(): CacheStats;
  countedOf(tenant: string): Counted;
}

export interface TallyParts {
  readonly pool: Pick<Pool, 'report'>;
  readonly store: Pick<Store, 'bytes' | 'room'>;
  readonly holdings: Holdings;
  readonly curve: Curve;
  readonly flushes: Flushes;
  readonly departures: Departures;
  readonly sweep: Sweep;
  readonly prefetch: { stats(): PrefetchStats };
  readonly diskRoom: Pick<DiskRoom, 'evictions'> | undefined;
}

/** Are counted by themselves. */
const TENANTS_MAX = 10_000;

export function createTally(parts: TallyParts): Tally {
  const { pool, store, holdings, curve, flushes, departures, sweep, prefetch, diskRoom } = parts;
  const count = nothing();
  const own = createByTenant(TENANTS_MAX, nothing);
  let replaced = 0;

  return {
    put(tenant, { key, bytes, created }) {
      for (const each of [count, own.of(tenant)]) each.puts++;
      if (!created) replaced++;
      curve.put(hashOf(idOf(tenant, key)), pagedBytes(bytes));
    },
    found({ id, record: { tenant, bytes } }, source) {
      for (const each of [count, own.of(tenant)]) {
        each.hits[source]++;
        each.hitBytes[source] += bytes;
      }
      curve.read(hashOf(id), pagedBytes(bytes), source === 'hot');
    },
    missed(tenant, key) {
      for (const each of [count, own.of(tenant)]) each.misses++;
      curve.read(hashOf(idOf(tenant, key)), undefined, false);
    },
    deleted(tenant) {
      for (const each of [count, own.of(tenant)]) each.deletes++;
    },
    countedOf: (tenant) => copyOf(own.known(tenant) ?? nothing()),
    stats() {
      const { hotBytes, savedBytes, evictions } = holdings;
      const counted = copyOf(count);
      const { expired } = sweep;
      const { lost } = departures;
      return {
        ...{ entries: holdings.size, ...counted, expired, lost },
        evictions: evictions.room + evictions.quota,
        bytes: {
          ...{ hot: hotBytes, disk: store.bytes, saved: savedBytes, codecs: { raw: hotBytes } },
          adapters: Object.fromEntries(pool.report().map(({ id }) => [id, holdings.bytesOn.get(id) ?? 0])),
        },
        removals: {
          ...evictions,
          expired,
          deleted: counted.deletes,
          replaced,
          lost,
          disk: diskRoom?.evictions.entries ?? 0,
        },
        disk: { bytes: store.room.bytes, bytesMax: Number.isFinite(store.room.bytesMax) ? store.room.bytesMax : null },
        hitRatio: curve.ratios(),
        compressionRatio: 1, // `raw` is the only form so far
        dedupRatio: hotBytes > 0 ? (hotBytes + savedBytes) / hotBytes : 1,
        flushing: flushes.waiting,
        prefetch: prefetch.stats(),
      };
    },
  };
}

const nothing = (): Counted => ({
  ...{ hits: { hot: 0, cold: 0 }, hitBytes: { hot: 0, cold: 0 } },
  ...{ misses: 0, puts: 0, deletes: 0 },
});
const copyOf = (one: Counted): Counted => ({ ...one, hits: { ...one.hits }, hitBytes: { ...one.hitBytes } });

/** What a tensor takes of an adapter. */
const pagedBytes = (bytes: number): number => pagesFor(bytes, pageBytesFor(bytes)) * pageBytesFor(bytes);
