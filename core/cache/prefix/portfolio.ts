// Which expert is the best for the requests as they are: each has a shadow of the cache, on the same requests, and every so many of them
// what each would have had is compared, over the last intervals, the older counting less. The one in charge is replaced by one
// that is better by more than noise; back to the first, LRU, as soon as that does better. Two more shadows follow the one that decides, with half and with twice the room.
// Shadows are metadata only and of bounded size: of a cache beyond that they are a part, as small as has to be, and are asked only for
// chains whose last branch is in it, whole ones. So they cost the same whatever the cache's size. Pure.
import type { Objective } from '../policy/policy.ts';
import { costOf, EXPERTS, type Expert } from './experts.ts';
import { Known } from './known.ts';
import { Shadow } from './shadow.ts';

export interface PortfolioOptions {
  /** An expert's shadow holds at most so many blocks, and half of it at least where the cache is larger. */
  readonly shadowBlocksMax: number;
  /** Blocks remembered that no shadow holds, for each that a shadow has room for. */
  readonly leftPerBlock: number;
  /** Requests between two comparisons, and the blocks they ask for at least. */
  readonly interval: number;
  readonly intervalBlocksMin: number;
  /** What all before count less with each interval. */
  readonly smoothing: number;
  /** The hit ratio by which another has to be better. */
  readonly margin: number;
  /** If the first would have had so much of an interval more since the last one, it is back at once: that is never far below it. */
  readonly marginUrgent: number;
  /** Where the cache has had so much less than the first would have, of all, another has to be better than it by as much as that. */
  readonly debtMax: number;
}

export const PORTFOLIO_DEFAULTS: PortfolioOptions = {
  shadowBlocksMax: 32_768,
  leftPerBlock: 8,
  interval: 100,
  intervalBlocksMin: 500,
  smoothing: 0.2,
  margin: 0.004,
  marginUrgent: 0.03,
  debtMax: 0.001,
};

export interface Asked {
  /** By block of the chain: 32 bits of its name. */
  readonly names: Uint32Array;
  readonly length: number;
  /** How many of them the cache held, from the first on. */
  readonly held: number;
  /** What the chain's last block is on. */
  readonly branch: number;
  /** Of one block. */
  readonly bytes: number;
  /** In blocks asked for. */
  readonly time: number;
  /** Who says what leaves the cache. */
  readonly inCharge: Expert;
}

/** Shares of the objective's worth; undefined before the first comparison. */
export interface Ratios {
  readonly now: number | undefined;
  readonly atHalf: number | undefined;
  readonly atTwice: number | undefined;
}
export interface ExpertReport {
  readonly name: string;
  /** Of its shadow. */
  readonly hitRatio: number | undefined;
}

export interface Portfolio {
  readonly best: Expert;
  /** That shadows take. */
  readonly shadowBytes: number;
  /** So many blocks the cache has room for. */
  fit(capacity: number): void;
  /** True where they were compared. */
  ask(asked: Asked): boolean;
  report(): { readonly changes: number; readonly experts: readonly ExpertReport[]; readonly ratios: Ratios };
}

/** Branches are 32-bit names. */
const BRANCHES = 2 ** 32;
const SHORTFALL_DECAY = 0.95;
/** So many times worse than what is looked for at the end of an interval, it is ended at once. */
const AT_ONCE = 2;
/** Of what was ever asked, with each interval. */
const FORGETTING = 0.001;
/** Beside the experts' own shadows. */
const ROOMS = [0.5, 2];

/** What one would have had since the last comparison, and over the last intervals. */
interface Account {
  now: number;
  sum: number;
  /** Over as long as anybody remembers. */
  ever: number;
}
interface Contestant extends Account {
  readonly expert: Expert;
  /** What it fell short of its shadow by when it was last in charge; it heals. */
  shortfall: number;
}

export function createPortfolio(
  blockTokens: number,
  objective: () => Objective,
  given: Partial<PortfolioOptions> = {},
): Portfolio {
  const settings = { ...PORTFOLIO_DEFAULTS, ...given };
  const account = (): Account => ({ now: 0, sum: 0, ever: 0 });
  const contestants: Contestant[] = EXPERTS.map((expert) => ({ ...account(), expert, shortfall: 0 }));
  const [first] = contestants as [Contestant, ...Contestant[]];
  let best = first;
  const rooms = ROOMS.map(account);
  const cache = account();
  const asked = account();
  /** By bit. */
  const accounts: readonly Account[] = [...contestants, ...rooms];
  let known = new Known(blockTokens, 0);
  let shadows: Shadow[] = [];
  let turnover = 1;
  let share = 1;
  let chain = new Int32Array(64);
  /** What the first has to have more of than the best since the last comparison, to be back at once. */
  let urgent = Number.POSITIVE_INFINITY;
  let requests = 0;
  let blocks = 0;
  let compared: Objective | undefined;
  let changes = 0;

  function fit(capacity: number): void {
    turnover = Math.max(1, capacity);
    const shareBefore = share;
    for (share = 1; turnover * share > settings.shadowBlocksMax; ) share /= 2;
    const room = (bit: number) => {
      const factor = bit < contestants.length ? 1 : (ROOMS[bit - contestants.length] ?? 1);
      return Math.max(1, Math.round(turnover * share * factor));
    };
    if (shadows.length > 0 && share === shareBefore) {
      shadows.forEach((shadow, bit) => {
        shadow.fit(room(bit), turnover);
      });
      return;
    }
    // another part of the requests: what shadows hold is of no use to it
    known = new Known(blockTokens, Math.ceil(settings.leftPerBlock * turnover * share));
    shadows = accounts.map((_, bit) => {
      const expert = contestants[bit]?.expert ?? best.expert;
      return new Shadow({ known, bit, expert, capacity: room(bit), turnover });
    });
  }

  function ask({ names, length, held, branch, bytes, time, inCharge }: Asked): boolean {
    if (branch >>> 0 >= share * BRANCHES) return false;
    if (length > chain.length) chain = new Int32Array(2 * length);
    known.begin();
    let worth = 0;
    let having = 2 ** accounts.length - 1;
    for (let i = 0; i < length; i++) {
      const block = known.ask(names[i] as number, i, time, turnover);
      chain[i] = block;
      const still = having & known.marks(block);
      if (still !== having) settle(having & ~still, worth);
      having = still;
      worth += worthOf(i, bytes);
      if (i < held) cache.now += worthOf(i, bytes);
    }
    settle(having, worth);
    asked.now += worth;
    for (const shadow of shadows) shadow.take(chain, length);
    known.forget();
    blocks += length;
    requests++;
    const isDue = requests >= settings.interval && blocks >= settings.intervalBlocksMin;
    if (!isDue && first.now - best.now <= AT_ONCE * urgent) return false;
    compare(inCharge);
    return true;
  }

  /** To those who had all up to here and lack what follows. */
  function settle(marks: number, worth: number): void {
    for (let left = marks; left !== 0; left &= left - 1) {
      const one = accounts[31 - Math.clz32(left & -left)];
      if (one) one.now += worth;
    }
  }

  function worthOf(depth: number, bytes: number): number {
    if (objective() === 'hits') return 1;
    return objective() === 'bytes' ? bytes : costOf(depth * blockTokens);
  }

  /** Ratios in hits say nothing of bytes: with a new objective they begin anew. */
  function compare(inCharge: Expert): void {
    const kept = compared === objective() ? 1 - settings.smoothing : 0;
    compared = objective();
    for (const one of contestants) {
      const missing = (one.now - cache.now) / Math.max(asked.now, Number.MIN_VALUE);
      if (one.expert === inCharge) one.shortfall += settings.smoothing * (missing - one.shortfall);
      else one.shortfall *= SHORTFALL_DECAY;
    }
    const isWorse = first.now - best.now > urgent;
    for (const one of [asked, cache, ...accounts]) {
      one.sum = kept * one.sum + one.now;
      one.ever = (1 - FORGETTING) * one.ever + one.now;
      one.now = 0;
    }
    requests = blocks = 0;
    urgent = settings.marginUrgent * settings.smoothing * asked.sum; // as much of an interval as they mostly have
    const inDebt = first.ever - cache.ever > settings.debtMax * asked.ever;
    const margin = inDebt ? settings.marginUrgent : settings.margin;
    const next = contestants.reduce((a, b) => (promise(b) > promise(a) ? b : a));
    if (promise(next) > promise(best) + margin) putInCharge(next);
    else if (isWorse || (inDebt && promise(best) < promise(first) + margin)) putInCharge(first);
    for (const shadow of shadows.slice(contestants.length)) shadow.follow(inCharge);
  }

  function putInCharge(next: Contestant): void {
    if (next === best) return;
    best = next;
    changes++;
  }

  const ratioOf = ({ sum }: Account): number => sum / Math.max(asked.sum, Number.MIN_VALUE);
  /** What is expected of it in charge. */
  const promise = (one: Contestant): number => ratioOf(one) - Math.max(0, one.shortfall);
  const told = (one: Account | undefined) => (compared && one ? ratioOf(one) : undefined);

  return {
    get best() {
      return best.expert;
    },
    get shadowBytes() {
      return shadows.reduce((sum, { bytes }) => sum + bytes, known.bytes);
    },
    fit,
    ask,
    report: () => ({
      changes,
      experts: contestants.map((one) => ({ name: one.expert.name, hitRatio: told(one) })),
      ratios: { now: told(cache), atHalf: told(rooms[0]), atTwice: told(rooms[1]) },
    }),
  };
}
