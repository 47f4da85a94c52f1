// Least frequently used leaves first; among equals, the least recently used. As perfect as the memory of the entries: it counts
// uses across stays where they have a past. Pure. Each count is a list, so nothing costs more than in LRU, however many there
// are; counts end where the past's do, and who is used more often than that is among equals.
import type { Entries } from './entries.ts';
import { Lists } from './lists.ts';
import { USES_MAX } from './past.ts';
import { type MayLeave, NONE, type Policy } from './policy.ts';

export function createLfu(entries: Entries): Policy {
  /** The list of those who were used so often, in all their stays. */
  const lists = new Lists(entries, USES_MAX + 1);
  /** Lists that may have somebody, a bit for each. */
  const held = new Int32Array((USES_MAX + 1) >> 5);
  /** No list below has anybody. */
  let least = 0;

  function mark(used: number): void {
    (held[used >> 5] as number) |= 1 << (used & 31);
    if (used < least) least = used;
  }

  function enter(slot: number): void {
    const before = entries.past ? entries.past.uses(entries.hash[slot] as number) : 0;
    const used = Math.min(before + (entries.uses[slot] as number), USES_MAX);
    lists.push(used, slot);
    mark(used);
  }

  function hit(slot: number): void {
    const used = Math.min(lists.of(slot) + 1, USES_MAX);
    lists.move(used, slot);
    mark(used);
  }

  /** The first list from this one on that has somebody; beyond the last if there is none. */
  function listFrom(list: number): number {
    for (let word = list >> 5, from = list & 31; word < held.length; word++, from = 0) {
      for (let bits = (held[word] as number) & (-1 << from); bits !== 0; bits &= bits - 1) {
        const bit = 31 - Math.clz32(bits & -bits);
        if (lists.last(32 * word + bit) !== NONE) return 32 * word + bit;
        (held[word] as number) &= ~(1 << bit);
      }
    }
    return USES_MAX + 1;
  }

  function victim(mayLeave: MayLeave): number {
    least = listFrom(least);
    for (let list = least; list <= USES_MAX; list = listFrom(list + 1)) {
      const slot = lists.coldest(list, mayLeave);
      if (slot !== NONE) return slot;
    }
    return NONE;
  }

  const leave = (slot: number) => lists.take(slot);
  return {
    hit,
    admit: enter,
    adopt: enter,
    victim: (_hash, _bytes, mayLeave) => victim(mayLeave),
    evict: leave,
    remove: leave,
    coldestFirst(visit) {
      for (let list = listFrom(0); list <= USES_MAX; list = listFrom(list + 1)) lists.coldestFirst(list, visit);
    },
  };
}
