// Who leaves when room is short, across page sizes: in the order of use, nobody whose going does not help, and nobody when
// it would be in vain. And pages that move: released once, after the last reader of theirs. Real arenas, no adapter.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Entry, newEntry } from '../../../core/cache/entry.ts';
import { createHoldings, type Holdings } from '../../../core/cache/holdings.ts';
import { type Arena, BINDING_BYTES, createArena, SLAB_BYTES } from '../../../core/gpu/arena.ts';
import { type GpuLease, type GpuTrial, gpuLease } from '../../../core/gpu/gpu-lease.ts';
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

test('makeRoom() spares who is on its way to the disk, and slabs in which others have leases', () => {
  const arena = createArena(1);
  const holdings = createHoldings(() => 0);
  const flushing = insert(holdings, arena, 'flushing', 1000, 1024, false);
  const other = leaseOn(arena, SLAB_BYTES - 256);
  assert.ok(other.grow(1)); // a slab apart
  insert(holdings, arena, 'beside', 1000, 4096);
  const tokens = leaseOn(arena, 4096);
  assert.ok(tokens.grow(1));
  insert(holdings, arena, 'block', BINDING_BYTES - 3 * SLAB_BYTES, SLAB_BYTES);
  const flushed = holdings.flush(flushing, Promise.resolve());
  const asker = leaseOn(arena, 65_536);
  assert.equal(holdings.makeRoom(asker, 1), true);
  assert.deepEqual(hotKeys(holdings), ['flushing', 'beside'], 'the youngest left, for the others were of no help');
  assert.ok(asker.grow(29 * SLAB_BYTES));
  assert.deepEqual([holdings.couldMakeRoom(asker, 29 * SLAB_BYTES + 1), holdings.evictions], [false, 1]);
  tokens.release();
  assert.equal(holdings.makeRoom(asker, 29 * SLAB_BYTES + 1), true);
  assert.deepEqual(hotKeys(holdings), ['flushing']);
  flushed();
  assert.equal(holdings.makeRoom(asker, 31 * SLAB_BYTES), true);
  assert.deepEqual([hotKeys(holdings), holdings.size], [[], 2], 'what is nowhere else is forgotten');
  clean(holdings, arena);
});

test('makeRoom() asks the older first: one with pages of the size, or all in a slab of another', () => {
  for (const [touched, left] of [
    ['tiny-0', ['large', 'tiny-0', 'tiny-1']], // its slab is as young as it
    ['large', ['tiny-0', 'tiny-1', 'large']],
  ] as const) {
    const arena = createArena(1);
    const holdings = createHoldings(() => 0);
    const entries = [
      insert(holdings, arena, 'tiny-0', 1000, 1024),
      insert(holdings, arena, 'large', 31 * SLAB_BYTES, 65_536),
      insert(holdings, arena, 'tiny-1', 1000, 1024),
    ];
    for (const key of [...left.slice(0, 2), touched, ...left]) {
      const entry = entries.find(({ record }) => record.key === key);
      if (entry) holdings.touch(entry);
    }
    assert.deepEqual(hotKeys(holdings), left);
    assert.equal(holdings.makeRoom(leaseOn(arena, 65_536), 1), true);
    assert.deepEqual(hotKeys(holdings), left[0] === 'large' ? left.slice(1) : ['large']);
    clean(holdings, arena);
  }
});

test('an entry that moves keeps its age', () => {
  const [from, to] = [createArena(1), createArena(1)];
  const holdings = createHoldings(() => 0);
  const moved = insert(holdings, from, 'older', SLAB_BYTES, SLAB_BYTES);
  insert(holdings, to, 'old', SLAB_BYTES, SLAB_BYTES);
  insert(holdings, to, 'young', 30 * SLAB_BYTES, SLAB_BYTES);
  const lease = leaseOn(to, SLAB_BYTES, 'b');
  assert.ok(lease.grow(SLAB_BYTES));
  holdings.move(moved, lease);
  assert.deepEqual(hotKeys(holdings), ['older', 'old', 'young']);
  const asker = leaseOn(to, SLAB_BYTES, 'b');
  for (const left of [['old', 'young'], ['young']]) {
    assert.equal(holdings.makeRoom(asker, asker.bytes + SLAB_BYTES), true);
    assert.deepEqual(hotKeys(holdings), left);
  }
  clean(holdings, to);
  assert.equal(from.usedBytes, 0);
});

const SIZES = [1024, 4096, 65_536, SLAB_BYTES] as const;
const bytesFor = (random: Seeded, pageBytes: number): number =>
  1 +
  random.below(
    random.pick([pageBytes, Math.min(40 * pageBytes, 5 * SLAB_BYTES), 28 * Math.min(512 * pageBytes, SLAB_BYTES)]),
  );

test('makeRoom() over a random walk: room is got or nobody leaves, and each who left was needed', (t) => {
  const random = seeded();
  t.diagnostic(`SEED=${random.seed}`);
  const count = { got: 0, refused: 0, left: 0, plain: 0 };
  for (let round = 0; round < 20; round++) {
    const arenas = [createArena(1), createArena(1)] as const;
    const holdings = createHoldings(() => 0);
    const ends: (() => void)[] = [];
    const others: GpuLease[] = [];
    const any = (): Entry | undefined => holdings.hot()[random.below(holdings.hot().length || 1)];
    for (let step = 0; step < 120; step++) {
      const pageBytes = random.pick(SIZES);
      const arena = random.pick(arenas);
      const asker = leaseOn(arena, pageBytes);
      const bytes = bytesFor(random, pageBytes);
      const before = holdings.hot();
      const without = before.map((entry) => entry.lease);
      const wanted = couldFit(asker, bytes, before);
      const { going, plain } = leavers(asker, bytes, before);
      assert.equal(holdings.couldMakeRoom(asker, bytes), wanted);
      assert.deepEqual(holdings.hot(), before);
      assert.equal(holdings.makeRoom(asker, bytes), wanted);
      const gone = before.filter((entry, i) => without[i] !== entry.lease);
      assert.deepEqual(idsOf(gone), wanted ? idsOf(going) : [], wanted ? undefined : 'somebody left in vain');
      if (wanted && plain) count.plain += gone.length;
      count.left += gone.length;
      count[wanted ? 'got' : 'refused']++;
      if (!wanted) asker.release();
      else if (random.below(8) === 0) others.push(asker);
      else holdings.insert(newEntry(recordOf(`k${random.below(300)}`, bytes), asker, random.below(2) > 0));
      const [touched, held, flushed, moved] = [any(), any(), any(), any()];
      if (touched && random.below(3) === 0) holdings.touch(touched);
      if (held && random.below(4) === 0) ends.push(holdings.hold(held));
      if (flushed && !flushed.flushing && random.below(8) === 0) ends.push(holdings.flush(flushed, Promise.resolve()));
      if (moved && random.below(4) === 0) move(holdings, moved, random.pick(arenas));
      if (random.below(3) === 0) ends.splice(random.below(ends.length), 1)[0]?.();
      if (random.below(8) === 0) others.splice(random.below(others.length), 1)[0]?.release();
      if (step % 8 === 0) for (const arena of arenas) clean(holdings, arena);
    }
    for (const end of ends) end();
    for (const arena of arenas) clean(holdings, arena);
  }
  t.diagnostic(JSON.stringify(count));
  assert.ok(count.got > 500 && count.refused > 20 && count.left > 200 && count.plain > 100, JSON.stringify(count));
});

const idsOf = (entries: readonly Entry[]): string[] => entries.map(({ id }) => id);

function move(holdings: Holdings, entry: Entry, arena: Arena): void {
  const to = leaseOn(arena, entry.lease?.pageBytes ?? 0);
  if (to.grow(entry.record.bytes)) holdings.move(entry, to);
  else to.release();
}

function trialOf(asker: GpuLease, going: readonly Entry[]): GpuTrial {
  const trial = asker.trial();
  for (const { lease } of going) if (lease) trial.give(lease);
  return trial;
}

/** Of those on the asker's adapter. */
const askable = (asker: GpuLease, line: readonly Entry[]): Entry[] =>
  line.filter(({ lease, readers, flushing }) => lease?.lease.arena === asker.lease.arena && readers === 0 && !flushing);

const couldFit = (asker: GpuLease, bytes: number, line: readonly Entry[]): boolean =>
  trialOf(asker, askable(asker, line)).fits(bytes);

/** All who had to be asked, less each whom the others do without, the youngest first. */
function needed(asker: GpuLease, bytes: number, asked: readonly Entry[]): Entry[] {
  const trial = trialOf(asker, asked);
  const going = [...asked].reverse().filter(({ lease }) => {
    if (!lease) return false;
    trial.keep(lease);
    if (trial.fits(bytes)) return false;
    trial.give(lease);
    return true;
  });
  return going.reverse();
}

/** Who must go, found the plain way; `plain` where that is the same as asking one by one until there is room. */
function leavers(asker: GpuLease, bytes: number, line: readonly Entry[]): { going: Entry[]; plain: boolean } {
  const loose = askable(asker, line);
  const offers = offersOf(asker, loose);
  const firstOf = (groups: readonly (readonly Entry[])[]): Entry[] => {
    const asked = new Set<Entry>();
    const trial = asker.trial();
    for (const entry of groups.values().flatMap((group) => (trial.fits(bytes) ? [] : group))) {
      if (entry.lease && !asked.has(entry)) trial.give(entry.lease);
      asked.add(entry);
    }
    return loose.filter((entry) => asked.has(entry));
  };
  const going = needed(asker, bytes, firstOf(offers.map(({ entries }) => entries)));
  const plain = new Set(offers.map(({ age }) => age)).size === offers.length && couldFit(asker, bytes, line);
  if (plain) assert.deepEqual(idsOf(needed(asker, bytes, firstOf(loose.map((entry) => [entry])))), idsOf(going));
  return { going, plain };
}

/** Those with pages of the size one by one, and slabs of other sizes that they could leave empty, the oldest first. */
function offersOf(asker: GpuLease, loose: readonly Entry[]): { age: number; slab: number; entries: Entry[] }[] {
  const { arena } = asker.lease;
  const singles = loose.flatMap((entry, age) =>
    entry.lease?.pageBytes === asker.pageBytes ? [{ age, slab: -1, entries: [entry] }] : [],
  );
  const slabs = new Map<number, { pages: number; age: number; entries: Entry[] }>();
  for (const [age, entry] of loose.entries())
    for (const { slab, pages } of entry.lease?.pageBytes === asker.pageBytes
      ? []
      : (entry.lease?.lease.slabs() ?? [])) {
      const known = slabs.get(slab) ?? { pages: 0, age, entries: [] };
      slabs.set(slab, { pages: known.pages + pages, age, entries: [...known.entries, entry] });
    }
  const whole = [...slabs].flatMap(([slab, { pages, age, entries }]) =>
    pages === arena.leasedOf(slab) ? [{ age, slab, entries }] : [],
  );
  return [...singles, ...whole].sort((a, b) => a.age - b.age || a.slab - b.slab);
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

test('an entry that is replaced while others read from where it was gives up at once what nobody reads', () => {
  const [from, to] = [createArena(1), createArena(1)];
  const holdings = createHoldings(() => 0);
  const entry = insert(holdings, from, 'k', 5000, 1024);
  const end = holdings.hold(entry);
  const lease = leaseOn(to, 1024, 'b');
  lease.grow(5000);
  holdings.move(entry, lease);
  insert(holdings, to, 'k', 100, 1024);
  assert.deepEqual([from.usedBytes, to.usedBytes, holdings.hotBytes], [5 * 1024, 1024, 5100]);
  clean(holdings, to);
  end();
  assert.deepEqual([from.usedBytes, to.usedBytes, holdings.hotBytes], [0, 1024, 100]);
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
