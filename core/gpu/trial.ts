// What would be if leases were given back: asks and changes nothing, and is good until the arena changes. Costs what the
// leases that are tried cost, a step for each of their pages, whatever else the arena holds.
import type { Lease } from './arena.ts';
import { pagesFor, pagesPerSlab } from './pages.ts';

export interface Trial {
  give(lease: Lease): void;
  /** As if it had not been given. */
  keep(lease: Lease): void;
  /** Whether `lease` could grow to `bytes`. */
  fits(lease: Lease, bytes: number): boolean;
}

/** Of an arena, what a trial asks. */
interface Tried {
  /** Pages of this size that can be taken now. */
  available(pageBytes: number): number;
  takenOf(slab: number): number;
}

export function createTrial(arena: Tried): Trial {
  /** Pages that would still be taken, of each slab that is touched. */
  const left = new Map<number, number>();
  let emptied = 0;
  /** Slabs of each class that would be empty, and pages of it that would be free, those slabs' included. */
  const gained = new Map<number, { slabs: number; pages: number }>();

  function move(lease: Lease, direction: 1 | -1): void {
    const gain = gained.get(lease.pageBytes) ?? { slabs: 0, pages: 0 };
    gained.set(lease.pageBytes, gain);
    for (const { slab, pages } of lease.slabs()) {
      const before = left.get(slab) ?? arena.takenOf(slab);
      const after = before - direction * pages;
      left.set(slab, after);
      gain.pages += direction * pages;
      const change = after === 0 ? 1 : before === 0 ? -1 : 0;
      gain.slabs += change;
      emptied += change;
    }
  }

  return {
    give: (lease) => move(lease, 1),
    keep: (lease) => move(lease, -1),
    fits(lease, bytes) {
      if (lease.lost) return false;
      const { pageBytes } = lease;
      const gain = gained.get(pageBytes) ?? { slabs: 0, pages: 0 };
      const others = (emptied - gain.slabs) * pagesPerSlab(pageBytes);
      return pagesFor(bytes, pageBytes) - lease.pages <= arena.available(pageBytes) + gain.pages + others;
    },
  };
}
