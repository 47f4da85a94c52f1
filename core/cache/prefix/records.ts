// What the index knows of a block: sixteen words, one line of the processor's cache, by slot. Slots are small numbers, given out from 0
// on, the last given back first. Records lie in chunks, so that millions more come without a copy of those that are there; a
// block's tokens, which are payload and no index, lie apart in chunks of their own. Pure.
import { NONE } from '../policy/policy.ts';

/** Of a block's name. */
export const HASH_WORDS = 4;

/** Words of a record. */
export const HASH = 0;
/** A slot; below NONE, the root that a first block belongs to. */
export const PARENT = 4;
/** Of those that follow it, the one that came last; and in a ring without an end, who came before and after whom. */
export const CHILD = 5;
export const OLDER = 6;
export const YOUNGER = 7;
/** Blocks before it, in the low 24 bits, and how much it is wanted, in the others. */
export const DEPTH = 8;
/** Below 0 where nobody is. */
export const HOLDERS = 9;
/** The name of the branch that it is on. */
export const BRANCH = 10;
export const USES = 11;
/** Four of 16 bits (uses.ts). */
const WEIGHTS = 12;
/** Of 64 bits. */
const TIME = 14;
export const RECORD_WORDS = 16;

const CHUNK_BITS = 12;
const CHUNK = 2 ** CHUNK_BITS;
const inChunk = (slot: number): number => slot & (CHUNK - 1);

export class Records {
  count = 0;
  readonly blockTokens: number;
  readonly #words: Int32Array[] = [];
  readonly #halves: Uint16Array[] = [];
  readonly #times: Float64Array[] = [];
  readonly #tokens: Int32Array[] = [];
  #given = 0;
  /** The first of those given back, which lead from one to the next by PARENT. */
  #free = NONE;

  constructor(blockTokens: number) {
    this.blockTokens = blockTokens;
  }

  /** All slots are below. */
  get slots(): number {
    return this.#given;
  }

  get bytes(): number {
    return this.#words.length * CHUNK * RECORD_WORDS * 4;
  }

  get tokenBytes(): number {
    return this.#tokens.length * CHUNK * this.blockTokens * 4;
  }

  take(): number {
    this.count++;
    const slot = this.#free;
    if (slot !== NONE) {
      this.#free = this.get(slot, PARENT);
      return slot;
    }
    if (this.#given === this.#words.length * CHUNK) this.#grow();
    return this.#given++;
  }

  give(slot: number): void {
    this.count--;
    this.set(slot, PARENT, this.#free);
    this.set(slot, HOLDERS, -1);
    this.#free = slot;
  }

  get(slot: number, word: number): number {
    return (this.#words[slot >>> CHUNK_BITS] as Int32Array)[RECORD_WORDS * inChunk(slot) + word] as number;
  }

  set(slot: number, word: number, value: number): void {
    (this.#words[slot >>> CHUNK_BITS] as Int32Array)[RECORD_WORDS * inChunk(slot) + word] = value;
  }

  time(slot: number): number {
    return (this.#times[slot >>> CHUNK_BITS] as Float64Array)[(RECORD_WORDS * inChunk(slot) + TIME) / 2] as number;
  }

  setTime(slot: number, time: number): void {
    (this.#times[slot >>> CHUNK_BITS] as Float64Array)[(RECORD_WORDS * inChunk(slot) + TIME) / 2] = time;
  }

  /** Where the slot's weights are: they begin there at `weightsAt`. */
  weights(slot: number): Uint16Array {
    return this.#halves[slot >>> CHUNK_BITS] as Uint16Array;
  }

  weightsAt(slot: number): number {
    return 2 * (RECORD_WORDS * inChunk(slot) + WEIGHTS);
  }

  /** Whether the slot has the name that lies at `at`, and stands behind `place` if that is told. */
  isNamed(slot: number, hashes: Uint32Array, at: number, place: number | undefined): boolean {
    const words = this.#words[slot >>> CHUNK_BITS] as Int32Array;
    const own = RECORD_WORDS * inChunk(slot);
    const differ =
      ((words[own] as number) ^ (hashes[at] as number)) |
      ((words[own + 1] as number) ^ (hashes[at + 1] as number)) |
      ((words[own + 2] as number) ^ (hashes[at + 2] as number)) |
      ((words[own + 3] as number) ^ (hashes[at + 3] as number));
    return differ === 0 && (place === undefined || words[own + PARENT] === place);
  }

  /** Whether the slot's first tokens are these from `at` on, so many. */
  hasTokens(slot: number, tokens: Int32Array, at: number, count: number): boolean {
    const held = this.#tokens[slot >>> CHUNK_BITS] as Int32Array;
    const own = this.blockTokens * inChunk(slot);
    let i = 0;
    for (; i + 4 <= count; i += 4) {
      const first = own + i;
      const other = at + i;
      const differ =
        ((held[first] as number) ^ (tokens[other] as number)) |
        ((held[first + 1] as number) ^ (tokens[other + 1] as number)) |
        ((held[first + 2] as number) ^ (tokens[other + 2] as number)) |
        ((held[first + 3] as number) ^ (tokens[other + 3] as number));
      if (differ !== 0) return false;
    }
    for (; i < count; i++) if (held[own + i] !== tokens[at + i]) return false;
    return true;
  }

  /** A view: what stands there changes when the block has left. */
  tokens(slot: number): Int32Array {
    const own = this.blockTokens * inChunk(slot);
    return (this.#tokens[slot >>> CHUNK_BITS] as Int32Array).subarray(own, own + this.blockTokens);
  }

  #grow(): void {
    const bytes = new ArrayBuffer(CHUNK * RECORD_WORDS * 4);
    this.#words.push(new Int32Array(bytes));
    this.#halves.push(new Uint16Array(bytes));
    this.#times.push(new Float64Array(bytes));
    this.#tokens.push(new Int32Array(CHUNK * this.blockTokens));
  }
}
