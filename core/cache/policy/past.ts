// How often keys had been asked for that are not held any more, and who left last. Pure. A key is one word: twenty bits of its hash, and
// its uses up to 4095; eight words are a group, within one line of the processor's cache, and the hash's low bits say which, so a
// look costs one miss. Where a group is full, the one that was used least gives way; the table doubles as it fills, up to
// `keysMax`; as long as nobody has left there is none, as there are many small caches from which nobody ever does. Who left last
// stands in a ring that has as many places as the cache has ever had.
import type { Entries } from './entries.ts';

const GROUP = 8;
const FULL = 0.5;
const USES_BITS = 12;
export const USES_MAX = 2 ** USES_BITS - 1;
/** So many that a word and its group make the whole hash, which a larger table places it by. */
const GROUPS_MIN = 2 ** USES_BITS;

/** What stands in a word: the hash's high bits; its low ones are the group's. */
const tagOf = (hash: number): number => hash >>> USES_BITS;

export class Past {
  readonly #wordsMax: number;
  /** 0 where nobody is: whoever left was used once at least. */
  #words = new Int32Array(0);
  #count = 0;
  /** Doubled with the slots, so a power of two. */
  #leftHash = new Int32Array(64);
  #leftBytes = new Float64Array(64);
  #left = 0;

  constructor(keysMax: number) {
    this.#wordsMax = keysMax;
  }

  /** In all stays that are over; 0 if it is not remembered. */
  uses(hash: number): number {
    const words = this.#words;
    if (words.length === 0) return 0;
    const start = this.#groupOf(hash);
    const tag = tagOf(hash);
    for (let at = start; at < start + GROUP; at++) {
      const word = words[at] as number;
      if (word === 0) return 0;
      if (word >>> USES_BITS === tag) return word & USES_MAX;
    }
    return 0;
  }

  /** One leaves `among` these, after so many uses. */
  leave(hash: number, bytes: number, uses: number, among: Entries): void {
    if (this.#words.length === 0) this.#words = new Int32Array(GROUPS_MIN * GROUP);
    this.#put(this.#groupOf(hash), tagOf(hash), uses);
    if (this.#count > FULL * this.#words.length && this.#words.length < this.#wordsMax) this.#grow();
    if (among.slots > this.#leftHash.length) this.#lengthen(among.slots);
    const at = this.#left++ & (this.#leftHash.length - 1);
    this.#leftHash[at] = hash;
    this.#leftBytes[at] = bytes;
  }

  /** Those who left last and have so many bytes together, the one who left first at the beginning. */
  latest(bytesMax: number, visit: (hash: number, bytes: number) => void): void {
    const last = this.#leftHash.length - 1;
    let first = this.#left;
    for (let bytes = 0; first > 0 && this.#left - first <= last; first--) {
      bytes += this.#leftBytes[(first - 1) & last] as number;
      if (bytes > bytesMax) break;
    }
    for (; first < this.#left; first++)
      visit(this.#leftHash[first & last] as number, this.#leftBytes[first & last] as number);
  }

  #groupOf(hash: number): number {
    return (hash & (this.#words.length / GROUP - 1)) * GROUP;
  }

  /** So many uses more. */
  #put(start: number, tag: number, uses: number): void {
    const words = this.#words;
    let place = start;
    let least = USES_MAX + 1;
    for (let at = start; at < start + GROUP; at++) {
      const word = words[at] as number;
      if (word === 0) this.#count++;
      if (word === 0 || word >>> USES_BITS === tag) {
        words[at] = (tag << USES_BITS) | Math.min((word & USES_MAX) + uses, USES_MAX);
        return;
      }
      if ((word & USES_MAX) >= least) continue;
      least = word & USES_MAX;
      place = at;
    }
    words[place] = (tag << USES_BITS) | Math.min(uses, USES_MAX);
  }

  #grow(): void {
    const before = this.#words;
    this.#words = new Int32Array(2 * before.length);
    this.#count = 0;
    for (let at = 0; at < before.length; at++) {
      const word = before[at] as number;
      if (word === 0) continue;
      const hash = ((word >>> USES_BITS) << USES_BITS) | (Math.floor(at / GROUP) & USES_MAX);
      this.#put(this.#groupOf(hash), tagOf(hash), word & USES_MAX);
    }
  }

  /** The oldest to the front, so that places go on counting from there. */
  #lengthen(slots: number): void {
    const before = this.#leftHash.length;
    const leftHash = new Int32Array(slots);
    const leftBytes = new Float64Array(slots);
    const count = Math.min(this.#left, before);
    for (let i = 0; i < count; i++) {
      const from = (this.#left - count + i) & (before - 1);
      leftHash[i] = this.#leftHash[from] as number;
      leftBytes[i] = this.#leftBytes[from] as number;
    }
    this.#leftHash = leftHash;
    this.#leftBytes = leftBytes;
    this.#left = count;
  }
}
