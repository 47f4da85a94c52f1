// How often keys had been asked for that are not held any more, and who left last. Pure. A key is one word: twenty bits of its hash, and
// its uses up to 4095; eight words are a group, within one line of the processor's cache, and the hash's low bits say which, so a
// look costs one miss. Where a group is full, the one that was used least gives way; the table doubles as it fills, up to
// `keysMax`. Who left last stands in a ring that has as many places as the cache has ever had.
import type { Entries } from './entries.ts';

const GROUP = 8;
const FULL = 0.5;
const USES_BITS = 12;
const USES_MAX = 2 ** USES_BITS - 1;
/** So many that a word and its group make the whole hash, which a larger table places it by. */
const GROUPS_MIN = 2 ** USES_BITS;

/** What stands in a word: the hash's high bits; its low ones are the group's. */
const tagOf = (hash: number): number => hash >>> USES_BITS;

export class Past {
  readonly #wordsMax: number;
  /** 0 where nobody is: whoever left was used once at least. */
  #words = new Uint32Array(GROUPS_MIN * GROUP);
  #count = 0;
  /** Doubled with the slots, so a power of two. */
  #leftHash = new Uint32Array(64);
  #leftBytes = new Float64Array(64);
  #left = 0;

  constructor(keysMax: number) {
    this.#wordsMax = keysMax;
  }

  /** 0 if it is not remembered. */
  uses(hash: number): number {
    const words = this.#words;
    const start = this.#groupOf(hash);
    const tag = tagOf(hash);
    for (let at = start; at < start + GROUP; at++) {
      const word = words[at] as number;
      if (word === 0) return 0;
      if (word >>> USES_BITS === tag) return word & USES_MAX;
    }
    return 0;
  }

  /** One leaves `among` these. */
  leave(hash: number, bytes: number, uses: number, among: Entries): void {
    this.#put(this.#groupOf(hash), (tagOf(hash) << USES_BITS) | Math.min(uses, USES_MAX));
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

  #put(start: number, word: number): void {
    const words = this.#words;
    let least = start;
    for (let at = start; at < start + GROUP; at++) {
      const other = words[at] as number;
      if (other === 0) this.#count++;
      if (other === 0 || other >>> USES_BITS === word >>> USES_BITS) {
        words[at] = word;
        return;
      }
      if ((other & USES_MAX) < ((words[least] as number) & USES_MAX)) least = at;
    }
    words[least] = word;
  }

  #grow(): void {
    const before = this.#words;
    this.#words = new Uint32Array(2 * before.length);
    this.#count = 0;
    for (let at = 0; at < before.length; at++) {
      const word = before[at] as number;
      if (word === 0) continue;
      const hash = ((word >>> USES_BITS) << USES_BITS) | (Math.floor(at / GROUP) & USES_MAX);
      this.#put(this.#groupOf(hash), word);
    }
  }

  /** The oldest to the front, so that places go on counting from there. */
  #lengthen(slots: number): void {
    const before = this.#leftHash.length;
    const leftHash = new Uint32Array(slots);
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
