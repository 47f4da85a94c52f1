// Greedy dual size frequency (Cherkasova 1998): rank = clock + uses * worth / bytes, where the clock is the rank of the last who left,
// so that what was once dear grows old. The worth of a hit is the objective's. Uses count from the entry's coming. Pure.
import type { Entries } from './entries.ts';
import { grown } from './grown.ts';
import type { Objective, Policy } from './policy.ts';
import { Ranking } from './ranking.ts';

/** What one use under another policy may count for at most: its clock stood still there. */
const USES_ADOPTED_MAX = 15;

/** By which an entry's bytes are worth their room. */
export function worthOf(entries: Entries, slot: number, objective: Objective): number {
  if (objective === 'bytes') return entries.bytes[slot] as number;
  return objective === 'cost' ? (entries.cost[slot] as number) : 1;
}

export function createGdsf(entries: Entries, objective: () => Objective): Policy {
  const ranking = new Ranking(entries);
  let uses = new Uint32Array(entries.slots);
  let clock = 0;

  const rankOf = (slot: number) =>
    clock + ((uses[slot] as number) * worthOf(entries, slot, objective())) / Math.max(1, entries.bytes[slot] as number);

  function enter(slot: number, used: number): void {
    if (slot >= uses.length) uses = grown(uses, entries.slots);
    uses[slot] = used;
    ranking.add(slot, rankOf(slot));
  }

  return {
    hit(slot) {
      (uses[slot] as number)++;
      // Not below what it had: the objective may have changed to one of smaller numbers.
      ranking.raise(slot, Math.max(ranking.rank(slot), rankOf(slot)));
    },
    admit: (slot) => enter(slot, 1),
    adopt: (slot) => enter(slot, Math.min(USES_ADOPTED_MAX, entries.uses[slot] as number)),
    victim: (_hash, _bytes, mayLeave) => ranking.lowest(mayLeave),
    evict(slot) {
      clock = Math.max(clock, ranking.rank(slot));
      ranking.remove(slot);
    },
    remove: (slot) => ranking.remove(slot),
    coldestFirst: (visit) => ranking.lowestFirst(visit),
  };
}
