// Slots by rank, lowest first, the longer unused first among equals: a radix heap. Slots stand in lists by the highest of the sixteen
// digits in which their rank, a double not below zero, differs from the lowest one, and by that digit. Only the lowest list is ever
// looked into: when the slots of the lowest rank are gone, its own are spread over lower lists, at most once for each digit.
// So coming, going and rising cost a few writes, however many there are; a rank below the lowest one costs a look at all. Pure.
import type { Entries } from './entries.ts';
import { grown } from './grown.ts';
import { Lists } from './lists.ts';
import { type MayLeave, NONE } from './policy.ts';

const DIGITS = 16;
const DIGIT_BITS = 4;
const BASE = 2 ** DIGIT_BITS;
/** The list of those who have the lowest rank; list 1 + 16 * digit + value has those who differ there. */
const LOWEST = 0;

const double = new Float64Array(1);
const words = new Uint32Array(double.buffer);
double[0] = 1;
const HIGH = words[0] === 0 ? 1 : 0;

const lowestBit = (mask: number): number => 31 - Math.clz32(mask & -mask);

export class Ranking {
  readonly #lists: Lists;
  readonly #entries: Entries;
  #rank: Float64Array<ArrayBuffer>;
  #lowest = 0;
  #lowestHigh = 0;
  #lowestLow = 0;
  /** Lists that may have somebody: a bit for each digit, and for each value of each. */
  #digits = 0;
  readonly #values = new Uint32Array(DIGITS);

  constructor(entries: Entries) {
    this.#entries = entries;
    this.#lists = new Lists(entries, 1 + DIGITS * BASE);
    this.#rank = new Float64Array(entries.slots);
  }

  rank(slot: number): number {
    return this.#rank[slot] as number;
  }

  /** Used just now, and of this rank. */
  raise(slot: number, rank: number): void {
    this.#rank[slot] = rank;
    this.#lists.move(this.#listOf(rank), slot);
  }

  add(slot: number, rank: number): void {
    if (slot >= this.#rank.length) this.#rank = grown(this.#rank, this.#entries.slots);
    this.#rank[slot] = rank;
    this.#lists.push(this.#listOf(rank), slot);
  }

  remove(slot: number): void {
    this.#lists.take(slot);
  }

  /** The lowest who may leave; NONE if nobody may. */
  lowest(mayLeave: MayLeave): number {
    if (this.#lists.last(LOWEST) === NONE) this.#advance();
    const slot = this.#lists.coldest(LOWEST, mayLeave);
    return slot === NONE ? this.#lowestOfOthers(mayLeave) : slot;
  }

  lowestFirst(visit: (slot: number) => void): void {
    const slots: number[] = [];
    for (let list = LOWEST; list <= DIGITS * BASE; list++) this.#lists.coldestFirst(list, (slot) => slots.push(slot));
    slots.sort((a, b) => this.rank(a) - this.rank(b));
    for (const slot of slots) visit(slot);
  }

  #listOf(rank: number): number {
    if (rank < this.#lowest) this.#begin(rank);
    double[0] = rank;
    const high = words[HIGH] as number;
    const low = words[1 - HIGH] as number;
    const isHigh = high !== this.#lowestHigh;
    const difference = isHigh ? high ^ this.#lowestHigh : low ^ this.#lowestLow;
    if (difference === 0) return LOWEST;
    const digitOfWord = (31 - Math.clz32(difference)) >> 2;
    const value = ((isHigh ? high : low) >>> (DIGIT_BITS * digitOfWord)) & (BASE - 1);
    const digit = isHigh ? digitOfWord + DIGITS / 2 : digitOfWord;
    this.#digits |= 1 << digit;
    (this.#values[digit] as number) |= 1 << value;
    return 1 + BASE * digit + value;
  }

  #setLowest(rank: number): void {
    double[0] = this.#lowest = rank;
    this.#lowestHigh = words[HIGH] as number;
    this.#lowestLow = words[1 - HIGH] as number;
  }

  /** The lowest list but `LOWEST` that has somebody, or that one. */
  #lowestList(): number {
    for (; this.#digits !== 0; this.#digits &= this.#digits - 1) {
      const digit = lowestBit(this.#digits);
      for (let values = this.#values[digit] as number; values !== 0; values &= values - 1) {
        const list = 1 + BASE * digit + lowestBit(values);
        this.#values[digit] = values;
        if (this.#lists.last(list) !== NONE) return list;
      }
      this.#values[digit] = 0;
    }
    return LOWEST;
  }

  /** The lowest rank is another: those of its list stand in lower ones from now on. */
  #advance(): void {
    const list = this.#lowestList();
    if (list === LOWEST) return;
    let lowest = Number.POSITIVE_INFINITY;
    for (let slot = this.#lists.last(list); slot !== NONE; slot = this.#lists.hotter(slot))
      lowest = Math.min(lowest, this.rank(slot));
    this.#setLowest(lowest);
    for (let slot = this.#lists.last(list); slot !== NONE; slot = this.#lists.last(list))
      this.#lists.move(this.#listOf(this.rank(slot)), slot);
  }

  /** Those of the lowest rank may not leave, and stay where they are. */
  #lowestOfOthers(mayLeave: MayLeave): number {
    for (let list = LOWEST + 1; list <= DIGITS * BASE; list++) {
      let found = NONE;
      for (let slot = this.#lists.last(list); slot !== NONE; slot = this.#lists.hotter(slot))
        if ((found === NONE || this.rank(slot) < this.rank(found)) && mayLeave(slot)) found = slot;
      if (found !== NONE) return found;
    }
    return NONE;
  }

  /** Anew, from a rank below all others. */
  #begin(rank: number): void {
    const slots: number[] = [];
    this.lowestFirst((slot) => slots.push(slot));
    this.#setLowest(rank);
    for (const slot of slots) this.#lists.move(this.#listOf(this.rank(slot)), slot);
  }
}
