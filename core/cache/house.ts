// One adapter's arena as those see it who lodge there: who is in which slab, which household each belongs to (a tenant's), and
// what could be had of them. A lodger is a payload with pages, under one name or several of its tenant's; one who is loose
// may be asked to leave. A slab comes free by that if all of its leased pages are those of loose lodgers, and of nobody
// whom this house does not know. `steps` counts slabs looked at. Bookkeeping only.
import type { Arena } from '../gpu/arena.ts';
import type { GpuLease } from '../gpu/gpu-lease.ts';
import { pagesPerSlab } from '../gpu/pages.ts';
import type { Entry } from './entry.ts';
import type { Ward, Warded } from './ward.ts';

export interface Lodger extends Warded {
  readonly lease: GpuLease;
  readonly house: House;
  readonly household: Household;
  /** The names it has. */
  readonly entries: Set<Entry>;
  readonly pages: number;
  readonly slabs: readonly Slab[];
  ward: Ward<Lodger>;
  band: number;
  /** The number of its last use. */
  used: number;
  loose: boolean;
  /** The last ask in which it was named. */
  asked: number;
}

/** A tenant's part of a house. */
export interface Household {
  readonly tenant: string;
  /** Of all pages that the tenant's tensors have leased here, those that are coming in or are still read included. */
  bytes: number;
  readonly lodgers: Set<Lodger>;
  /** By band of priority. */
  readonly wards: (Ward<Lodger> | undefined)[];
}

export interface Slab {
  readonly number: number;
  readonly pageBytes: number;
  /** With how many pages each. */
  readonly lodgers: Map<Lodger, number>;
  /** Of those who are loose. */
  loosePages: number;
}

export interface House {
  readonly arena: Arena;
  /** Slabs looked at. */
  readonly steps: number;
  readonly isEmpty: boolean;
  readonly households: ReadonlyMap<string, Household>;
  /** What tensors have or could have here: all but what others have. */
  readonly roomBytes: number;
  /** Of all households. */
  readonly tensorBytes: number;
  household(tenant: string): Household;
  /** Pages that the tenant takes, or gives back. */
  account(tenant: string, bytes: number): void;
  /** Where pages lie. */
  slabsFor(lease: GpuLease): Slab[];
  enter(lodger: Lodger): void;
  leave(lodger: Lodger): void;
  setLoose(lodger: Lodger, loose: boolean): void;
  /** Whether so many pages of a size could be had if all who are loose left; looks at each slab once at most. */
  couldGive(pages: number, pageBytes: number): boolean;
  /** Whether a slab would come free for another size. */
  canEmpty(slab: Slab, pageBytes: number): boolean;
  /** Those that would. */
  emptiable(pageBytes: number): Generator<Slab, void, void>;
  /** What was counted wrong, a line each. */
  faults(): string[];
}

export function createHouse(arena: Arena): House {
  const slabs = new Map<number, Slab>();
  const households = new Map<string, Household>();
  /** Of those who are loose, by page size. */
  const loosePages = new Map<number, number>();
  let steps = 0;
  let tensorBytes = 0;

  function household(tenant: string): Household {
    const known = households.get(tenant);
    if (known) return known;
    const fresh: Household = { tenant, bytes: 0, lodgers: new Set(), wards: [] };
    households.set(tenant, fresh);
    return fresh;
  }

  function slabOf(number: number, pageBytes: number): Slab {
    const known = slabs.get(number);
    if (known) return known;
    const slab: Slab = { number, pageBytes, lodgers: new Map(), loosePages: 0 };
    slabs.set(number, slab);
    return slab;
  }

  function setLoose(lodger: Lodger, loose: boolean): void {
    if (lodger.loose === loose) return;
    lodger.loose = loose;
    const sign = loose ? 1 : -1;
    const { pageBytes } = lodger.lease;
    loosePages.set(pageBytes, (loosePages.get(pageBytes) ?? 0) + sign * lodger.pages);
    for (const slab of lodger.slabs) slab.loosePages += sign * (slab.lodgers.get(lodger) ?? 0);
  }

  function canEmpty(slab: Slab, pageBytes: number): boolean {
    steps++;
    return slab.pageBytes !== pageBytes && slab.loosePages === arena.leasedOf(slab.number);
  }

  /** A household without pages is none. */
  function dropIfGone(one: Household): void {
    if (one.bytes <= 0 && one.lodgers.size === 0) households.delete(one.tenant);
  }

  return {
    arena,
    get steps() {
      return steps;
    },
    get isEmpty() {
      return households.size === 0;
    },
    households,
    get roomBytes() {
      return arena.capacityBytes - Math.max(0, arena.usedBytes - tensorBytes);
    },
    get tensorBytes() {
      return tensorBytes;
    },
    household,
    account(tenant, bytes) {
      const one = household(tenant);
      one.bytes += bytes;
      tensorBytes += bytes;
      dropIfGone(one);
    },
    slabsFor: (lease) => lease.lease.slabs().map(({ slab }) => slabOf(slab, lease.pageBytes)),
    enter(lodger) {
      for (const { slab, pages } of lodger.lease.lease.slabs())
        slabOf(slab, lodger.lease.pageBytes).lodgers.set(lodger, pages);
      lodger.household.lodgers.add(lodger);
    },
    leave(lodger) {
      setLoose(lodger, false);
      for (const slab of lodger.slabs) {
        slab.lodgers.delete(lodger);
        if (slab.lodgers.size === 0) slabs.delete(slab.number);
      }
      lodger.household.lodgers.delete(lodger);
      dropIfGone(lodger.household);
    },
    setLoose,
    couldGive(pages, pageBytes) {
      let missing = pages - (loosePages.get(pageBytes) ?? 0);
      for (const slab of slabs.values()) {
        if (missing <= 0) break;
        if (canEmpty(slab, pageBytes)) missing -= pagesPerSlab(pageBytes);
      }
      return missing <= 0;
    },
    canEmpty,
    *emptiable(pageBytes) {
      for (const slab of slabs.values()) if (canEmpty(slab, pageBytes)) yield slab;
    },
    faults() {
      const found: string[] = [];
      for (const { number, loosePages, lodgers } of slabs.values()) {
        let count = 0;
        for (const [{ loose }, pages] of lodgers) if (loose) count += pages;
        if (count !== loosePages) found.push(`slab ${number} counts ${loosePages} pages to be had, and has ${count}`);
      }
      for (const { tenant, bytes, lodgers, wards } of households.values()) {
        const lodged = sum(lodgers, ({ bytes }) => bytes);
        if (lodged > bytes) found.push(`${tenant} has ${lodged} bytes of pages, and ${bytes} are counted`);
        if (sum(wards, (ward) => ward?.count ?? 0) !== lodgers.size)
          found.push(`${tenant} has ${lodgers.size} payloads, and its policies know others`);
      }
      return found;
    },
  };
}

const sum = <T>(all: Iterable<T>, of: (one: T) => number): number => {
  let total = 0;
  for (const one of all) total += of(one);
  return total;
};
