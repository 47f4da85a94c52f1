// How often hashes were asked for lately that are no longer held, at a fixed price: a count-min sketch of counters up to fifteen, eight
// to a word. The counters of a hash lie within sixteen bytes, one in each word of them: one line of the processor's cache. It never
// says too little, but for the halving; when it grows, every half knows what the whole knew. Pure.

export const COUNT_MAX = 15;
const WORDS = 4;
/** Takes the bit away that fell out of the counter above. */
const HALVES = 0x7777_7777;

export class Sketch {
  #blocks = 8;
  #words = new Uint32Array(this.#blocks * WORDS);

  /** Makes room for more entries; what was counted stays. */
  fit(entries: number): void {
    while (this.#blocks < entries) {
      const words = new Uint32Array(2 * this.#words.length);
      words.set(this.#words);
      words.set(this.#words, this.#words.length);
      this.#words = words;
      this.#blocks *= 2;
    }
  }

  /** From now on its count is this at least. */
  raise(hash: number, count: number): void {
    const words = this.#words;
    const start = (hash & (this.#blocks - 1)) * WORDS;
    let places = Math.imul(hash, 0x9e37_79b1) >>> 16;
    for (let at = start; at < start + WORDS; at++, places >>>= 3) {
      const shift = 4 * (places & 7);
      const more = count - (((words[at] as number) >>> shift) & COUNT_MAX);
      if (more > 0) (words[at] as number) += more << shift;
    }
  }

  count(hash: number): number {
    const words = this.#words;
    const start = (hash & (this.#blocks - 1)) * WORDS;
    let places = Math.imul(hash, 0x9e37_79b1) >>> 16;
    let least = COUNT_MAX;
    for (let at = start; at < start + WORDS; at++, places >>>= 3) {
      const count = ((words[at] as number) >>> (4 * (places & 7))) & COUNT_MAX;
      if (count < least) least = count;
    }
    return least;
  }

  halve(): void {
    const words = this.#words;
    for (let at = 0; at < words.length; at++) words[at] = ((words[at] as number) >>> 1) & HALVES;
  }
}
