// Least frequently used leaves first; among equals, the least recently used. As perfect as the memory of the entries: they count
// uses across stays where they have a past. Pure. Seldom used ones, who come and go, stand in a list for each count, so that neither
// costs more than in LRU; only those used often are ranked in a heap.
import type { Entries } from './entries.ts';
import { Lists } from './lists.ts';
import { type MayLeave, NONE, type Policy } from './policy.ts';
import { Ranking } from './ranking.ts';

/** Used so often, one is ranked; below, the count is the list. */
const OFTEN = 64;

export function createLfu(entries: Entries): Policy {
  const seldom = new Lists(entries, OFTEN);
  const often = new Ranking(entries);

  function enter(slot: number): void {
    const uses = entries.uses[slot] as number;
    if (uses < OFTEN) seldom.push(uses, slot);
    else often.add(slot, uses);
  }

  function leave(slot: number): void {
    if (seldom.of(slot) === NONE) often.remove(slot);
    else seldom.take(slot);
  }

  function hit(slot: number): void {
    const uses = entries.uses[slot] as number;
    if (seldom.of(slot) === NONE) often.raise(slot, uses);
    else if (uses < OFTEN) seldom.move(uses, slot);
    else {
      seldom.take(slot);
      often.add(slot, uses);
    }
  }

  function victim(mayLeave: MayLeave): number {
    for (let uses = 0; uses < OFTEN; uses++) {
      const slot = seldom.coldest(uses, mayLeave);
      if (slot !== NONE) return slot;
    }
    return often.lowest(mayLeave);
  }

  return {
    hit,
    admit: enter,
    adopt: enter,
    victim: (_hash, _bytes, mayLeave) => victim(mayLeave),
    evict: leave,
    remove: leave,
    coldestFirst(visit) {
      for (let uses = 0; uses < OFTEN; uses++) seldom.coldestFirst(uses, visit);
      often.lowestFirst(visit);
    },
  };
}
