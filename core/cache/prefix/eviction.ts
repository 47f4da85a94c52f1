// Who of a prefix tree leaves first when room is short: of the leaves that nobody holds, the one that is ranked lowest by the expert in
// charge. That is one by name (`lru`, `lfu`, or any of the portfolio), or `adaptive`: whoever is the best of the portfolio for the
// requests as they are. It can be changed at any time, and nobody leaves by that.
// Blocks that are wanted less leave first, and among those the ranks decide; shadows know nothing of that.
// Blocks may be of several parties, each with lines of its own; whose turn it is to give one is for whoever asks to say.
// The owner tells who came, who left, who is free again, and which chains were asked for; this keeps the order, and nothing else.
// Pure. A chain asked for again at once, as a model does layer by layer, is one use, and no news to the shadows.
import { createPatternWatch, type Pattern } from '../policy/pattern.ts';
import { NONE, type Objective } from '../policy/policy.ts';
import { EXPERT_NAMES, type Expert, expertNamed, rankOf } from './experts.ts';
import { Ghosts } from './ghosts.ts';
import { Leaves, type Places } from './leaves.ts';
import { createPortfolio, type PortfolioOptions, type Ratios } from './portfolio.ts';
import { BRANCH, HASH, USES } from './records.ts';
import type { PrefixTree } from './tree.ts';
import { countUse, firstUse, PAUSE } from './uses.ts';

export const TREE_STRATEGIES: readonly string[] = ['adaptive', ...EXPERT_NAMES];

export interface EvictionOptions {
  readonly tree: PrefixTree;
  /** One of TREE_STRATEGIES. */
  readonly strategy: string;
  readonly objective: () => Objective;
  /** So many blocks there is room for. */
  readonly capacity: () => number;
  readonly bytesOf: (slot: number) => number;
  /** Of a block, where the tree keeps none. */
  readonly blockTokens?: number;
  /** Whose the block in a slot is, from 0 on; all of one, if it is not given. */
  readonly partyOf?: (slot: number) => number;
  /** Whether the block in a slot may leave; a leaf that nobody holds, if it is not given. */
  readonly mayLeave?: (slot: number) => boolean;
  readonly portfolio?: Partial<PortfolioOptions>;
}

/** Which party gives the next one, or undefined if none is to; of those that are spent nobody may leave. */
export type Turn = (spent: ReadonlySet<number>) => number | undefined;

export interface EvictionReport {
  readonly strategy: string;
  readonly pattern: Pattern | undefined;
  readonly inCharge: string;
  readonly changes: number;
  readonly experts: readonly { readonly name: string; readonly hitRatio: number | undefined }[];
  /** The share of the objective's worth that was held when it was asked for, lately; and would have been in other room. */
  readonly ratios: Ratios;
}

export interface Eviction {
  readonly strategy: string;
  /** The expert by whose ranks they leave now. */
  readonly inCharge: string;
  /** Of what it keeps beside the index: shadows and what is remembered of those that left. */
  readonly bytesBeside: number;
  /** Of what it keeps for each block that is held. */
  readonly bytes: number;
  /** A part of the tree that blocks leave by themselves, and its number; the whole tree is 0. Nobody is in it yet. */
  addTier(mayLeave: (slot: number) => boolean): number;
  /** Throws where there is none of this name. */
  setStrategy(name: string): void;
  /** A block was added to the tree. */
  came(slot: number): void;
  /** Before it is taken out of the tree; evicted ones are remembered. */
  leaves(slot: number, isEvicted: boolean): void;
  /** It may leave a tier again: nobody holds it any more, or none follows it any more, or it has come there. */
  freed(slot: number): void;
  /** A chain from its first block on, all in the tree; so many of them were before it was asked for. */
  asked(slots: Int32Array, length: number, held: number): void;
  /** How much it is wanted, from 0 to 127: whoever is wanted less leaves before it, whatever their ranks. */
  prefer(slot: number, priority: number): void;
  /** It is another party's once `change` is done. */
  changeParty(slot: number, change: () => void): void;
  /** A party has no blocks any more: what was kept for it is let go. */
  dropParty(party: number): void;
  /** Who of a party leaves a tier next; NONE if nobody may. */
  victim(tier?: number, party?: number): number;
  /** One after the other, of whose turn it is; whoever asks takes one away before asking for the next, or spares it. */
  leaving(tier?: number, turn?: Turn): Generator<number, void, void>;
  report(): EvictionReport;
}

interface Tier {
  readonly mayLeave: (slot: number) => boolean;
  readonly places: Places;
  /** By party and by priority; those that nobody has are not made. */
  readonly lines: ((Leaves | undefined)[] | undefined)[];
}

/** Of those that left, by 40 bytes each. */
const GHOSTS_MAX = 2 ** 18;
/** Where all are of one party. */
const onlyOne: Turn = (spent) => (spent.has(0) ? undefined : 0);
/** Room that differs by less is the same. */
const ROOM_CHANGE = 1 / 8;

export function createEviction(options: EvictionOptions): Eviction {
  const { tree, objective } = options;
  const { records } = tree;
  const blockTokens = options.blockTokens ?? records.blockTokens;
  const partyOf = options.partyOf ?? (() => 0);
  const ghosts = new Ghosts(GHOSTS_MAX);
  const portfolio = createPortfolio(blockTokens, objective, options.portfolio);
  const pattern = createPatternWatch();
  let { strategy } = options;
  let expert = expertOf(strategy);
  let turnover = 1;
  /** In blocks asked for. */
  let clock = 0;
  let names = new Uint32Array(64);
  const tiers: Tier[] = [];
  addTier(options.mayLeave ?? tree.isFree.bind(tree));
  const rank = (slot: number) => {
    const uses = records.get(slot, USES);
    const tokensBefore = tree.depth(slot) * blockTokens;
    return rankOf(
      expert,
      turnover,
      records.time(slot),
      uses,
      records.weights(slot),
      records.weightsAt(slot),
      tokensBefore,
    );
  };

  function addTier(mayLeave: (slot: number) => boolean): number {
    return tiers.push({ mayLeave, places: { of: new Int32Array(64) }, lines: [] }) - 1;
  }

  function lineOf({ places, lines, mayLeave }: Tier, slot: number): Leaves {
    const party = partyOf(slot);
    const priority = tree.priority(slot);
    const own = lines[party] ?? [];
    lines[party] = own;
    const line = own[priority] ?? new Leaves({ places, rank, isFree: mayLeave });
    own[priority] = line;
    return line;
  }

  function* allLines(): Generator<Leaves, void, void> {
    for (const { lines } of tiers) for (const own of lines) for (const line of own ?? []) if (line) yield line;
  }

  function rankAnew(): void {
    for (const line of allLines()) line.rankAnew();
  }

  function freed(slot: number): void {
    for (const tier of tiers) if (tier.mayLeave(slot)) lineOf(tier, slot).add(slot);
  }

  function takeOut(slot: number): void {
    for (const { lines } of tiers) lines[partyOf(slot)]?.[tree.priority(slot)]?.remove(slot);
  }

  function changeParty(slot: number, change: () => void): void {
    takeOut(slot);
    change();
    freed(slot);
  }

  const tierOf = (number: number): Tier => {
    const tier = tiers[number];
    if (!tier) throw new Error(`there is no tier ${number}`);
    return tier;
  };

  /** Those that come to be free when one leaves have their turn too; those that stay are in again at the end. */
  function* leaving(number = 0, turn = onlyOne): Generator<number, void, void> {
    const tier = tierOf(number);
    const spared: number[] = [];
    const spent = new Set<number>();
    try {
      for (let party = turn(spent); party !== undefined; party = turn(spent)) {
        const slot = victim(number, party);
        if (slot === NONE) {
          spent.add(party);
          continue;
        }
        lineOf(tier, slot).remove(slot);
        spared.push(slot);
        yield slot;
      }
    } finally {
      for (const slot of spared) if (tree.holders(slot) >= 0) freed(slot);
    }
  }

  function victim(number = 0, party = 0): number {
    for (const line of tierOf(number).lines[party] ?? []) {
      const slot = line ? line.lowest() : NONE;
      if (slot !== NONE) return slot;
    }
    return NONE;
  }

  function expertOf(name: string): Expert {
    const found = name === 'adaptive' ? portfolio.best : expertNamed(name);
    if (found) return found;
    throw new Error(`there is no strategy '${name}' for prefixes; there is ${TREE_STRATEGIES.join(', ')}`);
  }

  function follow(next: Expert): void {
    if (next === expert) return;
    expert = next;
    rankAnew();
  }

  const placesBytes = () => tiers.reduce((sum, { places }) => sum + places.of.byteLength, 0);
  const nameOf = (slot: number): number => records.get(slot, HASH + 3) >>> 0;

  function came(slot: number): void {
    const ghost = ghosts.find(nameOf(slot));
    const weights = records.weights(slot);
    const at = records.weightsAt(slot);
    if (ghost === NONE) {
      firstUse(weights, at);
      records.set(slot, USES, 1);
      records.setTime(slot, clock);
      return;
    }
    ghosts.copyWeights(ghost, weights, at);
    records.set(slot, USES, ghosts.uses(ghost));
    records.setTime(slot, ghosts.time(ghost));
    use(slot);
  }

  function use(slot: number): void {
    const turnovers = (clock - records.time(slot)) / turnover;
    if (countUse(records.weights(slot), records.weightsAt(slot), turnovers))
      records.set(slot, USES, records.get(slot, USES) + 1);
    records.setTime(slot, clock);
  }

  function fit(): void {
    const capacity = Math.max(1, options.capacity());
    if (Math.abs(capacity - turnover) <= ROOM_CHANGE * turnover && turnover > 1) return;
    turnover = capacity;
    portfolio.fit(capacity);
    rankAnew();
  }

  function asked(slots: Int32Array, length: number, held: number): void {
    if (length === 0) return;
    fit();
    const last = slots[length - 1] as number;
    const isAgain = held === length && clock - records.time(last) < PAUSE * turnover && clock > 0;
    if (!isAgain) clock += length;
    for (let i = 0; i < length; i++) {
      const slot = slots[i] as number;
      if (i < held) use(slot);
      else records.setTime(slot, clock); // its use was counted as it came
    }
    if (!isAgain) tell(slots, length, held);
  }

  function tell(slots: Int32Array, length: number, held: number): void {
    if (length > names.length) names = new Uint32Array(2 * length);
    for (let i = 0; i < length; i++) names[i] = nameOf(slots[i] as number);
    const last = slots[length - 1] as number;
    const branch = records.get(last, BRANCH);
    pattern.follow(branch >>> 0);
    pattern.watch(branch >>> 0);
    const bytes = options.bytesOf(last);
    if (!portfolio.ask({ names, length, held, branch, bytes, time: clock, inCharge: expert })) return;
    pattern.judge();
    if (strategy === 'adaptive') follow(portfolio.best);
  }

  return {
    get strategy() {
      return strategy;
    },
    get inCharge() {
      return expert.name;
    },
    addTier,
    get bytes() {
      return allLines().reduce((sum, { bytes }) => sum + bytes, placesBytes());
    },
    get bytesBeside() {
      return portfolio.shadowBytes + ghosts.bytes;
    },
    setStrategy(name) {
      const next = expertOf(name);
      strategy = name;
      follow(next);
    },
    came,
    leaves(slot, isEvicted) {
      takeOut(slot);
      if (!isEvicted) return;
      const [weights, at] = [records.weights(slot), records.weightsAt(slot)];
      ghosts.leave(nameOf(slot), records.time(slot), records.get(slot, USES), weights, at, tree.count);
    },
    freed,
    prefer(slot, priority) {
      if (priority !== tree.priority(slot)) changeParty(slot, () => tree.setPriority(slot, priority));
    },
    changeParty,
    dropParty(party) {
      for (const { lines } of tiers) lines[party] = undefined;
    },
    asked,
    victim,
    leaving,
    report: () => ({ strategy, pattern: pattern.pattern, inCharge: expert.name, ...portfolio.report() }),
  };
}
