// A disk with a budget: who leaves it for others, and who does not.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { joinParts, tensorParts } from '../../../core/contract/tensors.ts';
import type { StoreOptions } from '../../../core/store/store.ts';
import { assertSameBytes } from '../../support/bytes.ts';
import { startEngine, TENANT } from '../../support/engine.ts';
import { folder } from '../../support/folders.ts';
import { seeded } from '../../support/seeded.ts';
import { smallDisk } from '../../support/small-disk.ts';

const random = seeded();
const fileOf = (bytes: number): Uint8Array =>
  joinParts(tensorParts([{ name: 'x', dtype: 'U8', shape: [bytes], data: random.bytes(bytes) }]));
const BYTES_MAX = 8 << 20;
const budget = (more: StoreOptions = {}): StoreOptions => ({
  ...{ bytesMax: BYTES_MAX, compactionPauseMs: 0, spareBytes: 64 << 10 },
  ...more,
});
const SIZE = 400_000;
const lru = { strategy: 'lru', objective: 'hits', adjustEvery: undefined } as const;

for (const size of [12_000, SIZE])
  test(`beyond the budget the least recently used leave the disk (payloads of ${size} bytes)`, async (t) => {
    t.diagnostic(`SEED=${random.seed}`);
    const disk = smallDisk();
    const engine = await startEngine(t, { store: budget({ disk }), cache: { course: lru, entriesMax: 100_000 } });
    engine.leavePages(0); // whoever leaves the disk is nowhere else
    const count = Math.ceil((2 * BYTES_MAX) / (size + 3000));
    const kept = fileOf(size);
    await engine.put('a/kept', kept);
    for (let i = 0; i < count; i++) {
      await engine.put(`k${String(i).padStart(5, '0')}`, fileOf(size));
      assertSameBytes((await engine.get('a/kept')) ?? new Uint8Array(0), kept, 'who is asked for stays');
    }
    assert.ok(disk.most <= BYTES_MAX, `${disk.most} bytes`);
    const { removals, disk: there } = engine.cache.stats();
    assert.ok(removals.disk > 0 && there.bytes <= BYTES_MAX && there.bytesMax === BYTES_MAX);
    const held = engine.cache.list(TENANT, 'k0', '', 1000).entries.map(({ key }) => key);
    const last = Array.from({ length: 5 }, (_, i) => `k${String(count - 5 + i).padStart(5, '0')}`);
    const all = await Promise.all(last.map((key) => engine.get(key)));
    assert.ok(
      all.every((bytes) => bytes !== undefined),
      'the latest are there',
    );
    assert.equal(engine.peek('k00000'), undefined, 'the oldest is gone');
    assert.ok(held.length > 0);
    await engine.reopen();
    assert.ok(engine.store.room.bytes <= BYTES_MAX);
    assertSameBytes((await engine.get('a/kept')) ?? new Uint8Array(0), kept, 'kept');
    await engine.assertIdle();
  });

test('a tenant within its share of the budget loses nothing to another one, and low priority goes first', async (t) => {
  const engine = await startEngine(t, { store: budget(), cache: { course: lru } });
  engine.leavePages(0);
  for (let i = 0; i < 3; i++) await engine.put(`mine${i}`, fileOf(SIZE), { tenant: 'small' });
  for (let i = 0; i < 3; i++) await engine.put(`high${i}`, fileOf(SIZE), { priority: 90 });
  for (let i = 0; i < 40; i++) await engine.put(`k${i}`, fileOf(SIZE), { priority: i % 2 === 0 ? 10 : 50 });
  for (let i = 0; i < 3; i++) assert.ok(engine.cache.peek('small', `mine${i}`), `mine${i} stays`);
  const held = engine.all().map(({ priority }) => priority);
  assert.ok(held.filter((priority) => priority === 50).length > held.filter((priority) => priority === 10).length);
  assert.ok(held.includes(90), 'high ones stay longer');
  await engine.assertIdle();
});

test('what is on an adapter stays there when its disk copy leaves', async (t) => {
  const engine = await startEngine(t, { store: budget(), cache: { course: lru } });
  const first = fileOf(SIZE);
  await engine.put('first', first);
  for (let i = 0; i < 30; i++) await engine.put(`k${i}`, fileOf(SIZE));
  assert.equal(engine.peek('first')?.tier, 'hot');
  assertSameBytes((await engine.get('first')) ?? new Uint8Array(0), first, 'first');
  assert.equal(engine.cache.tenantStats(TENANT).entries, 31);
  await engine.reopen();
  assert.equal(engine.peek('first'), undefined, 'it was on the adapter alone');
  assert.deepEqual(engine.cache.check(), []);
});

test('after a restart the disk is left by age, and by what was used last', async (t) => {
  const path = join(folder(t), 'heat.json');
  const engine = await startEngine(t, { store: budget(), cache: { course: lru, heat: { path, share: 1 } } });
  for (let i = 0; i < 10; i++) {
    engine.clock.now += 1000;
    await engine.put(`k${i}`, fileOf(SIZE));
  }
  await engine.get('k1');
  await engine.reopen();
  await engine.cache.warmed;
  engine.leavePages(0);
  for (let i = 0; i < 12; i++) await engine.put(`n${i}`, fileOf(SIZE));
  const left = Array.from({ length: 10 }, (_, i) => `k${i}`).filter((key) => engine.peek(key) === undefined);
  assert.ok(left.length > 0 && left.length < 10);
  assert.deepEqual(left, ['k0', 'k2', 'k3', 'k4', 'k5', 'k6', 'k7', 'k8', 'k9'].slice(0, left.length));
  await engine.assertIdle();
});

test('where nothing may leave it is 507: what is read stays, and what could never fit takes nobody along', async (t) => {
  const engine = await startEngine(t, { store: budget(), cache: { course: lru, bodyBytesMax: 16 << 20 } });
  engine.leavePages(0);
  await engine.put('k', fileOf(6_000_000));
  const reading = engine.cache.get(TENANT, 'k')?.read(AbortSignal.timeout(30_000));
  assert.ok(reading);
  (await reading.next()).value?.piece.release();
  await assert.rejects(engine.put('other', fileOf(5_000_000)), {
    code: 'disk_full',
    status: 507,
    message: /nothing that is there may leave/,
  });
  await reading.return();
  await assert.rejects(engine.put('huge', fileOf(9_000_000)), {
    code: 'disk_full',
    message: /could not hold them if it were empty/,
  });
  assert.ok(engine.peek('k'));
  await engine.put('other', fileOf(5_000_000));
  assert.equal(engine.peek('k'), undefined);
  await engine.assertIdle();
});
