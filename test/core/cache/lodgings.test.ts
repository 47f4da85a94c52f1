// Finding out who leaves costs what those cost who are asked, however many others lodge there: counted in steps, no clock.
// Who that is, is proven in holdings.test.ts.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Entry, newEntry } from '../../../core/cache/entry.ts';
import { createLodgings, type Lodgings } from '../../../core/cache/lodgings.ts';
import { type Arena, BINDING_BYTES, createArena, SLAB_BYTES } from '../../../core/gpu/arena.ts';
import { type GpuLease, gpuLease } from '../../../core/gpu/gpu-lease.ts';
import { seeded } from '../../support/seeded.ts';

const KiB = 1 << 10;
const never = () => Promise.reject(new Error('nothing is read or written here'));
const leaseOn = (arena: Arena, pageBytes: number, bytes = 0): GpuLease => {
  const lease = gpuLease('a', { arena, read: never, write: never, run: never }, { pageBytes });
  assert.ok(lease.grow(bytes));
  return lease;
};

let keys = 0;
function enter(lodgings: Lodgings, arena: Arena, pageBytes: number, bytes: number): Entry {
  const lease = leaseOn(arena, pageBytes, bytes);
  const facts = { codec: 'raw', dtype: null, shape: null, tensors: 0, priority: 50, createdAt: 0, expiresAt: null };
  const entry = newEntry({ tenant: 't', key: `${keys++}`, digest: '', bytes, ...facts }, lease, true);
  lodgings.enter(entry, lease);
  return entry;
}

/** Steps that something takes. */
function stepsOf(lodgings: Lodgings, work: () => void): number {
  const before = lodgings.steps;
  work();
  return lodgings.steps - before;
}

/** As holdings do it. */
function evict(lodgings: Lodgings, going: readonly Entry[]): void {
  for (const entry of going) {
    lodgings.leave(entry);
    entry.lease?.release();
    entry.lease = undefined;
  }
}

test('leaving() among 200,000 tiny lodgers in random order asks those of one slab for another size', (t) => {
  const random = seeded();
  t.diagnostic(`SEED=${random.seed}`);
  const arena = createArena(2);
  const { slabs, capacityBytes } = arena.usage();
  const lodgings = createLodgings();
  const entries = Array.from({ length: 200_000 }, () => enter(lodgings, arena, KiB, KiB));
  for (let i = entries.length - 1; i > 0; i--) {
    const other = entries[random.below(i + 1)];
    if (other) lodgings.touch(other);
  }
  enter(lodgings, arena, SLAB_BYTES, arena.room(SLAB_BYTES));
  const rest = leaseOn(arena, KiB, arena.room(KiB)); // in the last slab of tiny pages, which therefore stays
  const perSlab = SLAB_BYTES / KiB;

  const asker = leaseOn(arena, 64 * KiB);
  for (let pieces = 1; pieces <= 8; pieces++) {
    const bytes = pieces * SLAB_BYTES;
    assert.ok(stepsOf(lodgings, () => assert.ok(lodgings.couldMakeRoom(asker, bytes))) <= slabs);
    let going: Entry[] | undefined;
    // Each is counted when offered, when asked and when needed; and slabs before and meanwhile.
    const steps = stepsOf(lodgings, () => {
      going = lodgings.leaving(asker, bytes);
    });
    assert.ok(steps <= 3 * perSlab + 2 * slabs, `${steps} steps`);
    assert.equal(going?.length, perSlab);
    evict(lodgings, going ?? []);
    assert.ok(asker.grow(bytes));
  }
  // In vain: known before anybody is asked.
  const vain = stepsOf(lodgings, () => assert.equal(lodgings.leaving(asker, capacityBytes), undefined));
  assert.ok(vain <= slabs, `${vain} steps in vain`);
  // Of their own size, one after the other.
  const tiny = leaseOn(arena, KiB);
  const few = stepsOf(lodgings, () => assert.equal(lodgings.leaving(tiny, 10 * KiB)?.length, 10));
  assert.ok(few <= 30 + 3, `${few} steps`); // and hardly a slab
  rest.release();
  assert.deepEqual(lodgings.faults(), []);
});

test('leaving() passes over slabs that others have a part of with a look at each', () => {
  const arena = createArena(1);
  const lodgings = createLodgings();
  const other = leaseOn(arena, 16 * KiB);
  for (let slab = 0; slab < 31; slab++) {
    for (let i = 0; i < 255; i++) enter(lodgings, arena, 16 * KiB, 16 * KiB);
    assert.ok(other.grow((slab + 1) * 16 * KiB));
  }
  const young = enter(lodgings, arena, SLAB_BYTES, SLAB_BYTES);
  const asker = leaseOn(arena, 64 * KiB);
  let going: Entry[] | undefined;
  const steps = stepsOf(lodgings, () => {
    going = lodgings.leaving(asker, SLAB_BYTES);
  });
  assert.deepEqual(going, [young]);
  assert.ok(steps <= 2 * 32 + 3, `${steps} steps`);
  assert.equal(lodgings.couldMakeRoom(asker, SLAB_BYTES + 1), false);
  other.release();
  assert.equal(lodgings.leaving(asker, 2 * SLAB_BYTES)?.length, 2 * 255, 'all in the two oldest');
});

test('a house stands while somebody lodges there; what is lost, empty or gone is of no use and no harm', () => {
  const arena = createArena(1);
  const lodgings = createLodgings();
  const asker = leaseOn(arena, 64 * KiB);
  const entry = enter(lodgings, arena, 4 * KiB, BINDING_BYTES);
  enter(lodgings, createArena(1), 64 * KiB, BINDING_BYTES); // in another house
  assert.deepEqual(lodgings.leaving(asker, 1), [entry]);
  const before = lodgings.steps;
  lodgings.leave(entry);
  assert.equal(lodgings.steps, before, 'what was counted stays');
  for (const change of [lodgings.leave, lodgings.touch, lodgings.heed]) change(entry);
  assert.equal(lodgings.leaving(asker, 1), undefined);
  enter(lodgings, arena, 4 * KiB, 0);
  assert.equal(lodgings.couldMakeRoom(asker, 1), false);
  if (entry.lease) lodgings.enter(entry, entry.lease);
  assert.equal(lodgings.couldMakeRoom(asker, 1), true);
  arena.lose();
  assert.deepEqual([lodgings.couldMakeRoom(asker, 1), lodgings.leaving(asker, 1)], [false, undefined]);
  lodgings.leave(entry);
  if (entry.lease) lodgings.enter(entry, entry.lease);
  assert.deepEqual(lodgings.faults(), []);
});

test('faults() names who is counted as what it is not', () => {
  const lodgings = createLodgings();
  const entry = enter(lodgings, createArena(1), KiB, KiB);
  entry.readers++;
  assert.match(lodgings.faults().join(), /could be evicted, and is in use/);
  lodgings.heed(entry);
  assert.deepEqual(lodgings.faults(), []);
  entry.readers--;
  assert.match(lodgings.faults().join(), /is not to be had/);
});
