// Those who were evicted, by hash, oldest first and with their sizes. Whoever owns them bounds them (`dropOldest`). One who comes again is the youngest. Pure; typed arrays, no object for each.
import { grown } from './grown.ts';
import { HashIndex } from './hash-index.ts';
import { NONE } from './policy.ts';

export class Ghosts {
  bytesHeld = 0;
  readonly #index = new HashIndex();
  #hash = new Uint32Array(64);
  #bytes = new Float64Array(64);
  /** Towards the younger, and for what is free, to the next free one. */
  #younger = new Int32Array(64);
  #older = new Int32Array(64);
  #oldest = NONE;
  #youngest = NONE;
  #free = NONE;
  #given = 0;

  get count(): number {
    return this.#index.count;
  }

  has(hash: number): boolean {
    return this.#index.find(hash) !== NONE;
  }

  add(hash: number, bytes: number): void {
    this.take(hash);
    const ghost = this.#place();
    this.#hash[ghost] = hash;
    this.#bytes[ghost] = bytes;
    this.#younger[ghost] = NONE;
    this.#older[ghost] = this.#youngest;
    if (this.#youngest === NONE) this.#oldest = ghost;
    else this.#younger[this.#youngest] = ghost;
    this.#youngest = ghost;
    this.#index.set(hash, ghost);
    this.bytesHeld += bytes;
  }

  /** Forgets it; whether it was there. */
  take(hash: number): boolean {
    const ghost = this.#index.find(hash);
    if (ghost !== NONE) this.#forget(ghost);
    return ghost !== NONE;
  }

  dropOldest(): void {
    if (this.#oldest !== NONE) this.#forget(this.#oldest);
  }

  #forget(ghost: number): void {
    const older = this.#older[ghost] as number;
    const younger = this.#younger[ghost] as number;
    if (older === NONE) this.#oldest = younger;
    else this.#younger[older] = younger;
    if (younger === NONE) this.#youngest = older;
    else this.#older[younger] = older;
    this.#index.delete(this.#hash[ghost] as number);
    this.bytesHeld -= this.#bytes[ghost] as number;
    this.#younger[ghost] = this.#free;
    this.#free = ghost;
  }

  #place(): number {
    const ghost = this.#free;
    if (ghost !== NONE) {
      this.#free = this.#younger[ghost] as number;
      return ghost;
    }
    if (this.#given === this.#hash.length) this.#grow();
    return this.#given++;
  }

  #grow(): void {
    const length = 2 * this.#hash.length;
    this.#hash = grown(this.#hash, length);
    this.#bytes = grown(this.#bytes, length);
    this.#younger = grown(this.#younger, length);
    this.#older = grown(this.#older, length);
  }
}
