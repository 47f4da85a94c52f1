// ARC (Megiddo and Modha, FAST 2003), in bytes: entries asked for once, and entries asked for again, each in the order of use, and
// the hashes that lately left either. A newcomer who is among them says which of the two should have been larger. Pure.
// The target moves when the newcomer is in, not before room is made for it: asking who would leave must change nothing.
import type { Entries } from './entries.ts';
import { Ghosts } from './ghosts.ts';
import { Lists } from './lists.ts';
import { type MayLeave, NONE, type Policy } from './policy.ts';

const ONCE = 0;
const AGAIN = 1;

export function createArc(entries: Entries): Policy {
  const lists = new Lists(entries, 2, true);
  const left = [new Ghosts(), new Ghosts()] as const;
  /** Share of the room that those asked for once should have. */
  let target = 0;

  /** After a ghost of one list came back, more room for that one: the fewer ghosts it has, the more. */
  const step = (own: number, other: number, bytes: number) => (Math.max(1, other / own) * bytes) / entries.bytesMax;

  function admit(slot: number): void {
    const hash = entries.hash[slot] as number;
    const bytes = entries.bytes[slot] as number;
    const [once, again] = left;
    const onceBytes = once.bytesHeld;
    const againBytes = again.bytesHeld;
    let list = AGAIN;
    if (once.take(hash)) target = Math.min(1, target + step(onceBytes, againBytes, bytes));
    else if (again.take(hash)) target = Math.max(0, target - step(againBytes, onceBytes, bytes));
    else list = ONCE;
    lists.push(list, slot);
    forget();
  }

  function victim(hash: number, mayLeave: MayLeave): number {
    const once = lists.bytes[ONCE] as number;
    const wanted = target * entries.bytesMax;
    const list = once > wanted || (once === wanted && left[AGAIN].has(hash)) ? ONCE : AGAIN;
    const slot = lists.coldest(list, mayLeave);
    return slot === NONE ? lists.coldest(1 - list, mayLeave) : slot;
  }

  function forget(): void {
    const { bytesMax } = entries;
    const [once, again] = left;
    while (once.count > 0 && (lists.bytes[ONCE] as number) + once.bytesHeld > bytesMax) once.dropOldest();
    const others = entries.bytesHeld + once.bytesHeld;
    while (again.count > 0 && others + again.bytesHeld > 2 * bytesMax) again.dropOldest();
  }

  return {
    hit: (slot) => lists.move(AGAIN, slot),
    admit,
    adopt: (slot) => lists.push(entries.uses[slot] === 1 ? ONCE : AGAIN, slot),
    victim: (hash, _bytes, mayLeave) => victim(hash, mayLeave),
    evict(slot) {
      left[lists.of(slot) === ONCE ? ONCE : AGAIN].add(entries.hash[slot] as number, entries.bytes[slot] as number);
      lists.take(slot);
    },
    remove: (slot) => lists.take(slot),
    coldestFirst(visit) {
      lists.coldestFirst(ONCE, visit);
      lists.coldestFirst(AGAIN, visit);
    },
    recall(hash, bytes) {
      left[ONCE].add(hash, bytes);
      forget();
    },
    learnt: () => target,
    learn: (share) => {
      target = share;
    },
  };
}
