// SIEVE (Zhang et al., NSDI 2024): a queue in the order of coming, and a hand that goes from the oldest to the youngest: whoever was
// used since it last came by is spared once, the first who was not leaves. Nobody moves. Pure.
import type { Entries } from './entries.ts';
import { grown } from './grown.ts';
import { Lists } from './lists.ts';
import { type MayLeave, NONE, type Policy } from './policy.ts';

export function createSieve(entries: Entries): Policy {
  const lists = new Lists(entries, 1);
  let used = new Uint8Array(entries.slots);
  /** Where the next search begins; NONE: at the oldest. */
  let hand = NONE;

  function enter(slot: number): void {
    if (slot >= used.length) used = grown(used, entries.slots);
    used[slot] = 0;
    lists.push(0, slot);
  }

  function leave(slot: number): void {
    if (hand === slot) hand = lists.hotter(slot);
    lists.take(slot);
  }

  /** One round may spare everybody; if the second finds none, nobody may leave. */
  function search(mayLeave: MayLeave): number {
    for (let steps = 2 * entries.count; steps >= 0; steps--) {
      if (hand === NONE) hand = lists.last(0);
      if (hand === NONE) return NONE;
      if (mayLeave(hand)) {
        if (used[hand] === 0) return hand;
        used[hand] = 0;
      }
      hand = lists.hotter(hand);
    }
    return NONE;
  }

  return {
    hit(slot) {
      used[slot] = 1;
    },
    admit: enter,
    adopt: enter,
    victim: (_hash, _bytes, mayLeave) => search(mayLeave),
    evict: leave,
    remove: leave,
    coldestFirst(visit) {
      for (const round of [0, 1]) lists.coldestFirst(0, (slot) => used[slot] === round && visit(slot));
    },
  };
}
