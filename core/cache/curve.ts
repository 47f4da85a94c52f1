// What the hit ratio of the adapters would be with half the room, as it is, and with twice as much: small caches without content (shadows)
// of a sample of the keys, on the same requests. They run under the strategy that serves, adaptive's by the expert that it begins
// with. Told of reads, and of what is put; a read of what is not held counts too, as it may have been held in more room.
// Numbers of long ago count less and less. A few hundred keys in each shadow: ratios are right to a few points.

import type { Strategy } from '../contract/policy.ts';
import { BEGINNER } from './policy/adaptive.ts';
import { Entries } from './policy/entries.ts';
import { POLICIES } from './policy/policies.ts';
import type { CreatePolicy } from './policy/policy.ts';
import { createSample } from './policy/sample.ts';
import { createTrial, type Trial } from './policy/trial.ts';

export const SIZES = { half: 0.5, same: 1, double: 2 } as const;
export type Ratios = Record<keyof typeof SIZES | 'now', number | null>;

export interface Curve {
  /** Asked for, of so many bytes if that is known; `hit`: was on an adapter. */
  read(hash: number, bytes: number | undefined, hit: boolean): void;
  put(hash: number, bytes: number): void;
  /** Begins anew under this strategy. */
  follow(strategy: Strategy): void;
  ratios(): Ratios;
}

const ENTRIES_MAX = 1024;
const HALVED_AFTER = 20_000;
const READS_MIN = 50;
/** Sampled requests between two looks at the room. */
const FIT_EVERY = 32;
const CAPACITY_CHANGED = 0.05;
const NAMES = Object.keys(SIZES) as (keyof typeof SIZES)[];

export function createCurve(strategy: Strategy, capacity: () => number): Curve {
  let shadows = begin(strategy);
  let keys = createSample();
  let fitted = 0;
  let untilFit = 0;
  let reads = 0;
  let now = 0;

  function begin(of: Strategy): { name: keyof typeof SIZES; trial: Trial; hits: number }[] {
    return NAMES.map((name) => {
      const entries = new Entries(0);
      const create: CreatePolicy = POLICIES[of === 'adaptive' ? BEGINNER : of];
      return {
        name,
        trial: createTrial(
          entries,
          create(entries, () => 'hits'),
        ),
        hits: 0,
      };
    });
  }

  /** Half the keys, as often as the largest shadow has too many; and the room that there is. */
  function fit(): void {
    if (untilFit-- > 0) return;
    untilFit = FIT_EVERY;
    const room = capacity();
    const most = Math.max(...shadows.map(({ trial }) => trial.entries.count));
    const isSame = Math.abs(room * keys.share - fitted) <= CAPACITY_CHANGED * fitted;
    if (most <= ENTRIES_MAX && isSame) return;
    if (most > ENTRIES_MAX) {
      keys.halve();
      halve(); // what was counted came of twice as many keys, and would count twice
    }
    fitted = room * keys.share;
    for (const { name, trial } of shadows) trial.restrict(keys.hashBits, fitted * SIZES[name]);
  }

  function halve(): void {
    reads /= 2;
    now /= 2;
    for (const shadow of shadows) shadow.hits /= 2;
  }

  return {
    read(hash, bytes = Number.POSITIVE_INFINITY, hit) {
      if ((hash & keys.hashBits) !== 0) return;
      fit();
      reads++;
      if (hit) now++;
      for (const shadow of shadows) if (shadow.trial.ask(hash, bytes, 1)) shadow.hits++;
      if (reads >= HALVED_AFTER) halve();
    },
    put(hash, bytes) {
      if ((hash & keys.hashBits) !== 0) return;
      fit();
      for (const { trial } of shadows) trial.ask(hash, bytes, 1);
    },
    follow(next) {
      shadows = begin(next);
      keys = createSample();
      fitted = reads = now = untilFit = 0;
    },
    ratios() {
      const ratio = (hits: number) => (reads < READS_MIN ? null : hits / reads);
      const of = (name: keyof typeof SIZES) => ratio(shadows.find((one) => one.name === name)?.hits ?? 0);
      return { now: ratio(now), half: of('half'), same: of('same'), double: of('double') };
    },
  };
}
