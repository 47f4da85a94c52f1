// Who is held, by slot: a small number that stands for an entry as long as it stays. Sizes, costs and uses lie in typed
// arrays, no object for each. Pure bookkeeping, shared by a cache, its policy, and the policy that takes over from it.
// The uses of a stay outlive it, in `past`, for about `pastMax` keys that were evicted: what "perfect" means in perfect LFU.
// `hash` is the key's identity for whatever outlives a stay: 32 bits, well mixed. Two keys of one hash blur what is
// remembered of them, never what is held. Slots are given out from 0 on, the last given back first.
import { grown } from './grown.ts';
import { Past } from './past.ts';

export class Entries {
  /** May change at any time; the policy's shares follow. */
  bytesMax: number;
  /** The sum over all who are held. */
  bytesHeld = 0;
  count = 0;
  /** Signed: a number beyond 2^31 would be an object to the engine wherever it is passed on. */
  hash = new Int32Array(64);
  bytes = new Float64Array(64);
  cost = new Float64Array(64);
  /** In this stay. */
  uses = new Uint32Array(64);
  readonly past: Past | undefined;
  #free = new Int32Array(64);
  #freeCount = 0;
  #given = 0;

  constructor(bytesMax: number, pastMax = 0) {
    this.bytesMax = bytesMax;
    this.past = pastMax > 0 ? new Past(pastMax) : undefined;
  }

  /** All slots are below. */
  get slots(): number {
    return this.hash.length;
  }

  add(hash: number, bytes: number, cost: number): number {
    const slot = this.#freeCount > 0 ? (this.#free[--this.#freeCount] as number) : this.#given++;
    if (slot >= this.hash.length) this.#grow(slot + 1);
    this.hash[slot] = hash;
    this.bytes[slot] = bytes;
    this.cost[slot] = cost;
    this.uses[slot] = 1;
    this.bytesHeld += bytes;
    this.count++;
    return slot;
  }

  use(slot: number): void {
    (this.uses[slot] as number)++;
  }

  /** Evicted ones are remembered, others are not. */
  drop(slot: number, evicted: boolean): void {
    const bytes = this.bytes[slot] as number;
    if (evicted && this.past) this.past.leave(this.hash[slot] as number, bytes, this.uses[slot] as number, this);
    this.bytesHeld -= bytes;
    this.count--;
    this.#free[this.#freeCount++] = slot;
  }

  #grow(slots: number): void {
    this.hash = grown(this.hash, slots);
    this.bytes = grown(this.bytes, slots);
    this.cost = grown(this.cost, slots);
    this.uses = grown(this.uses, slots);
    this.#free = grown(this.#free, slots);
  }
}
