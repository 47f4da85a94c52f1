// How those that left had been used, by a 32-bit name, for when they come again: without it, long half-lives know no more than the cache
// holds. A ring of the latest: so many for each that is held, and never more than a number that is the same for caches of any size.
// Pure. Typed arrays, no object for each.
import { grown } from '../policy/grown.ts';
import { HashIndex } from '../policy/hash-index.ts';
import { WEIGHTS } from './uses.ts';

/** Half-lives are turnovers of the cache: what is to be known of one takes as many times the cache's blocks. */
const PER_BLOCK = 8;
const ROOM_MIN = 64;

export class Ghosts {
  readonly #max: number;
  readonly #index = new HashIndex();
  #hash = new Uint32Array(64);
  #time = new Float64Array(64);
  #uses = new Uint32Array(64);
  #weights = new Uint16Array(64 * WEIGHTS);
  #next = 0;
  #filled = 0;

  constructor(max: number) {
    this.#max = max;
  }

  get bytes(): number {
    const columns = [this.#hash, this.#time, this.#uses, this.#weights];
    return columns.reduce((sum, { byteLength }) => sum + byteLength, this.#index.bytes);
  }

  /** One leaves, and so many are held beside it. */
  leave(hash: number, time: number, uses: number, weights: Uint16Array, weightsAt: number, beside: number): void {
    const room = Math.min(this.#max, Math.max(ROOM_MIN, PER_BLOCK * beside));
    if (this.#next >= room) this.#next = 0;
    const at = this.#next++;
    if (at >= this.#hash.length) this.#grow(at + 1);
    if (at < this.#filled) {
      const old = this.#hash[at] as number;
      if (this.#index.find(old) === at) this.#index.delete(old);
    } else this.#filled = at + 1;
    this.#hash[at] = hash;
    this.#index.set(hash, at);
    this.#time[at] = time;
    this.#uses[at] = uses;
    this.#weights.set(weights.subarray(weightsAt, weightsAt + WEIGHTS), WEIGHTS * at);
  }

  /** Where it is; NONE if it is not remembered. */
  find(hash: number): number {
    return this.#index.find(hash);
  }

  time(at: number): number {
    return this.#time[at] as number;
  }

  uses(at: number): number {
    return this.#uses[at] as number;
  }

  copyWeights(at: number, weights: Uint16Array, weightsAt: number): void {
    weights.set(this.#weights.subarray(WEIGHTS * at, WEIGHTS * (at + 1)), weightsAt);
  }

  #grow(length: number): void {
    this.#hash = grown(this.#hash, length);
    this.#time = grown(this.#time, length);
    this.#uses = grown(this.#uses, length);
    this.#weights = grown(this.#weights, WEIGHTS * length);
  }
}
