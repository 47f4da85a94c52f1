// Who leaves when room is short, across page sizes: in the order of use, nobody whose going does not help, and nobody when
// it would be in vain. And pages that move: released once, after the last reader of theirs. Real arenas, no adapter.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createHoldings, type Entry, type Holdings, newEntry } from '../../../core/cache/holdings.ts';
import { type Arena, BINDING_BYTES, createArena, SLAB_BYTES } from '../../../core/gpu/arena.ts';
import { type GpuLease, gpuLease } from '../../../core/gpu/gpu-lease.ts';
import type { StoredRecord } from '../../../core/store/records.ts';
import { type Seeded, seeded } from '../../support/seeded.ts';

const never = () => Promise.reject(new Error('nothing is read or written here'));
const leaseOn = (arena: Arena, pageBytes: number, adapter = 'a'): GpuLease =>
  gpuLease(adapter, { arena, read: never, write: never, run: never }, { pageBytes });

const recordOf = (key: string, bytes: number): StoredRecord => ({
  tenant: 't',
  key,
  digest: '',
  bytes,
  codec: 'raw',
  dtype: null,
  shape: null,
  tensors: 0,
  priority: 50,
  createdAt: 0,
  expiresAt: null,
});

function insert(holdings: Holdings, arena: Arena, key: string, bytes: number, pageBytes: number, onDisk = true): Entry {
  const lease = leaseOn(arena, pageBytes);
  assert.ok(lease.grow(bytes), `there is no room for ${key}`);
  const entry = newEntry(recordOf(key, bytes), lease, onDisk);
  holdings.insert(entry);
  return entry;
}

const hotKeys = (holdings: Holdings): string[] => holdings.hot().map(({ record }) => record.key);
const clean = (holdings: Holdings, arena: Arena): void =>
  assert.deepEqual([...holdings.faults(), ...arena.faults()], []);

test('makeRoom() empties a slab of another class, and spares whoever lies elsewhere', () => {
  const arena = createArena(1);
  const holdings = createHoldings(() => 0);
  insert(holdings, arena, 'old-small', 1000, 1024);
  const block = insert(holdings, arena, 'block', BINDING_BYTES - SLAB_BYTES, SLAB_BYTES);
  insert(holdings, arena, 'young-small', 1000, 1024);
  holdings.touch(block);
  // A slab comes free by the two small ones together; the large one is younger, and stays.
  const asker = leaseOn(arena, 65_536);
  assert.equal(holdings.couldMakeRoom(asker, 1), true);
  assert.equal(holdings.evictions, 0);
  assert.equal(holdings.makeRoom(asker, 1), true);
  assert.deepEqual(hotKeys(holdings), ['block']);
  assert.equal(holdings.evictions, 2);
  clean(holdings, arena);
});

test('makeRoom() evicts nobody who is older and of no help', () => {
  const arena = createArena(1);
  const holdings = createHoldings(() => 0);
  insert(holdings, arena, 'oldest', 1000, 1024);
  const reading = insert(holdings, arena, 'read', 1000, 1024); // shares its slab, which therefore stays
  holdings.hold(reading);
  insert(holdings, arena, 'block', BINDING_BYTES - SLAB_BYTES, SLAB_BYTES);
  assert.equal(holdings.makeRoom(leaseOn(arena, 65_536), 1), true);
  assert.deepEqual(hotKeys(holdings), ['oldest', 'read']);
  assert.equal(holdings.makeRoom(leaseOn(arena, SLAB_BYTES), BINDING_BYTES), false);
  assert.deepEqual(hotKeys(holdings), ['oldest', 'read'], 'somebody left in vain');
  clean(holdings, arena);
});

const SIZES = [1024, 4096, 65_536, SLAB_BYTES] as const;
const bytesFor = (random: Seeded, pageBytes: number): number =>
  1 + random.below(random.pick([Math.min(40 * pageBytes, 5 * SLAB_BYTES), 5 * SLAB_BYTES, 28 * SLAB_BYTES]));

test('makeRoom() over a random walk: room is got or nobody leaves, and each who left was needed', (t) => {
  const random = seeded();
  t.diagnostic(`SEED=${random.seed}`);
  let [got, refused, left] = [0, 0, 0];
  for (let round = 0; round < 40; round++) {
    const arena = createArena(1);
    const holdings = createHoldings(() => 0);
    const readers: (() => void)[] = [];
    for (let step = 0; step < 120; step++) {
      const pageBytes = random.pick(SIZES);
      const asker = leaseOn(arena, pageBytes);
      const bytes = bytesFor(random, pageBytes);
      const before = holdings.hot();
      const evictable = before.filter(({ readers }) => readers === 0);
      const couldAll = asker.trial();
      for (const { lease } of evictable) if (lease) couldAll.give(lease);
      const wanted = couldAll.fits(bytes);
      const without = before.map((entry) => entry.lease);
      assert.equal(holdings.couldMakeRoom(asker, bytes), wanted);
      // Each who leaves is needed: with all the others who left and without this one, there was no room.
      const shadow = needless(holdings, asker, bytes, before);
      assert.equal(holdings.makeRoom(asker, bytes), wanted);
      const gone = before.filter((entry, i) => without[i] !== entry.lease);
      if (wanted)
        assert.deepEqual(
          gone.map(({ id }) => id),
          shadow,
        );
      else assert.deepEqual(gone, [], 'somebody left in vain');
      left += gone.length;
      if (wanted) {
        got++;
        holdings.insert(newEntry(recordOf(`k${random.below(300)}`, bytes), asker, random.below(2) > 0));
      } else {
        refused++;
        asker.release();
      }
      const touched = holdings.hot()[random.below(holdings.hot().length || 1)];
      if (touched && random.below(3) === 0) holdings.touch(touched);
      if (touched && random.below(4) === 0) readers.push(holdings.hold(touched));
      if (random.below(6) === 0) readers.shift()?.();
      clean(holdings, arena);
    }
    for (const end of readers) end();
    clean(holdings, arena);
  }
  assert.ok(got > 500 && refused > 20 && left > 200, `${got} got room, ${refused} did not, ${left} left`);
});

/** Who must go, found the plain way: the shortest run of the oldest that makes room, less each that it does without. */
function needless(holdings: Holdings, asker: GpuLease, bytes: number, line: Entry[]): string[] {
  const fits = (going: Entry[]): boolean => {
    const trial = asker.trial();
    for (const { lease } of going) if (lease) trial.give(lease);
    return trial.fits(bytes);
  };
  const evictable = line.filter(({ readers }) => readers === 0);
  assert.deepEqual(holdings.hot(), line);
  let going: Entry[] = [];
  for (const entry of evictable) {
    if (fits(going)) break;
    going.push(entry);
  }
  for (const entry of [...going].reverse()) {
    const rest = going.filter((one) => one !== entry);
    if (fits(rest)) going = rest;
  }
  return fits(going) ? going.map(({ id }) => id) : [];
}

test('move() leaves readers their pages, and releases them with the last', () => {
  const [from, to] = [createArena(1), createArena(1)];
  const holdings = createHoldings(() => 0);
  const entry = insert(holdings, from, 'k', 5000, 1024);
  const ends = [holdings.hold(entry), holdings.hold(entry)];
  const lease = leaseOn(to, 1024, 'b');
  lease.grow(5000);
  holdings.move(entry, lease);
  assert.equal(holdings.hotBytes, 10_000, 'both places are taken');
  const late = holdings.hold(entry);
  ends[0]?.();
  assert.equal(from.usedBytes, 5 * 1024);
  ends[1]?.();
  assert.deepEqual([from.usedBytes, to.usedBytes, holdings.hotBytes], [0, 5 * 1024, 5000]);
  holdings.move(entry, undefined);
  assert.deepEqual([entry.lease, to.usedBytes], [undefined, 5 * 1024], 'somebody reads');
  late();
  assert.deepEqual([to.usedBytes, holdings.hotBytes, hotKeys(holdings)], [0, 0, []]);
  clean(holdings, to);
});

test('an entry that is removed while others read from where it was gives everything back', () => {
  const [from, to] = [createArena(1), createArena(1)];
  const holdings = createHoldings(() => 0);
  const entry = insert(holdings, from, 'k', 5000, 1024);
  const [early, end] = [holdings.hold(entry), holdings.hold(entry)];
  const lease = leaseOn(to, 1024, 'b');
  lease.grow(5000);
  holdings.move(entry, lease);
  holdings.remove(entry);
  early();
  end();
  assert.deepEqual([from.usedBytes, to.usedBytes, holdings.hotBytes], [0, 0, 0]);
  clean(holdings, to);
});

test('faults() names what cannot be', () => {
  const arena = createArena(1);
  const holdings = createHoldings(() => 0);
  const one = insert(holdings, arena, 'one', 10, 1024);
  const two = insert(holdings, arena, 'two', 10, 1024, false);
  const [first, second] = [one.lease, two.lease];
  two.lease = first;
  assert.match(holdings.faults().join(), /t\/two and t\/one have the same pages,pages on a belong to nobody/);
  two.lease = undefined;
  assert.match(holdings.faults().join(), /t\/two is neither on an adapter nor on disk/);
  two.lease = second;
  assert.deepEqual(holdings.faults(), []);
});
