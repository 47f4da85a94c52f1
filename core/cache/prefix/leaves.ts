// The leaves of a tree by rank, lowest first: a binary heap that is put in order only when one has to leave. A rank only ever rises while
// its block is used, and a leaf may become an inner block or be held: nothing of that is told to the heap. One that rose lies too
// near the top, never too deep, and one that may not leave is taken out when it comes to the top; whoever makes it free again
// adds it again. So a hit costs the heap nothing. Pure.
import { grown } from '../policy/grown.ts';
import { NONE } from '../policy/policy.ts';

/** By slot: its place in a heap plus one; 0 if it is in none. Heaps that no slot is in two of may share it. */
export interface Places {
  of: Int32Array<ArrayBuffer>;
}

export interface LeavesOptions {
  readonly places?: Places;
  rank(slot: number): number;
  /** Whether it is a leaf that nobody holds. */
  isFree(slot: number): boolean;
}

export class Leaves {
  count = 0;
  readonly #options: LeavesOptions;
  #heap = new Int32Array(64);
  /** By place in the heap: what it is ordered by; behind the rank until somebody looks. */
  #ranks = new Float64Array(64);
  readonly #places: Places;

  constructor(options: LeavesOptions) {
    this.#options = options;
    this.#places = options.places ?? { of: new Int32Array(64) };
  }

  /** Without the places. */
  get bytes(): number {
    return this.#heap.byteLength + this.#ranks.byteLength;
  }

  /** In, if it was not. */
  add(slot: number): void {
    const places = this.#places;
    if (slot >= places.of.length) places.of = grown(places.of, slot + 1);
    if (places.of[slot] !== 0) return;
    if (this.count === this.#heap.length) this.#grow();
    this.#rise(this.count++, slot, this.#options.rank(slot));
  }

  /** Out, if it was in. */
  remove(slot: number): void {
    const at = (this.#places.of[slot] ?? 0) - 1;
    if (at < 0) return;
    this.#places.of[slot] = 0;
    const last = --this.count;
    if (at === last) return;
    const moved = this.#heap[last] as number;
    const rank = this.#ranks[last] as number;
    if (at > 0 && rank < (this.#ranks[(at - 1) >> 1] as number)) this.#rise(at, moved, rank);
    else this.#sink(at, moved, rank);
  }

  /** The lowest that is free; NONE if there is none. */
  lowest(): number {
    while (this.count > 0) {
      const slot = this.#heap[0] as number;
      if (!this.#options.isFree(slot)) {
        this.remove(slot);
        continue;
      }
      const rank = this.#options.rank(slot);
      if (rank <= (this.#ranks[0] as number)) return slot;
      this.#sink(0, slot, rank);
    }
    return NONE;
  }

  /** Ranks mean something else from now on. */
  rankAnew(): void {
    for (let at = 0; at < this.count; at++) this.#ranks[at] = this.#options.rank(this.#heap[at] as number);
    for (let at = (this.count >> 1) - 1; at >= 0; at--)
      this.#sink(at, this.#heap[at] as number, this.#ranks[at] as number);
  }

  #put(at: number, slot: number, rank: number): void {
    this.#heap[at] = slot;
    this.#ranks[at] = rank;
    this.#places.of[slot] = at + 1;
  }

  #rise(from: number, slot: number, rank: number): void {
    let at = from;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (rank >= (this.#ranks[parent] as number)) break;
      this.#put(at, this.#heap[parent] as number, this.#ranks[parent] as number);
      at = parent;
    }
    this.#put(at, slot, rank);
  }

  #sink(from: number, slot: number, rank: number): void {
    let at = from;
    for (let child = 2 * at + 1; child < this.count; child = 2 * at + 1) {
      if (child + 1 < this.count && (this.#ranks[child + 1] as number) < (this.#ranks[child] as number)) child++;
      if (rank <= (this.#ranks[child] as number)) break;
      this.#put(at, this.#heap[child] as number, this.#ranks[child] as number);
      at = child;
    }
    this.#put(at, slot, rank);
  }

  /** By a quarter: of an index of millions twice as much would be a lot that nobody uses. */
  #grow(): void {
    const length = Math.ceil(1.25 * this.#heap.length);
    const [heap, ranks] = [this.#heap, this.#ranks];
    this.#heap = new Int32Array(length);
    this.#ranks = new Float64Array(length);
    this.#heap.set(heap);
    this.#ranks.set(ranks);
  }
}
