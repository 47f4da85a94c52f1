// How often each key was asked for lately, up to fifteen: with the slot while it is held, in a sketch when it has left. All counts
// halve after so many uses an entry, so that what was popular once is forgotten. A hit touches no sketch. Pure.
// Whoever makes one tells it of everybody who comes, is used and goes; the adaptive policy does so whoever is in charge, so
// that W-TinyLFU finds it complete when its turn comes.
import type { Entries } from './entries.ts';
import { grown } from './grown.ts';
import { COUNT_MAX, Sketch } from './sketch.ts';

const USES_PER_ENTRY = 16;
const ENTRIES_MIN = 8;
/** Of uses before, nobody knows how long ago they were. */
const USES_ADOPTED_MAX = 5;

export class Popularity {
  readonly #entries: Entries;
  readonly #sketch = new Sketch();
  #counts: Uint8Array<ArrayBuffer>;
  #usesLeft = USES_PER_ENTRY * ENTRIES_MIN;

  constructor(entries: Entries) {
    this.#entries = entries;
    this.#counts = new Uint8Array(entries.slots);
    this.#sketch.fit(entries.slots);
  }

  of(slot: number): number {
    return this.#counts[slot] as number;
  }

  /** With what it was used before. */
  enter(slot: number): void {
    if (slot >= this.#counts.length) {
      this.#counts = grown(this.#counts, this.#entries.slots);
      this.#sketch.fit(this.#counts.length);
    }
    this.#counts[slot] = this.#sketch.count(this.#entries.hash[slot] as number);
    this.use(slot);
  }

  use(slot: number): void {
    const count = this.#counts[slot] as number;
    if (count >= COUNT_MAX) return;
    this.#counts[slot] = count + 1;
    if (--this.#usesLeft <= 0) this.#halve();
  }

  leave(slot: number): void {
    this.#sketch.raise(this.#entries.hash[slot] as number, this.#counts[slot] as number);
  }

  /** Held already. */
  adopt(slot: number): void {
    this.enter(slot);
    const uses = Math.min(this.#entries.uses[slot] as number, USES_ADOPTED_MAX);
    this.#counts[slot] = Math.max(this.#counts[slot] as number, uses);
  }

  #halve(): void {
    this.#sketch.halve();
    const counts = this.#counts;
    for (let slot = 0; slot < counts.length; slot++) counts[slot] = (counts[slot] as number) >> 1;
    this.#usesLeft = USES_PER_ENTRY * Math.max(ENTRIES_MIN, this.#entries.count);
  }
}
