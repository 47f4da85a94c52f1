// Least recently used leaves first. Pure.
import type { Entries } from './entries.ts';
import { Lists } from './lists.ts';
import type { Policy } from './policy.ts';

export function createLru(entries: Entries): Policy {
  const lists = new Lists(entries, 1);
  const leave = (slot: number) => lists.take(slot);
  const enter = (slot: number) => lists.push(0, slot);
  return {
    hit: (slot) => lists.move(0, slot),
    admit: enter,
    adopt: enter,
    victim: (_hash, _bytes, mayLeave) => lists.coldest(0, mayLeave),
    evict: leave,
    remove: leave,
    coldestFirst: (visit) => lists.coldestFirst(0, visit),
  };
}
