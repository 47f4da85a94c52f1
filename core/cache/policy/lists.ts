// Several lists over the slots of one table, each slot in one of them or in none: hottest first, coldest last; with the sum of
// their bytes, for those who ask for it when they are made. Links lie in two typed arrays whose first places are the lists' own ends. Pure.
import type { Entries } from './entries.ts';
import { grown } from './grown.ts';
import { type MayLeave, NONE } from './policy.ts';

export class Lists {
  /** By list; empty if nobody asked. */
  readonly bytes: Float64Array;
  readonly #isWeighed: boolean;
  readonly #entries: Entries;
  readonly #count: number;
  /** The colder neighbour at even places, the hotter one behind it. */
  #links: Int32Array<ArrayBuffer>;
  /** By slot: its list plus one, 0 if it is in none. */
  #list: Uint16Array<ArrayBuffer>;

  constructor(entries: Entries, count: number, isWeighed = false) {
    this.#entries = entries;
    this.#count = count;
    this.#isWeighed = isWeighed;
    this.bytes = new Float64Array(isWeighed ? count : 0);
    this.#links = new Int32Array(2 * (count + entries.slots));
    this.#list = new Uint16Array(entries.slots);
    for (let list = 0; list < count; list++) this.#links[2 * list] = this.#links[2 * list + 1] = list;
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
    if (this.#isWeighed) (this.bytes[list] as number) += this.#entries.bytes[slot] as number;
  }

  take(slot: number): void {
    const list = (this.#list[slot] as number) - 1;
    this.#unlink(slot + this.#count);
    this.#list[slot] = 0;
    if (this.#isWeighed) (this.bytes[list] as number) -= this.#entries.bytes[slot] as number;
  }

  /** To be the hottest of this list, from wherever it is. */
  move(list: number, slot: number): void {
    const from = (this.#list[slot] as number) - 1;
    const at = slot + this.#count;
    if (from === list && this.#links[2 * list] === at) return;
    this.#unlink(at);
    this.#link(list, at);
    if (from === list) return;
    this.#list[slot] = list + 1;
    if (!this.#isWeighed) return;
    const bytes = this.#entries.bytes[slot] as number;
    (this.bytes[from] as number) -= bytes;
    (this.bytes[list] as number) += bytes;
  }

  /** NONE if it is empty. */
  last(list: number): number {
    return this.#slot(this.#links[2 * list + 1] as number);
  }

  /** The next hotter one of the same list; NONE after the hottest. */
  hotter(slot: number): number {
    return this.#slot(this.#links[2 * (slot + this.#count) + 1] as number);
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
    const links = this.#links;
    const first = links[2 * list] as number;
    links[2 * at] = first;
    links[2 * at + 1] = list;
    links[2 * first + 1] = at;
    links[2 * list] = at;
  }

  #unlink(at: number): void {
    const links = this.#links;
    const colder = links[2 * at] as number;
    const hotter = links[2 * at + 1] as number;
    links[2 * hotter] = colder;
    links[2 * colder + 1] = hotter;
  }

  #grow(): void {
    const slots = this.#entries.slots;
    this.#links = grown(this.#links, 2 * (this.#count + slots));
    this.#list = grown(this.#list, slots);
  }
}
