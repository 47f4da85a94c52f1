// Quotas in this process's memory: what each bucket owes, at most `max` buckets. Pure.
// A bucket that owes nothing is as good as none. Where there is no room, the first of a few that owes nothing goes, and else the one of
// them that would be free soonest: who is limited the most is forgotten the last. It does not survive a restart and is not
// shared between processes: each edge gives the whole quota.
import { charged, type Debt, NOTHING_OWED, paid, standingOf } from './gcra.ts';
import type { Charge, Limits, Told } from './limits.ts';

export interface MemoryLimitsOptions {
  readonly max: number;
  /** Milliseconds; it may be any clock. */
  readonly now: () => number;
}

interface Bucket {
  debt: Debt;
  freeAt: number;
}

/** Looked at for one that can go. */
const LOOKED_AT = 8;

export interface MemoryLimits extends Limits {
  take(charges: readonly Charge[]): readonly Told[];
  /** Buckets there are. */
  readonly size: number;
}

export function memoryLimits({ max, now }: MemoryLimitsOptions): MemoryLimits {
  const buckets = new Map<string, Bucket>();

  function makeRoom(at: number): void {
    let goes: string | undefined;
    let soonest = Number.POSITIVE_INFINITY;
    let looked = 0;
    for (const [name, bucket] of buckets) {
      if (bucket.freeAt < soonest) [goes, soonest] = [name, bucket.freeAt];
      if (soonest <= at || ++looked === LOOKED_AT) break;
      // To the end of the line: the next look begins with others.
      buckets.delete(name);
      buckets.set(name, bucket);
    }
    if (goes !== undefined) buckets.delete(goes);
  }

  function keep(name: string, debt: Debt, freeAt: number): void {
    const bucket = buckets.get(name);
    if (bucket) {
      bucket.debt = debt;
      bucket.freeAt = freeAt;
      return;
    }
    if (freeAt <= debt.at) return;
    if (buckets.size >= max) makeRoom(debt.at);
    buckets.set(name, { debt, freeAt });
  }

  return {
    get size() {
      return buckets.size;
    },
    take(charges) {
      const at = Math.floor(now());
      const before = charges.map(({ policy, whose, wanted }) => {
        const name = `${policy.name}\n${whose}`;
        const debt = paid(policy, buckets.get(name)?.debt ?? NOTHING_OWED, at);
        return { name, policy, debt, ...standingOf(policy, debt, wanted) };
      });
      if (before.some(({ waitMs }, i) => waitMs > 0 && charges[i]?.wanted !== 0)) return before;
      return charges.map(({ policy, cost }, i) => {
        const { name = '', debt = NOTHING_OWED } = before[i] ?? {};
        const owes = charged(policy, debt, cost);
        const standing = standingOf(policy, owes, 0);
        keep(name, owes, at + standing.freeMs);
        return { policy, ...standing };
      });
    },
  };
}
