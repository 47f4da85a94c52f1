// What each tenant has of the room for KV, pages on adapters, packages in memory and records on disk, and whose turn it is to give some of it.
// A block is that tenant's who stored it first; when that one forgets it, another's who has stored it too.
// Quota: what would be more than a tenant's quota of the room, its own make room for.
// Fair share: the room that is used, and what is asked for, divided by the tenants who have or want some. Who has most gives, whoever
// asks (with what it asks for), as long as it is above the share; who asks may give of its own below it too. So nobody within
// its share loses anything to another's flood, and one who is alone has all.
// A tenant's number is a party's of the index, and another's once it has nothing. Bookkeeping only.
import type { Turn } from '../prefix/eviction.ts';

export type Room = 'pages' | 'packages' | 'disk';

/** A tenant that wants so many bytes more. */
export interface Asker {
  readonly tenant: string;
  readonly bytes: number;
}

/** Whose turn it is, time after time. */
export interface Turns {
  readonly next: Turn;
  /** The tenant would give so many bytes: counted here only. */
  wouldGive(tenant: string, bytes: number): void;
}

export interface Households {
  /** The tenant takes so many bytes, or gives them back. */
  account(tenant: string, room: Room, bytes: number): void;
  bytesOf(tenant: string, room: Room): number;
  /** Of one that has something. */
  numberOf(tenant: string): number;
  /** Without an asker anybody's turn comes, his first who has most. */
  turns(room: Room, bytesMax: number, asker?: Asker): Turns;
  /** Tenants who have something there. */
  tenantsIn(room: Room): string[];
}

interface Household extends Record<Room, number> {
  readonly number: number;
}

/** `left`: a tenant has nothing any more. */
export function createHouseholds(quota: number, left: (number: number) => void): Households {
  const households = new Map<string, Household>();
  const numbersFree: number[] = [];

  function account(tenant: string, room: Room, bytes: number): void {
    const number = () => numbersFree.pop() ?? households.size;
    const one = households.get(tenant) ?? { number: number(), pages: 0, packages: 0, disk: 0 };
    households.set(tenant, one);
    one[room] += bytes;
    if (one.pages > 0 || one.packages > 0 || one.disk > 0) return;
    households.delete(tenant);
    numbersFree.push(one.number);
    left(one.number);
  }

  const bytesOf = (tenant: string, room: Room): number => households.get(tenant)?.[room] ?? 0;

  function turns(room: Room, bytesMax: number, asker?: Asker): Turns {
    const given = new Map<string, number>();
    const bytesAfter = (tenant: string): number =>
      bytesOf(tenant, room) - (given.get(tenant) ?? 0) + (asker?.tenant === tenant ? asker.bytes : 0);

    /** Of all who have some or want some. */
    function share(): number {
      let [bytes, count] = asker && !households.has(asker.tenant) ? [asker.bytes, 1] : [0, 0];
      for (const tenant of households.keys()) {
        const own = bytesAfter(tenant);
        bytes += own;
        if (own > 0) count++;
      }
      return count === 0 ? 0 : bytes / count;
    }

    return {
      next(spent) {
        const own = asker && households.get(asker.tenant);
        if (asker && bytesAfter(asker.tenant) > quota * bytesMax)
          return own && !spent.has(own.number) ? own.number : undefined;
        const least = asker ? share() : 0;
        let found: number | undefined;
        let most = 0;
        for (const [tenant, one] of households) {
          const bytes = bytesAfter(tenant);
          const isOwn = one === own;
          if (spent.has(one.number) || bytes < most || (bytes < least && !isOwn)) continue;
          if (bytes === most && !isOwn) continue;
          found = one.number;
          most = bytes;
        }
        return found;
      },
      wouldGive: (tenant, bytes) => void given.set(tenant, (given.get(tenant) ?? 0) + bytes),
    };
  }

  return {
    account,
    bytesOf,
    numberOf(tenant) {
      const one = households.get(tenant);
      if (!one) throw new Error(`a block of ${tenant} was looked for, and it has none`);
      return one.number;
    },
    turns,
    tenantsIn: (room) => [...households.keys()].filter((tenant) => bytesOf(tenant, room) > 0),
  };
}
