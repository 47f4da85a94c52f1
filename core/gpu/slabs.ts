// The slabs of an arena: which are free, which class has the others, and which of their pages are taken. A slab is given on
// demand to a class, which cuts it into pages of one size, and goes back to all as soon as none of its pages is taken. Pages
// are taken lowest slab first, lowest page first, so that what is taken at once lies in a row. Taking and giving back a page
// takes the same few steps whatever the arena's size, in bits set aside when it was made. Whose the pages are is the arena's
// business. A page that is given back and was not out is our bug and throws.
import type { Books } from './arena-faults.ts';
import { createNumberSet, type NumberSet } from './number-set.ts';
import { PAGES_PER_SLAB_MAX, pagesPerSlab, placeOf, slabOf } from './pages.ts';

export interface ClassUsage {
  readonly pageBytes: number;
  readonly slabs: number;
  readonly pages: number;
  readonly freePages: number;
}

/** What can be proven against the pages that are out. */
export type SlabBooks = Omit<Books, 'holdings'>;

export interface Slabs {
  readonly count: number;
  readonly free: number;
  readonly takenBytes: number;
  readonly books: SlabBooks;
  /** Pages of this size that can be taken now. */
  available(pageBytes: number): number;
  /** The number of a page; there must be one. */
  take(pageBytes: number): number;
  give(page: number, pageBytes: number): void;
  /** How many pages of a slab are taken. */
  takenOf(slab: number): number;
  /** Those that have a slab, smallest pages first. */
  classes(): ClassUsage[];
}

interface SlabClass {
  readonly pageBytes: number;
  readonly pagesPerSlab: number;
  /** Its slabs with a free page. */
  readonly open: NumberSet;
  slabs: number;
  freePages: number;
}

export function createSlabs(count: number): Slabs {
  const freeSlabs = createNumberSet(count);
  freeSlabs.fill(count);
  /** The free pages of each slab that has a class. */
  const freePages = Array.from({ length: count }, () => createNumberSet(PAGES_PER_SLAB_MAX));
  const taken = new Uint32Array(count);
  const sizes = new Uint32Array(count);
  /** Those that have a slab. */
  const classes = new Map<number, SlabClass>();
  let takenBytes = 0;

  const freeIn = (slab: number): NumberSet => freePages[slab] as NumberSet; // one for each slab

  /** A slab with a free page of this class; there is one. */
  function openSlab(pageBytes: number): { slab: number; group: SlabClass } {
    const known = classes.get(pageBytes);
    if (known && known.open.size > 0) return { slab: known.open.lowest(), group: known };
    const group = known ?? {
      pageBytes,
      pagesPerSlab: pagesPerSlab(pageBytes),
      open: createNumberSet(count),
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

  /** Nobody has a page of it: it may take any class. */
  function close(slab: number, group: SlabClass): void {
    group.open.delete(slab);
    group.slabs--;
    group.freePages -= group.pagesPerSlab;
    sizes[slab] = 0;
    freeSlabs.add(slab);
    if (group.slabs === 0) classes.delete(group.pageBytes);
  }

  return {
    count,
    get free() {
      return freeSlabs.size;
    },
    get takenBytes() {
      return takenBytes;
    },
    books: { sizes, leased: taken, freeSlabs, freePages },
    available: (pageBytes) => (classes.get(pageBytes)?.freePages ?? 0) + freeSlabs.size * pagesPerSlab(pageBytes),
    take(pageBytes) {
      const { slab, group } = openSlab(pageBytes);
      const free = freeIn(slab);
      const place = free.lowest();
      free.delete(place);
      if (free.size === 0) group.open.delete(slab);
      group.freePages--;
      taken[slab] = (taken[slab] ?? 0) + 1;
      takenBytes += pageBytes;
      return slab * PAGES_PER_SLAB_MAX + place;
    },
    give(page, pageBytes) {
      const slab = slabOf(page);
      const group = classes.get(pageBytes);
      if (!group || sizes[slab] !== pageBytes) throw new Error(`slab ${slab} has no pages of ${pageBytes} bytes`);
      const free = freeIn(slab);
      free.add(placeOf(page)); // throws for one that is free
      if (free.size === 1) group.open.add(slab);
      group.freePages++;
      takenBytes -= pageBytes;
      const left = (taken[slab] ?? 0) - 1;
      taken[slab] = left;
      if (left === 0) close(slab, group);
    },
    takenOf: (slab) => taken[slab] ?? 0,
    classes: () =>
      [...classes.values()]
        .map(({ pageBytes, slabs, freePages, pagesPerSlab }) => ({
          pageBytes,
          slabs,
          pages: slabs * pagesPerSlab,
          freePages,
        }))
        .sort((a, b) => a.pageBytes - b.pageBytes),
  };
}
