// The policy that puts the best of several in charge. Each expert runs a small cache of its own beside the real one, on the same
// requests for a fixed sample of the keys and the same share of the room (a shadow). Every so many requests their hit
// ratios are compared, smoothed; the one in charge is replaced by one that is better by more than noise. Pure.
// Nobody leaves by a change of experts: the new one takes over who is held (handover.ts), the uses that are remembered, and what
// its own shadow has learnt. The sample shrinks as the cache fills, so that shadows cost the same for caches of any size.
// The entries need a past: perfect LFU and the handover live on it.
import { Entries } from './entries.ts';
import { worthOf } from './gdsf.ts';
import { handOver } from './handover.ts';
import { createPatternWatch, type Pattern } from './pattern.ts';
import { POLICIES, type PolicyName } from './policies.ts';
import type { Objective, Policy } from './policy.ts';
import { createTrial, type Trial } from './trial.ts';

export interface AdaptiveOptions {
  /** The first is in charge at the beginning. */
  readonly experts: readonly PolicyName[];
  /** A shadow holds at most so many entries, give or take, and half of it at least. */
  readonly shadowEntriesMax: number;
  /** Uses remembered of keys that left, for shadows in proportion. */
  readonly pastMax: number;
  /** Requests between two comparisons, for each entry, within these bounds. */
  readonly intervalPerEntry: number;
  readonly intervalMin: number;
  readonly intervalMax: number;
  /** What the last interval counts for, against all before. */
  readonly smoothing: number;
  /** The hit ratio by which another has to be better. */
  readonly margin: number;
  /** Who has just come stays for so many intervals … */
  readonly dwell: number;
  /** … unless another is better by as much as this. */
  readonly marginUrgent: number;
}

export const ADAPTIVE_DEFAULTS: AdaptiveOptions = {
  experts: ['s3fifo', 'arc', 'wtinylfu-climber', 'gdsf', 'lfu', 'lru'],
  shadowEntriesMax: 384,
  pastMax: 1 << 20,
  intervalPerEntry: 2,
  intervalMin: 1000,
  intervalMax: 50_000,
  smoothing: 0.4,
  margin: 0.0075,
  dwell: 5,
  marginUrgent: 0.03,
};

export interface ExpertReport {
  readonly name: PolicyName;
  /** Of its shadow, in the objective's worth; undefined before the first comparison. */
  readonly hitRatio: number | undefined;
}
export interface AdaptiveReport {
  readonly pattern: Pattern | undefined;
  readonly inCharge: PolicyName;
  readonly experts: readonly ExpertReport[];
  readonly changes: number;
}
export interface Adaptive extends Policy {
  report(): AdaptiveReport;
}

/** Sampled requests without which a comparison waits for more. */
const SAMPLED_MIN = 50;
const SHORTFALL_DECAY = 0.95;
const HASHES = 2 ** 32;

interface Expert {
  readonly name: PolicyName;
  readonly shadow: Trial;
  /** Since the last comparison, in the objective's worth. */
  won: number;
  ratio: number;
  /** What it fell short of its shadow by when it was last in charge; it heals. */
  shortfall: number;
}

export function createAdaptive(
  entries: Entries,
  objective: () => Objective,
  options: Partial<AdaptiveOptions> = {},
): Adaptive {
  const settings = { ...ADAPTIVE_DEFAULTS, ...options };
  const experts = settings.experts.map((name) => createExpert(name));
  const pattern = createPatternWatch();
  let [charge] = experts as [Expert, ...Expert[]];
  let policy: Policy = POLICIES[charge.name](entries, objective);
  let share = 1;
  let hashBelow = HASHES;
  let isFollowing = false;
  let requestsLeft = settings.intervalMin;
  let sampled = 0;
  let worthSampled = 0;
  let won = 0;
  let compared: Objective | undefined;
  let intervalsInCharge = 0;
  let changes = 0;

  function createExpert(name: PolicyName): Expert {
    const own = new Entries(entries.bytesMax, name === 'lfu' ? settings.pastMax : 0);
    return { name, shadow: createTrial(own, POLICIES[name](own, objective)), won: 0, ratio: 0, shortfall: 0 };
  }

  function observe(slot: number, isHit: boolean): void {
    const hash = entries.hash[slot] as number;
    if (isFollowing) {
      pattern.follow(hash);
      isFollowing = false;
    }
    if (hash < hashBelow) sample(slot, hash, isHit);
    if (--requestsLeft <= 0) compare();
  }

  function sample(slot: number, hash: number, isHit: boolean): void {
    const bytes = entries.bytes[slot] as number;
    const cost = entries.cost[slot] as number;
    const worth = worthOf(entries, slot, objective());
    for (const expert of experts) if (expert.shadow.ask(hash, bytes, cost)) expert.won += worth;
    if (isHit) won += worth;
    sampled++;
    worthSampled += worth;
    pattern.watch(hash);
    isFollowing = true;
  }

  /** Half the keys, as often as the real cache has outgrown the sample; or other room. */
  function fitShadows(): void {
    const shareBefore = share;
    while (entries.count * share > settings.shadowEntriesMax) share /= 2;
    const bytesMax = entries.bytesMax * share;
    if (share === shareBefore && experts[0]?.shadow.entries.bytesMax === bytesMax) return;
    hashBelow = HASHES * share;
    for (const { shadow } of experts) shadow.restrict(hashBelow, bytesMax);
  }

  function compare(): void {
    const interval = Math.min(
      Math.max(settings.intervalPerEntry * entries.count, settings.intervalMin),
      settings.intervalMax,
    );
    requestsLeft = sampled < SAMPLED_MIN ? interval >> 1 : interval;
    if (sampled < SAMPLED_MIN) return;
    smooth();
    pattern.judge();
    intervalsInCharge++;
    const best = experts.reduce((a, b) => (promise(b) > promise(a) ? b : a));
    const gap = promise(best) - promise(charge);
    const isDue = intervalsInCharge >= settings.dwell || gap > settings.marginUrgent;
    if (best !== charge && gap > settings.margin && isDue) putInCharge(best);
  }

  /** Ratios in hits say nothing of bytes: with a new objective the smoothing begins anew. */
  function smooth(): void {
    const weight = compared === objective() ? settings.smoothing : 1;
    compared = objective();
    const worth = Math.max(worthSampled, Number.MIN_VALUE);
    const missing = (charge.won - won) / worth;
    for (const expert of experts) {
      expert.ratio += weight * (expert.won / worth - expert.ratio);
      if (expert === charge) expert.shortfall += settings.smoothing * (missing - expert.shortfall);
      else expert.shortfall *= SHORTFALL_DECAY;
      expert.won = 0;
    }
    sampled = worthSampled = won = 0;
  }

  /** What is expected of it in charge. */
  const promise = ({ ratio, shortfall }: Expert) => ratio - Math.max(0, shortfall);

  function putInCharge(next: Expert): void {
    const to = POLICIES[next.name](entries, objective);
    const learnt = next.shadow.policy.learnt?.();
    if (learnt !== undefined) to.learn?.(learnt);
    handOver(policy, to, entries);
    policy = to;
    charge = next;
    intervalsInCharge = 0;
    changes++;
  }

  return {
    hit(slot) {
      policy.hit(slot);
      observe(slot, true);
    },
    admit(slot) {
      policy.admit(slot);
      if (entries.count * share > settings.shadowEntriesMax) fitShadows();
      observe(slot, false);
    },
    victim: (hash, bytes, mayLeave) => policy.victim(hash, bytes, mayLeave),
    evict: (slot) => policy.evict(slot),
    remove: (slot) => policy.remove(slot),
    adopt: (slot) => policy.adopt(slot),
    coldestFirst: (visit) => policy.coldestFirst(visit),
    recall: (hash, bytes) => policy.recall?.(hash, bytes),
    report: () => ({
      pattern: pattern.pattern,
      inCharge: charge.name,
      experts: experts.map(({ name, ratio }) => ({ name, hitRatio: compared ? ratio : undefined })),
      changes,
    }),
  };
}
