// What one expert would hold in the cache's place: which of the known blocks (known.ts) it has, and who would leave next. No content
// and no names: a mark by block, how many follow it here, and a heap of leaves. Whoever is held has all before it held. Pure.
import { grown } from '../policy/grown.ts';
import { NONE } from '../policy/policy.ts';
import type { Expert } from './experts.ts';
import type { Known } from './known.ts';
import { Leaves, type Places } from './leaves.ts';

export interface ShadowOptions {
  readonly known: Known;
  /** Of its own among the marks. */
  readonly bit: number;
  readonly expert: Expert;
  readonly capacity: number;
  /** Of the cache that it stands for, in blocks: what half-lives are measured by. */
  readonly turnover: number;
}

export class Shadow {
  count = 0;
  #expert: Expert;
  #capacity: number;
  #turnover: number;
  readonly #known: Known;
  readonly #mark: number;
  /** By block: how many follow it here. */
  #following = new Int32Array(64);
  readonly #places: Places = { of: new Int32Array(64) };
  readonly #leaves: Leaves;

  constructor({ known, bit, expert, capacity, turnover }: ShadowOptions) {
    this.#known = known;
    this.#mark = 1 << bit;
    this.#expert = expert;
    this.#capacity = capacity;
    this.#turnover = turnover;
    this.#leaves = new Leaves({
      places: this.#places,
      rank: (block) => known.rank(block, this.#expert, this.#turnover),
      isFree: (block) => this.#following[block] === 0,
    });
  }

  get bytes(): number {
    return this.#following.byteLength + this.#places.of.byteLength + this.#leaves.bytes;
  }

  /** Takes what it lacks of the chain, as much as there comes to be room for beside the rest of it. */
  take(chain: Int32Array, length: number): void {
    const known = this.#known;
    let last = NONE;
    for (let i = 0; i < length; i++) {
      const block = chain[i] as number;
      if ((known.marks(block) & this.#mark) !== 0) continue;
      if (!this.#makeRoom()) break;
      this.#add(block, i === 0 ? NONE : (chain[i - 1] as number));
      last = block;
    }
    this.#offer(last);
  }

  #makeRoom(): boolean {
    while (this.count >= this.#capacity) if (!this.#evict()) return false;
    return true;
  }

  fit(capacity: number, turnover: number): void {
    this.#capacity = capacity;
    this.#turnover = turnover;
    this.#leaves.rankAnew();
    while (this.count > capacity && this.#evict());
  }

  /** Another says who leaves, from now on. */
  follow(expert: Expert): void {
    if (expert === this.#expert) return;
    this.#expert = expert;
    this.#leaves.rankAnew();
  }

  #offer(block: number): void {
    if (block !== NONE) this.#leaves.add(block);
  }

  #add(block: number, before: number): void {
    if (block >= this.#following.length) this.#following = grown(this.#following, block + 1);
    this.#following[block] = 0;
    this.#known.mark(block, this.#mark, before);
    if (before !== NONE) (this.#following[before] as number)++;
    this.count++;
  }

  /** One that is not of the chain that is asked for now; false if there is none. */
  #evict(): boolean {
    const known = this.#known;
    let block = this.#leaves.lowest();
    const own = block !== NONE && known.isAskedNow(block) ? block : NONE; // a chain has one leaf at most
    if (own !== NONE) {
      this.#leaves.remove(own);
      block = this.#leaves.lowest();
      this.#leaves.add(own);
    }
    if (block === NONE) return false;
    this.#leaves.remove(block);
    known.unmark(block, this.#mark);
    this.count--;
    const before = known.before(block);
    if (before !== NONE && --(this.#following[before] as number) === 0) this.#leaves.add(before);
    return true;
  }
}
