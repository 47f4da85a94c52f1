// A cache without content: it says of each request whether a cache of so many bytes under this policy would have had it. Shadows of the
// adaptive policy and benchmarks are trials. Pure. Keys are told apart by their 32-bit hash alone.
// Never holds more than `entries.bytesMax`; what is larger than that is not taken.
import type { Entries } from './entries.ts';
import { HashIndex } from './hash-index.ts';
import { NONE, type Policy } from './policy.ts';

export interface Trial {
  readonly entries: Entries;
  readonly policy: Policy;
  /** Whether it was there; if not, it is from now on. */
  ask(hash: number, bytes: number, cost: number): boolean;
  /** From now on only keys whose hash has none of these bits are asked for, and there is so much room for them. */
  restrict(hashBits: number, bytesMax: number): void;
}

const anyone = () => true;

export function createTrial(entries: Entries, policy: Policy): Trial {
  const index = new HashIndex();

  function evict(slot: number): void {
    policy.evict(slot);
    index.delete(entries.hash[slot] as number);
    entries.drop(slot, true);
  }

  function makeRoom(hash: number, bytes: number): void {
    while (entries.bytesHeld + bytes > entries.bytesMax) {
      const slot = policy.victim(hash, bytes, anyone);
      if (slot === NONE) throw new Error(`the policy names nobody, and ${entries.count} entries are held`);
      evict(slot);
    }
  }

  return {
    entries,
    policy,
    ask(hash, bytes, cost) {
      const held = index.find(hash);
      if (held !== NONE) {
        entries.use(held);
        policy.hit(held);
        return true;
      }
      if (bytes > entries.bytesMax) return false;
      makeRoom(hash, bytes);
      const slot = entries.add(hash, bytes, cost);
      index.set(hash, slot);
      policy.admit(slot);
      return false;
    },
    restrict(hashBits, bytesMax) {
      const others: number[] = [];
      policy.coldestFirst((slot) => ((entries.hash[slot] as number) & hashBits) !== 0 && others.push(slot));
      for (const slot of others) {
        policy.remove(slot);
        index.delete(entries.hash[slot] as number);
        entries.drop(slot, false);
      }
      entries.bytesMax = bytesMax;
      makeRoom(0, 0);
    },
  };
}
