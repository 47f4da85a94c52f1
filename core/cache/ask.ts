// Who leaves for one ask, found on trial; the rules are said in lodgings.ts. Nobody leaves by it, and nothing is changed but what the
// policies think of those whom they named. Pages of another size help only where a slab of theirs comes free as a whole: who
// is named and lodges in such ones is passed over and remembered; once so many are, all of the slab leave in which most
// of them lodge. At last each who turns out not to be needed is spared, the last who was named first.
import type { GpuTrial } from '../gpu/gpu-lease.ts';
import { SLAB_BYTES } from '../gpu/pages.ts';
import { BANDS } from './bands.ts';
import type { Entry } from './entry.ts';
import type { House, Household, Lodger, Slab } from './house.ts';

export interface AskOptions {
  readonly house: House;
  /** Of whoever asks. */
  readonly own: Household | undefined;
  /** Bytes of pages that are to be added. */
  readonly growth: number;
  readonly pageBytes: number;
  /** The newcomer's. */
  readonly hash: number;
  readonly trial: GpuTrial;
  /** The number of the last use. */
  readonly now: number;
}

export interface Leaving {
  readonly entry: Entry;
  readonly cause: 'room' | 'quota';
}

export interface Ask {
  /** Pages of those who were asked, passed over or spared. */
  readonly steps: number;
  readonly asked: ReadonlySet<Lodger>;
  /** What a household would have left. */
  heldBy(household: Household): number;
  /** One more of a household is asked; undefined if nobody there may leave. */
  giveOne(household: Household): Lodger | undefined;
  /** One more, and all of a slab if it is time for that; false if nobody is left who may leave. */
  giveNext(): boolean;
  /** Each without whom it is not enough; the first of those asked, so many, were for the quota. */
  needed(forQuota: number, isEnough: () => boolean): Leaving[];
}

/** So many who are no help in themselves are passed over in one ask, or a slab's bytes of them. */
const PASSED_MAX = 256;
/** To find one that may go. */
const SLABS_LOOKED_AT = 64;

let asks = 0;

/** Who is asked, one after the other, on trial. */
export function createAsk({ house, own, growth, pageBytes, hash, trial, now }: AskOptions): Ask {
  const ask = ++asks;
  let steps = 0;
  const asked = new Set<Lodger>();
  const given = new Map<Household, number>();
  const exhausted = new Set<Household>();
  const passedIn = new Map<Slab, number>();
  let passed = 0;
  let passedBytes = 0;
  let slabsAreOver = false;
  const share = house.roomBytes / Math.max(1, house.households.size);

  const givenBy = (household: Household): number => given.get(household) ?? 0;
  const heldBy = (household: Household): number => household.bytes - givenBy(household);
  const excessOf = (household: Household): number => heldBy(household) + (household === own ? growth : 0) - share;
  const isAskable = (lodger: Lodger): boolean =>
    lodger.loose && lodger.asked !== ask && !(slabsAreOver && lodger.lease.pageBytes !== pageBytes);

  function give(lodger: Lodger): void {
    steps += lodger.pages;
    lodger.asked = ask;
    asked.add(lodger);
    given.set(lodger.household, givenBy(lodger.household) + lodger.bytes);
    trial.give(lodger.lease);
  }

  /** Of one household; undefined if nobody there may leave. */
  function giveOne(household: Household): Lodger | undefined {
    let named: Lodger | undefined;
    let idleMost = Number.NEGATIVE_INFINITY;
    for (const [band, ward] of household.wards.entries()) {
      const one = ward?.name(hash, growth, isAskable);
      const idle = one ? (now + 1 - one.used) * (BANDS[band]?.idleness ?? 1) : idleMost;
      if (idle <= idleMost) continue;
      named = one;
      idleMost = idle;
    }
    if (named) give(named);
    return named;
  }

  /** Its pages are of another size. */
  function pass(lodger: Lodger): void {
    passed++;
    passedBytes += lodger.bytes;
    for (const slab of lodger.slabs)
      passedIn.set(slab, (passedIn.get(slab) ?? 0) + (slab.lodgers.get(lodger) ?? 0) * slab.pageBytes);
    if (passed >= PASSED_MAX || passedBytes >= SLAB_BYTES) giveSlab();
  }

  /** All of a slab: of that in which most lodge who were passed over, where it may go. */
  function giveSlab(): void {
    const slab = findSlab();
    passed = passedBytes = 0;
    passedIn.clear();
    if (!slab) slabsAreOver = true; // from now on nobody is named who does not help
    for (const lodger of slab?.lodgers.keys() ?? []) if (lodger.asked !== ask) give(lodger);
  }

  function findSlab(): Slab | undefined {
    const byMost = [...passedIn].sort(([, a], [, b]) => b - a);
    let looks = SLABS_LOOKED_AT;
    for (const [slab] of byMost) {
      if (looks-- === 0) return undefined;
      if (house.canEmpty(slab, pageBytes) && mayGive(slab)) return slab;
    }
    for (const slab of house.emptiable(pageBytes)) {
      if (looks-- === 0) return undefined;
      if (!isEmptied(slab) && mayGive(slab)) return slab;
    }
    return undefined;
  }

  /** All of it have been asked already. */
  function isEmptied({ lodgers }: Slab): boolean {
    for (const { asked } of lodgers.keys()) if (asked !== ask) return false;
    return true;
  }

  /** Nobody in it belongs to a household that has no more than its share. */
  function mayGive(slab: Slab): boolean {
    if (!own || house.households.size === 1) return true;
    const wanted = new Map<Household, number>();
    for (const { household, bytes, asked } of slab.lodgers.keys())
      if (asked !== ask) wanted.set(household, (wanted.get(household) ?? 0) + bytes);
    for (const [household, bytes] of wanted) if (household !== own && bytes > excessOf(household)) return false;
    return true;
  }

  /** Whose turn it is; undefined if nobody's is left. */
  function giver(): Household | undefined {
    if (own && !exhausted.has(own) && excessOf(own) > 0) return own;
    let best: Household | undefined;
    for (const household of house.households.values()) {
      if (exhausted.has(household) || (own && excessOf(household) <= 0)) continue;
      if (!best || excessOf(household) > excessOf(best)) best = household;
    }
    return best ?? (own && !exhausted.has(own) ? own : undefined);
  }

  return {
    get steps() {
      return steps;
    },
    asked,
    heldBy,
    giveOne,
    giveNext(): boolean {
      for (let next = giver(); next; next = giver()) {
        const lodger = giveOne(next);
        if (lodger && lodger.lease.pageBytes !== pageBytes) pass(lodger);
        if (lodger) return true;
        exhausted.add(next);
      }
      return false;
    },
    needed(forQuota: number, isEnough: () => boolean): Leaving[] {
      const leaving: Leaving[] = [];
      const all = [...asked];
      for (const [i, lodger] of [...all.entries()].reverse()) {
        steps += lodger.pages;
        trial.keep(lodger.lease);
        given.set(lodger.household, givenBy(lodger.household) - lodger.bytes);
        if (isEnough()) continue;
        trial.give(lodger.lease);
        given.set(lodger.household, givenBy(lodger.household) + lodger.bytes);
        const cause = i < forQuota ? 'quota' : 'room';
        for (const entry of lodger.entries) leaving.push({ entry, cause });
      }
      return leaving.reverse();
    },
  };
}
