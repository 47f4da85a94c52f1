// Greedy dual size frequency (Cherkasova 1998): rank = clock + uses * worth / bytes, where the clock is the rank of the last who left,
// so that what was once dear grows old. The worth of a hit is the objective's. Uses count from the entry's coming. Pure.
import type { Entries } from './entries.ts';
import { grown } from './grown.ts';
import { NONE, type Objective, type Policy } from './policy.ts';
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
  /** By slot: the clock at its last use. Its rank there is settled when it could be the lowest: many uses then cost one move. */
  let used = new Float64Array(entries.slots);
  let clock = 0;

  const rankOf = (slot: number) =>
    (used[slot] as number) +
    ((uses[slot] as number) * worthOf(entries, slot, objective())) / Math.max(1, entries.bytes[slot] as number);

  function enter(slot: number, times: number): void {
    if (slot >= uses.length) {
      uses = grown(uses, entries.slots);
      used = grown(used, entries.slots);
    }
    uses[slot] = times;
    used[slot] = clock;
    ranking.add(slot, rankOf(slot));
  }

  /** Whether it had been used since; never below what it had, as the objective may have changed to one of smaller numbers. */
  function settle(slot: number): boolean {
    const rank = rankOf(slot);
    const isHigher = rank > ranking.rank(slot);
    if (isHigher) ranking.raise(slot, rank);
    return isHigher;
  }

  return {
    hit(slot) {
      (uses[slot] as number)++;
      used[slot] = clock;
    },
    admit: (slot) => enter(slot, 1),
    adopt: (slot) => enter(slot, Math.min(USES_ADOPTED_MAX, entries.uses[slot] as number)),
    victim(_hash, _bytes, mayLeave) {
      for (;;) {
        const slot = ranking.lowest(mayLeave);
        if (slot === NONE || !settle(slot)) return slot;
      }
    },
    evict(slot) {
      clock = Math.max(clock, ranking.rank(slot));
      ranking.remove(slot);
    },
    remove: (slot) => ranking.remove(slot),
    coldestFirst(visit) {
      const slots: number[] = [];
      ranking.lowestFirst((slot) => slots.push(slot));
      for (const slot of slots) settle(slot);
      ranking.lowestFirst(visit);
    },
  };
}
