// Those who were evicted, by hash, oldest first and with their sizes. Whoever owns them bounds them (`dropOldest`). One who comes
// again is the youngest. Pure; a ring of typed arrays, no object for each: who is taken out leaves a gap in it, and gaps are
// closed when the ring is full.
import { HashIndex } from './hash-index.ts';
import { NONE } from './policy.ts';

/** In place of the bytes of one who was taken out. */
const GAP = -1;

export class Ghosts {
  bytesHeld = 0;
  readonly #index = new HashIndex();
  #hash = new Int32Array(64);
  #bytes = new Float64Array(64);
  #oldest = 0;
  /** Places from the oldest to the youngest, gaps among them. */
  #span = 0;

  get count(): number {
    return this.#index.count;
  }

  has(hash: number): boolean {
    return this.#index.find(hash) !== NONE;
  }

  add(hash: number, bytes: number): void {
    this.take(hash);
    if (this.#span === this.#hash.length) this.#closeGaps();
    const at = (this.#oldest + this.#span++) & (this.#hash.length - 1);
    this.#hash[at] = hash;
    this.#bytes[at] = bytes;
    this.#index.set(hash, at);
    this.bytesHeld += bytes;
  }

  /** Forgets it; whether it was there. */
  take(hash: number): boolean {
    const at = this.#index.delete(hash);
    if (at === NONE) return false;
    this.bytesHeld -= this.#bytes[at] as number;
    this.#bytes[at] = GAP;
    return true;
  }

  dropOldest(): void {
    for (let isGap = true; isGap && this.#span > 0; ) {
      const at = this.#oldest;
      isGap = this.#bytes[at] === GAP;
      if (!isGap) this.take(this.#hash[at] as number);
      this.#oldest = (at + 1) & (this.#hash.length - 1);
      this.#span--;
    }
  }

  /** And makes room, unless there were many. */
  #closeGaps(): void {
    const [hash, bytes, oldest, mask] = [this.#hash, this.#bytes, this.#oldest, this.#hash.length - 1];
    const length = 2 * this.count > mask ? 2 * hash.length : hash.length;
    this.#hash = new Int32Array(length);
    this.#bytes = new Float64Array(length);
    this.#oldest = this.#span = 0;
    for (let i = 0; i <= mask; i++) {
      const from = (oldest + i) & mask;
      if (bytes[from] === GAP) continue;
      const at = this.#span++;
      this.#hash[at] = hash[from] as number;
      this.#bytes[at] = bytes[from] as number;
      this.#index.set(hash[from] as number, at);
    }
  }
}
