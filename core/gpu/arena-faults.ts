// The books of an arena, proven: everything is counted again from the leases up. Pure; changes nothing.
import type { NumberSet } from './number-set.ts';
import { type Holding, pagesPerSlab, placeOf, slabOf } from './pages.ts';

/** As `createArena` keeps them. */
export interface Books {
  readonly holdings: Iterable<Holding>;
  /** The page size of each slab, 0 while it has no class. */
  readonly sizes: Uint32Array;
  /** The leased pages of each slab. */
  readonly leased: Uint32Array;
  readonly freeSlabs: NumberSet;
  /** The free pages of each slab. */
  readonly freePages: readonly NumberSet[];
}

/** What contradicts free + leased = all, a line each. */
export function bookFaults({ holdings, sizes, leased, freeSlabs, freePages }: Books): string[] {
  const found: string[] = [];
  const seen = new Set<number>();
  const counted = new Uint32Array(sizes.length);
  for (const { pageBytes, pages } of holdings)
    for (const page of pages) {
      const slab = slabOf(page);
      const name = `page ${placeOf(page)} of slab ${slab}`;
      if (seen.has(page)) found.push(`${name} is leased twice`);
      seen.add(page);
      counted[slab] = (counted[slab] ?? 0) + 1;
      if (sizes[slab] !== pageBytes) found.push(`${name} is leased as ${pageBytes} bytes, and cut as ${sizes[slab]}`);
      if (freePages[slab]?.has(placeOf(page))) found.push(`${name} is leased and free`);
    }
  for (const [slab, size] of sizes.entries()) {
    const count = counted[slab] ?? 0;
    const free = freePages[slab]?.size ?? 0;
    if (count !== leased[slab]) found.push(`slab ${slab} counts ${leased[slab]} leased pages, and has ${count}`);
    if (freeSlabs.has(slab) !== (size === 0)) found.push(`slab ${slab} is free and has a class, or neither`);
    if (size > 0 && free + count !== pagesPerSlab(size))
      found.push(`slab ${slab} has ${free} free and ${count} leased of ${pagesPerSlab(size)} pages`);
  }
  return found;
}
