// What a scrape costs those whom it tells of.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createClaims } from '../../core/cache/claims.ts';
import { createMetrics } from '../../core/metrics.ts';
import { startEngine } from '../support/engine.ts';

test('text() asks each room once, and anew the next time', async (t) => {
  const { cache, kv, pool, pieces, store } = await startEngine(t);
  const rooms = [t.mock.method(cache, 'stats'), t.mock.method(kv, 'stats'), t.mock.method(store, 'report')];
  const failures = { create: 0, verify: 0, restore: 0, drill: 0 };
  const backups = { status: { count: 0, newest: undefined, alarm: undefined, failures } };
  const metrics = createMetrics();
  metrics.watch({ cache, claims: createClaims({ now: Date.now }), kv, pool, pieces, store, backups });
  for (const mocked of rooms) mocked.mock.resetCalls();
  assert.match(await metrics.text(), /blatam_cache_entries 0\n/);
  assert.deepEqual(
    rooms.map(({ mock }) => mock.callCount()),
    [1, 1, 1],
  );
  await metrics.text();
  assert.deepEqual(
    rooms.map(({ mock }) => mock.callCount()),
    [2, 2, 2],
  );
});
