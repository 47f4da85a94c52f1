// The pages of one adapter's memory: which are free, which are leased. Pure bookkeeping, O(1) a page, no GPU in sight;
// the buffers themselves lie in the adapter's process and are cut into the same pages there.
// Invariant: free + leased = all pages, and no page is leased twice. A lease released twice, or used after its release,
// is our bug and throws. An arena dies with its adapter's process: its leases then say `lost` and hold nothing.

export const PAGE_BYTES = 64 << 10;
/** Every adapter can bind this much. */
export const BINDING_BYTES = 128 << 20;
const PAGES_PER_BINDING = BINDING_BYTES / PAGE_BYTES;
const pagesFor = (bytes: number): number => Math.ceil(bytes / PAGE_BYTES);

/** Pages that follow each other in one binding. */
export interface Run {
  readonly binding: number;
  readonly byteOffset: number;
  readonly byteLength: number;
}

export interface Lease {
  readonly arena: Arena;
  readonly pages: number;
  readonly lost: boolean;
  /** Pages that others would have to give back before `grow(bytes)` can be true. */
  missing(bytes: number): number;
  /** Adds pages so that `bytes` fit in all; false, and nothing changed, if there are not enough free. */
  grow(bytes: number): boolean;
  /** Where the bytes [offset, offset + length) lie, in order; `offset` is a multiple of the page size. */
  runs(offset: number, length: number): Run[];
  release(): void;
}

export interface Arena {
  readonly pages: number;
  readonly freePages: number;
  readonly capacityBytes: number;
  readonly usedBytes: number;
  lease(): Lease;
  /** The adapter's process is gone, and the pages with it. */
  lose(): void;
}

export function createArena(bindings: number): Arena {
  const pages = bindings * PAGES_PER_BINDING;
  // A stack with the lowest page on top: fresh leases are contiguous, so that one copy moves a whole piece.
  const stack = Uint32Array.from({ length: pages }, (_, i) => pages - 1 - i);
  let free = pages;
  let lost = false;

  function lease(): Lease {
    const mine: number[] = [];
    let released = false;
    const check = () => {
      if (released) throw new Error('a lease was used after its release');
    };
    return {
      arena,
      get pages() {
        return released || lost ? 0 : mine.length;
      },
      get lost() {
        return lost;
      },
      missing: (bytes) => (lost ? Number.POSITIVE_INFINITY : Math.max(0, pagesFor(bytes) - mine.length - free)),
      grow(bytes) {
        check();
        const more = pagesFor(bytes) - mine.length;
        if (lost || more > free) return false;
        for (let i = 0; i < more; i++) mine.push(stack[--free] as number); // below `free` every slot is filled
        return true;
      },
      runs(offset, length) {
        check();
        return toRuns(mine, offset, length);
      },
      release() {
        check();
        released = true;
        if (lost) return;
        for (let i = mine.length - 1; i >= 0; i--) stack[free++] = mine[i] as number; // i is in range
      },
    };
  }

  const arena: Arena = {
    pages,
    get freePages() {
      return lost ? 0 : free;
    },
    get capacityBytes() {
      return lost ? 0 : pages * PAGE_BYTES;
    },
    get usedBytes() {
      return lost ? 0 : (pages - free) * PAGE_BYTES;
    },
    lease,
    lose() {
      lost = true;
    },
  };
  return arena;
}

function toRuns(pages: readonly number[], offset: number, length: number): Run[] {
  if (offset % PAGE_BYTES !== 0) throw new Error(`offset ${offset} is not at the start of a page`);
  if (offset + length > pages.length * PAGE_BYTES) throw new Error(`bytes to ${offset + length} are beyond the lease`);
  const runs: { binding: number; byteOffset: number; byteLength: number }[] = [];
  let previous = -2;
  for (let left = length, i = offset / PAGE_BYTES; left > 0; left -= PAGE_BYTES, i++) {
    const page = pages[i] as number; // checked above
    const bytes = Math.min(left, PAGE_BYTES);
    const last = runs.at(-1);
    if (last && page === previous + 1 && page % PAGES_PER_BINDING !== 0) last.byteLength += bytes;
    else
      runs.push({
        binding: Math.floor(page / PAGES_PER_BINDING),
        byteOffset: (page % PAGES_PER_BINDING) * PAGE_BYTES,
        byteLength: bytes,
      });
    previous = page;
  }
  return runs;
}
