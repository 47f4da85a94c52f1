// What the disk holds under each id, which may be older than the id's entry while a write is on its way, and how much that is of
// each tenant. A tenant's names never have more bytes on disk than its quota, those that are being written included: what
// would be more is refused before it is written. A payload that has several names counts for each. Writes of one id are
// called in the key's order.
import { problem } from '../contract/problems.ts';
import type { StoredRecord } from '../store/records.ts';
import type { Store, StoreWriter } from '../store/store.ts';
import { type Entry, idOf } from './entry.ts';
import type { Asker } from './lodgings.ts';
import type { Shelf } from './shelf.ts';

export interface Ledger {
  /** The start found it. */
  add(id: string, record: StoredRecord): void;
  /** Of a tenant's names, those that are being written included. */
  bytesOf(tenant: string): number;
  /** A payload of so many bytes is to come; throws `quota_exceeded`, or `disk_full`. */
  begin(asker: Asker, bytes: number, aligned: boolean): Promise<StoreWriter>;
  /** On disk, synced, when it resolves. */
  commit(entry: Entry, writer: StoreWriter): Promise<{ deduplicated: boolean }>;
  /** Nothing is known of the disk any more. */
  clear(): void;
  /** Nothing is on disk under the id when it resolves. */
  forget(id: string, cause?: 'evicted'): Promise<void>;
}

export interface LedgerOptions {
  readonly store: Pick<Store, 'remove'>;
  /** Finds room on the disk for so many bytes. */
  readonly begin: (asker: Asker, bytes: number, aligned: boolean) => Promise<StoreWriter>;
  /** Where the disk has a budget: told who lies there. */
  readonly shelf: Pick<Shelf, 'enter' | 'leave'> | undefined;
  /** Of one tenant. */
  readonly bytesMax: number | undefined;
}

export function createLedger({ store, shelf, ...o }: LedgerOptions): Ledger {
  const { bytesMax = Number.POSITIVE_INFINITY } = o;
  const records = new Map<string, StoredRecord>();
  const bytesOf = new Map<string, number>();
  /** Of what is counted: uploads that began before it was cleared do not count after it. */
  let age = 0;

  function count(tenant: string, bytes: number): void {
    const sum = (bytesOf.get(tenant) ?? 0) + bytes;
    if (sum > 0) bytesOf.set(tenant, sum);
    else bytesOf.delete(tenant);
  }

  function take(tenant: string, bytes: number): void {
    const held = bytesOf.get(tenant) ?? 0;
    if (held + bytes > bytesMax)
      throw problem(
        'quota_exceeded',
        `${bytes} bytes more than the ${held} on disk are above the tenant's quota of ${bytesMax} (TENANT_DISK_MIB). Delete some.`,
      );
    count(tenant, bytes);
  }

  return {
    add(id, record) {
      records.set(id, record);
      count(record.tenant, record.bytes);
      shelf?.enter(id, record);
    },
    bytesOf: (tenant) => bytesOf.get(tenant) ?? 0,
    async begin(asker, bytes, aligned) {
      const { tenant } = asker;
      take(tenant, bytes);
      let taken = true;
      const begun = age;
      const giveBack = () => {
        if (taken && begun === age) count(tenant, -bytes);
        taken = false;
      };
      const writer = await o.begin(asker, bytes, aligned).catch((error: unknown) => {
        giveBack();
        throw error;
      });
      return {
        write: writer.write,
        async commit(record) {
          const previous = records.get(idOf(record.tenant, record.key));
          const done = await writer.commit(record);
          taken = false; // the record's from now on
          if (previous) count(tenant, -previous.bytes);
          return done;
        },
        async abort() {
          giveBack();
          await writer.abort();
        },
      };
    },
    async commit(entry, writer) {
      const done = await writer.commit(entry.record);
      records.set(entry.id, entry.record);
      entry.onDisk = true;
      shelf?.enter(entry.id, entry.record);
      return done;
    },
    clear() {
      for (const id of records.keys()) shelf?.leave(id, false);
      records.clear();
      bytesOf.clear();
      age++;
    },
    async forget(id, cause) {
      const record = records.get(id);
      if (!record) return;
      await store.remove(record);
      records.delete(id);
      shelf?.leave(id, cause === 'evicted');
      count(record.tenant, -record.bytes);
    },
  };
}
