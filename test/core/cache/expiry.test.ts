// Entries that expire: to the millisecond, gone from the disk soon after, a few at a time.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { newEntry } from '../../../core/cache/entry.ts';
import { startSweep } from '../../../core/cache/sweep.ts';
import { assertHolds, durabilities, fileOf } from '../../support/cache.ts';
import { startEngine, TENANT } from '../../support/engine.ts';
import { until } from '../../support/until.ts';

test('entries expire to the millisecond, and are gone from the disk soon after', async (t) => {
  const engine = await startEngine(t);
  const bytes = fileOf(1000);
  for (const durability of durabilities) await engine.put(durability, bytes, { durability, ttlSeconds: 10 });
  await engine.put('stays', bytes, { ttlSeconds: 20 });
  engine.clock.now += 9_999;
  assert.equal(engine.all().length, 4);
  await assertHolds(engine, 'through', bytes);
  engine.clock.now += 1;
  for (const key of durabilities) {
    assert.equal(engine.peek(key), undefined);
    assert.equal(await engine.get(key), undefined);
    assert.equal(await engine.cache.delete(TENANT, key), false);
  }
  assert.deepEqual(
    engine.all().map(({ key }) => key),
    ['stays'],
  );
  assert.equal((await engine.put('back', bytes)).created, true, 'an expired entry is none');
  await until(() => engine.cache.stats().expired === 2, 'the sweep has come by', 8000);
  assert.equal(engine.cache.stats().entries, 2);
  await engine.assertIdle();
  await engine.reopen();
  assert.deepEqual(
    engine
      .all()
      .map(({ key }) => key)
      .sort(),
    ['back', 'stays'],
  );
  engine.clock.now += 20_000;
  await engine.reopen();
  assert.deepEqual(
    engine.all().map(({ key }) => key),
    ['back'],
  );
});

test('close() does not wait for all that has expired: the next start goes on with it', async (t) => {
  const facts = { tenant: TENANT, digest: '', bytes: 1, codec: 'raw', dtype: null, shape: null, tensors: 1 };
  const due = Array.from({ length: 1000 }, (_, i) =>
    newEntry({ ...facts, key: `${i}`, priority: 50, createdAt: 0, expiresAt: 1 }, undefined, true),
  );
  const begun = Promise.withResolvers<void>();
  const goOn = Promise.withResolvers<boolean>();
  let discarded = 0;
  t.mock.timers.enable({ apis: ['setInterval'] });
  const sweep = startSweep({
    due: () => due,
    discard() {
      if (++discarded === 16) begun.resolve();
      return goOn.promise;
    },
    log: (line) => assert.fail(line),
  });
  t.mock.timers.tick(5000);
  await begun.promise;
  const closed = sweep.close();
  goOn.resolve(true);
  await closed;
  assert.deepEqual([discarded, sweep.expired], [16, 16]);
});

test('expired entries leave the disk a few at a time, and writers get through meanwhile', async (t) => {
  const engine = await startEngine(t);
  for (let i = 0; i < 300; i++) await engine.put(`short/${i}`, fileOf(10), { ttlSeconds: 1 });
  await engine.put('lasting', fileOf(10));
  engine.clock.now += 2000;
  assert.deepEqual(
    engine.all().map(({ key }) => key),
    ['lasting'],
  );
  await until(() => engine.cache.stats().expired === 300, 'all are gone', 20_000);
  assert.equal(engine.cache.stats().entries, 1);
  await engine.put('after', fileOf(10));
  await engine.assertIdle();
});
