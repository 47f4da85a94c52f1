// Who leaves when room is short, across page sizes: in the order of use, nobody whose going does not help, and nobody when
// it would be in vain. And pages that move: released once, after the last reader of theirs. Real arenas, no adapter.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Course } from '../../../core/cache/course.ts';
import { type Entry, newEntry } from '../../../core/cache/entry.ts';
import { createHoldings, type Holdings } from '../../../core/cache/holdings.ts';
import { STRATEGIES } from '../../../core/contract/policy.ts';
import { type Arena, BINDING_BYTES, createArena, SLAB_BYTES } from '../../../core/gpu/arena.ts';
import { type GpuLease, type GpuTrial, gpuLease } from '../../../core/gpu/gpu-lease.ts';
import type { StoredRecord } from '../../../core/store/records.ts';
import { type Seeded, seeded } from '../../support/seeded.ts';

const never = () => Promise.reject(new Error('nothing is read or written here'));
const LRU: Course = { strategy: 'lru', objective: 'hits', adjustEvery: undefined };
const open = (): Holdings => createHoldings(() => 0, { course: LRU });
const leaseOn = (arena: Arena, pageBytes: number, adapter = 'a', holdings?: Holdings): GpuLease =>
  gpuLease(
    adapter,
    { arena, read: never, write: never, run: never },
    { pageBytes, ...(holdings && { account: holdings.account('t') }) },
  );

const recordOf = (key: string, bytes: number): StoredRecord => ({
  tenant: 't',
  key,
  digest: key,
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
  const lease = leaseOn(arena, pageBytes, 'a', holdings);
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
  const holdings = open();
  insert(holdings, arena, 'old-small', 1000, 1024);
  const block = insert(holdings, arena, 'block', BINDING_BYTES - SLAB_BYTES, SLAB_BYTES);
  insert(holdings, arena, 'young-small', 1000, 1024);
  holdings.touch(block);
  // A slab comes free by the two small ones together; the large one is younger, and stays.
  const asker = leaseOn(arena, 65_536);
  assert.equal(holdings.couldMakeRoom(asker, 1), true);
  assert.equal(holdings.evictions.room, 0);
  assert.equal(holdings.makeRoom(asker, 1), true);
  assert.deepEqual(hotKeys(holdings), ['block']);
  assert.equal(holdings.evictions.room, 2);
  clean(holdings, arena);
});

test('makeRoom() evicts nobody who is older and of no help', () => {
  const arena = createArena(1);
  const holdings = open();
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
  const holdings = open();
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
  assert.deepEqual([holdings.couldMakeRoom(asker, 29 * SLAB_BYTES + 1), holdings.evictions.room], [false, 1]);
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
    const holdings = open();
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

test('an entry that moves is the youngest where it comes, and its uses come with it', () => {
  for (const strategy of ['lru', 'lfu'] as const) {
    const [from, to] = [createArena(1), createArena(1)];
    const holdings = createHoldings(() => 0, { course: { ...LRU, strategy } });
    const moved = insert(holdings, from, 'moved', SLAB_BYTES, SLAB_BYTES);
    holdings.touch(moved);
    const old = insert(holdings, to, 'old', SLAB_BYTES, SLAB_BYTES);
    for (let i = 0; i < 3; i++) holdings.touch(old);
    insert(holdings, to, 'young', 30 * SLAB_BYTES, SLAB_BYTES);
    const lease = leaseOn(to, SLAB_BYTES, 'b', holdings);
    assert.ok(lease.grow(SLAB_BYTES));
    holdings.move(moved, lease);
    assert.deepEqual(hotKeys(holdings), ['old', 'young', 'moved']);
    const asker = leaseOn(to, SLAB_BYTES, 'b', holdings);
    // Used once, twice and four times.
    const [first, second] = strategy === 'lru' ? [['young', 'moved'], ['moved']] : [['old', 'moved'], ['old']];
    assert.equal(holdings.makeRoom(asker, SLAB_BYTES), true);
    assert.deepEqual(hotKeys(holdings), first);
    assert.equal(holdings.makeRoom(asker, strategy === 'lru' ? 2 * SLAB_BYTES : 31 * SLAB_BYTES), true);
    assert.deepEqual(hotKeys(holdings), second);
    clean(holdings, to);
    assert.equal(from.usedBytes, 0);
  }
});

const SIZES = [1024, 4096, 65_536, SLAB_BYTES] as const;
const bytesFor = (random: Seeded, pageBytes: number): number =>
  1 +
  random.below(
    random.pick([pageBytes, Math.min(40 * pageBytes, 5 * SLAB_BYTES), 28 * Math.min(512 * pageBytes, SLAB_BYTES)]),
  );

for (const strategy of STRATEGIES)
  test(`makeRoom() over a random walk (${strategy}): room is got or nobody leaves`, (t) => {
    const random = seeded();
    t.diagnostic(`SEED=${random.seed}`);
    const count = { got: 0, refused: 0, left: 0, plain: 0 };
    for (let round = 0; round < 20; round++) {
      const arenas = [createArena(1), createArena(1)] as const;
      const course: Course = { strategy, objective: 'hits', adjustEvery: 20 };
      const holdings = createHoldings(() => 0, { course });
      const ends: (() => void)[] = [];
      const others: GpuLease[] = [];
      const any = (): Entry | undefined => holdings.hot()[random.below(holdings.hot().length || 1)];
      for (let step = 0; step < 120; step++) {
        const pageBytes = round % 2 ? 65_536 : random.pick(SIZES);
        const arena = random.pick(arenas);
        const asker = leaseOn(arena, pageBytes, 'a', holdings);
        const bytes = bytesFor(random, pageBytes);
        const before = holdings.hot();
        const without = before.map((entry) => entry.lease);
        const wanted = couldFit(asker, bytes, before);
        const plain = strategy === 'lru' ? plainLeavers(asker, bytes, before) : undefined;
        assert.equal(holdings.couldMakeRoom(asker, bytes), wanted);
        assert.deepEqual(holdings.hot(), before);
        assert.equal(holdings.makeRoom(asker, bytes, { tenant: 't', id: `t\0${step}` }), wanted);
        const gone = before.filter((entry, i) => without[i] !== entry.lease);
        assert.ok(wanted || gone.length === 0, 'somebody left in vain');
        if (wanted && plain) assert.deepEqual(idsOf(gone), idsOf(plain));
        if (wanted && plain) count.plain += gone.length;
        count.left += gone.length;
        count[wanted ? 'got' : 'refused']++;
        if (!wanted) asker.release();
        else if (random.below(8) === 0) others.push(asker);
        else holdings.insert(newEntry(recordOf(`k${random.below(300)}`, bytes), asker, random.below(2) > 0));
        if (random.below(40) === 0) {
          course.strategy = strategy === 'lru' ? 'lru' : random.pick(STRATEGIES);
          course.objective = random.pick(['hits', 'bytes', 'cost']);
          const held = holdings.hot();
          holdings.follow();
          assert.deepEqual(holdings.hot(), held, 'somebody left by another strategy');
        }
        const [touched, held, flushed, moved] = [any(), any(), any(), any()];
        if (touched && random.below(3) === 0) holdings.touch(touched);
        if (held && random.below(4) === 0) ends.push(holdings.hold(held));
        if (flushed && !flushed.flushing && random.below(8) === 0)
          ends.push(holdings.flush(flushed, Promise.resolve()));
        if (moved && random.below(4) === 0) move(holdings, moved, random.pick(arenas));
        if (random.below(3) === 0) ends.splice(random.below(ends.length), 1)[0]?.();
        if (random.below(8) === 0) others.splice(random.below(others.length), 1)[0]?.release();
        if (step % 8 === 0) for (const arena of arenas) clean(holdings, arena);
      }
      for (const end of ends) end();
      for (const arena of arenas) clean(holdings, arena);
    }
    t.diagnostic(JSON.stringify(count));
    assert.ok(count.got > 500 && count.refused > 20 && count.left > 200, JSON.stringify(count));
    assert.ok(strategy !== 'lru' || count.plain > 20, JSON.stringify(count));
  });

const idsOf = (entries: readonly Entry[]): string[] => entries.map(({ id }) => id);

function move(holdings: Holdings, entry: Entry, arena: Arena): void {
  const to = leaseOn(arena, entry.lease?.pageBytes ?? 0, 'a', holdings);
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

/** Where all have pages of the asker's size: one by one, the oldest first, less each whom the others do without. */
function plainLeavers(asker: GpuLease, bytes: number, line: readonly Entry[]): Entry[] | undefined {
  const loose = askable(asker, line);
  if (loose.some(({ lease }) => lease?.pageBytes !== asker.pageBytes)) return undefined;
  const enough = loose.findIndex((_, i) => trialOf(asker, loose.slice(0, i)).fits(bytes));
  const asked = enough < 0 ? loose : loose.slice(0, enough);
  return asked.reduceRight((going, entry) => {
    const without = going.filter((other) => other !== entry);
    return trialOf(asker, without).fits(bytes) ? without : going;
  }, asked);
}

test('move() leaves readers their pages, and releases them with the last', () => {
  const [from, to] = [createArena(1), createArena(1)];
  const holdings = open();
  const entry = insert(holdings, from, 'k', 5000, 1024);
  const ends = [holdings.hold(entry), holdings.hold(entry)];
  const lease = leaseOn(to, 1024, 'b', holdings);
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
  const holdings = open();
  const entry = insert(holdings, from, 'k', 5000, 1024);
  const [early, end] = [holdings.hold(entry), holdings.hold(entry)];
  const lease = leaseOn(to, 1024, 'b', holdings);
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
  const holdings = open();
  const entry = insert(holdings, from, 'k', 5000, 1024);
  const end = holdings.hold(entry);
  const lease = leaseOn(to, 1024, 'b', holdings);
  lease.grow(5000);
  holdings.move(entry, lease);
  insert(holdings, to, 'k', 100, 1024);
  assert.deepEqual([from.usedBytes, to.usedBytes, holdings.hotBytes], [5 * 1024, 1024, 5100]);
  clean(holdings, to);
  end();
  assert.deepEqual([from.usedBytes, to.usedBytes, holdings.hotBytes], [0, 1024, 100]);
  clean(holdings, to);
});

test('pages that are read by a name that was replaced are not asked of the name that has them now', () => {
  const arena = createArena(1);
  const holdings = open();
  const first = insert(holdings, arena, 'k', BINDING_BYTES, SLAB_BYTES);
  const end = holdings.hold(first);
  const again = newEntry(first.record, holdings.twin(first.record), true);
  holdings.insert(again); // the same payload once more
  const asker = leaseOn(arena, SLAB_BYTES);
  assert.deepEqual([holdings.couldMakeRoom(asker, 1), holdings.makeRoom(asker, 1)], [false, false]);
  assert.deepEqual(holdings.hot(), [again], 'it left in vain');
  clean(holdings, arena);
  end();
  assert.equal(holdings.makeRoom(asker, 1), true);
  assert.deepEqual(holdings.hot(), []);
  clean(holdings, arena);
});

test('names of one payload share its pages, which stay while one of them is left', () => {
  const arena = createArena(1);
  const holdings = open();
  const one = insert(holdings, arena, 'same', 5000, 1024);
  const lease = holdings.twin(one.record);
  assert.equal(lease, one.lease);
  const record = { ...recordOf('other', 5000), digest: 'same' };
  assert.equal(holdings.twin({ ...record, tenant: 'u' }), undefined, 'tenants share nothing');
  assert.equal(holdings.twin({ ...record, bytes: 4999 }), undefined);
  const two = newEntry(record, holdings.twin(record), true);
  holdings.insert(two);
  assert.deepEqual([holdings.hotBytes, holdings.savedBytes, arena.usedBytes], [5000, 5000, 5 * 1024]);
  clean(holdings, arena);
  const end = holdings.hold(one); // who is read keeps the pages of both
  assert.equal(holdings.couldMakeRoom(leaseOn(arena, SLAB_BYTES), BINDING_BYTES), false);
  end();
  holdings.remove(one);
  assert.deepEqual([holdings.hotBytes, holdings.savedBytes, arena.usedBytes], [5000, 0, 5 * 1024]);
  holdings.insert(newEntry({ ...recordOf('other', 5000), digest: 'same' }, two.lease, true)); // the same under its own name
  assert.deepEqual([holdings.hotBytes, holdings.savedBytes], [5000, 0]);
  clean(holdings, arena);
  const third = newEntry({ ...recordOf('third', 5000), digest: 'same' }, holdings.twin(record), false);
  holdings.insert(third);
  assert.equal(holdings.makeRoom(leaseOn(arena, SLAB_BYTES, 'a', holdings), BINDING_BYTES), true);
  assert.deepEqual([hotKeys(holdings), holdings.size, holdings.evictions.room], [[], 1, 2], 'all names leave together');
  clean(holdings, arena);
});

test('faults() names what cannot be', () => {
  const arena = createArena(1);
  const holdings = open();
  const one = insert(holdings, arena, 'one', 10, 1024);
  const two = insert(holdings, arena, 'two', 10, 1024, false);
  const [first, second] = [one.lease, two.lease];
  two.lease = first;
  assert.match(
    holdings.faults().join(),
    /t\/two has pages that are not its own,t\/two has left pages that it still owns/,
  );
  two.lease = undefined;
  assert.match(holdings.faults().join(), /t\/two is neither on an adapter nor on disk/);
  two.lease = second;
  assert.deepEqual(holdings.faults(), []);
});
