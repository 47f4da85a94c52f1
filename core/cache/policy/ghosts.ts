// Those who were evicted, by hash, oldest first: how large they were and how often they had been asked for. Whoever owns them
// bounds them (`dropOldest`). One who comes again is the youngest. Pure; typed arrays, no object for each.
import { grown } from './grown.ts';
import { HashIndex } from './hash-index.ts';
import { NONE } from './policy.ts';

export class Ghosts {
  bytesHeld = 0;
  readonly #index = new HashIndex();
  #hash = new Uint32Array(64);
  #bytes = new Float64Array(64);
  #uses = new Uint32Array(64);
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

  add(hash: number, bytes: number, uses: number): void {
    this.take(hash);
    const ghost = this.#place();
    this.#hash[ghost] = hash;
    this.#bytes[ghost] = bytes;
    this.#uses[ghost] = uses;
    this.#younger[ghost] = NONE;
    this.#older[ghost] = this.#youngest;
    if (this.#youngest === NONE) this.#oldest = ghost;
    else this.#younger[this.#youngest] = ghost;
    this.#youngest = ghost;
    this.#index.set(hash, ghost);
    this.bytesHeld += bytes;
  }

  /** Forgets it, and answers its uses; 0 if it was not there. */
  take(hash: number): number {
    const ghost = this.#index.find(hash);
    if (ghost === NONE) return 0;
    this.#forget(ghost);
    return this.#uses[ghost] as number;
  }

  dropOldest(): void {
    if (this.#oldest !== NONE) this.#forget(this.#oldest);
  }

  /** The youngest whose bytes come to `bytesMax` together, the oldest of them first. */
  latest(bytesMax: number, visit: (hash: number, bytes: number, uses: number) => void): void {
    let ghost = this.#youngest;
    let oldest = NONE;
    for (let bytes = 0; ghost !== NONE; ghost = this.#older[ghost] as number) {
      bytes += this.#bytes[ghost] as number;
      if (bytes > bytesMax) break;
      oldest = ghost;
    }
    for (ghost = oldest; ghost !== NONE; ghost = this.#younger[ghost] as number)
      visit(this.#hash[ghost] as number, this.#bytes[ghost] as number, this.#uses[ghost] as number);
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
    this.#uses = grown(this.#uses, length);
    this.#younger = grown(this.#younger, length);
    this.#older = grown(this.#older, length);
  }
}
