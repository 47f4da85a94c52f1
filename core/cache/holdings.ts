// What is held: entries by name, which of them have pages on an adapter, and who leaves when room is short. Bookkeeping only;
// nothing here waits, reads or writes.
// Invariants: an entry's pages are released once, and not before its last reader is done; `hotBytes` is the sum over all
// entries with pages, replaced ones with readers included.
import type { GpuLease } from '../gpu/pool.ts';
import type { StoredRecord } from '../store/records.ts';
import { createNames } from './names.ts';

/** One version of one key. Its bytes never change; a later PUT puts another entry in its place. */
export interface Entry {
  readonly id: string;
  readonly record: StoredRecord;
  lease: GpuLease | undefined;
  onDisk: boolean;
  readers: number;
  /** No longer in the index: its pages go with its last reader. */
  replaced: boolean;
  promoting: boolean;
  /** Answered from memory and on its way to the disk: it must not leave the adapter yet. */
  flushing: boolean;
}

export const idOf = (tenant: string, key: string): string => `${tenant}\0${key}`;

export const newEntry = (record: StoredRecord, lease: GpuLease | undefined, onDisk: boolean): Entry => ({
  id: idOf(record.tenant, record.key),
  record,
  lease,
  onDisk,
  readers: 0,
  replaced: false,
  promoting: false,
  flushing: false,
});

export const isHot = (entry: Entry): boolean => entry.lease !== undefined && !entry.lease.lost;

export interface Holdings {
  readonly size: number;
  readonly hotBytes: number;
  readonly evictions: number;
  /** As the index has it, expired or not. */
  at(id: string): Entry | undefined;
  /** What a caller may see. */
  find(tenant: string, key: string): Entry | undefined;
  /** Takes the place of whatever the key held. */
  insert(entry: Entry): void;
  /** Out of the index; the disk is another matter. */
  remove(entry: Entry): void;
  /** The entry has pages. */
  heat(entry: Entry, lease: GpuLease): void;
  /** Gives its pages back, if it has any. */
  cool(entry: Entry): void;
  /** Just used: last to leave. */
  touch(entry: Entry): void;
  /** Begins reading; the result ends it. */
  hold(entry: Entry): () => void;
  /** Whether `makeRoom` could succeed as things stand. */
  couldMakeRoom(lease: GpuLease, bytes: number): boolean;
  /** Grows the lease to `bytes`, least recently used entries leaving; false, and nobody evicted, if all are too few. */
  makeRoom(lease: GpuLease, bytes: number): boolean;
  hot(): Entry[];
  expired(): Entry[];
  /** A tenant's entries under a prefix, after a key, in order. */
  from(tenant: string, prefix: string, after: string): Generator<Entry, void, void>;
}

export function createHoldings(now: () => number): Holdings {
  const entries = new Map<string, Entry>();
  const names = createNames();
  /** Entries with pages, least recently used first. */
  const hot = new Map<string, Entry>();
  const expiring = new Set<Entry>();
  let hotBytes = 0;
  let evictions = 0;

  const isExpired = ({ record }: Entry) => record.expiresAt !== null && record.expiresAt <= now();

  function find(tenant: string, key: string): Entry | undefined {
    const entry = entries.get(idOf(tenant, key));
    return entry && !isExpired(entry) && (isHot(entry) || entry.onDisk) ? entry : undefined;
  }

  function insert(entry: Entry): void {
    const before = entries.get(entry.id);
    if (before) remove(before);
    entries.set(entry.id, entry);
    names.add(entry.record.tenant, entry.record.key);
    if (entry.record.expiresAt !== null) expiring.add(entry);
    if (entry.lease) heat(entry, entry.lease);
  }

  function remove(entry: Entry): void {
    if (entries.get(entry.id) === entry) {
      entries.delete(entry.id);
      names.delete(entry.record.tenant, entry.record.key);
    }
    expiring.delete(entry);
    entry.replaced = true;
    if (entry.readers === 0) cool(entry);
  }

  function heat(entry: Entry, lease: GpuLease): void {
    entry.lease = lease;
    hot.delete(entry.id); // one that is replaced and still read would keep its place in the line
    hot.set(entry.id, entry);
    hotBytes += lease.bytes;
  }

  function cool(entry: Entry): void {
    const { lease } = entry;
    if (!lease) return;
    entry.lease = undefined;
    if (hot.get(entry.id) === entry) hot.delete(entry.id);
    hotBytes -= lease.bytes;
    lease.release();
  }

  function evict(entry: Entry): void {
    evictions++;
    if (entry.onDisk) cool(entry);
    else remove(entry);
  }

  /** Who has to go for the lease to hold `bytes`; undefined if that is not enough. */
  function leaving(lease: GpuLease, bytes: number): Entry[] | undefined {
    const found: Entry[] = [];
    let missing = lease.missing(bytes);
    for (const entry of hot.values()) {
      if (missing <= 0) break;
      if (entry.lease?.adapter !== lease.adapter || entry.readers > 0 || entry.flushing) continue;
      found.push(entry);
      missing -= entry.lease.pages;
    }
    return missing > 0 ? undefined : found;
  }

  return {
    get size() {
      return entries.size;
    },
    get hotBytes() {
      return hotBytes;
    },
    get evictions() {
      return evictions;
    },
    at: (id) => entries.get(id),
    find,
    insert,
    remove,
    heat,
    cool,
    touch(entry) {
      if (hot.get(entry.id) !== entry) return;
      hot.delete(entry.id);
      hot.set(entry.id, entry);
    },
    hold(entry) {
      entry.readers++;
      return () => {
        if (--entry.readers === 0 && (entry.replaced || entry.lease?.lost)) cool(entry);
      };
    },
    couldMakeRoom: (lease, bytes) => leaving(lease, bytes) !== undefined,
    makeRoom(lease, bytes) {
      const entries = leaving(lease, bytes);
      if (!entries) return false;
      for (const entry of entries) evict(entry);
      return lease.grow(bytes);
    },
    hot: () => [...hot.values()],
    expired: () => [...expiring].filter(isExpired),
    *from(tenant, prefix, after) {
      for (const key of names.from(tenant, prefix, after)) {
        const entry = find(tenant, key);
        if (entry) yield entry;
      }
    },
  };
}
