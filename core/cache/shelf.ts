// Who lies on the disk, where that has a budget, and who leaves it next: the rules of adapters (lodgings.ts), for bytes. Each tenant's
// payloads of one band of priority have a policy of their own (ward.ts). Whoever asks and is above his share of the budget with
// what he brings gives of his own; else he who is furthest above his gives first. Of those whom the bands' policies name, he
// leaves who has been idle longest, times the band's factor. Bookkeeping only: who is named is still there.
import type { StoredRecord } from '../store/records.ts';
import { BANDS, bandOf } from './bands.ts';
import type { Course } from './course.ts';
import type { Asker } from './lodgings.ts';
import { hashOf } from './policy/hash.ts';
import { createWard, type Ward, type Warded } from './ward.ts';

export interface Shelf {
  /** On disk from now on, in place of what the id had there; just used. */
  enter(id: string, record: StoredRecord): void;
  leave(id: string, evicted: boolean): void;
  /** Asked for, from wherever. */
  touch(id: string): void;
  /** Who leaves next for so many bytes of somebody's, of those who may; undefined if nobody may. */
  name(bytes: number, asker: Asker, mayLeave: (id: string) => boolean): { id: string; bytes: number } | undefined;
  /** The course has changed. */
  follow(): void;
}

interface Shelved extends Warded {
  readonly id: string;
  readonly household: Household;
  readonly ward: Ward<Shelved>;
  used: number;
}

interface Household {
  readonly tenant: string;
  bytes: number;
  readonly wards: (Ward<Shelved> | undefined)[];
}

/** To have it again it has to be computed; a request of its own counts too. */
const REQUEST_BYTES = 64 << 10;
/** Of a record, beside its payload. */
const RECORD_BYTES = 1024;

export function createShelf(course: Course, bytesMax: number): Shelf {
  const shelved = new Map<string, Shelved>();
  const households = new Map<string, Household>();
  let uses = 0;

  function leave(id: string, evicted: boolean): void {
    const one = shelved.get(id);
    if (!one) return;
    shelved.delete(id);
    one.ward.leave(one, evicted);
    one.household.bytes -= one.bytes;
    if (one.household.bytes === 0) households.delete(one.household.tenant);
  }

  function householdOf(tenant: string): Household {
    const known = households.get(tenant) ?? { tenant, bytes: 0, wards: [] };
    households.set(tenant, known);
    return known;
  }

  /** Of one household: whom its bands name, and of these the one who has been idle longest. */
  function nameOne({ wards }: Household, hash: number, bytes: number, mayLeave: (one: Shelved) => boolean) {
    let named: Shelved | undefined;
    let idleMost = Number.NEGATIVE_INFINITY;
    for (const [band, ward] of wards.entries()) {
      const one = ward?.name(hash, bytes, mayLeave);
      const idle = one ? (uses + 1 - one.used) * (BANDS[band]?.idleness ?? 1) : idleMost;
      if (idle <= idleMost) continue;
      named = one;
      idleMost = idle;
    }
    return named;
  }

  return {
    enter(id, { tenant, priority, bytes: payloadBytes }) {
      const before = shelved.get(id);
      const household = householdOf(tenant);
      const band = bandOf(priority);
      const ward = household.wards[band] ?? createWard<Shelved>(course);
      household.wards[band] = ward;
      const bytes = payloadBytes + RECORD_BYTES;
      const cost = payloadBytes + REQUEST_BYTES;
      if (before) leave(id, false); // not before: its household would go
      const one: Shelved = { id, household, ward, hash: hashOf(id), bytes, cost, slot: -1, used: ++uses };
      shelved.set(id, one);
      household.bytes += bytes;
      ward.enter(one, bytesMax);
    },
    leave,
    touch(id) {
      const one = shelved.get(id);
      if (!one) return;
      one.used = ++uses;
      one.ward.touch(one);
    },
    name(bytes, asker, mayLeave) {
      const own = households.get(asker.tenant);
      const share = bytesMax / Math.max(1, households.size + (own ? 0 : 1));
      const excessOf = (household: Household): number => household.bytes + (household === own ? bytes : 0) - share;
      const others = [...households.values()].filter((one) => one !== own && one.bytes > 0);
      others.sort((a, b) => excessOf(b) - excessOf(a));
      const isAbove = own !== undefined && excessOf(own) > 0;
      const givers = isAbove ? [own] : others.filter((one) => excessOf(one) > 0);
      if (own && !isAbove) givers.push(own);
      const hash = hashOf(asker.id);
      for (const giver of givers) {
        const named = nameOne(giver, hash, bytes, ({ id }) => mayLeave(id));
        if (named) return named;
      }
      return undefined;
    },
    follow() {
      for (const { wards } of households.values()) for (const ward of wards) ward?.follow();
    },
  };
}
