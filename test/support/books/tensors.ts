// The books of tensors under any order of calls: real holdings over arenas, and beside them a map of what each key should hold.
// Who leaves is not foretold (policies say); that he may, and whose he is, is looked at each time.
import assert from 'node:assert/strict';
import type { Course } from '../../../core/cache/course.ts';
import { createDepartures, type Departures } from '../../../core/cache/departures.ts';
import { type Entry, idOf, isHot, mayLeave, newEntry } from '../../../core/cache/entry.ts';
import { createHoldings, type Holdings } from '../../../core/cache/holdings.ts';
import type { Durability } from '../../../core/contract/messages.ts';
import type { Strategy } from '../../../core/contract/policy.ts';
import type { GpuLease } from '../../../core/gpu/gpu-lease.ts';
import type { StoredRecord } from '../../../core/store/records.ts';
import type { AdapterName, Ground } from './ground.ts';

const KiB = 1 << 10;
/** What may be put, so that some of it is put twice: bytes, and the size of pages. */
export const PAYLOADS = [
  [200 * KiB, 256 * KiB],
  [700 * KiB, 256 * KiB],
  [2800 * KiB, 256 * KiB],
  [1500 * KiB, 1024 * KiB],
  [6000 * KiB, 1024 * KiB],
  [4000 * KiB, 4096 * KiB],
  [11_000 * KiB, 4096 * KiB],
] as const;
export const TENANTS = ['t', 'u'] as const;
/** Of each adapter: 15 MiB of the 20 that are to be had. */
const QUOTA = 0.12;

export interface Put {
  readonly tenant: string;
  readonly key: string;
  readonly payload: number;
  readonly priority: number;
  readonly ttlMs: number | null;
  readonly durability: Durability;
  /** Its last bytes come later. */
  readonly slow: boolean;
}

/** What a key should hold. */
interface Known {
  readonly digest: string;
  readonly expiresAt: number | null;
  onDisk: boolean;
  flushing: boolean;
}

interface Coming {
  readonly put: Put;
  readonly lease: GpuLease | undefined;
}

export interface TensorBooks {
  readonly holdings: Holdings;
  /** What has happened, so many times. */
  readonly leaves: { tensorsLost: number; refused: number; shared: number };
  put(put: Put): void;
  /** The last bytes of what came slowly. */
  arrive(index: number): void;
  read(tenant: string, key: string): void;
  endRead(index: number): void;
  /** What was answered from memory is on disk, or is not. */
  flushed(index: number, isWritten: boolean): void;
  delete(tenant: string, key: string): void;
  move(tenant: string, key: string, adapter: AdapterName): void;
  /** As off an adapter that drains: where there is free room, else to the disk. */
  leave(tenant: string, key: string): void;
  sweep(): void;
  follow(strategy: Strategy, objective: Course['objective']): void;
  dropLost(): void;
  /** For KV; what it costs is looked at. */
  makeRoom(lease: GpuLease, bytes: number, asker?: { tenant: string; id: string }): boolean;
  check(): void;
  /** Everything ends, and all pages are back. */
  end(): void;
}

export function openTensorBooks(ground: Ground): TensorBooks {
  const { clock, pool } = ground;
  const course: { -readonly [name in keyof Course]: Course[name] } = {
    ...{ strategy: 'adaptive', objective: 'hits', adjustEvery: 20 },
  };
  const holdings = createHoldings(() => clock.now, { course, quota: QUOTA });
  const unmoved = { move: never, clear: never, leave: never };
  const departures: Departures = createDepartures({ holdings, moves: unmoved, pool, log: (line) => assert.fail(line) });
  const known = new Map<string, Known>();
  const comings: Coming[] = [];
  const reads: { lease: GpuLease | undefined; end: () => void }[] = [];
  const flushes: { entry: Entry; end: () => void }[] = [];
  const leaves = { tensorsLost: 0, refused: 0, shared: 0 };

  const isThere = (one: Known | undefined): one is Known =>
    one !== undefined && (one.expiresAt === null || one.expiresAt > clock.now);
  const leaseFor = (tenant: string, adapter: string, payload: number): GpuLease => {
    ground.asking.tenant = tenant;
    const lease = pool.lease({ adapter, pageBytes: pageBytesOf(payload), account: holdings.account(tenant) });
    ground.asking.tenant = undefined;
    return lease;
  };

  /** Who loses by it is looked at, and forgotten where he was nowhere else. */
  function makeRoom(lease: GpuLease, bytes: number, asker?: { tenant: string; id: string }): boolean {
    const { adapter } = lease;
    const before = holdings.hot().map((entry) => ({ entry, lease: entry.lease, free: mayLeave(entry) }));
    const share = shareOf(adapter, asker?.tenant);
    const had = new Map(TENANTS.map((tenant) => [tenant as string, ground.bytesOf(adapter, tenant)]));
    const isGot = holdings.makeRoom(lease, bytes, asker);
    const gone = before.filter((one) => one.entry.lease !== one.lease);
    assert.ok(isGot || gone.length === 0, 'somebody left in vain');
    for (const { entry, lease: left, free } of gone) {
      const { tenant } = entry.record;
      assert.ok(free, `${tenant}/${entry.record.key} left, and was in use`);
      assert.equal(left?.adapter, adapter, 'one left another adapter');
      if (asker && tenant !== asker.tenant)
        assert.ok((had.get(tenant) ?? 0) > share, `${tenant} had ${had.get(tenant)} of ${share}, and lost some of it`);
      const one = known.get(entry.id);
      if (one && !one.onDisk) known.delete(entry.id);
    }
    return isGot;
  }

  /** Of the room for tensors, for each tenant who has some or brings some. */
  function shareOf(adapter: string, asking: string | undefined): number {
    const arena = ground.arenaOf(adapter);
    if (!arena) return 0;
    const had = TENANTS.map((tenant) => ground.bytesOf(adapter, tenant));
    const tensorBytes = had.reduce((sum, bytes) => sum + bytes, 0);
    const households = TENANTS.filter((tenant, i) => tenant === asking || (had[i] ?? 0) > 0).length;
    return (arena.capacityBytes - (arena.usedBytes - tensorBytes)) / Math.max(1, households);
  }

  function findRoom({ tenant, key, payload }: Pick<Put, 'tenant' | 'key' | 'payload'>): GpuLease | undefined {
    const asker = { tenant, id: idOf(tenant, key) };
    for (const adapter of pool.ready ? pool.places(pageBytesOf(payload)) : []) {
      const lease = leaseFor(tenant, adapter, payload);
      if (holdings.couldMakeRoom(lease, bytesOf(payload), asker)) return lease;
      lease.release();
    }
    return undefined;
  }

  function grown(lease: GpuLease | undefined, bytes: number, { tenant, key }: Pick<Put, 'tenant' | 'key'>) {
    if (lease && !lease.lost && makeRoom(lease, bytes, { tenant, id: idOf(tenant, key) })) return lease;
    lease?.release();
    return undefined;
  }

  function settle({ put, lease }: Coming): void {
    const { tenant, key, payload, durability } = put;
    if (lease?.lost) return void lease.release(); // the caller is told so
    const room = grown(lease, bytesOf(payload), put);
    if (!room && durability === 'none') return void leaves.refused++;
    const later = durability === 'back' && room !== undefined;
    const onDisk = durability !== 'none' && !later;
    const record = recordOf(put, clock.now);
    const twin = holdings.twin(record);
    if (twin) {
      room?.release();
      leaves.shared++;
    }
    const entry = newEntry(record, twin ?? room, onDisk);
    holdings.insert(entry);
    known.set(idOf(tenant, key), { digest: record.digest, expiresAt: record.expiresAt, onDisk, flushing: later });
    if (later) flushes.push({ entry, end: holdings.flush(entry, Promise.resolve()) });
    departures.look(entry);
  }

  function promote(entry: Entry, payload: number): void {
    const { tenant, key } = entry.record;
    const twin = holdings.twin(entry.record);
    if (twin) {
      holdings.cool(entry);
      holdings.heat(entry, twin);
      return;
    }
    holdings.cool(entry);
    const lease = grown(findRoom({ tenant, key, payload }), bytesOf(payload), { tenant, key });
    if (lease) holdings.heat(entry, lease);
  }

  /** Held meanwhile, as its bytes are copied. */
  function carry(entry: Entry, find: (payload: number) => GpuLease | undefined): boolean {
    const end = holdings.hold(entry);
    const lease = find(Number(entry.record.digest));
    if (lease) holdings.move(entry, lease);
    end();
    return lease !== undefined;
  }

  function take<T>(list: T[], index: number): T | undefined {
    return list.splice(index % Math.max(1, list.length), 1)[0];
  }

  function check(): void {
    assert.equal(holdings.faults().join('; '), '');
    assert.equal(holdings.size, known.size);
    for (const [id, one] of known) {
      const [tenant = '', key = ''] = id.split('\0');
      const found = holdings.find(tenant, key);
      assert.equal(found?.record.digest, isThere(one) ? one.digest : undefined, `${tenant}/${key}`);
      assert.ok(!found || (found.onDisk === one.onDisk && !found.flushing === !one.flushing), `${key} on disk`);
    }
    checkLeases();
    for (const tenant of TENANTS)
      for (const adapter of ['a', 'b']) {
        const quota = QUOTA * (ground.arenaOf(adapter)?.capacityBytes ?? 0);
        const bytes = ground.bytesOf(adapter, tenant);
        assert.ok(bytes <= quota, `${tenant} has ${bytes} bytes on ${adapter}, and its quota is ${quota}`);
      }
  }

  /** Counted from those who have pages. */
  function checkLeases(): void {
    const own = new Set<GpuLease>();
    let named = 0;
    for (const { lease } of holdings.hot()) {
      if (lease) own.add(lease);
      named += lease?.bytes ?? 0;
    }
    const sum = (leases: Iterable<GpuLease>) => [...leases].reduce((bytes, lease) => bytes + lease.bytes, 0);
    assert.equal(holdings.savedBytes, named - sum(own), 'bytes that are saved');
    for (const { lease } of reads) {
      if (!lease) continue;
      assert.ok(lease.lost || lease.pages > 0, 'pages that are read were given back');
      own.add(lease);
    }
    assert.equal(holdings.hotBytes, sum(own), 'bytes on adapters');
    for (const { lease } of comings) if (lease) own.add(lease);
    for (const [lease, whose] of ground.leases)
      if (whose !== undefined) assert.ok(own.has(lease), `pages of ${whose} on ${lease.adapter} are nobody's`);
  }

  return {
    holdings,
    leaves,
    put(put) {
      const lease = findRoom(put);
      if (!lease && put.durability === 'none') return void leaves.refused++;
      const coming = { put, lease: put.slow ? grown(lease, bytesOf(put.payload) / 2, put) : lease };
      if (put.slow && comings.length < 4) comings.push(coming);
      else settle(coming);
    },
    arrive(index) {
      const coming = take(comings, index);
      if (coming) settle(coming);
    },
    read(tenant, key) {
      const entry = holdings.find(tenant, key);
      if (!entry || reads.length >= 6) return;
      holdings.touch(entry);
      const { lease } = entry;
      const end = holdings.hold(entry);
      reads.push({ lease, end });
      if (!isHot(entry)) promote(entry, Number(entry.record.digest));
    },
    endRead: (index) => take(reads, index)?.end(),
    flushed(index, isWritten) {
      const flush = take(flushes, index);
      if (!flush) return;
      const { entry, end } = flush;
      const one = entry.replaced ? undefined : known.get(entry.id);
      entry.onDisk = isWritten && !entry.replaced;
      if (one) one.onDisk = isWritten;
      if (one) one.flushing = false;
      end();
      departures.look(entry);
      if (one && !isWritten && !isHot(entry)) known.delete(entry.id);
    },
    delete(tenant, key) {
      const entry = holdings.at(idOf(tenant, key));
      if (entry) holdings.remove(entry);
      known.delete(idOf(tenant, key));
    },
    move(tenant, key, adapter) {
      const entry = holdings.find(tenant, key);
      if (!entry || !isHot(entry) || entry.lease?.adapter === adapter || !ground.arenaOf(adapter)) return;
      carry(entry, (payload) => grown(leaseFor(tenant, adapter, payload), bytesOf(payload), { tenant, key }));
    },
    leave(tenant, key) {
      const entry = holdings.find(tenant, key);
      if (!entry || !isHot(entry)) return;
      const others = pool.places().filter((adapter) => adapter !== entry.lease?.adapter);
      const isMoved = carry(entry, (payload) => {
        for (const adapter of others) {
          const lease = leaseFor(tenant, adapter, payload);
          const bytes = bytesOf(payload);
          if (holdings.isWithinQuota(lease, bytes, tenant) && lease.grow(bytes)) return lease;
          lease.release();
        }
        return undefined;
      });
      if (!isMoved && entry.onDisk && !entry.flushing) holdings.move(entry, undefined);
    },
    sweep() {
      for (const entry of holdings.expired()) holdings.remove(entry);
      for (const [id, one] of known) if (!isThere(one)) known.delete(id);
    },
    follow(strategy, objective) {
      const hot = holdings.hot();
      Object.assign(course, { strategy, objective });
      holdings.follow();
      assert.deepEqual(holdings.hot(), hot, 'somebody left by another strategy');
    },
    dropLost() {
      for (const [id, one] of known) {
        if (one.onDisk || one.flushing || !holdings.at(id)?.lease?.lost) continue;
        known.delete(id);
        leaves.tensorsLost++;
      }
      departures.dropLost();
    },
    makeRoom,
    check,
    end() {
      for (const coming of comings.splice(0)) settle(coming);
      for (const { end } of reads.splice(0)) end();
      while (flushes.length > 0) this.flushed(0, true);
      check();
      for (const id of [...known.keys()]) {
        const entry = holdings.at(id);
        if (entry) holdings.remove(entry);
        known.delete(id);
      }
      check();
      assert.deepEqual([holdings.hotBytes, holdings.savedBytes], [0, 0]);
    },
  };
}

const never = () => Promise.reject(new Error('nothing drains here'));
const bytesOf = (payload: number): number => PAYLOADS[payload]?.[0] ?? 0;
const pageBytesOf = (payload: number): number => PAYLOADS[payload]?.[1] ?? 0;

const recordOf = ({ tenant, key, payload, priority, ttlMs }: Put, now: number): StoredRecord => ({
  ...{ tenant, key, digest: String(payload), bytes: bytesOf(payload), codec: 'raw', dtype: null, shape: null },
  ...{ tensors: 0, priority, createdAt: now, expiresAt: ttlMs === null ? null : now + ttlMs },
});
