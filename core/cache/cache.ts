// The engine's face: tensors by name, on an adapter while there is room, on disk if they were asked to last.
// An entry is immutable; a PUT of its key puts another in its place, and readers of the old one finish on the old one.
// Invariants: what is answered to a PUT `through` is synced on disk; an entry without pages and without a record does not
// exist; pages of an entry are released once, after its last reader. Everything that changes one key happens in the
// key's own order. Who leaves an adapter for others is said by policies (lodgings.ts), chosen at the start or at any time.
// What comes to an adapter while it drains leaves it again, as soon as it is the key's entry.
// The parts: room.ts finds room, put.ts and read.ts carry bodies in and out, ledger.ts knows what the disk has, flush.ts writes
// back, prefetch.ts and heat.ts bring what is likely to be asked for to adapters, departures.ts and moves.ts lead entries off them,
// sweep.ts off the end of their time, disk-room.ts off the disk where that has a budget.

import type { TensorEntry } from '../contract/messages.ts';
import type { PolicyBody, TensorsPolicy } from '../contract/policy.ts';
import { problem } from '../contract/problems.ts';
import type { Party } from '../gpu/freight.ts';
import type { GpuLease } from '../gpu/gpu-lease.ts';
import type { Pieces } from '../gpu/pieces.ts';
import type { AdapterReport, Pool } from '../gpu/pool.ts';
import { createKeyedLock } from '../store/keyed-lock.ts';
import type { Store } from '../store/store.ts';
import { createAdmission } from './admission.ts';
import { createBring, isAbsent } from './bring.ts';
import { type Course, DEFAULT_COURSE } from './course.ts';
import { createCurve } from './curve.ts';
import { createDepartures } from './departures.ts';
import type { Digests } from './digest.ts';
import { createDiskRoom } from './disk-room.ts';
import type { Drained } from './drain.ts';
import { type Entry, face, idOf, isHot, mayLeaveDisk, newEntry } from './entry.ts';
import { createFlushes, FLUSH_DEFAULTS, type FlushBounds } from './flush.ts';
import { startHeat } from './heat.ts';
import { createHoldings } from './holdings.ts';
import { createLedger } from './ledger.ts';
import { createMends } from './mend.ts';
import { createMoves, type Drained as DrainedCounts, type Moved } from './moves.ts';
import { policyAnswer } from './policy-report.ts';
import { createPredictor } from './predict.ts';
import { createPrefetch } from './prefetch.ts';
import { createPut, type Put } from './put.ts';
import { createRead } from './read.ts';
import { createRoom } from './room.ts';
import { createShelf } from './shelf.ts';
import { startSweep } from './sweep.ts';
import { type CacheStats, createTally, type TenantStats } from './tally.ts';

export type { PutOptions } from './put.ts';
export type { CacheStats } from './tally.ts';

export interface CacheOptions {
  readonly pool: Pool;
  readonly pieces: Pieces;
  readonly digests: Digests;
  readonly store: Store;
  readonly bodyBytesMax: number;
  readonly entriesMax: number;
  /** How it is decided who leaves an adapter; default adaptive. */
  readonly course?: Course;
  /** Told of each other course that a call chooses. */
  readonly chosen?: (next: PolicyBody) => void;
  /** What one tenant may have; default all. */
  readonly quota?: TenantQuota;
  /** Of what was answered `back` and is not on disk. */
  readonly flush?: FlushBounds;
  /** Entries that are brought ahead at once; default 0: none. */
  readonly prefetch?: number;
  /** Where it is kept what was hot, and the share of the adapters that it may take after a start; default: neither. */
  readonly heat?: { readonly path: string; readonly share: number } | undefined;
  /** What a key holds is not what it was, or nothing; said before whoever changed it is answered. */
  readonly changed?: ((tenant: string, key: string) => void) | undefined;
  readonly now: () => number;
  readonly log: (line: string) => void;
}

export interface Found {
  readonly entry: TensorEntry;
  readonly source: 'hot' | 'cold';
  /** The bytes, once; whoever asks reads to the end or calls `return()`. */
  read(signal: AbortSignal, party?: Party): AsyncGenerator<Drained, void, void>;
}

export interface TenantQuota {
  /** Of each adapter. */
  readonly share?: number;
  readonly diskBytes?: number;
  readonly entries?: number;
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

/** Tensors that are gone, and of them those that had pages on adapters, and records on disk. */
export interface CacheErased {
  readonly tensors: number;
  readonly bytes: number;
  readonly onAdapters: number;
  readonly onDisk: number;
}

/** Removed at once: their records share a sync. */
const ERASED_AT_ONCE = 64;

export interface Cache {
  readonly put: Put;
  /** What was hot before the start is again, as far as it may: so many. */
  readonly warmed: Promise<number>;
  peek(tenant: string, key: string): TensorEntry | undefined;
  get(tenant: string, key: string): Found | undefined;
  delete(tenant: string, key: string): Promise<boolean>;
  /** All under a prefix, expired or not; counts are of tensors, and bytes of what each held. */
  erase(tenant: string, prefix: string): Promise<CacheErased>;
  list(tenant: string, prefix: string, after: string, limit: number): { entries: TensorEntry[]; cursor: string | null };
  /** To one adapter: what a key holds (`tensor_unknown` if nothing), or everything under a prefix. */
  move(tenant: string, what: Moving, adapter: string, signal: AbortSignal): Promise<Moved>;
  /** No new tensors there, and those it holds go elsewhere as far as they can. */
  drain(adapter: string, signal: AbortSignal): Promise<DrainedCounts & { state: AdapterState }>;
  /** Its process ends and another begins; what was only there is lost. */
  restart(adapter: string, signal: AbortSignal): Promise<Restarted>;
  /** Tensors leave the lease's adapter until it has grown to `bytes`; false, and nothing changed, if that is not enough. */
  makeRoom(lease: GpuLease, bytes: number): boolean;
  /** Its payload was found damaged on disk: written again if an adapter still has it; resolves to whether it is. */
  mend(tenant: string, key: string): Promise<boolean>;
  /** What contradicts the invariants of arenas and index, a line each; none if all is well. */
  check(): string[];
  /** What was answered `back` before is on disk, or has failed to come there. */
  flushed(): Promise<void>;
  /** The store has become another: what is held is what that has. Readers finish on what they began with. */
  startOver(): void;
  /** An adapter's process is gone: forget what was only there. */
  dropLost(): void;
  stats(): CacheStats;
  /** Of one tenant. */
  tenantStats(tenant: string): TenantStats;
  /** By which strategy tensors leave adapters, and what it has found out about a tenant's. */
  policy(tenant: string): TensorsPolicy;
  /** From now on; nobody leaves by it, and what was learnt goes on as far as the strategies share it. */
  setPolicy(next: PolicyBody): void;
  close(): Promise<void>;
}

export function openCache(options: CacheOptions): Cache {
  const { pool, store, pieces, now, log } = options;
  const course: Course = { ...(options.course ?? DEFAULT_COURSE) };
  const { quota = {} } = options;
  const holdings = createHoldings(now, { course, quota: quota.share ?? 1, changed: options.changed });
  const moves = createMoves({ holdings, pool, pieces });
  const departures = createDepartures({ holdings, moves, pool, log });
  const keys = createKeyedLock();
  const hasBudget = store.room.bytesMax < Number.POSITIVE_INFINITY;
  const shelf = hasBudget ? createShelf(course, store.room.bytesMax) : undefined;
  const diskRoom =
    shelf && createDiskRoom({ store, shelf, mayLeave: (id) => mayLeaveDisk(holdings.at(id)), evict: leaveDisk });
  const begin = diskRoom?.begin ?? ((_, bytes, aligned) => store.begin(aligned, bytes));
  const ledger = createLedger({ store, shelf, begin, bytesMax: quota.diskBytes });
  const flushes = createFlushes({
    ...{ keys, ledger, holdings, log, ended: departures.look },
    bounds: options.flush ?? FLUSH_DEFAULTS,
  });
  const admission = createAdmission(holdings, {
    entriesMax: options.entriesMax,
    tenantEntriesMax: quota.entries ?? Number.POSITIVE_INFINITY,
  });
  const curve = createCurve(course.strategy, () => pool.capacityBytes - holdings.othersBytes);
  const room = createRoom(pool, holdings, () => prefetch.yieldRoom());
  const putBody = createPut({ ...options, holdings, room, keys, ledger, flushes, departures, admission });
  const read = createRead({ ...options, holdings, room, departures });
  const bring = createBring({ ...options, holdings, room, departures });
  const predictor = createPredictor();
  const prefetch = createPrefetch<Entry>({
    ...{ entriesMax: options.prefetch ?? 0, idOf: ({ id }) => id, isHot, isAbsent, now },
    bring: async (entry, signal) => (await bring(entry, signal)) === 'brought',
  });
  const mends = createMends({ ...options, holdings, keys, read });
  const sweep = startSweep({ due: holdings.expired, discard: (entry) => discard(entry.id, entry), log });
  const tally = createTally({ pool, store, holdings, curve, flushes, departures, sweep, prefetch, diskRoom });

  function fill(): void {
    // Who leaves a full disk is told by age, until heat.ts knows more.
    const found = shelf ? store.found.toSorted((a, b) => a.createdAt - b.createdAt) : store.found;
    for (const record of found) {
      const entry = newEntry(record, undefined, true);
      ledger.add(entry.id, record);
      holdings.insert(entry);
    }
  }
  fill();
  const heat =
    options.heat &&
    startHeat({
      ...{ path: options.heat.path, hot: holdings.hot, find: holdings.find, bring, log, recall },
      bytesMax: pool.capacityBytes * options.heat.share,
    });

  function recall(entry: Entry): void {
    holdings.touch(entry);
    shelf?.touch(entry.id);
  }

  /** Removes what the key holds by then, from disk and index; with `only`, if it is still that. */
  async function discard(id: string, only?: Entry): Promise<boolean> {
    return keys.run(id, async () => {
      const entry = holdings.at(id);
      if (!entry || (only && entry !== only)) return false;
      await ledger.forget(id);
      holdings.remove(entry);
      return true;
    });
  }

  /** Its disk copy goes, for others; what is on an adapter stays there. */
  async function leaveDisk(id: string): Promise<boolean> {
    return keys.run(id, async () => {
      const entry = holdings.at(id);
      if (!mayLeaveDisk(entry)) return false;
      const wasOnDisk = entry?.onDisk === true;
      if (entry) entry.onDisk = false; // from here on nobody begins to read there
      try {
        await ledger.forget(id, 'evicted');
      } catch (error) {
        if (entry) entry.onDisk = wasOnDisk;
        throw error;
      }
      if (entry && !isHot(entry)) holdings.remove(entry);
      return true;
    });
  }

  function moving(tenant: string, what: Moving): Entry[] {
    if ('prefix' in what) return [...holdings.from(tenant, what.prefix, '')];
    const entry = holdings.find(tenant, what.key);
    if (!entry) throw problem('tensor_unknown', `No tensor is held under ${what.key}.`);
    return [entry];
  }

  return {
    async put(o) {
      const answer = await putBody(o);
      tally.put(o.tenant, answer);
      return answer;
    },
    get(tenant, key) {
      const entry = holdings.find(tenant, key);
      prefetch.asked(idOf(tenant, key), entry);
      const likely = options.prefetch ? predictor.next(tenant, key) : [];
      const follow = () => prefetch.begin(likely.flatMap((next) => holdings.find(tenant, next) ?? []));
      if (!entry) {
        follow();
        tally.missed(tenant, key);
        return undefined;
      }
      const source = isHot(entry) ? 'hot' : 'cold';
      tally.found(entry, source);
      recall(entry);
      return { entry: face(entry), source, read: (signal, party) => thenDo(read(entry, signal, party), follow) };
    },
    peek(tenant, key) {
      const entry = holdings.find(tenant, key);
      return entry && face(entry);
    },
    async delete(tenant, key) {
      if (!holdings.find(tenant, key) || !(await discard(idOf(tenant, key)))) return false;
      tally.deleted(tenant);
      return true;
    },
    async erase(tenant, prefix) {
      const done = { tensors: 0, bytes: 0, onAdapters: 0, onDisk: 0 };
      const eraseOne = async (entry: Entry): Promise<void> => {
        const [hot, onDisk] = [isHot(entry), entry.onDisk];
        if (!(await discard(entry.id))) return;
        done.tensors++;
        done.bytes += entry.record.bytes;
        done.onAdapters += Number(hot);
        done.onDisk += Number(onDisk);
      };
      const all = holdings.all(tenant, prefix);
      for (let at = 0; at < all.length; at += ERASED_AT_ONCE)
        await Promise.all(all.slice(at, at + ERASED_AT_ONCE).map(eraseOne));
      await heat?.renew();
      return done;
    },
    list(tenant, prefix, after, limit) {
      const found: TensorEntry[] = [];
      for (const entry of holdings.from(tenant, prefix, after)) {
        if (found.length === limit) return { entries: found, cursor: found.at(-1)?.key ?? null };
        found.push(face(entry));
      }
      return { entries: found, cursor: null };
    },
    async move(tenant, what, adapter, signal) {
      const entries = moving(tenant, what);
      pool.lease({ adapter }).release(); // says now what no entry could say better
      try {
        return await moves.move(entries, adapter, signal);
      } finally {
        departures.clearIfDraining();
      }
    },
    async drain(adapter, signal) {
      pool.drain(adapter);
      try {
        const done = await moves.clear(adapter, signal);
        return { ...done, state: pool.reportOf(adapter).state };
      } finally {
        departures.clearIfDraining(adapter);
      }
    },
    async restart(adapter, signal) {
      const held = holdings.hot().filter(({ lease }) => lease?.adapter === adapter);
      const { state, restarts } = await pool.restart(adapter, signal);
      const lost = held.filter(({ replaced, onDisk }) => replaced && !onDisk).length;
      return { state, restarts, cold: held.filter(({ replaced }) => !replaced).length, lost };
    },
    makeRoom(lease, bytes) {
      if (!lease.trial().fits(bytes)) prefetch.yieldRoom();
      return holdings.makeRoom(lease, bytes);
    },
    warmed: heat?.warmed ?? Promise.resolve(0),
    mend: mends.mend,
    check: () => [...pool.faults(), ...holdings.faults()],
    flushed: flushes.done,
    startOver() {
      ledger.clear();
      holdings.clear();
      fill();
    },
    dropLost: departures.dropLost,
    stats: tally.stats,
    tenantStats(tenant) {
      const adapters = holdings.bytesOf(tenant);
      const hot = Object.values(adapters).reduce((sum, bytes) => sum + bytes, 0);
      const { share = 1, diskBytes, entries } = quota;
      return {
        ...tally.countedOf(tenant),
        entries: holdings.countOf(tenant),
        bytes: { hot, disk: ledger.bytesOf(tenant), adapters },
        quota: { entries: finite(entries), diskBytes: finite(diskBytes), memoryShare: share },
      };
    },
    policy: (tenant) => policyAnswer(course, holdings.report(tenant)),
    setPolicy(next) {
      const { strategy, objective } = next;
      options.chosen?.(next);
      if (objective) course.objective = objective;
      if (!strategy || strategy === course.strategy) return;
      course.strategy = strategy;
      holdings.follow();
      shelf?.follow();
      curve.follow(strategy);
    },
    async close() {
      await heat?.close();
      await prefetch.close();
      await mends.close();
      await sweep.close();
      await flushes.done();
      await departures.close();
    },
  };
}

/** What is likely to come next is brought once the reader has what it came for. */
async function* thenDo<T>(all: AsyncGenerator<T, void, void>, follow: () => void): AsyncGenerator<T, void, void> {
  try {
    yield* all;
  } finally {
    follow();
  }
}

const finite = (bound = Number.POSITIVE_INFINITY): number | null => (Number.isFinite(bound) ? bound : null);
