// The blocks that shadows deal in: those that at least one of them holds, and the latest of those that left all of them, so that they
// are remembered when they come again. One table for all shadows: uses are the same for all, who holds a block is a bit for each.
// Names are 32 bits here: two blocks of one name blur what is guessed of them, never what is held. Pure.
import { grown } from '../policy/grown.ts';
import { HashIndex } from '../policy/hash-index.ts';
import { NONE } from '../policy/policy.ts';
import { type Expert, rankOf } from './experts.ts';
import { countUse, firstUse, WEIGHTS } from './uses.ts';

/** So many who might be forgotten are looked at for the one unused for longest. */
const LOOKED_AT = 4;

export class Known {
  /** Of those that no shadow holds. */
  readonly #leftMax: number;
  readonly #index = new HashIndex();
  readonly #blockTokens: number;
  #hash = new Uint32Array(64);
  #before = new Int32Array(64);
  #depth = new Int32Array(64);
  #marks = new Uint16Array(64);
  #weights = new Uint16Array(64 * WEIGHTS);
  #uses = new Uint32Array(64);
  #time = new Float64Array(64);
  #asked = new Float64Array(64);
  #given = 0;
  /** Those that were forgotten, whose place is another's now. */
  #free: number[] = [];
  #left = 0;
  #hand = 0;
  #request = 0;

  constructor(blockTokens: number, leftMax: number) {
    this.#blockTokens = blockTokens;
    this.#leftMax = leftMax;
  }

  get count(): number {
    return this.#index.count;
  }

  get bytes(): number {
    const columns = [
      this.#hash,
      this.#before,
      this.#depth,
      this.#marks,
      this.#weights,
      this.#uses,
      this.#time,
      this.#asked,
    ];
    return columns.reduce((sum, { byteLength }) => sum + byteLength, this.#index.bytes);
  }

  /** Another request: what was asked for before is not asked for now. */
  begin(): void {
    this.#request++;
  }

  /** The block of this name is asked for, at this time in blocks; known from now on. */
  ask(hash: number, depth: number, time: number, turnover: number): number {
    const found = this.#index.find(hash);
    const block = found === NONE ? this.#add(hash, depth, time) : found;
    this.#asked[block] = this.#request;
    if (found === NONE) return block;
    const turnovers = (time - (this.#time[block] as number)) / turnover;
    if (countUse(this.#weights, WEIGHTS * block, turnovers)) (this.#uses[block] as number)++;
    this.#time[block] = time;
    return block;
  }

  rank(block: number, expert: Expert, turnover: number): number {
    const tokensBefore = (this.#depth[block] as number) * this.#blockTokens;
    return rankOf(
      expert,
      turnover,
      this.#time[block] as number,
      this.#uses[block] as number,
      this.#weights,
      WEIGHTS * block,
      tokensBefore,
    );
  }

  /** Whether it is of the chain that is asked for now. */
  readonly isAskedNow = (block: number): boolean => this.#asked[block] === this.#request;

  /** Who holds it, a bit for each shadow. */
  marks(block: number): number {
    return this.#marks[block] as number;
  }

  /** The one before it; NONE for the first of a chain. */
  before(block: number): number {
    return this.#before[block] as number;
  }

  mark(block: number, mark: number, before: number): void {
    const marks = this.#marks[block] as number;
    if (marks === 0) this.#left--;
    this.#marks[block] = marks | mark;
    this.#before[block] = before;
  }

  unmark(block: number, mark: number): void {
    const marks = (this.#marks[block] as number) & ~mark;
    this.#marks[block] = marks;
    if (marks === 0) this.#left++;
  }

  /** Until no more are remembered than may be. */
  forget(): void {
    while (this.#left > this.#leftMax) this.#forgetOne();
  }

  #forgetOne(): void {
    let oldest = NONE;
    for (let looked = 0; looked < LOOKED_AT; ) {
      this.#hand = this.#hand + 1 < this.#given ? this.#hand + 1 : 0;
      const block = this.#hand;
      if (this.#marks[block] !== 0 || this.#uses[block] === 0) continue; // held, or forgotten already
      looked++;
      if (oldest === NONE || (this.#time[block] as number) < (this.#time[oldest] as number)) oldest = block;
    }
    this.#index.delete(this.#hash[oldest] as number);
    this.#uses[oldest] = 0;
    this.#free.push(oldest);
    this.#left--;
  }

  #add(hash: number, depth: number, time: number): number {
    const block = this.#free.pop() ?? this.#given++;
    if (block >= this.#hash.length) this.#grow(block + 1);
    this.#index.set(hash, block);
    this.#hash[block] = hash;
    this.#before[block] = NONE;
    this.#depth[block] = depth;
    this.#marks[block] = 0;
    this.#uses[block] = 1;
    this.#time[block] = time;
    firstUse(this.#weights, WEIGHTS * block);
    this.#left++;
    return block;
  }

  #grow(length: number): void {
    this.#hash = grown(this.#hash, length);
    this.#before = grown(this.#before, length);
    this.#depth = grown(this.#depth, length);
    this.#marks = grown(this.#marks, length);
    this.#weights = grown(this.#weights, WEIGHTS * length);
    this.#uses = grown(this.#uses, length);
    this.#time = grown(this.#time, length);
    this.#asked = grown(this.#asked, length);
  }
}
