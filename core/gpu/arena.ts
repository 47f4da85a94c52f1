// The pages of one adapter's memory: which are free, which are leased. Pure bookkeeping, no GPU in sight; the buffers
// themselves lie in the adapter's process. Bindings of 128 MiB are cut into slabs of 4 MiB; a slab is given on demand to a
// class, which cuts it into pages of one size, and goes back to all as soon as none of its pages is leased. Pages are taken
// lowest slab first, lowest page first, so that what is leased at once lies in a row. Taking and giving back a page takes
// the same few steps whatever the arena's size, in bits set aside when it was made.
// Invariant: free + leased = all, and no page is leased twice; `faults` proves it. Only a lease gives its pages back: one
// released twice or used after its release is our bug and throws, and so does a page that is given back and was not out.
// An arena dies with its adapter's process: its leases then say `lost` and hold nothing.
import { bookFaults } from './arena-faults.ts';
import { createNumberSet, type NumberSet } from './number-set.ts';
import {
  type Holding,
  isPageSize,
  PAGE_BYTES,
  PAGE_STEP,
  PAGES_PER_SLAB_MAX,
  pagesFor,
  pagesPerSlab,
  placed,
  placeOf,
  type Run,
  runsOf,
  SLAB_BYTES,
  SLABS_PER_BINDING,
  slabOf,
} from './pages.ts';

export { BINDING_BYTES, PAGE_BYTES, pageBytesFor, type Run, SLAB_BYTES } from './pages.ts';

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
  release(): void;
}

/** What would be if leases were given back. Asks and tells nothing else; good until the arena changes. */
export interface Trial {
  give(lease: Lease): void;
  /** As if it had not been given. */
  keep(lease: Lease): void;
  /** Whether `lease` could grow to `bytes`. */
  fits(lease: Lease, bytes: number): boolean;
}

export interface ClassUsage {
  readonly pageBytes: number;
  readonly slabs: number;
  readonly pages: number;
  readonly freePages: number;
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
  trial(): Trial;
  usage(): ArenaUsage;
  /** What contradicts the invariant, a line each; none if all is well. */
  faults(): string[];
  /** The adapter's process is gone, and the pages with it. */
  lose(): void;
}

interface SlabClass {
  readonly pageBytes: number;
  readonly pagesPerSlab: number;
  /** Its slabs with a free page. */
  readonly open: NumberSet;
  slabs: number;
  freePages: number;
}

export function createArena(bindings: number): Arena {
  const slabs = bindings * SLABS_PER_BINDING;
  const freeSlabs = createNumberSet(slabs);
  freeSlabs.fill(slabs);
  /** The free pages of each slab that has a class. */
  const freePages = Array.from({ length: slabs }, () => createNumberSet(PAGES_PER_SLAB_MAX));
  const leased = new Uint32Array(slabs);
  /** The page size of each slab, 0 while it has no class. */
  const sizes = new Uint32Array(slabs);
  /** Those that have a slab. */
  const classes = new Map<number, SlabClass>();
  const holdings = new Map<Lease, Holding>();
  let usedBytes = 0;
  let askedBytes = 0;
  let lost = false;

  const freeIn = (slab: number): NumberSet => freePages[slab] as NumberSet; // one for each slab

  const availablePages = (pageBytes: number): number =>
    (classes.get(pageBytes)?.freePages ?? 0) + freeSlabs.size * pagesPerSlab(pageBytes);

  /** A slab with a free page of this class; there is one. */
  function openSlab(pageBytes: number): { slab: number; group: SlabClass } {
    const known = classes.get(pageBytes);
    if (known && known.open.size > 0) return { slab: known.open.lowest(), group: known };
    const group = known ?? {
      pageBytes,
      pagesPerSlab: pagesPerSlab(pageBytes),
      open: createNumberSet(slabs),
      slabs: 0,
      freePages: 0,
    };
    classes.set(pageBytes, group);
    const slab = freeSlabs.lowest();
    freeSlabs.delete(slab);
    sizes[slab] = pageBytes;
    freeIn(slab).fill(group.pagesPerSlab);
    group.open.add(slab);
    group.slabs++;
    group.freePages += group.pagesPerSlab;
    return { slab, group };
  }

  function take(pageBytes: number): number {
    const { slab, group } = openSlab(pageBytes);
    const free = freeIn(slab);
    const place = free.lowest();
    free.delete(place);
    if (free.size === 0) group.open.delete(slab);
    group.freePages--;
    leased[slab] = (leased[slab] ?? 0) + 1;
    usedBytes += pageBytes;
    return slab * PAGES_PER_SLAB_MAX + place;
  }

  function give(page: number, pageBytes: number): void {
    const slab = slabOf(page);
    const group = classes.get(pageBytes);
    if (!group || sizes[slab] !== pageBytes) throw new Error(`slab ${slab} has no pages of ${pageBytes} bytes`);
    const free = freeIn(slab);
    free.add(placeOf(page)); // throws for one that is free
    if (free.size === 1) group.open.add(slab);
    group.freePages++;
    usedBytes -= pageBytes;
    const left = (leased[slab] ?? 0) - 1;
    leased[slab] = left;
    if (left === 0) close(slab, group);
  }

  /** Nobody has a page of it: it may take any class. */
  function close(slab: number, group: SlabClass): void {
    group.open.delete(slab);
    group.slabs--;
    group.freePages -= group.pagesPerSlab;
    sizes[slab] = 0;
    freeSlabs.add(slab);
    if (group.slabs === 0) classes.delete(group.pageBytes);
  }

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
        if (lost || (more > 0 && more > availablePages(pageBytes))) return false;
        for (let i = 0; i < more; i++) mine.pages.push(take(pageBytes));
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
      release() {
        check();
        released = true;
        if (lost) return;
        holdings.delete(self);
        askedBytes -= mine.askedBytes;
        for (const page of mine.pages) give(page, pageBytes);
      },
    };
    return self;
  }

  function trial(): Trial {
    let left: Uint32Array | undefined; // most trials end before anybody gives
    let emptied = 0;
    /** Slabs of each class that would be empty, and pages of it that would be free, those slabs' included. */
    const gained = new Map<number, { slabs: number; pages: number }>();

    function move(lease: Lease, direction: 1 | -1): void {
      const holding = holdings.get(lease);
      if (!holding) return;
      const { pageBytes, pages } = holding;
      const gain = gained.get(pageBytes) ?? { slabs: 0, pages: 0 };
      gained.set(pageBytes, gain);
      gain.pages += direction * pages.length;
      left ??= leased.slice();
      for (const page of pages) {
        const slab = slabOf(page);
        const before = left[slab] ?? 0;
        left[slab] = before - direction;
        const change = before - direction === 0 ? 1 : before === 0 ? -1 : 0;
        gain.slabs += change;
        emptied += change;
      }
    }

    return {
      give: (lease) => move(lease, 1),
      keep: (lease) => move(lease, -1),
      fits(lease, bytes) {
        if (lost) return false;
        const { pageBytes } = lease;
        const gain = gained.get(pageBytes) ?? { slabs: 0, pages: 0 };
        const others = (emptied - gain.slabs) * pagesPerSlab(pageBytes);
        return pagesFor(bytes, pageBytes) - lease.pages <= availablePages(pageBytes) + gain.pages + others;
      },
    };
  }

  function usage(): ArenaUsage {
    const all = lost ? 0 : slabs;
    const free = lost ? 0 : freeSlabs.size;
    const used = lost ? 0 : usedBytes;
    return {
      capacityBytes: all * SLAB_BYTES,
      slabs: all,
      freeSlabs: free,
      askedBytes: lost ? 0 : askedBytes,
      usedBytes: used,
      idleBytes: (all - free) * SLAB_BYTES - used,
      classes: [...(lost ? [] : classes.values())]
        .map(({ pageBytes, slabs, freePages, pagesPerSlab }) => ({
          pageBytes,
          slabs,
          pages: slabs * pagesPerSlab,
          freePages,
        }))
        .sort((a, b) => a.pageBytes - b.pageBytes),
    };
  }

  const arena: Arena = {
    get capacityBytes() {
      return lost ? 0 : slabs * SLAB_BYTES;
    },
    get usedBytes() {
      return lost ? 0 : usedBytes;
    },
    lease,
    room: (pageBytes = PAGE_BYTES) => (lost ? 0 : availablePages(pageBytes) * pageBytes),
    trial,
    usage,
    faults: () => (lost ? [] : bookFaults({ holdings: holdings.values(), sizes, leased, freeSlabs, freePages })),
    lose() {
      lost = true;
      holdings.clear();
    },
  };
  return arena;
}
