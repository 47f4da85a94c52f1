// Where entries lodge on adapters, and who leaves when pages of one size are wanted there. Two things bring such pages: a
// lodger that has some, and a slab of another size that comes free as a whole, which is as old as its youngest lodger. They
// are asked in the order of their last use, the oldest first (of slabs of one age the lowest), until there is room; then
// each lodger who turns out not to be needed is spared, the youngest first.
// Nobody leaves in vain: it is known before anybody is asked whether room can be made at all. Who is being read or on its
// way to the disk is not asked, and no slab in which such a one lodges, or in which others than lodgers have a lease: token
// sequences, what is just coming in, what has moved on and is still read.
// Work: for each ask, a look at each slab at most, and a few steps for each page of those who are asked, who are no more
// than have the wanted pages, or lodge in the slabs that the wanted pages take. How many lodge on the adapter does not
// matter. `steps` counts. Bookkeeping only; those who are to leave are named, and still there.
import type { Arena } from '../gpu/arena.ts';
import type { GpuLease } from '../gpu/gpu-lease.ts';
import { pagesFor } from '../gpu/pages.ts';
import { type Entry, mayLeave } from './entry.ts';
import { createHouse, type House, type Lodger } from './house.ts';

export interface Lodgings {
  /** Slabs looked at, and pages of those who were asked or spared, since the start. */
  readonly steps: number;
  /** Has these pages, and has just been used. */
  enter(entry: Entry, lease: GpuLease): void;
  /** Has these pages instead, and is as old as before. */
  move(entry: Entry, lease: GpuLease): void;
  leave(entry: Entry): void;
  /** Just used. */
  touch(entry: Entry): void;
  /** It may leave now, or no longer. */
  heed(entry: Entry): void;
  couldMakeRoom(lease: GpuLease, bytes: number): boolean;
  /** Who has to go for the lease to hold `bytes`, oldest first, and nobody else; undefined if that is not enough. */
  leaving(lease: GpuLease, bytes: number): Entry[] | undefined;
  /** What was counted wrong, a line each. */
  faults(): string[];
}

export function createLodgings(): Lodgings {
  const houses = new Map<Arena, House>();
  const lodgers = new Map<Entry, Lodger>();
  let uses = 0;
  let steps = 0;

  function houseOf(arena: Arena): House {
    const house = houses.get(arena) ?? createHouse(arena);
    houses.set(arena, house);
    return house;
  }

  function enter(entry: Entry, lease: GpuLease, used: number): void {
    leave(entry);
    if (lease.lost || lease.pages === 0) return; // nothing to be had
    lodgers.set(entry, houseOf(lease.lease.arena).enter(entry, lease, used));
    heed(entry);
  }

  function leave(entry: Entry): void {
    const lodger = lodgers.get(entry);
    if (!lodger) return;
    lodgers.delete(entry);
    const { house } = lodger;
    house.leave(lodger);
    if (!house.isEmpty) return;
    steps += house.steps;
    houses.delete(house.arena);
  }

  function heed(entry: Entry): void {
    const lodger = lodgers.get(entry);
    lodger?.house.setLoose(lodger, mayLeave(entry));
  }

  function couldMakeRoom({ lease, pageBytes }: GpuLease, bytes: number): boolean {
    const { arena, pages } = lease;
    const missing = pagesFor(bytes, pageBytes) - pages - arena.room(pageBytes) / pageBytes;
    return !lease.lost && (missing <= 0 || houses.get(arena)?.couldGive(missing, pageBytes) === true);
  }

  function leaving(lease: GpuLease, bytes: number): Entry[] | undefined {
    if (!couldMakeRoom(lease, bytes)) return undefined;
    const trial = lease.trial();
    if (trial.fits(bytes)) return [];
    const asked = new Set<Lodger>();
    const give = (lodger: Lodger): void => {
      asked.add(lodger);
      trial.give(lodger.lease);
      steps += lodger.pages;
    };
    for (const offer of houses.get(lease.lease.arena)?.offers(lease.pageBytes) ?? []) {
      steps += offer.length;
      for (const lodger of offer) if (!asked.has(lodger)) give(lodger);
      if (trial.fits(bytes)) break;
    }
    const needed: Entry[] = [];
    for (const { entry, lease, pages } of [...asked].sort((a, b) => b.used - a.used)) {
      steps += pages;
      trial.keep(lease);
      if (trial.fits(bytes)) continue;
      trial.give(lease);
      needed.push(entry);
    }
    return needed.reverse();
  }

  return {
    get steps() {
      return [...houses.values()].reduce((sum, house) => sum + house.steps, steps);
    },
    enter: (entry, lease) => enter(entry, lease, ++uses),
    move: (entry, lease) => enter(entry, lease, lodgers.get(entry)?.used ?? ++uses),
    leave,
    touch(entry) {
      const lodger = lodgers.get(entry);
      lodger?.house.use(lodger, ++uses);
    },
    heed,
    couldMakeRoom,
    leaving,
    faults() {
      const loosened = [...lodgers].filter(([entry, { loose }]) => loose !== mayLeave(entry));
      return [
        ...loosened.map(
          ([{ id }, { loose }]) => `${id} ${loose ? 'could be evicted, and is in use' : 'is not to be had'}`,
        ),
        ...[...houses.values()].flatMap((house) => house.faults()),
      ];
    },
  };
}
