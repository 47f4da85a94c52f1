// Blocks of tokens by slot, found by their names (hashes.ts) and joined to trees: who comes before a block, and who follows it. No
// object for a block. A place in a tree is a slot, or what `root()` gave: a first block stands behind its root.
// A block is found only behind the place that it stands behind, and by its tokens, compared one by one: a collision is a miss.
// Invariants: what comes before a block is held as long as the block is; only one that none follows is taken out. Pure.
import { NONE } from '../policy/policy.ts';
import { BRANCH, CHILD, DEPTH, HASH, HASH_WORDS, HOLDERS, OLDER, PARENT, Records, USES, YOUNGER } from './records.ts';
import { SlotTable } from './slot-table.ts';

/** Of those that follow one block, so many are looked at for one that begins with some tokens. */
const BEGINNINGS_MAX = 4096;
const DEPTH_BITS = 24;
const DEPTH_MAX = 2 ** DEPTH_BITS - 1;

export class PrefixTree {
  readonly records: Records;
  readonly #table: SlotTable;
  /** By root: the block that came last of those behind it. */
  readonly #firsts: number[] = [];
  readonly #rootsFree: number[] = [];

  constructor(blockTokens: number) {
    this.records = new Records(blockTokens);
    this.#table = new SlotTable(this.records);
  }

  get count(): number {
    return this.records.count;
  }

  /** Of the index; tokens are beside it (`records.tokenBytes`). */
  get bytes(): number {
    return this.records.bytes + this.#table.bytes;
  }

  /** A place for first blocks, below NONE. */
  root(): number {
    const number = this.#rootsFree.pop() ?? this.#firsts.length;
    this.#firsts[number] = NONE;
    return NONE - 1 - number;
  }

  dropRoot(root: number): void {
    const number = numberOf(root);
    if (this.#firsts[number] !== NONE) throw new Error('a root was to go that blocks stand behind');
    this.#rootsFree.push(number);
  }

  /**
   * The block that is the `block`-th of these names and, if the index keeps tokens, of these tokens. Mostly it is the one that
   * came last behind the place, whose record is at hand; if not, the table knows.
   */
  find(place: number, hashes: Uint32Array, block: number, tokens: Int32Array): number {
    const at = HASH_WORDS * block;
    const likely = place < 0 ? NONE : this.records.get(place, CHILD);
    const isIt = likely !== NONE && this.records.isNamed(likely, hashes, at, undefined);
    const slot = isIt ? likely : this.#table.find(hashes, at, place);
    const { blockTokens } = this.records;
    if (slot === NONE || blockTokens === 0) return slot;
    return this.records.hasTokens(slot, tokens, block * blockTokens, blockTokens) ? slot : NONE;
  }

  /** Whoever has this name, wherever it stands and whatever its tokens. */
  named(hashes: Uint32Array, block: number): number {
    return this.#table.find(hashes, HASH_WORDS * block);
  }

  /** How many blocks of the sequence are held from the first one on; their slots are written to `slots`. */
  match(root: number, hashes: Uint32Array, tokens: Int32Array, slots: Int32Array): number {
    const count = hashes.length / HASH_WORDS;
    let place = root;
    for (let block = 0; block < count; block++) {
      const slot = this.find(place, hashes, block, tokens);
      if (slot === NONE) return block;
      slots[block] = place = slot;
    }
    return count;
  }

  /** One that follows `place`, begins with these tokens and will do; the one that came last. */
  beginningWith(place: number, tokens: Int32Array, willDo: (slot: number) => boolean): number {
    const last = this.lastBehind(place);
    let slot = last;
    for (let looked = 0; slot !== NONE && looked < BEGINNINGS_MAX; looked++) {
      if (this.records.hasTokens(slot, tokens, 0, tokens.length) && willDo(slot)) return slot;
      slot = this.records.get(slot, OLDER);
      if (slot === last) break;
    }
    return NONE;
  }

  /** One that is not there: `named` has said so. Used never. */
  add(place: number, hashes: Uint32Array, block: number, tokens: Int32Array): number {
    const { records } = this;
    const depth = place < 0 ? 0 : this.depth(place) + 1;
    if (depth > DEPTH_MAX) throw new Error(`a chain of more than ${DEPTH_MAX} blocks`);
    const slot = records.take();
    for (let word = 0; word < HASH_WORDS; word++)
      records.set(slot, HASH + word, hashes[HASH_WORDS * block + word] as number);
    const { blockTokens } = records;
    if (blockTokens > 0) records.tokens(slot).set(tokens.subarray(block * blockTokens, (block + 1) * blockTokens));
    const isBranch = place < 0 || this.lastBehind(place) !== NONE;
    records.set(slot, PARENT, place);
    records.set(slot, CHILD, NONE);
    records.set(slot, DEPTH, depth);
    records.set(slot, HOLDERS, 0);
    records.set(slot, BRANCH, isBranch ? records.get(slot, HASH + 2) : records.get(place, BRANCH));
    records.set(slot, USES, 0);
    this.#join(place, slot);
    this.#table.add(slot);
    return slot;
  }

  /** One that none follows. */
  remove(slot: number): void {
    if (this.lastBehind(slot) !== NONE) throw new Error(`slot ${slot} was to be taken out, and others follow it`);
    this.#table.remove(slot);
    this.#part(this.placeOf(slot), slot);
    this.records.give(slot);
  }

  /** What it stands behind: a slot or a root. */
  placeOf(slot: number): number {
    return this.records.get(slot, PARENT);
  }

  /** How many come before it. */
  depth(slot: number): number {
    return this.records.get(slot, DEPTH) & DEPTH_MAX;
  }

  /** From 0 to 127; 0 at first. */
  priority(slot: number): number {
    return this.records.get(slot, DEPTH) >>> DEPTH_BITS;
  }

  setPriority(slot: number, priority: number): void {
    this.records.set(slot, DEPTH, this.depth(slot) | (priority << DEPTH_BITS));
  }

  holders(slot: number): number {
    return this.records.get(slot, HOLDERS);
  }

  hold(slot: number): void {
    this.records.set(slot, HOLDERS, this.records.get(slot, HOLDERS) + 1);
  }

  /** How many hold it still. */
  release(slot: number): number {
    const left = this.records.get(slot, HOLDERS) - 1;
    this.records.set(slot, HOLDERS, left);
    return left;
  }

  /** Whether it may leave: none follows it, nobody holds it. */
  isFree(slot: number): boolean {
    return this.records.get(slot, CHILD) === NONE && this.records.get(slot, HOLDERS) === 0;
  }

  /** Of those that stand behind a place, the one that came last; NONE if there is none. */
  lastBehind(place: number): number {
    return place < 0 ? (this.#firsts[numberOf(place)] as number) : this.records.get(place, CHILD);
  }

  /** Those that stand behind a place, the latest first; nobody comes or goes meanwhile. */
  *behind(place: number): Generator<number, void, void> {
    const last = this.lastBehind(place);
    if (last === NONE) return;
    let slot = last;
    do {
      yield slot;
      slot = this.records.get(slot, OLDER);
    } while (slot !== last);
  }

  #setLast(place: number, slot: number): void {
    if (place < 0) this.#firsts[numberOf(place)] = slot;
    else this.records.set(place, CHILD, slot);
  }

  #join(place: number, slot: number): void {
    const { records } = this;
    const last = this.lastBehind(place);
    const oldest = last === NONE ? slot : records.get(last, YOUNGER);
    records.set(slot, OLDER, last === NONE ? slot : last);
    records.set(slot, YOUNGER, oldest);
    records.set(oldest, OLDER, slot);
    if (last !== NONE) records.set(last, YOUNGER, slot);
    this.#setLast(place, slot);
  }

  #part(place: number, slot: number): void {
    const { records } = this;
    const older = records.get(slot, OLDER);
    const younger = records.get(slot, YOUNGER);
    records.set(older, YOUNGER, younger);
    records.set(younger, OLDER, older);
    if (this.lastBehind(place) === slot) this.#setLast(place, older === slot ? NONE : older);
  }
}

const numberOf = (root: number): number => NONE - 1 - root;
