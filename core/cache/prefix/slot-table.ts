// From a block's name to its slot: open addressing in 64 tables, each with linear probing and at most three quarters full, which grow
// one at a time, so that nobody ever waits for millions to be placed anew. A place is two words: the second of the name's four,
// and the slot plus one; whether the whole name is right, the record says. What is taken out leaves no mark. Pure.
import { NONE } from '../policy/policy.ts';
import { HASH, type Records } from './records.ts';

const TABLES_BITS = 6;
const TABLES = 2 ** TABLES_BITS;
const tableOf = (first: number): number => first >>> (32 - TABLES_BITS);
const PLACES_MIN = 16;
const FULL = 0.75;

export class SlotTable {
  readonly #records: Records;
  readonly #tables = Array.from({ length: TABLES }, () => new Int32Array(2 * PLACES_MIN));
  readonly #counts = new Int32Array(TABLES);

  constructor(records: Records) {
    this.#records = records;
  }

  get bytes(): number {
    return this.#tables.reduce((sum, { byteLength }) => sum + byteLength, 0);
  }

  /** The slot of the name that lies at `at`, behind `place` if that is told. */
  find(hashes: Uint32Array, at: number, place?: number): number {
    const table = this.#tables[tableOf(hashes[at] as number)] as Int32Array;
    const mask = (table.length >> 1) - 1;
    const word = (hashes[at + 1] as number) | 0;
    for (let spot = word & mask; ; spot = (spot + 1) & mask) {
      const slot = (table[2 * spot + 1] as number) - 1;
      if (slot === NONE) return NONE;
      if (table[2 * spot] === word && this.#records.isNamed(slot, hashes, at, place)) return slot;
    }
  }

  /** By the name in its record. */
  add(slot: number): void {
    const number = this.#numberOf(slot);
    const count = ++(this.#counts[number] as number);
    const table = this.#tables[number] as Int32Array<ArrayBuffer>;
    if (count > FULL * (table.length >> 1)) this.#tables[number] = twiceAsLong(table);
    put(this.#tables[number] as Int32Array, this.#records.get(slot, HASH + 1), slot + 1);
  }

  remove(slot: number): void {
    const number = this.#numberOf(slot);
    const table = this.#tables[number] as Int32Array;
    const mask = (table.length >> 1) - 1;
    let hole = this.#records.get(slot, HASH + 1) & mask;
    while (table[2 * hole + 1] !== slot + 1) {
      if (table[2 * hole + 1] === 0) throw new Error(`slot ${slot} was to be taken out, and is not in the table`);
      hole = (hole + 1) & mask;
    }
    for (let at = (hole + 1) & mask; table[2 * at + 1] !== 0; at = (at + 1) & mask) {
      const home = (table[2 * at] as number) & mask;
      if (((at - home) & mask) < ((at - hole) & mask)) continue; // would come to lie before its home
      table[2 * hole] = table[2 * at] as number;
      table[2 * hole + 1] = table[2 * at + 1] as number;
      hole = at;
    }
    table[2 * hole + 1] = 0;
    (this.#counts[number] as number)--;
  }

  #numberOf(slot: number): number {
    return tableOf(this.#records.get(slot, HASH));
  }
}

function put(table: Int32Array, word: number, value: number): void {
  const mask = (table.length >> 1) - 1;
  let at = word & mask;
  while (table[2 * at + 1] !== 0) at = (at + 1) & mask;
  table[2 * at] = word;
  table[2 * at + 1] = value;
}

function twiceAsLong(table: Int32Array): Int32Array<ArrayBuffer> {
  const longer = new Int32Array(2 * table.length);
  for (let at = 0; at < table.length; at += 2)
    if (table[at + 1] !== 0) put(longer, table[at] as number, table[at + 1] as number);
  return longer;
}
