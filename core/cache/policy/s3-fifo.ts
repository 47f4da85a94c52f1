// S3-FIFO (Yang et al., SOSP 2023), in bytes: newcomers queue in a small part, a tenth of the room; who was used twice there goes on to
// the main queue, who was not leaves, and comes to the main queue at once if it returns soon. The main queue spares whom was
// used, once for each of at most three uses. Pure.
import type { Entries } from './entries.ts';
import { Ghosts } from './ghosts.ts';
import { grown } from './grown.ts';
import { Lists } from './lists.ts';
import { type MayLeave, NONE, type Policy } from './policy.ts';

const SMALL = 0;
const MAIN = 1;
const SMALL_SHARE = 0.1;
const USES_MAX = 3;
const USES_TO_STAY = 2;

export function createS3Fifo(entries: Entries): Policy {
  const lists = new Lists(entries, 2, true);
  const left = new Ghosts();
  let uses = new Uint8Array(entries.slots);

  function enter(list: number, slot: number): void {
    if (slot >= uses.length) uses = grown(uses, entries.slots);
    uses[slot] = 0;
    lists.push(list, slot);
  }

  function fromSmall(mayLeave: MayLeave): number {
    for (;;) {
      const slot = lists.coldest(SMALL, mayLeave);
      if (slot === NONE || (uses[slot] as number) < USES_TO_STAY) return slot;
      lists.move(MAIN, slot);
    }
  }

  /** Ends: each round takes a use from everybody who may leave, and there are three at most. */
  function fromMain(mayLeave: MayLeave): number {
    for (;;) {
      const slot = lists.coldest(MAIN, mayLeave);
      if (slot === NONE || uses[slot] === 0) return slot;
      (uses[slot] as number)--;
      lists.move(MAIN, slot);
    }
  }

  function victim(mayLeave: MayLeave): number {
    const isSmallFull = (lists.bytes[SMALL] as number) >= SMALL_SHARE * entries.bytesMax;
    const slot = isSmallFull ? fromSmall(mayLeave) : fromMain(mayLeave);
    if (slot !== NONE) return slot;
    return isSmallFull ? fromMain(mayLeave) : emptySmall(mayLeave);
  }

  /** What was used there too goes to the main queue, and can leave from it. */
  function emptySmall(mayLeave: MayLeave): number {
    const slot = fromSmall(mayLeave);
    return slot === NONE ? fromMain(mayLeave) : slot;
  }

  function remember(hash: number, bytes: number): void {
    left.add(hash, bytes);
    while (left.bytesHeld > (1 - SMALL_SHARE) * entries.bytesMax) left.dropOldest();
  }

  return {
    hit(slot) {
      if ((uses[slot] as number) < USES_MAX) (uses[slot] as number)++;
    },
    admit(slot) {
      const hash = entries.hash[slot] as number;
      enter(left.take(hash) ? MAIN : SMALL, slot);
    },
    adopt: (slot) => enter(entries.uses[slot] === 1 ? SMALL : MAIN, slot),
    victim: (_hash, _bytes, mayLeave) => victim(mayLeave),
    evict(slot) {
      if (lists.of(slot) === SMALL) remember(entries.hash[slot] as number, entries.bytes[slot] as number);
      lists.take(slot);
    },
    remove: (slot) => lists.take(slot),
    coldestFirst(visit) {
      lists.coldestFirst(SMALL, visit);
      lists.coldestFirst(MAIN, visit);
    },
    recall: remember,
  };
}
