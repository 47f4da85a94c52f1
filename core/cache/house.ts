// One adapter's arena as those see it who lodge there: who is in which slab, how old lodgers and slabs are, and what could be
// had of them. A slab is as old as the last use of its youngest lodger. A lodger who is loose may be asked to leave; a slab
// comes free by that if all of its leased pages are those of loose lodgers, and of nobody whom this house does not know.
// What a lodger does costs a few steps for each slab it has pages in, in the logarithm of those beside it; how many others
// lodge elsewhere does not matter. `steps` counts what it costs to look for room.
import type { Arena } from '../gpu/arena.ts';
import type { GpuLease } from '../gpu/gpu-lease.ts';
import { pagesPerSlab } from '../gpu/pages.ts';
import type { Entry } from './entry.ts';
import { createQueue, type Queue, type Queued } from './queue.ts';

export interface Lodger extends Queued {
  readonly entry: Entry;
  readonly lease: GpuLease;
  readonly house: House;
  readonly pages: number;
  readonly stays: readonly Stay[];
  /** The number of its last use. */
  used: number;
  loose: boolean;
}

/** One lodger in one slab. */
interface Stay extends Queued {
  readonly lodger: Lodger;
  readonly slab: Slab;
  readonly pages: number;
}

interface Slab extends Queued {
  readonly number: number;
  readonly pageBytes: number;
  /** The youngest first. */
  readonly stays: Queue<Stay>;
  /** Of those who are loose. */
  loosePages: number;
  used: number;
}

/** Pages of one size. */
interface Rooms {
  /** Those who are loose. */
  readonly line: Queue<Lodger>;
  loosePages: number;
}

export interface House {
  readonly arena: Arena;
  /** Slabs looked at. */
  readonly steps: number;
  readonly isEmpty: boolean;
  /** Lodges on these pages from now on; there is at least one. */
  enter(entry: Entry, lease: GpuLease, used: number): Lodger;
  leave(lodger: Lodger): void;
  use(lodger: Lodger, used: number): void;
  setLoose(lodger: Lodger, loose: boolean): void;
  /** Whether so many pages of a size could be had; looks at each slab once at most. */
  couldGive(pages: number, pageBytes: number): boolean;
  /** What would bring pages of a size, oldest first: single lodgers, and all of a slab. The house must not change meanwhile. */
  offers(pageBytes: number): Generator<readonly Lodger[], void, void>;
  /** What was counted wrong, a line each. */
  faults(): string[];
}

const older = (a: Lodger, b: Lodger): boolean => a.used < b.used;
const younger = (a: Stay, b: Stay): boolean => a.lodger.used > b.lodger.used;
/** Two slabs have one age when one lodger is the youngest of both. */
const olderSlab = (a: Slab, b: Slab): boolean => a.used < b.used || (a.used === b.used && a.number < b.number);

export function createHouse(arena: Arena): House {
  const slabs = new Map<number, Slab>();
  const slabLine = createQueue(olderSlab);
  const sizes = new Map<number, Rooms>();
  let steps = 0;

  function slabOf(number: number, pageBytes: number): Slab {
    const known = slabs.get(number);
    if (known) return known;
    const slab: Slab = { number, pageBytes, stays: createQueue(younger), loosePages: 0, used: 0, place: -1 };
    slabs.set(number, slab);
    return slab;
  }

  function roomsOf(pageBytes: number): Rooms {
    const known = sizes.get(pageBytes);
    if (known) return known;
    const rooms: Rooms = { line: createQueue(older), loosePages: 0 };
    sizes.set(pageBytes, rooms);
    return rooms;
  }

  function use(lodger: Lodger, used: number): void {
    lodger.used = used;
    if (lodger.loose) roomsOf(lodger.lease.pageBytes).line.put(lodger);
    for (const stay of lodger.stays) {
      stay.slab.stays.put(stay);
      rank(stay.slab);
    }
  }

  /** Where it belongs among slabs, by those who lodge there now; nowhere, if nobody does. */
  function rank(slab: Slab): void {
    const [first] = slab.stays.all;
    if (first) {
      slab.used = first.lodger.used;
      slabLine.put(slab);
    } else {
      slabs.delete(slab.number);
      slabLine.delete(slab);
    }
  }

  function setLoose(lodger: Lodger, loose: boolean): void {
    if (lodger.loose === loose) return;
    lodger.loose = loose;
    const sign = loose ? 1 : -1;
    const rooms = roomsOf(lodger.lease.pageBytes);
    rooms.loosePages += sign * lodger.pages;
    for (const { slab, pages } of lodger.stays) slab.loosePages += sign * pages;
    if (loose) rooms.line.put(lodger);
    else rooms.line.delete(lodger);
  }

  /** Whether it would come free for another size. */
  function canEmpty(slab: Slab, pageBytes: number): boolean {
    steps++;
    return slab.pageBytes !== pageBytes && slab.loosePages === arena.leasedOf(slab.number);
  }

  const house: House = {
    arena,
    get steps() {
      return steps;
    },
    get isEmpty() {
      return slabs.size === 0;
    },
    enter(entry, lease, used) {
      const stays: Stay[] = [];
      const { pages, pageBytes } = lease;
      const lodger: Lodger = { entry, lease, house, pages, stays, used, loose: false, place: -1 };
      for (const { slab, pages } of lease.lease.slabs())
        stays.push({ lodger, slab: slabOf(slab, pageBytes), pages, place: -1 });
      use(lodger, used);
      return lodger;
    },
    leave(lodger) {
      setLoose(lodger, false);
      for (const stay of lodger.stays) {
        stay.slab.stays.delete(stay);
        rank(stay.slab);
      }
    },
    use,
    setLoose,
    couldGive(pages, pageBytes) {
      let missing = pages - (sizes.get(pageBytes)?.loosePages ?? 0);
      for (const slab of slabLine.all) {
        if (missing <= 0) break;
        if (canEmpty(slab, pageBytes)) missing -= pagesPerSlab(pageBytes);
      }
      return missing <= 0;
    },
    *offers(pageBytes) {
      const { line } = roomsOf(pageBytes);
      const offered: Lodger[] = [];
      const seen: Slab[] = [];
      try {
        for (;;) {
          const [lodger] = line.all;
          const [slab] = slabLine.all;
          if (lodger && !(slab && slab.used < lodger.used)) {
            line.delete(lodger);
            offered.push(lodger);
            yield [lodger];
          } else if (slab) {
            slabLine.delete(slab);
            seen.push(slab);
            if (canEmpty(slab, pageBytes)) yield slab.stays.all.map(({ lodger }) => lodger);
          } else return;
        }
      } finally {
        for (const lodger of offered) line.put(lodger);
        for (const slab of seen) slabLine.put(slab);
      }
    },
    faults() {
      const found: string[] = [];
      for (const { number, loosePages, used, stays } of slabs.values()) {
        const count = stays.all.reduce((sum, { lodger, pages }) => sum + (lodger.loose ? pages : 0), 0);
        if (count !== loosePages) found.push(`slab ${number} counts ${loosePages} pages to be had, and has ${count}`);
        if (stays.all.every(({ lodger }) => lodger.used !== used) || stays.all.some(({ lodger }) => lodger.used > used))
          found.push(`slab ${number} is not as old as its youngest lodger`);
      }
      return found;
    },
  };
  return house;
}
