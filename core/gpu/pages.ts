// How an arena's bytes are cut: bindings into slabs, a slab into pages of one size, and where the bytes of pages lie. Pure.

/** The size of whoever asks for none. */
export const PAGE_BYTES = 64 << 10;
export const SLAB_BYTES = 4 << 20;
/** Every adapter can bind this much. */
export const BINDING_BYTES = 128 << 20;
export const SLABS_PER_BINDING = BINDING_BYTES / SLAB_BYTES;
/** What offsets of storage bindings are multiples of, on every adapter. */
export const PAGE_STEP = 256;
/** A page's number is that of its slab times this, and its place in the slab. */
export const PAGES_PER_SLAB_MAX = SLAB_BYTES / PAGE_STEP;
/** Sizes from which tensors choose. */
const TENSOR_PAGES = [PAGE_BYTES, 16 << 10, 4 << 10];
const TENSOR_PAGE_MIN = 1 << 10;

export const isPageSize = (bytes: number): boolean => bytes > 0 && bytes <= SLAB_BYTES && bytes % PAGE_STEP === 0;

/** A size for so many bytes: a quarter of them at most (1 KiB at least), so that beyond 4 KiB less than a fifth is lost. */
export const pageBytesFor = (bytes: number): number =>
  TENSOR_PAGES.find((size) => 4 * size <= bytes) ?? TENSOR_PAGE_MIN;

/** Bytes that follow each other in one binding. */
export interface Run {
  readonly binding: number;
  readonly byteOffset: number;
  readonly byteLength: number;
}

/** What a lease has taken. */
export interface Holding {
  readonly pageBytes: number;
  readonly pages: number[];
  askedBytes: number;
}

/** Pages that lie in one slab. */
export interface Share {
  readonly slab: number;
  pages: number;
}

export const slabOf = (page: number): number => Math.floor(page / PAGES_PER_SLAB_MAX);
export const placeOf = (page: number): number => page % PAGES_PER_SLAB_MAX;
export const pagesFor = (bytes: number, pageBytes: number): number => Math.ceil(bytes / pageBytes);
export const pagesPerSlab = (pageBytes: number): number => Math.floor(SLAB_BYTES / pageBytes);

export function placed(page: number, pageBytes: number): { binding: number; byteOffset: number } {
  const slab = slabOf(page);
  return {
    binding: Math.floor(slab / SLABS_PER_BINDING),
    byteOffset: (slab % SLABS_PER_BINDING) * SLAB_BYTES + placeOf(page) * pageBytes,
  };
}

/** Where the bytes [offset, offset + length) of these pages lie, in order. */
export function runsOf({ pages, pageBytes }: Holding, offset: number, length: number): Run[] {
  if (offset % pageBytes !== 0) throw new Error(`offset ${offset} is not at the start of a page`);
  if (offset + length > pages.length * pageBytes) throw new Error(`bytes to ${offset + length} are beyond the lease`);
  const runs: { binding: number; byteOffset: number; byteLength: number }[] = [];
  for (let left = length, i = offset / pageBytes; left > 0; left -= pageBytes, i++) {
    const next = placed(pages[i] as number, pageBytes); // checked above
    const byteLength = Math.min(left, pageBytes);
    const last = runs.at(-1);
    if (last && last.binding === next.binding && last.byteOffset + last.byteLength === next.byteOffset)
      last.byteLength += byteLength;
    else runs.push({ ...next, byteLength });
  }
  return runs;
}

/** How many of these pages lie in which slab, each slab once. */
export function sharesOf({ pages }: Holding): Share[] {
  const shares = new Map<number, Share>();
  let last: Share | undefined;
  for (const page of pages) {
    const slab = slabOf(page);
    if (last?.slab !== slab) last = shares.get(slab) ?? { slab, pages: 0 };
    if (last.pages++ === 0) shares.set(slab, last);
  }
  return [...shares.values()];
}
