// Slots by rank, lowest first, the longer unused first among equals: a binary heap that is put in order only when somebody has
// to leave. As a rank only ever rises while its slot is in, one that rose lies too near the top, never too deep: who is on
// top with the rank that it was placed by is the lowest of all. So a hit costs two writes. Pure.
import type { Entries } from './entries.ts';
import { grown } from './grown.ts';
import { type MayLeave, NONE } from './policy.ts';

export class Ranking {
  count = 0;
  readonly #entries: Entries;
  #heap: Int32Array<ArrayBuffer>;
  /** By slot: where it is in the heap. */
  #at: Int32Array<ArrayBuffer>;
  #rank: Float64Array<ArrayBuffer>;
  #used: Float64Array<ArrayBuffer>;
  /** What the heap is ordered by; behind the two above until somebody looks. */
  #placedRank: Float64Array<ArrayBuffer>;
  #placedUsed: Float64Array<ArrayBuffer>;
  #clock = 0;

  constructor(entries: Entries) {
    this.#entries = entries;
    this.#heap = new Int32Array(entries.slots);
    this.#at = new Int32Array(entries.slots);
    this.#rank = new Float64Array(entries.slots);
    this.#used = new Float64Array(entries.slots);
    this.#placedRank = new Float64Array(entries.slots);
    this.#placedUsed = new Float64Array(entries.slots);
  }

  rank(slot: number): number {
    return this.#rank[slot] as number;
  }

  /** Used just now, and of this rank, which is not lower than before. */
  raise(slot: number, rank: number): void {
    this.#rank[slot] = rank;
    this.#used[slot] = ++this.#clock;
  }

  add(slot: number, rank: number): void {
    if (slot >= this.#at.length) this.#grow();
    this.raise(slot, rank);
    this.#insert(slot);
  }

  remove(slot: number): void {
    const at = this.#at[slot] as number;
    const last = this.#heap[--this.count] as number;
    if (last === slot) return;
    this.#put(last, at);
    this.#rise(at);
    this.#sink(this.#at[last] as number);
  }

  /** The lowest who may leave; NONE if nobody may. */
  lowest(mayLeave: MayLeave): number {
    const spared: number[] = [];
    let slot = this.#top();
    for (; slot !== NONE && !mayLeave(slot); slot = this.#top()) {
      this.remove(slot);
      spared.push(slot);
    }
    for (const one of spared) this.#insert(one);
    return slot;
  }

  lowestFirst(visit: (slot: number) => void): void {
    const slots = [...this.#heap.subarray(0, this.count)];
    const [rank, used] = [this.#rank, this.#used];
    const difference = (values: Float64Array, a: number, b: number) => (values[a] as number) - (values[b] as number);
    slots.sort((a, b) => difference(rank, a, b) || difference(used, a, b));
    for (const slot of slots) visit(slot);
  }

  #top(): number {
    while (this.count > 0) {
      const slot = this.#heap[0] as number;
      if (this.#used[slot] === this.#placedUsed[slot]) return slot;
      this.#place(slot);
      this.#sink(0);
    }
    return NONE;
  }

  #insert(slot: number): void {
    this.#place(slot);
    this.#put(slot, this.count++);
    this.#rise(this.count - 1);
  }

  #place(slot: number): void {
    this.#placedRank[slot] = this.#rank[slot] as number;
    this.#placedUsed[slot] = this.#used[slot] as number;
  }

  #put(slot: number, at: number): void {
    this.#heap[at] = slot;
    this.#at[slot] = at;
  }

  #isLower(a: number, b: number): boolean {
    const difference = (this.#placedRank[a] as number) - (this.#placedRank[b] as number);
    return difference < 0 || (difference === 0 && (this.#placedUsed[a] as number) < (this.#placedUsed[b] as number));
  }

  #rise(from: number): void {
    const slot = this.#heap[from] as number;
    let at = from;
    while (at > 0) {
      const parent = this.#heap[(at - 1) >> 1] as number;
      if (!this.#isLower(slot, parent)) break;
      this.#put(parent, at);
      at = (at - 1) >> 1;
    }
    this.#put(slot, at);
  }

  #sink(from: number): void {
    const slot = this.#heap[from] as number;
    let at = from;
    for (let child = 2 * at + 1; child < this.count; child = 2 * at + 1) {
      const right = child + 1;
      if (right < this.count && this.#isLower(this.#heap[right] as number, this.#heap[child] as number)) child = right;
      const lower = this.#heap[child] as number;
      if (!this.#isLower(lower, slot)) break;
      this.#put(lower, at);
      at = child;
    }
    this.#put(slot, at);
  }

  #grow(): void {
    const slots = this.#entries.slots;
    this.#heap = grown(this.#heap, slots);
    this.#at = grown(this.#at, slots);
    this.#rank = grown(this.#rank, slots);
    this.#used = grown(this.#used, slots);
    this.#placedRank = grown(this.#placedRank, slots);
    this.#placedUsed = grown(this.#placedUsed, slots);
  }
}
