// Write-back: entries that were answered from memory, on their way to the disk in their keys' order. What a crash can take is
// bounded in bytes and in time: beyond so many bytes, so many entries, or while the oldest waits longer than `msMax`, no more
// are taken, and who asks writes through. Each begins at once; nothing is held back to be written later.
import { Problem } from '../contract/problems.ts';
import type { KeyedLock } from '../store/keyed-lock.ts';
import type { StoreWriter } from '../store/store.ts';
import type { Entry } from './entry.ts';
import type { Holdings } from './holdings.ts';
import type { Ledger } from './ledger.ts';

const FLUSHES_MAX = 64;

export interface FlushBounds {
  readonly bytesMax: number;
  readonly msMax: number;
}
export const FLUSH_DEFAULTS: FlushBounds = { bytesMax: 64 << 20, msMax: 1000 };

export interface Flushes {
  /** On disk within so many milliseconds, or nobody else is taken until it is. */
  readonly msMax: number;
  /** The most that is on its way at a time. */
  readonly bytesMax: number;
  /** What is on its way, and for how long the oldest has been. */
  readonly waiting: { readonly entries: number; readonly bytes: number; readonly ageMs: number };
  /** Whether so many bytes more are within the bounds. */
  takes(bytes: number): boolean;
  /** `back`: answered already, on disk as soon as the key's turn comes. */
  begin(entry: Entry, writer: StoreWriter): void;
  /** All that have begun are done. */
  done(): Promise<void>;
}

export interface FlushOptions {
  readonly keys: KeyedLock;
  readonly ledger: Ledger;
  readonly holdings: Holdings;
  readonly bounds: FlushBounds;
  readonly log: (line: string) => void;
  /** It has arrived, or has not: its adapter may ask something of it now. */
  readonly ended: (entry: Entry) => void;
}

export function createFlushes({ keys, ledger, holdings, bounds, log, ended }: FlushOptions): Flushes {
  /** With the moment of each one's beginning, the oldest first. */
  const flushes = new Map<Promise<void>, number>();
  let bytes = 0;

  async function write(entry: Entry, writer: StoreWriter): Promise<void> {
    if (entry.replaced) return writer.abort();
    try {
      await ledger.commit(entry, writer);
    } catch (error) {
      log(`a write answered from memory did not reach the disk (${entry.record.key}): ${String(error)}`);
      await writer.abort();
      if (entry.replaced && isCut(error)) return; // by a store that has another under this id
      await ledger.forget(entry.id); // the older one must not come back with the next start
    }
  }

  function ageMs(): number {
    const [oldest] = flushes.values();
    return oldest === undefined ? 0 : performance.now() - oldest;
  }

  return {
    msMax: bounds.msMax,
    bytesMax: bounds.bytesMax,
    get waiting() {
      return { entries: flushes.size, bytes, ageMs: ageMs() };
    },
    takes: (more) => flushes.size < FLUSHES_MAX && bytes + more <= bounds.bytesMax && ageMs() < bounds.msMax,
    begin(entry, writer) {
      bytes += entry.record.bytes;
      const flush: Promise<void> = keys
        .run(entry.id, () => write(entry, writer))
        .catch((error: unknown) => log(`an outdated record stays (${entry.record.key}): ${String(error)}`))
        .finally(() => {
          flushed();
          flushes.delete(flush);
          bytes -= entry.record.bytes;
          ended(entry);
        });
      const flushed = holdings.flush(entry, flush);
      flushes.set(flush, performance.now());
    },
    done: () => Promise.all(flushes.keys()).then(() => {}),
  };
}

/** Another store took the place of the one that it was written to. */
const isCut = (error: unknown): boolean => error instanceof Problem && error.code === 'restoring';
