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
  /** By place in the heap, what it is ordered by; behind the two above until somebody looks. */
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
    const last = --this.count;
    if (at === last) return;
    const moved = this.#heap[last] as number;
    const rank = this.#placedRank[last] as number;
    const used = this.#placedUsed[last] as number;
    if (at > 0 && this.#isLower(rank, used, (at - 1) >> 1)) this.#rise(at, moved, rank, used);
    else this.#sink(at, moved, rank, used);
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
      if (this.#used[slot] === this.#placedUsed[0]) return slot;
      this.#sink(0, slot, this.#rank[slot] as number, this.#used[slot] as number);
    }
    return NONE;
  }

  #insert(slot: number): void {
    this.#rise(this.count++, slot, this.#rank[slot] as number, this.#used[slot] as number);
  }

  #put(at: number, slot: number, rank: number, used: number): void {
    this.#heap[at] = slot;
    this.#placedRank[at] = rank;
    this.#placedUsed[at] = used;
    this.#at[slot] = at;
  }

  /** To another place, with what it was placed by. */
  #shift(from: number, to: number): void {
    this.#put(to, this.#heap[from] as number, this.#placedRank[from] as number, this.#placedUsed[from] as number);
  }

  #isLower(rank: number, used: number, at: number): boolean {
    const other = this.#placedRank[at] as number;
    return rank < other || (rank === other && used < (this.#placedUsed[at] as number));
  }

  #rise(from: number, slot: number, rank: number, used: number): void {
    let at = from;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!this.#isLower(rank, used, parent)) break;
      this.#shift(parent, at);
      at = parent;
    }
    this.#put(at, slot, rank, used);
  }

  #sink(from: number, slot: number, rank: number, used: number): void {
    let at = from;
    for (let child = 2 * at + 1; child < this.count; child = 2 * at + 1) {
      const right = child + 1;
      if (
        right < this.count &&
        this.#isLower(this.#placedRank[right] as number, this.#placedUsed[right] as number, child)
      )
        child = right;
      if (this.#isLower(rank, used, child)) break;
      this.#shift(child, at);
      at = child;
    }
    this.#put(at, slot, rank, used);
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
