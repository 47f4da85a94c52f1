// The pages of one adapter's memory, and who leases them. Pure bookkeeping, no GPU in sight; the buffers themselves lie in
// the adapter's process. Bindings of 128 MiB are cut into slabs of 4 MiB, slabs into pages of one size each (slabs.ts). A
// lease tells which slabs its pages lie in, and the arena how many of a slab's pages are leased: who wants a slab for other
// pages can find out whether it has all of its leases (core/cache/lodgings.ts does).
// Invariant: free + leased = all, and no page is leased twice; `faults` proves it. Only a lease gives its pages back: one
// released twice or used after its release is our bug and throws.
// An arena dies with its adapter's process: its leases then say `lost` and hold nothing.
import { bookFaults } from './arena-faults.ts';
import {
  type Holding,
  isPageSize,
  PAGE_BYTES,
  PAGE_STEP,
  pagesFor,
  placed,
  type Run,
  runsOf,
  type Share,
  SLAB_BYTES,
  SLABS_PER_BINDING,
  sharesOf,
} from './pages.ts';
import { type ClassUsage, createSlabs } from './slabs.ts';
import { createTrial, type Trial } from './trial.ts';

export { BINDING_BYTES, PAGE_BYTES, pageBytesFor, type Run, type Share, SLAB_BYTES } from './pages.ts';
export type { ClassUsage } from './slabs.ts';
export type { Trial } from './trial.ts';

export interface Lease {
  readonly arena: Arena;
  readonly pageBytes: number;
  readonly pages: number;
  readonly lost: boolean;
  /** Adds pages so that `bytes` fit in all; false, and nothing changed, if there are not enough free. */
  grow(bytes: number): boolean;
  /** Where its page `index` lies. */
  range(index: number): Run;
  /** Where the bytes [offset, offset + length) lie, in order; `offset` is a multiple of the page size. */
  runs(offset: number, length: number): Run[];
  /** How many of its pages lie in which slab, each slab once; none once it is lost or released. */
  slabs(): Share[];
  release(): void;
}

/** Bytes: asked <= used <= used + idle <= capacity. */
export interface ArenaUsage {
  readonly capacityBytes: number;
  readonly slabs: number;
  readonly freeSlabs: number;
  /** What leases were asked to hold. */
  readonly askedBytes: number;
  /** The pages it took: what is above the asked is lost inside pages. */
  readonly usedBytes: number;
  /** In slabs that have a class, and leased by nobody: lost to the other classes. */
  readonly idleBytes: number;
  readonly classes: readonly ClassUsage[];
}

export interface Arena {
  readonly capacityBytes: number;
  readonly usedBytes: number;
  /** An empty lease of pages of one size: a multiple of 256, at most a slab. */
  lease(options?: { pageBytes?: number }): Lease;
  /** Bytes that one more lease of this class could hold now. */
  room(pageBytes?: number): number;
  /** How many pages of a slab are leased, by whomever. */
  leasedOf(slab: number): number;
  trial(): Trial;
  usage(): ArenaUsage;
  /** What contradicts the invariant, a line each; none if all is well. */
  faults(): string[];
  /** The adapter's process is gone, and the pages with it. */
  lose(): void;
}

export function createArena(bindings: number): Arena {
  const slabs = createSlabs(bindings * SLABS_PER_BINDING);
  const holdings = new Map<Lease, Holding>();
  let askedBytes = 0;
  let lost = false;

  function lease({ pageBytes = PAGE_BYTES }: { pageBytes?: number } = {}): Lease {
    if (!isPageSize(pageBytes))
      throw new Error(`a page of ${pageBytes} bytes is no multiple of ${PAGE_STEP} up to ${SLAB_BYTES}`);
    const mine: Holding = { pageBytes, pages: [], askedBytes: 0 };
    let released = false;
    const check = () => {
      if (released) throw new Error('a lease was used after its release');
    };
    const self: Lease = {
      arena,
      pageBytes,
      get pages() {
        return released || lost ? 0 : mine.pages.length;
      },
      get lost() {
        return lost;
      },
      grow(bytes) {
        check();
        const more = pagesFor(bytes, pageBytes) - mine.pages.length;
        if (lost || (more > 0 && more > slabs.available(pageBytes))) return false;
        for (let i = 0; i < more; i++) mine.pages.push(slabs.take(pageBytes));
        if (mine.pages.length > 0) holdings.set(self, mine);
        askedBytes += Math.max(0, bytes - mine.askedBytes);
        mine.askedBytes = Math.max(bytes, mine.askedBytes);
        return true;
      },
      range(index) {
        check();
        const page = mine.pages[index];
        if (page === undefined) throw new Error(`page ${index} is beyond the ${mine.pages.length} of the lease`);
        return { ...placed(page, pageBytes), byteLength: pageBytes };
      },
      runs(offset, length) {
        check();
        return runsOf(mine, offset, length);
      },
      slabs: () => (released || lost ? [] : sharesOf(mine)),
      release() {
        check();
        released = true;
        if (lost) return;
        holdings.delete(self);
        askedBytes -= mine.askedBytes;
        for (const page of mine.pages) slabs.give(page, pageBytes);
      },
    };
    return self;
  }

  function usage(): ArenaUsage {
    if (lost)
      return { capacityBytes: 0, slabs: 0, freeSlabs: 0, askedBytes: 0, usedBytes: 0, idleBytes: 0, classes: [] };
    return {
      capacityBytes: slabs.count * SLAB_BYTES,
      slabs: slabs.count,
      freeSlabs: slabs.free,
      askedBytes,
      usedBytes: slabs.takenBytes,
      idleBytes: (slabs.count - slabs.free) * SLAB_BYTES - slabs.takenBytes,
      classes: slabs.classes(),
    };
  }

  const arena: Arena = {
    get capacityBytes() {
      return lost ? 0 : slabs.count * SLAB_BYTES;
    },
    get usedBytes() {
      return lost ? 0 : slabs.takenBytes;
    },
    lease,
    room: (pageBytes = PAGE_BYTES) => (lost ? 0 : slabs.available(pageBytes) * pageBytes),
    leasedOf: (slab) => (lost ? 0 : slabs.takenOf(slab)),
    trial: () => createTrial(slabs),
    usage,
    faults: () => (lost ? [] : bookFaults({ holdings: holdings.values(), ...slabs.books })),
    lose() {
      lost = true;
      holdings.clear();
    },
  };
  return arena;
}
