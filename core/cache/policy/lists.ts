// Several lists over the slots of one table, each slot in one of them or in none: hottest first, coldest last, and the sum of
// their bytes. Links lie in two typed arrays whose first places are the lists' own ends. Pure.
import type { Entries } from './entries.ts';
import { grown } from './grown.ts';
import { type MayLeave, NONE } from './policy.ts';

export class Lists {
  /** By list. */
  readonly bytes: Float64Array;
  readonly #entries: Entries;
  readonly #count: number;
  #colder: Int32Array<ArrayBuffer>;
  #hotter: Int32Array<ArrayBuffer>;
  /** By slot: its list plus one, 0 if it is in none. */
  #list: Uint8Array<ArrayBuffer>;

  constructor(entries: Entries, count: number) {
    this.#entries = entries;
    this.#count = count;
    this.bytes = new Float64Array(count);
    this.#colder = new Int32Array(count + entries.slots);
    this.#hotter = new Int32Array(count + entries.slots);
    this.#list = new Uint8Array(entries.slots);
    for (let list = 0; list < count; list++) this.#colder[list] = this.#hotter[list] = list;
  }

  /** The list that the slot is in; NONE if it is in none. */
  of(slot: number): number {
    return slot < this.#list.length ? (this.#list[slot] as number) - 1 : NONE;
  }

  /** As the hottest of the list. */
  push(list: number, slot: number): void {
    if (slot >= this.#list.length) this.#grow();
    this.#link(list, slot + this.#count);
    this.#list[slot] = list + 1;
    (this.bytes[list] as number) += this.#entries.bytes[slot] as number;
  }

  take(slot: number): void {
    const list = (this.#list[slot] as number) - 1;
    this.#unlink(slot + this.#count);
    this.#list[slot] = 0;
    (this.bytes[list] as number) -= this.#entries.bytes[slot] as number;
  }

  /** To be the hottest of this list, from wherever it is. */
  move(list: number, slot: number): void {
    const from = (this.#list[slot] as number) - 1;
    const at = slot + this.#count;
    if (from === list && this.#colder[list] === at) return;
    this.#unlink(at);
    this.#link(list, at);
    if (from === list) return;
    const bytes = this.#entries.bytes[slot] as number;
    (this.bytes[from] as number) -= bytes;
    (this.bytes[list] as number) += bytes;
    this.#list[slot] = list + 1;
  }

  /** NONE if it is empty. */
  last(list: number): number {
    return this.#slot(this.#hotter[list] as number);
  }

  /** The next hotter one of the same list; NONE after the hottest. */
  hotter(slot: number): number {
    return this.#slot(this.#hotter[slot + this.#count] as number);
  }

  /** The coldest who may leave; NONE if nobody may. */
  coldest(list: number, mayLeave: MayLeave): number {
    let slot = this.last(list);
    while (slot !== NONE && !mayLeave(slot)) slot = this.hotter(slot);
    return slot;
  }

  coldestFirst(list: number, visit: (slot: number) => void): void {
    for (let slot = this.last(list); slot !== NONE; ) {
      const next = this.hotter(slot);
      visit(slot);
      slot = next;
    }
  }

  #slot(at: number): number {
    return at < this.#count ? NONE : at - this.#count;
  }

  #link(list: number, at: number): void {
    const first = this.#colder[list] as number;
    this.#colder[at] = first;
    this.#hotter[at] = list;
    this.#hotter[first] = at;
    this.#colder[list] = at;
  }

  #unlink(at: number): void {
    const colder = this.#colder[at] as number;
    const hotter = this.#hotter[at] as number;
    this.#colder[hotter] = colder;
    this.#hotter[colder] = hotter;
  }

  #grow(): void {
    const slots = this.#entries.slots;
    this.#colder = grown(this.#colder, this.#count + slots);
    this.#hotter = grown(this.#hotter, this.#count + slots);
    this.#list = grown(this.#list, slots);
  }
}
