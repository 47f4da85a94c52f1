// What the state of an adapter asks of entries there: to be forgotten when it was lost and they are nowhere else, to leave when
// it drains. Both may come to pass while they are written or moved, so each is looked at again at the end of that.
import type { Pool } from '../gpu/pool.ts';
import { type Entry, isHot } from './entry.ts';
import type { Holdings } from './holdings.ts';
import type { Moves } from './moves.ts';

export interface Departures {
  /** Were only on adapters that are gone. */
  readonly lost: number;
  /** Something has come to its end with the entry: does it have to go? */
  look(entry: Entry): void;
  /** It was on its way when its adapter was told to drain. */
  leaveIfDraining(entry: Entry): void;
  /** What was moved may have come to an adapter that was told to drain meanwhile. */
  clearIfDraining(except?: string): void;
  /** An adapter's process is gone: forget what was only there. */
  dropLost(): void;
  close(): Promise<void>;
}

export interface DeparturesOptions {
  readonly holdings: Holdings;
  readonly moves: Moves;
  readonly pool: Pick<Pool, 'isDraining' | 'report'>;
  readonly log: (line: string) => void;
}

export function createDepartures({ holdings, moves, pool, log }: DeparturesOptions): Departures {
  const leaving = new Set<Promise<void>>();
  const closing = new AbortController();
  let lost = 0;

  /** Looked after until it is done. */
  function follow(work: Promise<unknown>, failed: string): void {
    const left: Promise<void> = work
      .then(() => {})
      .catch((error: unknown) => log(`${failed}: ${String(error)}`))
      .finally(() => leaving.delete(left));
    leaving.add(left);
  }

  function dropIfLost(entry: Entry): void {
    if (isHot(entry) || entry.replaced) return;
    if (!entry.onDisk && !entry.flushing) {
      lost++;
      holdings.remove(entry);
    } else if (entry.readers === 0) holdings.cool(entry);
  }

  function leaveIfDraining(entry: Entry): void {
    const { lease } = entry;
    if (!lease || !isHot(entry) || entry.replaced || !pool.isDraining(lease.adapter)) return;
    follow(moves.leave(entry, closing.signal), `${entry.record.key} stays on ${lease.adapter}`);
  }

  return {
    get lost() {
      return lost;
    },
    look(entry) {
      dropIfLost(entry);
      leaveIfDraining(entry);
    },
    leaveIfDraining,
    clearIfDraining(except) {
      for (const { id } of pool.report())
        if (id !== except && pool.isDraining(id)) follow(moves.clear(id, closing.signal), `${id} is not drained`);
    },
    dropLost() {
      for (const entry of holdings.hot()) dropIfLost(entry);
    },
    async close() {
      closing.abort(new Error('the cache is closed'));
      await Promise.all(leaving);
    },
  };
}
