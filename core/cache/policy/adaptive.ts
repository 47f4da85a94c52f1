// The policy that puts the best of several in charge. Each expert runs a small cache of its own beside the real one, on the same
// requests for a fixed sample of the keys and the same share of the room (a shadow). How they do says who should be in charge
// (choice.ts): at a review every so many requests, or at once when the load has turned into another. Pure.
// Nobody leaves by a change of experts: the new one takes over who is held (handover.ts), the uses and the popularity that are
// remembered whoever is in charge, and what its own shadow has learnt. The sample shrinks as the cache fills, so that shadows
// cost the same for caches of any size. The entries need a past: perfect LFU and the handover live on it.
import { type ChoiceSettings, createChoice } from './choice.ts';
import { Entries } from './entries.ts';
import { worthOf } from './gdsf.ts';
import { handOver } from './handover.ts';
import { createPatternWatch, type Pattern } from './pattern.ts';
import { POLICIES, type PolicyName } from './policies.ts';
import type { CreatePolicy, Objective, Policy } from './policy.ts';
import { Popularity } from './popularity.ts';
import { createSample } from './sample.ts';
import { createTrial, type Trial } from './trial.ts';

export interface AdaptiveOptions extends ChoiceSettings {
  /** The first is in charge at the beginning. */
  readonly experts: readonly PolicyName[];
  /** A shadow holds at most so many entries, give or take, and half of it at least … */
  readonly shadowEntriesMax: number;
  /** … until it stands for this share of the keys; of larger caches it holds more, */
  readonly shareMin: number;
  /** up to so many. */
  readonly shadowEntriesMost: number;
  /** Uses remembered of keys that left, for shadows in proportion. */
  readonly pastMax: number;
  /** Requests between two choices; undefined: as soon as some of the sample were seen. */
  readonly adjustEvery: number | undefined;
}

/** In charge until there is something to compare, and wherever one expert has to stand for all. */
export const BEGINNER = 'wtinylfu-climber' satisfies PolicyName;

export const ADAPTIVE_DEFAULTS: AdaptiveOptions = {
  experts: [BEGINNER, 's3fifo', 'arc', 'gdsf', 'lfu', 'lru'],
  shadowEntriesMax: 384,
  shareMin: 1 / 32,
  shadowEntriesMost: 4096,
  pastMax: 1 << 20,
  adjustEvery: undefined,
  memory: 8,
  margin: 1,
};

export interface ExpertReport {
  readonly name: PolicyName;
  /** Of its shadow, in the objective's worth; undefined before the first review. */
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

/** Sampled requests after which the pattern is judged, where no interval is given. */
const JUDGED_EVERY = 1024;
/** By such a share, so that shadows need another room too. */
const ROOM_CHANGED = 0.05;

interface Expert {
  readonly name: PolicyName;
  readonly shadow: Trial;
}

/** Sampled requests that the shadows have not been asked yet. */
const BATCH = 64;
const createBatch = () => ({
  count: 0,
  held: 0,
  hash: new Int32Array(BATCH),
  bytes: new Float64Array(BATCH),
  cost: new Float64Array(BATCH),
  worth: new Float64Array(BATCH),
});

export function createAdaptive(
  entries: Entries,
  objective: () => Objective,
  options: Partial<AdaptiveOptions> = {},
): Adaptive {
  const settings = { ...ADAPTIVE_DEFAULTS, ...options };
  const { shadowEntriesMax, shadowEntriesMost, shareMin } = settings;
  const popularity = new Popularity(entries);
  const experts = settings.experts.map(createExpert);
  const choice = createChoice(experts.length, settings);
  const pattern = createPatternWatch();
  const batch = createBatch();
  let [expert] = experts as [Expert, ...Expert[]];
  let policy = create(expert.name);
  const keys = createSample();
  /** That the shadows stand for. */
  let room = entries.bytesMax;
  let isFollowing = false;
  /** 0: whenever a batch was asked. */
  const adjustEvery = settings.adjustEvery ?? 0;
  let requestsLeft = adjustEvery;
  /** With more than so many held, the sample is too large. */
  let countMax = shadowEntriesMax;
  let sampled = 0;
  let counted = objective();
  let isCounted = false;
  let changes = 0;

  function create(name: PolicyName): Policy {
    const createOne: CreatePolicy = POLICIES[name];
    return createOne(entries, objective, popularity);
  }

  function createExpert(name: PolicyName): Expert {
    const own = new Entries(entries.bytesMax, name === 'lfu' ? settings.pastMax : 0);
    return { name, shadow: createTrial(own, POLICIES[name](own, objective)) };
  }

  function observe(slot: number, isHit: boolean): void {
    const hash = entries.hash[slot] as number;
    if (isFollowing) {
      pattern.follow(hash);
      isFollowing = false;
    }
    if ((hash & keys.hashBits) === 0) sample(slot, hash, isHit);
    if (adjustEvery !== 0 && --requestsLeft <= 0) choose();
  }

  function sample(slot: number, hash: number, isHit: boolean): void {
    const at = batch.count++;
    const worth = worthOf(entries, slot, objective());
    batch.hash[at] = hash;
    batch.bytes[at] = entries.bytes[slot] as number;
    batch.cost[at] = entries.cost[slot] as number;
    batch.worth[at] = worth;
    if (isHit) batch.held += worth;
    pattern.watch(hash);
    isFollowing = true;
    sampled++;
    if (batch.count < BATCH) return;
    askShadows();
    if (Math.abs(entries.bytesMax - room) > ROOM_CHANGED * room) fitShadows();
    if (adjustEvery === 0) choose();
  }

  /** One shadow after the other, so that the processor's cache holds each but once. */
  function askShadows(): void {
    const requests = batch.count;
    const won = experts.map(({ shadow }) => wonBy(shadow));
    const worth = batch.worth.subarray(0, requests).reduce((a, b) => a + b, 0);
    const round = { requests, worth, held: batch.held, won };
    batch.count = batch.held = 0;
    if (counted === objective()) choice.count(round, experts.indexOf(expert), entries.count * keys.share);
    else choice.forget();
    counted = objective();
    isCounted = true;
  }

  function wonBy(shadow: Trial): number {
    let won = 0;
    for (let i = 0; i < batch.count; i++)
      if (shadow.ask(batch.hash[i] as number, batch.bytes[i] as number, batch.cost[i] as number))
        won += batch.worth[i] as number;
    return won;
  }

  /** Half the keys, as often as the real cache has outgrown the sample; or other room. */
  function fitShadows(): void {
    if (batch.count > 0) askShadows();
    while (entries.count > countMax) {
      keys.halve();
      countMax = (keys.share > shareMin ? shadowEntriesMax : shadowEntriesMost) / keys.share;
    }
    room = entries.bytesMax;
    for (const { shadow } of experts) shadow.restrict(keys.hashBits, room * keys.share);
  }

  function choose(): void {
    requestsLeft = adjustEvery;
    if (batch.count > 0) askShadows();
    putInCharge(choice.best(experts.indexOf(expert)));
    if (adjustEvery === 0 && sampled < JUDGED_EVERY) return;
    sampled = 0;
    pattern.judge();
  }

  function putInCharge(at: number): void {
    const next = experts[at] ?? expert;
    if (next === expert) return;
    const to = create(next.name);
    const learnt = next.shadow.policy.learnt?.();
    if (learnt !== undefined) to.learn?.(learnt);
    handOver(policy, to, entries);
    policy = to;
    expert = next;
    changes++;
  }

  return {
    hit(slot) {
      popularity.use(slot);
      policy.hit(slot);
      observe(slot, true);
    },
    admit(slot) {
      popularity.enter(slot);
      policy.admit(slot);
      if (entries.count > countMax) fitShadows();
      observe(slot, false);
    },
    victim: (hash, bytes, mayLeave) => policy.victim(hash, bytes, mayLeave),
    evict(slot) {
      popularity.leave(slot);
      policy.evict(slot);
    },
    remove: (slot) => policy.remove(slot),
    adopt(slot) {
      popularity.adopt(slot);
      policy.adopt(slot);
    },
    coldestFirst: (visit) => policy.coldestFirst(visit),
    recall: (hash, bytes) => policy.recall?.(hash, bytes),
    report: () => ({
      pattern: pattern.pattern,
      inCharge: expert.name,
      experts: experts.map(({ name }, at) => ({ name, hitRatio: isCounted ? choice.ratioOf(at) : undefined })),
      changes,
    }),
  };
}
