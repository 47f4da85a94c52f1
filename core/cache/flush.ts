// Write-back: entries that were answered from memory, on their way to the disk in their keys' order. A few at a time; who asks
// beyond that writes through.
import type { KeyedLock } from '../store/keyed-lock.ts';
import type { StoreWriter } from '../store/store.ts';
import type { Entry } from './entry.ts';
import type { Holdings } from './holdings.ts';
import type { Ledger } from './ledger.ts';

const FLUSHES_MAX = 64;

export interface Flushes {
  readonly isFull: boolean;
  /** `back`: answered already, on disk as soon as the key's turn comes. */
  begin(entry: Entry, writer: StoreWriter): void;
  /** All that have begun are done. */
  done(): Promise<void>;
}

export interface FlushOptions {
  readonly keys: KeyedLock;
  readonly ledger: Ledger;
  readonly holdings: Holdings;
  readonly log: (line: string) => void;
  /** It has arrived, or has not: its adapter may ask something of it now. */
  readonly ended: (entry: Entry) => void;
}

export function createFlushes({ keys, ledger, holdings, log, ended }: FlushOptions): Flushes {
  const flushes = new Set<Promise<void>>();

  async function write(entry: Entry, writer: StoreWriter): Promise<void> {
    if (entry.replaced) return writer.abort();
    try {
      await ledger.commit(entry, writer);
    } catch (error) {
      log(`a write answered from memory did not reach the disk (${entry.record.key}): ${String(error)}`);
      await writer.abort();
      await ledger.forget(entry.id); // the older one must not come back with the next start
    }
  }

  return {
    get isFull() {
      return flushes.size >= FLUSHES_MAX;
    },
    begin(entry, writer) {
      const flush: Promise<void> = keys
        .run(entry.id, () => write(entry, writer))
        .catch((error: unknown) => log(`an outdated record stays (${entry.record.key}): ${String(error)}`))
        .finally(() => {
          flushed();
          flushes.delete(flush);
          ended(entry);
        });
      const flushed = holdings.flush(entry, flush);
      flushes.add(flush);
    },
    done: () => Promise.all(flushes).then(() => {}),
  };
}
