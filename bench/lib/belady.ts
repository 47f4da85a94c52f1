// The most hits that any policy could have: who is asked for last leaves first (Belady 1966), and nobody is kept who is not asked for
// again. Exact where all entries have one size. Where they have not, that is a hard problem: then it is who has the most bytes times
// requests to wait, of 64 at random, which is close to the best known and no proven limit.
import type { Trace } from './traces.ts';

const SAMPLE = 64;
const NEVER = 2 ** 31 - 1;

/** For each request, whether it is a hit. */
export function belady({ keys, bytes, distinct }: Trace, bytesMax: number): Uint8Array {
  const next = nextUses(keys, distinct);
  return bytes ? sampled(keys, next, bytes, bytesMax) : exact(keys, next, distinct, bytesMax);
}

function nextUses(keys: Uint32Array, distinct: number): Int32Array {
  const next = new Int32Array(keys.length);
  const later = new Int32Array(distinct).fill(NEVER);
  for (let i = keys.length - 1; i >= 0; i--) {
    const key = keys[i] ?? 0;
    next[i] = later[key] ?? NEVER;
    later[key] = i;
  }
  return next;
}

/** A heap of next uses, latest first; what is not the next use of its key any more is passed over. */
function exact(keys: Uint32Array, next: Int32Array, distinct: number, entriesMax: number): Uint8Array {
  const hits = new Uint8Array(keys.length);
  const nextOf = new Int32Array(distinct).fill(-1);
  const heap = new Int32Array(keys.length + 1);
  let size = 0;
  let held = 0;
  const push = (use: number) => {
    let at = size++;
    for (; at > 0 && (heap[(at - 1) >> 1] ?? 0) < use; at = (at - 1) >> 1) heap[at] = heap[(at - 1) >> 1] ?? 0;
    heap[at] = use;
  };
  const pop = (): number => {
    const top = heap[0] ?? 0;
    const last = heap[--size] ?? 0;
    let at = 0;
    for (let child = 1; child < size; child = 2 * at + 1) {
      if (child + 1 < size && (heap[child + 1] ?? 0) > (heap[child] ?? 0)) child++;
      if ((heap[child] ?? 0) <= last) break;
      heap[at] = heap[child] ?? 0;
      at = child;
    }
    heap[at] = last;
    return top;
  };
  for (let i = 0; i < keys.length; i++) {
    const key = keys[i] ?? 0;
    const use = next[i] ?? NEVER;
    if (nextOf[key] === i) {
      hits[i] = 1;
      held--;
    }
    nextOf[key] = -1;
    if (use === NEVER) continue;
    nextOf[key] = use;
    push(use);
    held++;
    while (held > entriesMax) {
      const leaving = pop();
      const one = keys[leaving] ?? 0;
      if (leaving <= i || nextOf[one] !== leaving) continue;
      nextOf[one] = -1;
      held--;
    }
  }
  return hits;
}

function sampled(keys: Uint32Array, next: Int32Array, bytes: Float64Array, bytesMax: number): Uint8Array {
  const hits = new Uint8Array(keys.length);
  const held: number[] = [];
  const at = new Int32Array(bytes.length).fill(-1);
  const nextOf = new Int32Array(bytes.length);
  let bytesHeld = 0;
  let state = 88_172_645;
  const random = () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
  const leave = (key: number) => {
    const last = held.pop() ?? key;
    if (last !== key) {
      held[at[key] ?? 0] = last;
      at[last] = at[key] ?? 0;
    }
    at[key] = -1;
    bytesHeld -= bytes[key] ?? 0;
  };
  const worst = (now: number) => {
    let [found, most] = [held[0] ?? 0, -1];
    for (let i = 0; i < SAMPLE; i++) {
      const key = held[random() % held.length] ?? 0;
      const wait = ((nextOf[key] ?? 0) - now) * (bytes[key] ?? 0);
      if (wait > most) [found, most] = [key, wait];
    }
    return found;
  };
  for (let i = 0; i < keys.length; i++) {
    const key = keys[i] ?? 0;
    const use = next[i] ?? NEVER;
    const own = bytes[key] ?? 0;
    nextOf[key] = use;
    if ((at[key] ?? -1) >= 0) {
      hits[i] = 1;
      if (use === NEVER) leave(key);
    } else if (use !== NEVER && own <= bytesMax) {
      at[key] = held.push(key) - 1;
      bytesHeld += own;
      while (bytesHeld > bytesMax) leave(worst(i));
    }
  }
  return hits;
}
