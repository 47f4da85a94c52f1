// From a 32-bit hash to a small number, in two typed arrays: open addressing with linear probing, at most half full. What is
// taken out leaves no mark: those behind it move up. The hash's low bits are its place, so it has to be well mixed. Pure.
import { NONE } from './policy.ts';

export class HashIndex {
  #keys = new Uint32Array(128);
  /** The number plus one; 0 is an empty place. */
  #values = new Int32Array(128);
  #count = 0;

  get count(): number {
    return this.#count;
  }

  find(hash: number): number {
    const values = this.#values;
    const keys = this.#keys;
    const mask = values.length - 1;
    for (let at = hash & mask; ; at = (at + 1) & mask) {
      const value = values[at] as number;
      if (value === 0) return NONE;
      if (keys[at] === hash) return value - 1;
    }
  }

  /** In place of what the hash had. */
  set(hash: number, value: number): void {
    if (2 * this.#count >= this.#values.length) this.#grow();
    if (this.#put(hash, value)) this.#count++;
  }

  delete(hash: number): void {
    const values = this.#values;
    const keys = this.#keys;
    const mask = values.length - 1;
    let hole = hash & mask;
    while (values[hole] !== 0 && keys[hole] !== hash) hole = (hole + 1) & mask;
    if (values[hole] === 0) return;
    for (let at = (hole + 1) & mask; values[at] !== 0; at = (at + 1) & mask) {
      const home = (keys[at] as number) & mask;
      if (((at - home) & mask) < ((at - hole) & mask)) continue; // would come to lie before its home
      keys[hole] = keys[at] as number;
      values[hole] = values[at] as number;
      hole = at;
    }
    values[hole] = 0;
    this.#count--;
  }

  /** Whether it is new. */
  #put(hash: number, value: number): boolean {
    const mask = this.#values.length - 1;
    let at = hash & mask;
    while (this.#values[at] !== 0 && this.#keys[at] !== hash) at = (at + 1) & mask;
    const isNew = this.#values[at] === 0;
    this.#keys[at] = hash;
    this.#values[at] = value + 1;
    return isNew;
  }

  #grow(): void {
    const keys = this.#keys;
    const values = this.#values;
    this.#keys = new Uint32Array(2 * keys.length);
    this.#values = new Int32Array(2 * values.length);
    for (let at = 0; at < values.length; at++)
      if (values[at] !== 0) this.#put(keys[at] as number, (values[at] as number) - 1);
  }
}
