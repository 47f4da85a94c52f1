// What is held: entries by name, and which of them have pages on an adapter. Who leaves when room is short is said in
// lodgings.ts; here they go. Bookkeeping only; nothing here waits, reads or writes.
// Invariants: pages are released once, and not before the last reader of theirs is done, wherever their entry has moved
// meanwhile; `hotBytes` is the sum over all pages that are not released, those of replaced entries and those that an entry
// has moved away from included. Nobody leaves in vain: whoever goes is needed for the room, and the room is got.
import type { GpuLease } from '../gpu/gpu-lease.ts';
import { type Entry, idOf, isHot } from './entry.ts';
import { createLodgings } from './lodgings.ts';
import { createNames } from './names.ts';

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
  /** Other pages in place of its own, or none; those it had go with the last who still reads from them. */
  move(entry: Entry, lease: GpuLease | undefined): void;
  /** Just used: last to leave. */
  touch(entry: Entry): void;
  /** Begins reading; the result ends it. */
  hold(entry: Entry): () => void;
  /** Begins its way to the disk; the result ends it. */
  flush(entry: Entry, done: Promise<void>): () => void;
  /** Whether `makeRoom` could succeed as things stand. */
  couldMakeRoom(lease: GpuLease, bytes: number): boolean;
  /** Grows the lease to `bytes`, others leaving for it; false, and nobody evicted, if all are too few. */
  makeRoom(lease: GpuLease, bytes: number): boolean;
  hot(): Entry[];
  expired(): Entry[];
  /** A tenant's entries under a prefix, after a key, in order. */
  from(tenant: string, prefix: string, after: string): Generator<Entry, void, void>;
  /** What contradicts the invariants, a line each; none if all is well. */
  faults(): string[];
}

export function createHoldings(now: () => number): Holdings {
  const entries = new Map<string, Entry>();
  const names = createNames();
  const lodgings = createLodgings();
  /** Entries with pages, least recently used first. */
  const hot = new Map<string, Entry>();
  const expiring = new Set<Entry>();
  /** Every lease that is not released, with the number of its readers. */
  const readersOf = new Map<GpuLease, number>();
  let hotBytes = 0;
  let evictions = 0;

  const isExpired = ({ record }: Entry) => record.expiresAt !== null && record.expiresAt <= now();

  function find(tenant: string, key: string): Entry | undefined {
    const entry = entries.get(idOf(tenant, key));
    return entry && !isExpired(entry) && (isHot(entry) || entry.onDisk || entry.flushing) ? entry : undefined;
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
    if (!entry.lease || !readersOf.get(entry.lease)) cool(entry); // who reads elsewhere began before it moved
  }

  function heat(entry: Entry, lease: GpuLease): void {
    house(entry, lease);
    lodgings.enter(entry, lease);
    hot.delete(entry.id); // one that is replaced and still read would keep its place in the line
    hot.set(entry.id, entry);
  }

  function house(entry: Entry, lease: GpuLease): void {
    entry.lease = lease;
    readersOf.set(lease, 0);
    hotBytes += lease.bytes;
  }

  function release(lease: GpuLease): void {
    if (!readersOf.delete(lease)) return;
    hotBytes -= lease.bytes;
    lease.release();
  }

  function cool(entry: Entry): void {
    const { lease } = entry;
    if (!lease) return;
    leaveLine(entry);
    release(lease);
  }

  function leaveLine(entry: Entry): void {
    entry.lease = undefined;
    lodgings.leave(entry);
    if (hot.get(entry.id) === entry) hot.delete(entry.id);
  }

  function move(entry: Entry, next: GpuLease | undefined): void {
    const { lease } = entry;
    if (next) {
      house(entry, next);
      lodgings.move(entry, next);
    } else leaveLine(entry);
    if (lease && !readersOf.get(lease)) release(lease);
  }

  /** One reader less; pages that are no longer the entry's go with the last. */
  function leave(entry: Entry, lease: GpuLease): void {
    const readers = readersOf.get(lease);
    if (readers === undefined) return; // lost, and given up already
    readersOf.set(lease, readers - 1);
    if (readers === 1 && entry.lease !== lease) release(lease);
  }

  function evict(entry: Entry): void {
    evictions++;
    if (entry.onDisk) cool(entry);
    else remove(entry);
  }

  function faults(): string[] {
    const found: string[] = [];
    const owners = new Map<GpuLease, Entry>();
    for (const [id, entry] of entries) {
      if (entry.replaced) found.push(`${id} is held and replaced`);
      if (!entry.lease && !entry.onDisk && !entry.flushing) found.push(`${id} is neither on an adapter nor on disk`);
      if (entry.lease && hot.get(id) !== entry) found.push(`${id} has pages and is not in the line`);
    }
    for (const [id, entry] of hot) {
      const { lease } = entry;
      if (!lease) found.push(`${id} is in the line without pages`);
      else if (owners.has(lease)) found.push(`${id} and ${owners.get(lease)?.id} have the same pages`);
      else if (!readersOf.has(lease)) found.push(`${id} has pages that were released`);
      if (lease) owners.set(lease, entry);
    }
    for (const [lease, readers] of readersOf)
      if (readers === 0 && !owners.has(lease)) found.push(`pages on ${lease.adapter} belong to nobody`);
    const bytes = [...readersOf.keys()].reduce((sum, lease) => sum + lease.bytes, 0);
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
    get evictions() {
      return evictions;
    },
    at: (id) => entries.get(id),
    find,
    insert,
    remove,
    heat,
    cool,
    move,
    touch(entry) {
      if (hot.get(entry.id) !== entry) return;
      hot.delete(entry.id);
      hot.set(entry.id, entry);
      lodgings.touch(entry);
    },
    hold(entry) {
      const { lease } = entry;
      entry.readers++;
      lodgings.heed(entry);
      if (lease) readersOf.set(lease, (readersOf.get(lease) ?? 0) + 1);
      return () => {
        entry.readers--;
        lodgings.heed(entry);
        if (lease) leave(entry, lease);
        if (entry.readers === 0 && (entry.replaced || entry.lease?.lost)) cool(entry);
      };
    },
    flush(entry, done) {
      entry.flushing = done;
      lodgings.heed(entry);
      return () => {
        entry.flushing = undefined;
        lodgings.heed(entry);
      };
    },
    couldMakeRoom: lodgings.couldMakeRoom,
    makeRoom(lease, bytes) {
      const leaving = lodgings.leaving(lease, bytes);
      if (!leaving) return false;
      for (const entry of leaving) evict(entry);
      return lease.grow(bytes);
    },
    hot: () => [...hot.values()],
    faults,
    expired: () => [...expiring].filter(isExpired),
    *from(tenant, prefix, after) {
      for (const key of names.from(tenant, prefix, after)) {
        const entry = find(tenant, key);
        if (entry) yield entry;
      }
    },
  };
}
