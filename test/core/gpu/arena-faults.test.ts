// Each way in which an arena's books can be wrong is found and named.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Books, bookFaults } from '../../../core/gpu/arena-faults.ts';
import { createNumberSet } from '../../../core/gpu/number-set.ts';
import { PAGE_BYTES, PAGES_PER_SLAB_MAX } from '../../../core/gpu/pages.ts';

const PER_SLAB = 64;

/** Two slabs: the first is cut into pages of 64 KiB and has 0 and 1 leased, the second is free. */
function books(change: Partial<{ pages: number[]; pageBytes: number; leased: number[]; sizes: number[] }> = {}): Books {
  const freeSlabs = createNumberSet(2);
  freeSlabs.add(1);
  const freePages = [0, 1].map(() => createNumberSet(PAGES_PER_SLAB_MAX));
  freePages[0]?.fill(PER_SLAB);
  for (const page of [0, 1]) freePages[0]?.delete(page);
  return {
    holdings: [{ pageBytes: change.pageBytes ?? PAGE_BYTES, pages: change.pages ?? [0, 1], askedBytes: 0 }],
    sizes: Uint32Array.from(change.sizes ?? [PAGE_BYTES, 0]),
    leased: Uint32Array.from(change.leased ?? [2, 0]),
    freeSlabs,
    freePages,
  };
}

test('bookFaults() finds nothing where all is well', () => {
  assert.deepEqual(bookFaults(books()), []);
});

for (const [name, wrong, lines] of [
  ['a page leased twice', books({ pages: [0, 0] }), ['page 0 of slab 0 is leased twice']],
  ['a page that is leased and free', books({ pages: [0, 2] }), ['page 2 of slab 0 is leased and free']],
  [
    'a page that nobody has and that is not free',
    books({ pages: [0], leased: [1, 0] }),
    ['slab 0 has 62 free and 1 leased of 64 pages'],
  ],
  ['a wrong count', books({ leased: [3, 0] }), ['slab 0 counts 3 leased pages, and has 2']],
  [
    'a slab of another class',
    books({ pageBytes: 256 }),
    [0, 1].map((page) => `page ${page} of slab 0 is leased as 256 bytes, and cut as 65536`),
  ],
  [
    'a slab that is free and has a class',
    books({ sizes: [PAGE_BYTES, PAGE_BYTES] }),
    ['slab 1 is free and has a class, or neither', 'slab 1 has 0 free and 0 leased of 64 pages'],
  ],
] as const)
  test(`bookFaults() names ${name}`, () => assert.deepEqual(bookFaults(wrong), lines));
