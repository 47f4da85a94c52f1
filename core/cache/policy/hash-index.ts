// From a 32-bit hash to a small number, in one typed array: open addressing with linear probing, at most half full. What is
// taken out leaves no mark: those behind it move up. The hash's low bits are its place, so it has to be well mixed. Pure.
import { NONE } from './policy.ts';

export class HashIndex {
  /** Hash and number plus one, side by side; 0 is an empty place's. */
  #places = new Int32Array(256);
  #mask = 127;
  #count = 0;

  get count(): number {
    return this.#count;
  }

  get bytes(): number {
    return this.#places.byteLength;
  }

  find(hash: number): number {
    const places = this.#places;
    const mask = this.#mask;
    const key = hash | 0;
    for (let at = key & mask; ; at = (at + 1) & mask) {
      const value = places[2 * at + 1] as number;
      if (value === 0) return NONE;
      if (places[2 * at] === key) return value - 1;
    }
  }

  /** In place of what the hash had. */
  set(hash: number, value: number): void {
    if (2 * this.#count > this.#mask) this.#grow();
    if (this.#put(hash | 0, value + 1)) this.#count++;
  }

  /** What it had; NONE if it was not there. */
  delete(hash: number): number {
    const places = this.#places;
    const mask = this.#mask;
    const key = hash | 0;
    let hole = key & mask;
    while (places[2 * hole + 1] !== 0 && places[2 * hole] !== key) hole = (hole + 1) & mask;
    const found = (places[2 * hole + 1] as number) - 1;
    if (found === NONE) return NONE;
    for (let at = (hole + 1) & mask; places[2 * at + 1] !== 0; at = (at + 1) & mask) {
      const home = (places[2 * at] as number) & mask;
      if (((at - home) & mask) < ((at - hole) & mask)) continue; // would come to lie before its home
      places[2 * hole] = places[2 * at] as number;
      places[2 * hole + 1] = places[2 * at + 1] as number;
      hole = at;
    }
    places[2 * hole + 1] = 0;
    this.#count--;
    return found;
  }

  /** Whether it is new. */
  #put(key: number, value: number): boolean {
    const places = this.#places;
    let at = key & this.#mask;
    while (places[2 * at + 1] !== 0 && places[2 * at] !== key) at = (at + 1) & this.#mask;
    const isNew = places[2 * at + 1] === 0;
    places[2 * at] = key;
    places[2 * at + 1] = value;
    return isNew;
  }

  #grow(): void {
    const before = this.#places;
    this.#places = new Int32Array(2 * before.length);
    this.#mask = before.length - 1;
    for (let at = 0; at < before.length; at += 2)
      if (before[at + 1] !== 0) this.#put(before[at] as number, before[at + 1] as number);
  }
}
