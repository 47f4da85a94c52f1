// What the disk holds under each id, which may be older than the id's entry while a write is on its way. Called in the key's order.
import type { StoredRecord } from '../store/records.ts';
import type { Store, StoreWriter } from '../store/store.ts';
import type { Entry } from './entry.ts';

export interface Ledger {
  /** The start found it. */
  add(id: string, record: StoredRecord): void;
  /** On disk, synced, when it resolves. */
  commit(entry: Entry, writer: StoreWriter): Promise<{ deduplicated: boolean }>;
  /** Nothing is on disk under the id when it resolves. */
  forget(id: string): Promise<void>;
}

export function createLedger(store: Pick<Store, 'remove'>): Ledger {
  const records = new Map<string, StoredRecord>();
  return {
    add: (id, record) => void records.set(id, record),
    async commit(entry, writer) {
      const done = await writer.commit(entry.record, records.get(entry.id));
      records.set(entry.id, entry.record);
      entry.onDisk = true;
      return done;
    },
    async forget(id) {
      const record = records.get(id);
      if (!record) return;
      await store.remove(record);
      records.delete(id);
    },
  };
}
