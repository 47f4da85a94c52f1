// The pages of an adapter: free + leased = all, no page twice, and runs that say exactly where the bytes lie.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Arena, BINDING_BYTES, createArena, type Lease, PAGE_BYTES, type Run } from '../../../core/gpu/arena.ts';
import { seeded } from '../../support/seeded.ts';

const PAGES_PER_BINDING = BINDING_BYTES / PAGE_BYTES;

const leaseOf = (arena: Arena, bytes: number): Lease => {
  const lease = arena.lease();
  assert.equal(lease.grow(bytes), true);
  return lease;
};

/** The numbers of all pages of a lease, in its order. */
function pagesOf(lease: Lease): number[] {
  return lease.runs(0, lease.pages * PAGE_BYTES).flatMap((run) => {
    const first = run.binding * PAGES_PER_BINDING + run.byteOffset / PAGE_BYTES;
    return Array.from({ length: run.byteLength / PAGE_BYTES }, (_, i) => first + i);
  });
}

/** Runs cover `length` bytes in order: whole pages but the last, none across a binding, none that could be one with the next. */
function assertRuns(runs: readonly Run[], length: number): void {
  assert.equal(
    runs.reduce((sum, run) => sum + run.byteLength, 0),
    length,
  );
  runs.forEach((run, i) => {
    assert.equal(run.byteOffset % PAGE_BYTES, 0);
    assert.ok(run.byteLength > 0);
    assert.ok(run.byteOffset + run.byteLength <= BINDING_BYTES, 'a run crosses its binding');
    const next = runs[i + 1];
    if (!next) return;
    assert.equal(run.byteLength % PAGE_BYTES, 0);
    const touches = next.binding === run.binding && next.byteOffset === run.byteOffset + run.byteLength;
    assert.ok(!touches, 'two runs could be one');
  });
}

test('lease() holds nothing until it grows', () => {
  const arena = createArena(1);
  const lease = arena.lease();
  assert.equal(lease.pages, 0);
  assert.equal(arena.freePages, arena.pages);
  assert.equal(arena.usedBytes, 0);
  assert.deepEqual(lease.runs(0, 0), []);
});

test('grow() rounds up to pages, and never shrinks', () => {
  const arena = createArena(1);
  const lease = leaseOf(arena, 1);
  assert.equal(lease.pages, 1);
  assert.equal(lease.grow(PAGE_BYTES), true);
  assert.equal(lease.pages, 1);
  assert.equal(lease.grow(PAGE_BYTES + 1), true);
  assert.equal(lease.pages, 2);
  assert.equal(lease.grow(0), true);
  assert.equal(lease.pages, 2);
  assert.equal(arena.usedBytes, 2 * PAGE_BYTES);
});

test('grow() takes every page, and changes nothing when there are too few', () => {
  const arena = createArena(1);
  const lease = leaseOf(arena, 3 * PAGE_BYTES);
  assert.equal(lease.grow(BINDING_BYTES + 1), false);
  assert.equal(lease.pages, 3);
  assert.equal(arena.freePages, arena.pages - 3);
  assert.equal(lease.grow(BINDING_BYTES), true);
  assert.equal(arena.freePages, 0);
  assert.equal(arena.lease().grow(1), false);
});

test('missing() says how many pages stand between a lease and its growth', () => {
  const arena = createArena(1);
  const lease = leaseOf(arena, 2 * PAGE_BYTES);
  assert.equal(lease.missing(BINDING_BYTES), 0);
  assert.equal(lease.missing(BINDING_BYTES + 1), 1);
  const other = leaseOf(arena, 5 * PAGE_BYTES);
  assert.equal(lease.missing(BINDING_BYTES), 5);
  other.release();
  assert.equal(lease.missing(BINDING_BYTES), 0);
  arena.lose();
  assert.equal(lease.missing(1), Number.POSITIVE_INFINITY);
});

test('runs() of a fresh lease is one run for each binding', () => {
  const lease = leaseOf(createArena(3), 2 * BINDING_BYTES + 5);
  assert.deepEqual(lease.runs(0, 2 * BINDING_BYTES + 5), [
    { binding: 0, byteOffset: 0, byteLength: BINDING_BYTES },
    { binding: 1, byteOffset: 0, byteLength: BINDING_BYTES },
    { binding: 2, byteOffset: 0, byteLength: 5 },
  ]);
});

test('runs() begins at any page', () => {
  const lease = leaseOf(createArena(2), BINDING_BYTES + PAGE_BYTES);
  assert.deepEqual(lease.runs(BINDING_BYTES - PAGE_BYTES, PAGE_BYTES + 1), [
    { binding: 0, byteOffset: BINDING_BYTES - PAGE_BYTES, byteLength: PAGE_BYTES },
    { binding: 1, byteOffset: 0, byteLength: 1 },
  ]);
});

test('runs() throws between pages and beyond the lease', () => {
  const lease = leaseOf(createArena(1), 2 * PAGE_BYTES);
  assert.throws(() => lease.runs(1, 1), /not at the start of a page/);
  assert.throws(() => lease.runs(0, 2 * PAGE_BYTES + 1), /beyond the lease/);
  assert.throws(() => lease.runs(2 * PAGE_BYTES, 1), /beyond the lease/);
});

test('release() gives the pages back once; a lease is of no use after it', () => {
  const arena = createArena(1);
  const lease = leaseOf(arena, 7 * PAGE_BYTES);
  lease.release();
  assert.equal(arena.freePages, arena.pages);
  assert.equal(lease.pages, 0);
  assert.throws(() => lease.release(), /after its release/);
  assert.throws(() => lease.grow(1), /after its release/);
  assert.throws(() => lease.runs(0, 0), /after its release/);
  assert.equal(arena.freePages, arena.pages);
});

test('release() puts the lowest pages of a lease on top: what follows is contiguous again', () => {
  const arena = createArena(1);
  leaseOf(arena, 10 * PAGE_BYTES).release();
  assert.equal(leaseOf(arena, 20 * PAGE_BYTES).runs(0, 20 * PAGE_BYTES).length, 1);
});

test('lose() leaves nothing to lease, and leases that hold nothing and can be released', () => {
  const arena = createArena(1);
  const lease = leaseOf(arena, 4 * PAGE_BYTES);
  assert.equal(lease.lost, false);
  arena.lose();
  assert.equal(lease.lost, true);
  assert.equal(lease.pages, 0);
  assert.deepEqual([arena.freePages, arena.capacityBytes, arena.usedBytes], [0, 0, 0]);
  assert.equal(lease.grow(1), false);
  assert.equal(lease.grow(4 * PAGE_BYTES), false);
  assert.equal(arena.lease().grow(1), false);
  lease.release();
  assert.equal(arena.freePages, 0);
  assert.throws(() => lease.release(), /after its release/);
});

test('free + leased = all, and no page is leased twice, over a random walk', (t) => {
  const random = seeded();
  t.diagnostic(`SEED=${random.seed}`);
  const arena = createArena(3);
  const leases = new Set<Lease>();
  for (let step = 0; step < 4000; step++) {
    const lease = [...leases][random.below(Math.max(1, leases.size))];
    const action = random.below(10);
    if (!lease || action < 4) {
      const fresh = arena.lease();
      leases.add(fresh);
      const bytes = random.below(random.pick([PAGE_BYTES, 40 * PAGE_BYTES, BINDING_BYTES]));
      assert.equal(fresh.grow(bytes), Math.ceil(bytes / PAGE_BYTES) <= arena.freePages + fresh.pages);
    } else if (action < 6) {
      const bytes = random.below(60 * PAGE_BYTES) + lease.pages * PAGE_BYTES;
      const [free, pages] = [arena.freePages, lease.pages];
      const missing = lease.missing(bytes);
      assert.equal(lease.grow(bytes), missing === 0);
      assert.equal(missing, Math.max(0, Math.ceil(bytes / PAGE_BYTES) - pages - free));
    } else {
      leases.delete(lease);
      lease.release();
    }
    const leased = [...leases].reduce((sum, one) => sum + one.pages, 0);
    assert.equal(arena.freePages + leased, arena.pages);
    assert.equal(arena.usedBytes, leased * PAGE_BYTES);
    if (step % 50 > 0) continue;
    const pages = [...leases].flatMap(pagesOf);
    assert.equal(new Set(pages).size, leased, 'a page is leased twice');
    for (const one of leases) {
      const offset = random.below(one.pages + 1) * PAGE_BYTES;
      const length = random.below(one.pages * PAGE_BYTES - offset + 1);
      assertRuns(one.runs(offset, length), length);
    }
  }
});
