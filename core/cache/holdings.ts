// What is held: entries by name, and which of them have pages on an adapter. Who leaves when room is short is said in
// lodgings.ts; here they go. Bookkeeping only; nothing here waits, reads or writes.
// Equal payloads of one tenant share their pages: each of its names owns them. Tenants never share.
// Invariants: pages are released once, with their last owner and not before the last reader of theirs is done, wherever their
// entry has moved meanwhile; `hotBytes` is the sum over all pages that are not released, those of replaced entries and those
// that an entry has moved away from included. Nobody leaves in vain: whoever goes is needed for the room, and the room is got.
import type { Account, GpuLease } from '../gpu/gpu-lease.ts';
import type { StoredRecord } from '../store/records.ts';
import { type Course, DEFAULT_COURSE } from './course.ts';
import { type Entry, idOf, isHot } from './entry.ts';
import { type Asker, createLodgings, type LodgingReport } from './lodgings.ts';
import { createNames } from './names.ts';

export interface Holdings {
  readonly size: number;
  readonly hotBytes: number;
  /** What entries would take beside `hotBytes` if they shared no pages. */
  readonly savedBytes: number;
  readonly evictions: Readonly<Evictions>;
  /** What others than tensors have of the adapters where tensors are. */
  readonly othersBytes: number;
  /** `hotBytes` by adapter. */
  readonly bytesOn: ReadonlyMap<string, number>;
  /** Of the pages of a tenant, by adapter. */
  bytesOf(tenant: string): Record<string, number>;
  /** Entries of a tenant. */
  countOf(tenant: string): number;
  /** As the index has it, expired or not. */
  at(id: string): Entry | undefined;
  /** What a caller may see. */
  find(tenant: string, key: string): Entry | undefined;
  /** Pages with this very payload (its sha-256 says so) under another name of the tenant. */
  twin(record: StoredRecord): GpuLease | undefined;
  /** Takes the place of whatever the key held. */
  insert(entry: Entry): void;
  /** Out of the index; the disk is another matter. */
  remove(entry: Entry): void;
  /** The same with all of them. */
  clear(): void;
  /** The entry has pages. */
  heat(entry: Entry, lease: GpuLease): void;
  /** Gives its pages back, if it has any. */
  cool(entry: Entry): void;
  /** Other pages in place of its own, or none; those it had go with the last who still reads from them. */
  move(entry: Entry, lease: GpuLease | undefined): void;
  /** Just used. */
  touch(entry: Entry): void;
  /** Begins reading; the result ends it. */
  hold(entry: Entry): () => void;
  /** Begins its way to the disk; the result ends it. */
  flush(entry: Entry, done: Promise<void>): () => void;
  /** For leases of a tenant's tensors. */
  account(tenant: string): Account;
  isWithinQuota(lease: GpuLease, bytes: number, tenant: string): boolean;
  /** Whether `makeRoom` could succeed as things stand. */
  couldMakeRoom(lease: GpuLease, bytes: number, asker?: Asker): boolean;
  /** Grows the lease to `bytes`, others leaving for it; false, and nobody evicted, if all are too few. */
  makeRoom(lease: GpuLease, bytes: number, asker?: Asker): boolean;
  /** The course has changed; nobody leaves by that. */
  follow(): void;
  /** Of the policies that serve a tenant. */
  report(tenant: string): LodgingReport[];
  /** With pages, least recently used first. */
  hot(): Entry[];
  expired(): Entry[];
  /** A tenant's entries under a prefix, after a key, in order. */
  from(tenant: string, prefix: string, after: string): Generator<Entry, void, void>;
  /** The same from the first on, expired ones too. */
  all(tenant: string, prefix: string): Entry[];
  /** What contradicts the invariants, a line each; none if all is well. */
  faults(): string[];
}

export interface Evictions {
  room: number;
  quota: number;
}

export interface HoldingsOptions {
  readonly course?: Course;
  /** Of each adapter, for one tenant; default all. */
  readonly quota?: number;
  /** What a key holds is another entry than before, or none. */
  readonly changed?: ((tenant: string, key: string) => void) | undefined;
}

/** Pages that are not released. */
interface Hold {
  readers: number;
  readonly owners: Set<Entry>;
}

export function createHoldings(now: () => number, options: HoldingsOptions = {}): Holdings {
  const { course = DEFAULT_COURSE, quota = 1, changed = () => {} } = options;
  const entries = new Map<string, Entry>();
  const names = createNames();
  /** Entries with pages, least recently used first. */
  const hot = new Map<string, Entry>();
  const expiring = new Set<Entry>();
  const holds = new Map<GpuLease, Hold>();
  const isRead = (lease: GpuLease): boolean => (holds.get(lease)?.readers ?? 0) > 0;
  const lodgings = createLodgings({ course, quota, isRead });
  /** By tenant, digest and adapter: pages that others may share. */
  const twins = new Map<string, GpuLease>();
  const evictions: Evictions = { room: 0, quota: 0 };
  const bytesOn = new Map<string, number>();
  let hotBytes = 0;
  let savedBytes = 0;

  const isExpired = ({ record }: Entry) => record.expiresAt !== null && record.expiresAt <= now();

  function find(tenant: string, key: string): Entry | undefined {
    const entry = entries.get(idOf(tenant, key));
    return entry && !isExpired(entry) && (isHot(entry) || entry.onDisk || entry.flushing) ? entry : undefined;
  }

  function insert(entry: Entry): void {
    const before = entries.get(entry.id);
    if (before) touch(before); // who writes a key anew has asked for it
    if (entry.lease) heat(entry, entry.lease, before);
    if (before) remove(before);
    entries.set(entry.id, entry);
    names.add(entry.record.tenant, entry.record.key);
    if (entry.record.expiresAt !== null) expiring.add(entry);
    changed(entry.record.tenant, entry.record.key);
  }

  function remove(entry: Entry): void {
    if (entries.get(entry.id) === entry) {
      entries.delete(entry.id);
      names.delete(entry.record.tenant, entry.record.key);
      changed(entry.record.tenant, entry.record.key);
    }
    expiring.delete(entry);
    entry.replaced = true;
    cool(entry);
  }

  function heat(entry: Entry, lease: GpuLease, before?: Entry): void {
    own(entry, lease);
    lodgings.enter(entry, lease, before && lodgings.stayOf(before));
    hot.delete(entry.id); // one that is replaced would keep its place in the line
    hot.set(entry.id, entry);
  }

  function own(entry: Entry, lease: GpuLease): void {
    entry.lease = lease;
    const hold = holds.get(lease);
    if (hold) {
      hold.owners.add(entry);
      savedBytes += lease.bytes;
      return;
    }
    holds.set(lease, { readers: 0, owners: new Set([entry]) });
    twins.set(twinName(entry.record), lease);
    countBytes(lease, 1);
  }

  function countBytes({ adapter, bytes }: GpuLease, sign: 1 | -1): void {
    hotBytes += sign * bytes;
    bytesOn.set(adapter, (bytesOn.get(adapter) ?? 0) + sign * bytes);
  }

  function disown(entry: Entry, lease: GpuLease): void {
    const hold = holds.get(lease);
    if (!hold?.owners.delete(entry)) return;
    if (hold.owners.size > 0) savedBytes -= lease.bytes;
    else if (twins.get(twinName(entry.record)) === lease) twins.delete(twinName(entry.record));
    releaseIfUnused(lease, hold);
  }

  function releaseIfUnused(lease: GpuLease, { readers, owners }: Hold): void {
    if (readers > 0 || owners.size > 0 || !holds.delete(lease)) return;
    countBytes(lease, -1);
    lease.release();
  }

  function cool(entry: Entry, cause?: 'evicted'): void {
    const { lease } = entry;
    if (!lease) return;
    lodgings.leave(entry, cause);
    if (hot.get(entry.id) === entry) hot.delete(entry.id);
    entry.lease = undefined;
    disown(entry, lease);
  }

  function move(entry: Entry, next: GpuLease | undefined): void {
    const { lease } = entry;
    if (!next || !lease) {
      cool(entry);
      if (next) heat(entry, next);
      return;
    }
    const stay = lodgings.stayOf(entry);
    lodgings.leave(entry);
    own(entry, next);
    lodgings.enter(entry, next, stay);
    hot.delete(entry.id); // where it comes it is the youngest
    hot.set(entry.id, entry);
    disown(entry, lease);
  }

  function touch(entry: Entry): void {
    if (hot.get(entry.id) !== entry) return;
    hot.delete(entry.id);
    hot.set(entry.id, entry);
    lodgings.touch(entry);
  }

  function evict(entry: Entry): void {
    cool(entry, 'evicted');
    if (!entry.onDisk) remove(entry);
  }

  function makeRoom(lease: GpuLease, bytes: number, asker?: Asker): boolean {
    const leaving = lodgings.leaving(lease, bytes, asker);
    if (!leaving) return false;
    for (const { entry, cause } of leaving) {
      evictions[cause]++;
      evict(entry);
    }
    return lease.grow(bytes);
  }

  function faults(): string[] {
    const found: string[] = [];
    for (const [id, entry] of entries) {
      if (entry.replaced) found.push(`${id} is held and replaced`);
      if (!entry.lease && !entry.onDisk && !entry.flushing) found.push(`${id} is neither on an adapter nor on disk`);
      if (entry.lease && hot.get(id) !== entry) found.push(`${id} has pages and is not in the line`);
    }
    for (const [id, entry] of hot) {
      const { lease } = entry;
      if (!lease) found.push(`${id} is in the line without pages`);
      else if (!holds.get(lease)?.owners.has(entry)) found.push(`${id} has pages that are not its own`);
    }
    for (const [lease, { readers, owners }] of holds) {
      if (readers === 0 && owners.size === 0) found.push(`pages on ${lease.adapter} belong to nobody`);
      const payloads = new Set([...owners].map(({ record }) => twinName(record)));
      if (payloads.size > 1) found.push(`${[...owners].map(({ id }) => id).join(' and ')} share pages, and differ`);
      for (const owner of owners)
        if (owner.lease !== lease) found.push(`${owner.id} has left pages that it still owns`);
    }
    const bytes = [...holds.keys()].reduce((sum, lease) => sum + lease.bytes, 0);
    if (bytes !== hotBytes) found.push(`${hotBytes} bytes are counted, ${bytes} are held`);
    found.push(...lodgings.faults());
    return found.map((fault) => fault.replaceAll('\0', '/'));
  }

  return {
    get size() {
      return entries.size;
    },
    get hotBytes() {
      return hotBytes;
    },
    get savedBytes() {
      return savedBytes;
    },
    get othersBytes() {
      return lodgings.othersBytes;
    },
    evictions,
    bytesOn,
    countOf: names.count,
    bytesOf: lodgings.bytesOf,
    at: (id) => entries.get(id),
    find,
    twin(record) {
      const lease = twins.get(twinName(record));
      return lease?.lost ? undefined : lease;
    },
    insert,
    remove,
    clear() {
      for (const entry of [...entries.values()]) remove(entry);
    },
    heat,
    cool,
    move,
    touch,
    hold(entry) {
      const { lease } = entry;
      entry.readers++;
      const hold = lease && holds.get(lease);
      if (hold) hold.readers++;
      lodgings.heed(lease);
      return () => {
        entry.readers--;
        if (lease && hold) {
          hold.readers--;
          lodgings.heed(lease); // by now they may be another entry's
          releaseIfUnused(lease, hold);
        }
        lodgings.heed(entry.lease);
        if (entry.readers === 0 && entry.lease?.lost) cool(entry);
      };
    },
    flush(entry, done) {
      entry.flushing = done;
      lodgings.heed(entry.lease);
      return () => {
        entry.flushing = undefined;
        lodgings.heed(entry.lease);
      };
    },
    account: lodgings.account,
    isWithinQuota: lodgings.isWithinQuota,
    couldMakeRoom: lodgings.couldMakeRoom,
    makeRoom,
    follow: lodgings.follow,
    report: lodgings.report,
    hot: () => [...hot.values()],
    faults,
    expired: () => [...expiring].filter(isExpired),
    all: (tenant, prefix) =>
      Array.from(names.from(tenant, prefix, ''), (key) => entries.get(idOf(tenant, key))).filter((entry) => !!entry),
    *from(tenant, prefix, after) {
      for (const key of names.from(tenant, prefix, after)) {
        const entry = find(tenant, key);
        if (entry) yield entry;
      }
    },
  };
}

const twinName = ({ tenant, digest, bytes }: StoredRecord): string => `${tenant}\0${digest}\0${bytes}`;
