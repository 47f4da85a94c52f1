// The pages of an adapter: free + leased = all, no byte twice, runs that say exactly where the bytes lie, slabs that change
// their class, and trials that foretell what giving back would bring.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import {
  type Arena,
  BINDING_BYTES,
  createArena,
  type Lease,
  PAGE_BYTES,
  pageBytesFor,
  type Run,
  SLAB_BYTES,
} from '../../../core/gpu/arena.ts';
import { seeded } from '../../support/seeded.ts';

const KiB = 1 << 10;
const CLASSES = [256, KiB, 768, 4 * KiB, 12_800, 16 * KiB, 20_736, PAGE_BYTES, SLAB_BYTES] as const;

const leaseOf = (arena: Arena, bytes: number, pageBytes = PAGE_BYTES): Lease => {
  const lease = arena.lease({ pageBytes });
  assert.equal(lease.grow(bytes), true);
  return lease;
};
const ranges = (lease: Lease): Run[] => Array.from({ length: lease.pages }, (_, i) => lease.range(i));
const startOf = ({ binding, byteOffset }: Run): number => binding * BINDING_BYTES + byteOffset;

/** Runs cover `length` bytes in order, none across a binding, none that could be one with the next. */
function assertRuns(runs: readonly Run[], length: number, pageBytes: number): void {
  assert.equal(
    runs.reduce((sum, run) => sum + run.byteLength, 0),
    length,
  );
  for (const [i, run] of runs.entries()) {
    assert.equal(run.byteOffset % 256, 0);
    assert.ok(run.byteLength > 0);
    assert.ok(run.byteOffset + run.byteLength <= BINDING_BYTES, 'a run crosses its binding');
    const next = runs[i + 1];
    if (!next) return;
    assert.equal(run.byteLength % pageBytes, 0);
    const touches = next.binding === run.binding && next.byteOffset === run.byteOffset + run.byteLength;
    assert.ok(!touches, 'two runs could be one');
  }
}

/** No two pages of any lease share a byte, and none lies outside the arena. */
function assertApart(arena: Arena, leases: Iterable<Lease>): void {
  const all = [...leases].flatMap(ranges).sort((a, b) => startOf(a) - startOf(b));
  for (const [i, page] of all.entries()) {
    const next = all[i + 1];
    assert.ok(startOf(page) + page.byteLength <= (next ? startOf(next) : arena.usage().capacityBytes), 'pages overlap');
  }
}

test('lease() holds nothing until it grows, and takes pages of 256 bytes to a slab', () => {
  const arena = createArena(1);
  const lease = arena.lease();
  assert.deepEqual([lease.pages, lease.pageBytes, arena.usedBytes], [0, PAGE_BYTES, 0]);
  assert.deepEqual(lease.runs(0, 0), []);
  for (const pageBytes of [0, -256, 100, 255, 257, SLAB_BYTES + 256, Number.NaN])
    assert.throws(() => arena.lease({ pageBytes }), /no multiple of 256/);
});

test('grow() rounds up to pages, and never shrinks', () => {
  const arena = createArena(1);
  const lease = leaseOf(arena, 1);
  for (const [bytes, pages] of [
    [PAGE_BYTES, 1],
    [PAGE_BYTES + 1, 2],
    [0, 2],
  ] as const) {
    assert.equal(lease.grow(bytes), true);
    assert.equal(lease.pages, pages);
  }
  assert.equal(arena.usedBytes, 2 * PAGE_BYTES);
  assert.equal(arena.usage().askedBytes, PAGE_BYTES + 1);
});

test('grow() takes every page, and changes nothing when there are too few', () => {
  const arena = createArena(1);
  const lease = leaseOf(arena, 3 * PAGE_BYTES);
  const before = arena.usage();
  assert.equal(lease.grow(BINDING_BYTES + 1), false);
  assert.deepEqual(arena.usage(), before);
  assert.equal(lease.grow(BINDING_BYTES), true);
  assert.equal(arena.room(), 0);
  assert.equal(arena.lease().grow(1), false);
  assert.equal(arena.lease({ pageBytes: 256 }).grow(1), false);
});

test('a slab has one class while a page of it is leased, and then any', () => {
  const arena = createArena(1);
  const small = leaseOf(arena, 1, 256);
  assert.equal(arena.room(SLAB_BYTES), BINDING_BYTES - SLAB_BYTES);
  assert.equal(arena.room(256), BINDING_BYTES - 256);
  const large = leaseOf(arena, BINDING_BYTES - SLAB_BYTES, SLAB_BYTES);
  assert.equal(arena.lease({ pageBytes: SLAB_BYTES }).grow(1), false);
  const { freeSlabs, idleBytes, classes } = arena.usage();
  assert.deepEqual([freeSlabs, idleBytes], [0, SLAB_BYTES - 256]);
  assert.deepEqual(classes, [
    { pageBytes: 256, slabs: 1, pages: SLAB_BYTES / 256, freePages: SLAB_BYTES / 256 - 1 },
    { pageBytes: SLAB_BYTES, slabs: 31, pages: 31, freePages: 0 },
  ]);
  small.release();
  assert.deepEqual([arena.usage().freeSlabs, arena.usage().classes.length], [1, 1]);
  assert.equal(leaseOf(arena, 1, SLAB_BYTES).pages, 1);
  large.release();
});

test('a class that does not divide a slab leaves its end idle', () => {
  const arena = createArena(1);
  const pageBytes = 12_800;
  const perSlab = Math.floor(SLAB_BYTES / pageBytes);
  const lease = leaseOf(arena, (perSlab + 1) * pageBytes, pageBytes);
  assert.deepEqual(lease.runs(0, (perSlab + 1) * pageBytes), [
    { binding: 0, byteOffset: 0, byteLength: perSlab * pageBytes },
    { binding: 0, byteOffset: SLAB_BYTES, byteLength: pageBytes },
  ]);
  assert.equal(arena.usage().idleBytes, 2 * SLAB_BYTES - (perSlab + 1) * pageBytes);
});

test('runs() of a fresh lease is one run for each binding', () => {
  const lease = leaseOf(createArena(3), 2 * BINDING_BYTES + 5);
  assert.deepEqual(lease.runs(0, 2 * BINDING_BYTES + 5), [
    { binding: 0, byteOffset: 0, byteLength: BINDING_BYTES },
    { binding: 1, byteOffset: 0, byteLength: BINDING_BYTES },
    { binding: 2, byteOffset: 0, byteLength: 5 },
  ]);
});

test('runs() begins at any page, range() is one', () => {
  const lease = leaseOf(createArena(2), BINDING_BYTES + PAGE_BYTES);
  assert.deepEqual(lease.runs(BINDING_BYTES - PAGE_BYTES, PAGE_BYTES + 1), [
    { binding: 0, byteOffset: BINDING_BYTES - PAGE_BYTES, byteLength: PAGE_BYTES },
    { binding: 1, byteOffset: 0, byteLength: 1 },
  ]);
  assert.deepEqual(lease.range(BINDING_BYTES / PAGE_BYTES), { binding: 1, byteOffset: 0, byteLength: PAGE_BYTES });
});

test('runs() and range() throw between pages and beyond the lease', () => {
  const lease = leaseOf(createArena(1), 2 * PAGE_BYTES);
  assert.throws(() => lease.runs(1, 1), /not at the start of a page/);
  assert.throws(() => lease.runs(0, 2 * PAGE_BYTES + 1), /beyond the lease/);
  assert.throws(() => lease.runs(2 * PAGE_BYTES, 1), /beyond the lease/);
  assert.throws(() => lease.range(2), /page 2 is beyond the 2/);
  assert.throws(() => lease.range(-1), /beyond/);
});

test('release() gives the pages back once; a lease is of no use after it', () => {
  const arena = createArena(1);
  const lease = leaseOf(arena, 7 * PAGE_BYTES);
  lease.release();
  assert.deepEqual(arena.usage(), createArena(1).usage());
  assert.deepEqual([lease.pages, lease.slabs()], [0, []]);
  for (const use of [() => lease.release(), () => lease.grow(1), () => lease.runs(0, 0), () => lease.range(0)])
    assert.throws(use, /after its release/);
  assert.deepEqual(arena.usage(), createArena(1).usage());
});

test('the lowest free pages are taken first: what follows a release is contiguous again', () => {
  const arena = createArena(1);
  const [first, second] = [leaseOf(arena, 10 * PAGE_BYTES), leaseOf(arena, PAGE_BYTES)];
  first.release();
  assert.equal(leaseOf(arena, 10 * PAGE_BYTES).runs(0, 10 * PAGE_BYTES).length, 1);
  second.release();
  assert.equal(leaseOf(arena, 64 * PAGE_BYTES).runs(0, 64 * PAGE_BYTES).length, 1);
});

test('lose() leaves nothing to lease, and leases that hold nothing and can be released', () => {
  const arena = createArena(1);
  const lease = leaseOf(arena, 4 * PAGE_BYTES);
  assert.equal(lease.lost, false);
  assert.deepEqual([lease.slabs(), arena.leasedOf(0)], [[{ slab: 0, pages: 4 }], 4]);
  arena.lose();
  assert.deepEqual([lease.lost, lease.pages, lease.slabs(), arena.leasedOf(0)], [true, 0, [], 0]);
  assert.deepEqual(arena.usage(), {
    capacityBytes: 0,
    slabs: 0,
    freeSlabs: 0,
    askedBytes: 0,
    usedBytes: 0,
    idleBytes: 0,
    classes: [],
  });
  assert.equal(lease.grow(1), false);
  assert.equal(arena.lease().grow(1), false);
  assert.equal(arena.trial().fits(lease, 1), false);
  lease.release();
  assert.throws(() => lease.release(), /after its release/);
  assert.deepEqual(arena.faults(), []);
});

test('pageBytesFor() loses less than a fifth beyond 4 KiB, and less than a KiB below', () => {
  for (let bytes = 0; bytes < 400 * KiB; bytes += 97) {
    const pageBytes = pageBytesFor(bytes);
    const taken = Math.ceil(bytes / pageBytes) * pageBytes;
    assert.ok(taken - bytes < (bytes >= 4 * KiB ? taken / 5 : KiB), `${bytes} bytes take ${taken}`);
  }
  assert.deepEqual([KiB, 100 * KiB, 256 * KiB, 100 << 20].map(pageBytesFor), [KiB, 16 * KiB, PAGE_BYTES, PAGE_BYTES]);
});

interface Held {
  readonly lease: Lease;
  bytes: number;
}

/** What the arena must count, from the leases alone. */
function assertCounts(arena: Arena, held: readonly Held[]): void {
  const usage = arena.usage();
  const used = held.reduce((sum, { lease }) => sum + lease.pages * lease.pageBytes, 0);
  const leasedOf = new Map<number, number>();
  for (const { lease } of held)
    if (lease.pages > 0) leasedOf.set(lease.pageBytes, (leasedOf.get(lease.pageBytes) ?? 0) + lease.pages);
  assert.deepEqual(
    usage.classes.map(({ pageBytes }) => pageBytes),
    [...leasedOf.keys()].sort((a, b) => a - b),
  );
  let slabs = usage.freeSlabs;
  for (const group of usage.classes) {
    assert.equal(group.freePages + (leasedOf.get(group.pageBytes) ?? 0), group.pages, 'free + leased = all');
    assert.equal(group.pages, group.slabs * Math.floor(SLAB_BYTES / group.pageBytes));
    slabs += group.slabs;
  }
  assert.equal(slabs, usage.slabs, 'free + bound slabs = all');
  assert.equal(usage.usedBytes, used);
  assert.equal(
    usage.askedBytes,
    held.reduce((sum, { bytes }) => sum + bytes, 0),
  );
  assert.equal(usage.freeSlabs * SLAB_BYTES + usage.usedBytes + usage.idleBytes, usage.capacityBytes);
}

/** Leases tell which slabs they lie in, and the arena how much of each slab is leased. */
function assertShares(arena: Arena, leases: readonly Lease[]): void {
  const counted = new Map<number, number>();
  for (const lease of leases) {
    const mine = new Map<number, number>();
    for (const { binding, byteOffset } of ranges(lease)) {
      const slab = Math.floor((binding * BINDING_BYTES + byteOffset) / SLAB_BYTES);
      mine.set(slab, (mine.get(slab) ?? 0) + 1);
      counted.set(slab, (counted.get(slab) ?? 0) + 1);
    }
    assert.deepEqual(
      lease.slabs(),
      [...mine].map(([slab, pages]) => ({ slab, pages })),
    );
  }
  for (let slab = 0; slab < arena.usage().slabs; slab++)
    assert.equal(arena.leasedOf(slab), counted.get(slab) ?? 0, `slab ${slab}`);
}

test('free + leased = all, and no byte is leased twice, over a random walk', (t) => {
  const random = seeded();
  t.diagnostic(`SEED=${random.seed}`);
  const arena = createArena(2);
  const held: Held[] = [];
  for (let step = 0; step < 3000; step++) {
    const at = random.below(Math.max(1, held.length));
    const one = held[at];
    const action = random.below(10);
    if (!one || action < 4) {
      const lease = arena.lease({ pageBytes: random.pick(CLASSES) });
      const bytes = random.below(random.pick([lease.pageBytes, 40 * lease.pageBytes, 60 * SLAB_BYTES]));
      const room = arena.room(lease.pageBytes);
      assert.equal(lease.grow(bytes), Math.ceil(bytes / lease.pageBytes) * lease.pageBytes <= room);
      held.push({ lease, bytes: lease.pages > 0 ? bytes : 0 });
    } else if (action < 6) {
      const { lease } = one;
      const bytes = random.below(60 * lease.pageBytes) + lease.pages * lease.pageBytes;
      const more = Math.ceil(bytes / lease.pageBytes) - lease.pages;
      const fits = more * lease.pageBytes <= arena.room(lease.pageBytes);
      assert.equal(lease.grow(bytes), fits);
      if (fits) one.bytes = Math.max(one.bytes, bytes);
    } else {
      held.splice(at, 1);
      one.lease.release();
    }
    assertCounts(arena, held);
    if (step % 60 > 0) continue;
    assert.deepEqual(arena.faults(), []);
    assertApart(
      arena,
      held.map(({ lease }) => lease),
    );
    if (step % 240 === 0)
      assertShares(
        arena,
        held.map(({ lease }) => lease),
      );
    for (const { lease } of held) {
      const offset = random.below(lease.pages + 1) * lease.pageBytes;
      const length = random.below(lease.pages * lease.pageBytes - offset + 1);
      assertRuns(lease.runs(offset, length), length, lease.pageBytes);
    }
  }
  for (const { lease } of held) lease.release();
  assert.deepEqual(arena.usage(), createArena(2).usage());
});

test('trial() says what giving back would bring, for every class, and changes nothing', (t) => {
  const random = seeded();
  t.diagnostic(`SEED=${random.seed}`);
  for (let round = 0; round < 120; round++) {
    const arena = createArena(1);
    const leases: Lease[] = [];
    for (let i = 0; i < 60; i++) {
      const lease = arena.lease({ pageBytes: random.pick(CLASSES) });
      if (lease.grow(random.below(random.pick([SLAB_BYTES, 3 * SLAB_BYTES, lease.pageBytes])))) leases.push(lease);
    }
    const before = arena.usage();
    const trial = arena.trial();
    const given = new Set<Lease>();
    for (const lease of leases) {
      if (random.below(2) > 0) continue;
      trial.give(lease);
      given.add(lease);
    }
    for (const lease of [...given])
      if (random.below(3) === 0) {
        trial.keep(lease);
        given.delete(lease);
      }
    const asker = arena.lease({ pageBytes: random.pick(CLASSES) });
    const said = (bytes: number) => trial.fits(asker, bytes);
    assert.deepEqual(arena.usage(), before);
    const sizes = Array.from({ length: 20 }, () => random.below(BINDING_BYTES + 1));
    const foretold = sizes.map(said);
    for (const lease of given) lease.release();
    const room = arena.room(asker.pageBytes);
    for (const [i, bytes] of sizes.entries())
      assert.equal(foretold[i], Math.ceil(bytes / asker.pageBytes) * asker.pageBytes <= room, `${bytes} of ${room}`);
    assert.equal(said(0), true);
  }
});

test('memory is flat over 100,000 leases', () => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const random = seeded();
  const arena = createArena(4);
  const held: Lease[] = [];
  const churn = (times: number): void => {
    for (let i = 0; i < times; i++) {
      const pageBytes = random.pick(CLASSES);
      const lease = arena.lease({ pageBytes });
      if (lease.grow(1 + random.below(4 * pageBytes))) held.push(lease);
      if (held.length > 100) held.splice(random.below(held.length), 1)[0]?.release();
    }
  };
  churn(5000);
  collect();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  churn(100_000);
  collect();
  const after = process.memoryUsage();
  assert.ok(after.heapUsed - heapUsed < 2 << 20, `the heap grew by ${after.heapUsed - heapUsed} bytes`);
  assert.ok(after.arrayBuffers - arrayBuffers < 1 << 20, `buffers grew by ${after.arrayBuffers - arrayBuffers} bytes`);
  for (const lease of held) lease.release();
  assert.deepEqual(arena.usage(), createArena(4).usage());
});
