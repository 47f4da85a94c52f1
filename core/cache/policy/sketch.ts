// How often a hash was asked for lately, at a fixed price: a count-min sketch of small counters that halve from time to time. All
// counters of a hash lie within sixteen bytes, one in each four of them: one line of the processor's cache. It never says too
// little, but for the halving; when it grows, every half knows what the whole knew. Pure.

const COUNT_MAX = 15;
const BLOCK = 16;
/** Counted uses per entry, after which all counters halve. */
const USES_PER_ENTRY = 10;

export class Sketch {
  #counters: Uint8Array;
  #blocks: number;
  #counted = 0;

  constructor(entries: number) {
    this.#blocks = 8;
    while (this.#blocks < entries) this.#blocks *= 2;
    this.#counters = new Uint8Array(this.#blocks * BLOCK);
  }

  /** Makes room for more entries; what was counted stays. */
  fit(entries: number): void {
    while (this.#blocks < entries) {
      const counters = new Uint8Array(2 * this.#counters.length);
      counters.set(this.#counters);
      counters.set(this.#counters, this.#counters.length);
      this.#counters = counters;
      this.#blocks *= 2;
    }
  }

  add(hash: number): void {
    const counters = this.#counters;
    const places = Math.imul(hash, 0x9e37_79b1) >>> 16;
    const start = (hash & (this.#blocks - 1)) * BLOCK;
    const a = start + (places & 3);
    const b = start + 4 + ((places >>> 2) & 3);
    const c = start + 8 + ((places >>> 4) & 3);
    const d = start + 12 + ((places >>> 6) & 3);
    let counted = 0;
    if ((counters[a] as number) < COUNT_MAX) counted = ++(counters[a] as number);
    if ((counters[b] as number) < COUNT_MAX) counted = ++(counters[b] as number);
    if ((counters[c] as number) < COUNT_MAX) counted = ++(counters[c] as number);
    if ((counters[d] as number) < COUNT_MAX) counted = ++(counters[d] as number);
    if (counted > 0 && ++this.#counted >= USES_PER_ENTRY * this.#blocks) this.#halve();
  }

  count(hash: number): number {
    const counters = this.#counters;
    const places = Math.imul(hash, 0x9e37_79b1) >>> 16;
    const start = (hash & (this.#blocks - 1)) * BLOCK;
    const ab = Math.min(counters[start + (places & 3)] as number, counters[start + 4 + ((places >>> 2) & 3)] as number);
    const cd = Math.min(
      counters[start + 8 + ((places >>> 4) & 3)] as number,
      counters[start + 12 + ((places >>> 6) & 3)] as number,
    );
    return Math.min(ab, cd);
  }

  #halve(): void {
    const counters = this.#counters;
    for (let i = 0; i < counters.length; i++) counters[i] = (counters[i] as number) >> 1;
    this.#counted >>= 1;
  }
}
