// Least frequently used leaves first; among equals, the least recently used. As perfect as the memory of the entries: they count
// uses across stays where they have a past. Pure.
import type { Entries } from './entries.ts';
import type { Policy } from './policy.ts';
import { Ranking } from './ranking.ts';

export function createLfu(entries: Entries): Policy {
  const ranking = new Ranking(entries);
  const leave = (slot: number) => ranking.remove(slot);
  const enter = (slot: number) => ranking.add(slot, entries.uses[slot] as number);
  return {
    hit: (slot) => ranking.raise(slot, entries.uses[slot] as number),
    admit: enter,
    adopt: enter,
    victim: (_hash, _bytes, mayLeave) => ranking.lowest(mayLeave),
    evict: leave,
    remove: leave,
    coldestFirst: (visit) => ranking.lowestFirst(visit),
  };
}
