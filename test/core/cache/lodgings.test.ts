// Finding out who leaves costs what those cost who are asked, however many others lodge there: counted in steps, no clock.
// Who that is, is proven in holdings.test.ts.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Leaving } from '../../../core/cache/ask.ts';
import { type Entry, newEntry } from '../../../core/cache/entry.ts';
import { type Asker, createLodgings, type Lodgings } from '../../../core/cache/lodgings.ts';
import { STRATEGIES, type Strategy } from '../../../core/contract/policy.ts';
import { type Arena, BINDING_BYTES, createArena, SLAB_BYTES } from '../../../core/gpu/arena.ts';
import { type Account, type GpuLease, gpuLease } from '../../../core/gpu/gpu-lease.ts';
import { seeded } from '../../support/seeded.ts';

const KiB = 1 << 10;
const never = () => Promise.reject(new Error('nothing is read or written here'));
const leaseOn = (arena: Arena, pageBytes: number, bytes = 0, account?: Account): GpuLease => {
  const lease = gpuLease(
    'a',
    { arena, read: never, write: never, run: never },
    { pageBytes, ...(account && { account }) },
  );
  assert.ok(lease.grow(bytes));
  return lease;
};
const open = (quota = 1, strategy: Strategy = 'lru'): Lodgings =>
  createLodgings({ course: { strategy, objective: 'hits', adjustEvery: 20 }, quota, isRead: () => false });
const leavingOf = (lodgings: Lodgings, lease: GpuLease, bytes: number, asker?: Asker): Entry[] | undefined =>
  lodgings.leaving(lease, bytes, asker)?.map(({ entry }) => entry);

let keys = 0;
function enter(
  lodgings: Lodgings,
  arena: Arena,
  pageBytes: number,
  bytes: number,
  { tenant = 't', priority = 50 } = {},
): Entry {
  const lease = leaseOn(arena, pageBytes, bytes, lodgings.account(tenant));
  const facts = { codec: 'raw', dtype: null, shape: null, tensors: 0, priority, createdAt: 0, expiresAt: null };
  const entry = newEntry({ tenant, key: `${keys++}`, digest: '', bytes, ...facts }, lease, true);
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
  const lodgings = open();
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
      going = leavingOf(lodgings, asker, bytes);
    });
    assert.ok(steps <= 3 * perSlab + 2 * slabs, `${steps} steps`);
    assert.equal(going?.length, perSlab);
    evict(lodgings, going ?? []);
    assert.ok(asker.grow(bytes));
  }
  // In vain: known before anybody is asked.
  const vain = stepsOf(lodgings, () => assert.equal(leavingOf(lodgings, asker, capacityBytes), undefined));
  assert.ok(vain <= slabs, `${vain} steps in vain`);
  // Of their own size, one after the other.
  const tiny = leaseOn(arena, KiB);
  const few = stepsOf(lodgings, () => assert.equal(leavingOf(lodgings, tiny, 10 * KiB)?.length, 10));
  assert.ok(few <= 30 + 3, `${few} steps`); // and hardly a slab
  rest.release();
  assert.deepEqual(lodgings.faults(), []);
});

test('leaving() passes over slabs that others have a part of, and over no more lodgers than it may', () => {
  const arena = createArena(1);
  const lodgings = open();
  const other = leaseOn(arena, 16 * KiB);
  for (let slab = 0; slab < 31; slab++) {
    for (let i = 0; i < 255; i++) enter(lodgings, arena, 16 * KiB, 16 * KiB);
    assert.ok(other.grow((slab + 1) * 16 * KiB));
  }
  const young = enter(lodgings, arena, SLAB_BYTES, SLAB_BYTES);
  const asker = leaseOn(arena, 64 * KiB);
  let going: Entry[] | undefined;
  const steps = stepsOf(lodgings, () => {
    going = leavingOf(lodgings, asker, SLAB_BYTES);
  });
  assert.deepEqual(going, [young]);
  assert.ok(steps <= 2 * 256 + 3 * 32 + 3, `${steps} steps`); // 256 are passed over, and spared
  assert.equal(lodgings.couldMakeRoom(asker, SLAB_BYTES + 1), false);
  other.release();
  assert.equal(leavingOf(lodgings, asker, 2 * SLAB_BYTES)?.length, 2 * 255, 'all in the two oldest');
});

test('a house stands while somebody lodges there; what is lost, empty or gone is of no use and no harm', () => {
  const arena = createArena(1);
  const lodgings = open();
  const asker = leaseOn(arena, 64 * KiB);
  const entry = enter(lodgings, arena, 4 * KiB, BINDING_BYTES);
  enter(lodgings, createArena(1), 64 * KiB, BINDING_BYTES); // in another house
  assert.deepEqual(leavingOf(lodgings, asker, 1), [entry]);
  const before = lodgings.steps;
  lodgings.leave(entry);
  assert.equal(lodgings.steps, before, 'what was counted stays');
  for (const change of [lodgings.leave, lodgings.touch]) change(entry);
  lodgings.heed(entry.lease);
  assert.equal(leavingOf(lodgings, asker, 1), undefined);
  enter(lodgings, arena, 4 * KiB, 0);
  assert.equal(lodgings.couldMakeRoom(asker, 1), false);
  if (entry.lease) lodgings.enter(entry, entry.lease);
  assert.equal(lodgings.couldMakeRoom(asker, 1), true);
  arena.lose();
  assert.deepEqual([lodgings.couldMakeRoom(asker, 1), leavingOf(lodgings, asker, 1)], [false, undefined]);
  lodgings.leave(entry);
  if (entry.lease) lodgings.enter(entry, entry.lease);
  assert.deepEqual(lodgings.faults(), []);
});

test('faults() names who is counted as what it is not', () => {
  const lodgings = open();
  const entry = enter(lodgings, createArena(1), KiB, KiB);
  entry.readers++;
  assert.match(lodgings.faults().join(), /could be evicted, and is in use/);
  lodgings.heed(entry.lease);
  assert.deepEqual(lodgings.faults(), []);
  entry.readers--;
  assert.match(lodgings.faults().join(), /is not to be had/);
});

/** Room for so many bytes of a tenant, others leaving; who left. */
function ask(lodgings: Lodgings, arena: Arena, tenant: string, pageBytes: number, bytes: number) {
  const lease = leaseOn(arena, pageBytes, 0, lodgings.account(tenant));
  const leaving = lodgings.leaving(lease, bytes, { tenant, id: `${tenant}\0new` });
  if (leaving) {
    evict(
      lodgings,
      leaving.map(({ entry }) => entry),
    );
    assert.ok(lease.grow(bytes), 'room was promised');
  }
  return { lease, leaving };
}
const tenantsOf = (leaving: readonly Leaving[] | undefined) => leaving?.map(({ entry }) => entry.record.tenant);

test('a lower priority leaves first, and a higher one in the end', () => {
  const arena = createArena(1);
  const lodgings = open();
  const slabs = BINDING_BYTES / SLAB_BYTES;
  const names = new Map<Entry, string>();
  const put = (name: string, priority: number): void => {
    names.set(enter(lodgings, arena, SLAB_BYTES, SLAB_BYTES, { priority }), name);
  };
  put('high', 67);
  for (let i = 0; i < slabs - 2; i++) put(`middle ${i}`, 66);
  put('low', 33);
  const order: string[] = [];
  // The low one is the youngest: its idleness of 1 to 20 counts fourfold against those of 31 and more.
  for (let i = 0; i < 150; i++) {
    const { lease, leaving } = ask(lodgings, arena, 't', SLAB_BYTES, SLAB_BYTES);
    order.push(...(leaving ?? []).map(({ entry }) => names.get(entry) ?? 'later'));
    lease.release();
    put(`later ${i}`, 50);
  }
  const places = ['low', 'high'].map((name) => order.indexOf(name));
  assert.deepEqual(order[0], 'middle 0');
  assert.deepEqual(places, [7, 93], order.join());
  assert.deepEqual(lodgings.faults(), []);
});

test('a tenant above its fair share makes room of its own, and loses to those below; who is within loses nothing', () => {
  const arena = createArena(1);
  const lodgings = open();
  for (let i = 0; i < 32; i++) enter(lodgings, arena, SLAB_BYTES, SLAB_BYTES, { tenant: 'a' });
  for (let i = 0; i < 40; i++) {
    const { lease, leaving } = ask(lodgings, arena, 'b', SLAB_BYTES, SLAB_BYTES);
    assert.deepEqual(tenantsOf(leaving), [i < 16 ? 'a' : 'b'], `ask ${i}`);
    lease.release();
    enter(lodgings, arena, SLAB_BYTES, SLAB_BYTES, { tenant: 'b' });
  }
  const third = ask(lodgings, arena, 'c', SLAB_BYTES, 10 * SLAB_BYTES);
  const left = tenantsOf(third.leaving) ?? [];
  assert.deepEqual([left.filter((t) => t === 'a').length, left.filter((t) => t === 'b').length], [5, 5]);
  assert.deepEqual(tenantsOf(ask(lodgings, arena, 'c', SLAB_BYTES, 2 * SLAB_BYTES).leaving)?.sort(), ['a', 'b']);
  assert.equal(ask(lodgings, arena, 'c', SLAB_BYTES, 1).leaving, undefined, 'ten slabs are less than a third');
  assert.deepEqual(lodgings.faults(), []);
});

test('a quota is kept by those alone whom it binds, before anything is taken', () => {
  const arena = createArena(1);
  const lodgings = open(0.25);
  for (let i = 0; i < 8; i++) enter(lodgings, arena, SLAB_BYTES, SLAB_BYTES, { tenant: 'a' });
  enter(lodgings, arena, SLAB_BYTES, SLAB_BYTES, { tenant: 'b' });
  const { lease, leaving } = ask(lodgings, arena, 'a', 64 * KiB, SLAB_BYTES + 1);
  assert.deepEqual(
    leaving?.map(({ entry, cause }) => [entry.record.tenant, cause]),
    [
      ['a', 'quota'],
      ['a', 'quota'],
    ],
    'though there is free room',
  );
  assert.equal(lodgings.isWithinQuota(lease, 2 * SLAB_BYTES, 'a'), true);
  assert.equal(lodgings.isWithinQuota(lease, 2 * SLAB_BYTES + 1, 'a'), false);
  assert.equal(lodgings.couldMakeRoom(leaseOn(arena, SLAB_BYTES), 9 * SLAB_BYTES, { tenant: 'c', id: '' }), false);
  lease.release();
  assert.deepEqual(lodgings.faults(), []);
});

for (const strategy of STRATEGIES)
  test(`leaving() over a random walk of tenants and priorities (${strategy}): each who left was needed, none was protected`, (t) => {
    const random = seeded();
    t.diagnostic(`SEED=${random.seed}`);
    const count = { got: 0, refused: 0, left: 0, quota: 0 };
    const quota = 0.6;
    for (let round = 0; round < 6; round++) {
      const arena = createArena(1);
      const lodgings = open(quota, strategy);
      const held = new Set<Entry>();
      const bytesOf = (tenant: string): number => {
        let bytes = 0;
        for (const { record, lease } of held)
          if (record.tenant === tenant && lease) bytes += lease.pages * lease.pageBytes;
        return bytes;
      };
      for (let step = 0; step < 400; step++) {
        const tenant = round % 2 ? random.pick(['a', 'b', 'c']) : 'a';
        const pageBytes = random.pick([KiB, 16 * KiB, 64 * KiB, 64 * KiB]);
        const bytes = 1 + random.below(random.pick([pageBytes, 16 * pageBytes, 3 * SLAB_BYTES]));
        const lease = leaseOn(arena, pageBytes, 0, lodgings.account(tenant));
        const tenants = new Set([...held].map(({ record }) => record.tenant)).add(tenant);
        const share = arena.capacityBytes / tenants.size;
        const before = new Map([...tenants].map((one) => [one, bytesOf(one)]));
        const going = lodgings.leaving(lease, bytes, { tenant, id: `${step}` });
        count[going ? 'got' : 'refused']++;
        if (!going) {
          lease.release();
          continue;
        }
        const leaves = going.map(({ entry }) => entry);
        const growth = Math.ceil(bytes / pageBytes) * pageBytes;
        const trial = lease.trial();
        const bytesAfter = (without: Entry | undefined) => {
          const own = leaves.filter((entry) => entry !== without && entry.record.tenant === tenant);
          return (
            bytesOf(tenant) +
            growth -
            own.reduce((sum, { lease }) => sum + (lease?.pages ?? 0) * (lease?.pageBytes ?? 0), 0)
          );
        };
        for (const { lease } of leaves) if (lease) trial.give(lease);
        assert.ok(trial.fits(bytes) && bytesAfter(undefined) <= quota * arena.capacityBytes);
        for (const entry of leaves) {
          if (!entry.lease) continue;
          trial.keep(entry.lease);
          const isNeeded = !trial.fits(bytes) || bytesAfter(entry) > quota * arena.capacityBytes;
          assert.ok(isNeeded, 'somebody left who was not needed');
          trial.give(entry.lease);
        }
        count.left += leaves.length;
        count.quota += going.filter(({ cause }) => cause === 'quota').length;
        const largest = Math.max(0, ...leaves.map(({ lease }) => (lease?.pages ?? 0) * (lease?.pageBytes ?? 0)));
        for (const entry of leaves) held.delete(entry);
        evict(lodgings, leaves);
        for (const [one, had] of before)
          if (one !== tenant)
            assert.ok(bytesOf(one) >= Math.min(had, share - largest), `${one} lost what was its share`);
        assert.ok(lease.grow(bytes));
        const facts = { codec: 'raw', dtype: null, shape: null, tensors: 0, createdAt: 0, expiresAt: null };
        const record = { tenant, key: `${step}`, digest: '', bytes, priority: random.below(101), ...facts };
        const entry = newEntry(record, lease, true);
        held.add(entry);
        lodgings.enter(entry, lease);
        const [touched, gone] = [random.pick([...held] as [Entry]), random.pick([...held] as [Entry])];
        lodgings.touch(touched);
        if (random.below(8) === 0) {
          held.delete(gone);
          evict(lodgings, [gone]);
        }
        assert.ok(bytesOf(tenant) <= quota * arena.capacityBytes);
      }
      assert.deepEqual([...lodgings.faults(), ...arena.faults()], []);
    }
    t.diagnostic(JSON.stringify(count));
    assert.ok(count.got > 1000 && count.left > 500 && count.quota > 20, JSON.stringify(count));
  });
