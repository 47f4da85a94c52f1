// Where payloads lodge on adapters, and who leaves when pages of one size are wanted there: each who leaves is named by the policy of
// its ward (ward.ts), and which ward is asked is said here. Three rules, in this order.
// Quota: a tenant never has more pages on an adapter than its quota of it; what would be more, its own make room for.
// Fair share: the room for tensors, divided by the tenants who lodge there. Who is above it with what comes makes room of his
// own; for who is not, those above theirs leave, first of him who is furthest above. So a tenant within its share (give or
// take one payload) loses nothing to others' requests. KV asks without a tenant: who has most gives first.
// Priority: three bands, 0–33, 34–66 and 67–100. Of those whom the bands' policies name, he leaves who has been idle longest, where
// idleness counts fourfold in the lowest band and a quarter in the highest. So nobody stays for ever by priority alone.
// Nobody leaves in vain: it is known before anybody leaves whether room can be made. Who is being read or on its way to the disk
// is not asked, and no slab in which such a one lodges, or in which others than lodgers have a lease: token sequences, what
// is just coming in, what has moved on and is still read.
// Work: for each ask, a look at each slab at most, and a few steps for each page of those who are asked or passed over, who are
// no more than have the wanted pages, lodge in the slabs that the wanted pages take, or may be passed over. How many lodge on
// the adapter does not matter. `steps` counts. Bookkeeping only; those who are to leave are named, and still there.
import type { Arena } from '../gpu/arena.ts';
import type { Account, GpuLease } from '../gpu/gpu-lease.ts';
import { pagesFor } from '../gpu/pages.ts';
import { createAsk, type Leaving } from './ask.ts';
import { BANDS, bandOf } from './bands.ts';
import type { Course } from './course.ts';
import { type Entry, mayLeave } from './entry.ts';
import { createHouse, type House, type Household, type Lodger } from './house.ts';
import { hashOf } from './policy/hash.ts';
import { createWard, type WardReport } from './ward.ts';

/** For whom room is made. */
export interface Asker {
  readonly tenant: string;
  readonly id: string;
}

export interface Lodgings {
  /** Slabs looked at, and pages of those who were asked, passed over or spared, since the start. */
  readonly steps: number;
  /** What others than tensors have where tensors are. */
  readonly othersBytes: number;
  /** For leases of the tenant's tensors, which count as its own from their first page. */
  account(tenant: string): Account;
  /** Has these pages, and has just been used; `before`: has had others, and its coming is nothing new. Pages may be shared. */
  enter(entry: Entry, lease: GpuLease, before?: Stay): void;
  leave(entry: Entry, cause?: 'evicted'): void;
  /** What is remembered of one who has pages, for other pages. */
  stayOf(entry: Entry): Stay | undefined;
  /** Just used. */
  touch(entry: Entry): void;
  /** Whoever has these pages may leave now, or no longer. */
  heed(lease: GpuLease | undefined): void;
  isWithinQuota(lease: GpuLease, bytes: number, tenant: string): boolean;
  couldMakeRoom(lease: GpuLease, bytes: number, asker?: Asker): boolean;
  /** Who has to go for the lease to hold `bytes`, and nobody else; undefined if that is not enough. */
  leaving(lease: GpuLease, bytes: number, asker?: Asker): Leaving[] | undefined;
  /** The course has changed. */
  follow(): void;
  /** Of each ward of a tenant. */
  report(tenant: string): LodgingReport[];
  /** Of the pages of a tenant, by adapter. */
  bytesOf(tenant: string): Record<string, number>;
  /** What was counted wrong, a line each. */
  faults(): string[];
}

/** What is remembered of a payload from one place to the next. */
export interface Stay {
  readonly uses: number;
}

export interface LodgingReport extends WardReport {
  readonly adapter: string;
  readonly priority: string;
  readonly payloads: number;
  readonly bytes: number;
}

export interface LodgingsOptions {
  readonly course: Course;
  /** Of each adapter, for one tenant. */
  readonly quota: number;
  /** Somebody reads from these pages, perhaps by a name that they no longer have. */
  readonly isRead: (lease: GpuLease) => boolean;
}

/** What it takes to have a payload again, in bytes that are read: a request of its own, and more if it has to be computed. */
const READ_BYTES = 64 << 10;
const COMPUTED_TIMES = 10;

export function createLodgings({ course, quota, isRead }: LodgingsOptions): Lodgings {
  const houses = new Map<Arena, House>();
  const lodgers = new Map<GpuLease, Lodger>();
  let uses = 0;
  let steps = 0;

  function houseOf(arena: Arena): House {
    const house = houses.get(arena) ?? createHouse(arena);
    houses.set(arena, house);
    return house;
  }

  function dropIfEmpty(house: House): void {
    if (!house.isEmpty || houses.get(house.arena) !== house) return;
    steps += house.steps;
    houses.delete(house.arena);
  }

  const lodgerOf = ({ lease }: Entry): Lodger | undefined => lease && lodgers.get(lease);

  function enter(entry: Entry, lease: GpuLease, before?: Stay): void {
    if (lease.lost || lease.pages === 0) return; // nothing to be had
    const known = lodgers.get(lease);
    if (known) {
      known.entries.add(entry);
      settleBand(known);
      setLoose(known);
      return;
    }
    const house = houseOf(lease.lease.arena);
    const { tenant, priority } = entry.record;
    const household = house.household(tenant);
    const band = bandOf(priority);
    const lodger: Lodger = {
      ...{ lease, house, household, band, entries: new Set([entry]), pages: lease.pages, slabs: house.slabsFor(lease) },
      ...{ ward: wardOf(household, band), hash: hashOf(entry.id), slot: -1, asked: 0, loose: false },
      ...{ bytes: lease.pages * lease.pageBytes, cost: costOf(entry), used: ++uses },
    };
    lodgers.set(lease, lodger);
    house.enter(lodger);
    lodger.ward.enter(lodger, bytesMaxOf(lodger), before?.uses);
    setLoose(lodger);
  }

  function wardOf(household: Household, band: number) {
    const ward = household.wards[band] ?? createWard<Lodger>(course);
    household.wards[band] = ward;
    return ward;
  }

  /** What its ward could hold, as things are: all that others do not. */
  function bytesMaxOf({ house, ward, bytes }: Lodger): number {
    const own = ward.bytes + bytes;
    const room = house.roomBytes - Math.max(0, house.tensorBytes - own);
    return Math.max(own, Math.min(room, quotaOf(house.arena)));
  }

  /** A payload is as dear as the dearest of its names. */
  function settleBand(lodger: Lodger): void {
    const band = Math.max(...[...lodger.entries].map(({ record }) => bandOf(record.priority)));
    if (band === lodger.band) return;
    const stayed = lodger.ward.usesOf(lodger);
    lodger.ward.leave(lodger, false);
    lodger.band = band;
    lodger.ward = wardOf(lodger.household, band);
    lodger.ward.enter(lodger, bytesMaxOf(lodger), stayed);
  }

  function leave(entry: Entry, cause?: 'evicted'): void {
    const lodger = lodgerOf(entry);
    if (!lodger?.entries.delete(entry)) return;
    if (lodger.entries.size > 0) {
      settleBand(lodger);
      setLoose(lodger);
      return;
    }
    lodgers.delete(lodger.lease);
    const { house } = lodger;
    lodger.ward.leave(lodger, cause === 'evicted');
    house.leave(lodger);
    dropIfEmpty(house);
  }

  const setLoose = (lodger: Lodger): void => lodger.house.setLoose(lodger, isLoose(lodger));

  function isLoose({ lease, entries }: Lodger): boolean {
    if (isRead(lease)) return false;
    for (const entry of entries) if (!mayLeave(entry)) return false;
    return true;
  }

  function heed(lease: GpuLease | undefined): void {
    const lodger = lease && lodgers.get(lease);
    if (lodger) setLoose(lodger);
  }

  const growthOf = ({ pages, pageBytes }: GpuLease, bytes: number): number =>
    Math.max(0, pagesFor(bytes, pageBytes) - pages) * pageBytes;
  const quotaOf = ({ capacityBytes }: Arena): number => quota * capacityBytes;
  const heldBy = (arena: Arena, tenant: string): number => houses.get(arena)?.households.get(tenant)?.bytes ?? 0;

  function isWithinQuota(lease: GpuLease, bytes: number, tenant: string): boolean {
    const { arena } = lease.lease;
    return heldBy(arena, tenant) + growthOf(lease, bytes) <= quotaOf(arena);
  }

  function couldMakeRoom(lease: GpuLease, bytes: number, asker?: Asker): boolean {
    const { pageBytes, pages } = lease;
    const { arena } = lease.lease;
    if (lease.lost || (asker && pagesFor(bytes, pageBytes) * pageBytes > quotaOf(arena))) return false;
    const missing = pagesFor(bytes, pageBytes) - pages - arena.room(pageBytes) / pageBytes;
    return missing <= 0 || houses.get(arena)?.couldGive(missing, pageBytes) === true;
  }

  function leaving(lease: GpuLease, bytes: number, asker?: Asker): Leaving[] | undefined {
    if (!couldMakeRoom(lease, bytes, asker)) return undefined;
    const trial = lease.trial();
    const isFree = trial.fits(bytes);
    if (isFree && (!asker || isWithinQuota(lease, bytes, asker.tenant))) return [];
    const house = houses.get(lease.lease.arena);
    if (!house) return undefined;
    const { pageBytes } = lease;
    const growth = growthOf(lease, bytes);
    const own = asker ? house.household(asker.tenant) : undefined;
    const hash = asker ? hashOf(asker.id) : 0;
    const ask = createAsk({ house, own, growth, pageBytes, hash, trial, now: uses });
    try {
      const isOverQuota = () => own !== undefined && ask.heldBy(own) + growth > quotaOf(house.arena);
      while (isOverQuota()) if (!own || !ask.giveOne(own)) return undefined;
      const forQuota = ask.asked.size;
      while (!trial.fits(bytes)) if (!ask.giveNext()) return undefined;
      return ask.needed(forQuota, () => trial.fits(bytes) && !isOverQuota());
    } finally {
      steps += ask.steps;
      if (own) house.account(own.tenant, 0); // it may have come by asking alone
    }
  }

  return {
    get steps() {
      return [...houses.values()].reduce((sum, house) => sum + house.steps, steps);
    },
    get othersBytes() {
      let bytes = 0;
      for (const { arena, roomBytes } of houses.values()) bytes += arena.capacityBytes - roomBytes;
      return bytes;
    },
    account: (tenant) => (arena, bytes) => {
      const house = houseOf(arena);
      house.account(tenant, bytes);
      dropIfEmpty(house);
    },
    enter,
    leave,
    stayOf(entry) {
      const lodger = lodgerOf(entry);
      return lodger && { uses: lodger.ward.usesOf(lodger) };
    },
    touch(entry) {
      const lodger = lodgerOf(entry);
      if (!lodger) return;
      lodger.used = ++uses;
      lodger.ward.touch(lodger);
    },
    heed,
    isWithinQuota,
    couldMakeRoom,
    leaving,
    follow() {
      for (const { households } of houses.values())
        for (const { wards } of households.values()) for (const ward of wards) ward?.follow();
    },
    bytesOf(tenant) {
      const all: Record<string, number> = {};
      for (const { households } of houses.values()) {
        const { lodgers, bytes = 0 } = households.get(tenant) ?? {};
        const adapter = lodgers?.values().next().value?.lease.adapter;
        if (adapter !== undefined) all[adapter] = bytes;
      }
      return all;
    },
    report(tenant) {
      const all: LodgingReport[] = [];
      for (const { households } of houses.values()) {
        const household = households.get(tenant);
        const adapter = household?.lodgers.values().next().value?.lease.adapter;
        for (const [band, ward] of household?.wards.entries() ?? [])
          if (ward && adapter !== undefined)
            all.push({
              ...{ adapter, priority: BANDS[band]?.name ?? '', payloads: ward.count, bytes: ward.bytes },
              ...ward.report(),
            });
      }
      return all;
    },
    faults() {
      const loosened = [...lodgers.values()].filter((lodger) => lodger.loose !== isLoose(lodger));
      return [
        ...loosened.flatMap(({ entries, loose }) =>
          [...entries].map(({ id }) => `${id} ${loose ? 'could be evicted, and is in use' : 'is not to be had'}`),
        ),
        ...[...houses.values()].flatMap((house) => house.faults()),
      ];
    },
  };
}

const costOf = ({ record, onDisk, flushing }: Entry): number =>
  (READ_BYTES + record.bytes) * (onDisk || flushing ? 1 : COMPUTED_TIMES);
