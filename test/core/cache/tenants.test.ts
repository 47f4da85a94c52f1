// Tenants beside each other on a real adapter and a real disk: nobody sees, evicts beyond its share, or tells by an answer what
// another holds, and quotas are kept while many come at once. And the bounds of write-back, and what the cache counts.
import assert from 'node:assert/strict';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { joinParts, tensorParts } from '../../../core/contract/tensors.ts';
import { PAGE_BYTES } from '../../../core/gpu/arena.ts';
import { type Engine, patience, startEngine } from '../../support/engine.ts';
import { seeded } from '../../support/seeded.ts';
import { until } from '../../support/until.ts';

const random = seeded();
const fileOf = (bytes: number): Uint8Array =>
  joinParts(tensorParts([{ name: 'x', dtype: 'U8', shape: [bytes], data: random.bytes(bytes) }]));
const LRU = { strategy: 'lru', objective: 'hits', adjustEvery: undefined } as const;
const keysOf = (engine: Engine, tenant: string) =>
  engine.cache.list(tenant, '', '', 1000).entries.map(({ key, tier }) => `${key} ${tier}`);
/** How many were taken, the others being refused with this code. */
async function taken(puts: readonly Promise<unknown>[], code: string): Promise<number> {
  const done = await Promise.allSettled(puts);
  for (const one of done) if (one.status === 'rejected') assert.equal(one.reason.code, code);
  return done.filter(({ status }) => status === 'fulfilled').length;
}

test('a tenant that floods the adapter takes nothing of what another has within its share', async (t) => {
  const engine = await startEngine(t, { cache: { course: LRU } });
  engine.leavePages(120);
  const own = Array.from({ length: 5 }, () => fileOf(9 * PAGE_BYTES)); // 10 pages each, of the 60 that are its share
  for (const [i, bytes] of own.entries()) await engine.put(`own${i}`, bytes, { tenant: 'a', durability: 'none' });
  const held = keysOf(engine, 'a');
  for (let i = 0; i < 40; i++) {
    const durability = random.pick(['none', 'through'] as const);
    await engine.put(`flood${i}`, fileOf(random.below(20) * PAGE_BYTES), { tenant: 'b', durability, priority: 100 });
    assert.deepEqual(keysOf(engine, 'a'), held);
  }
  assert.ok(engine.cache.stats().removals.room > 0, 'it made room of its own');
  // And who has more than its share gives of it.
  for (let i = 0; i < 5; i++) await engine.put(`more${i}`, fileOf(1000), { tenant: 'a' });
  const { adapters } = engine.cache.tenantStats('b').bytes;
  assert.ok((adapters['adapter-0'] ?? 0) <= 70 * PAGE_BYTES);
  assert.deepEqual(engine.cache.check(), []);
});

test('no call of a tenant finds, changes or tells what another holds', async (t) => {
  const engine = await startEngine(t);
  const secret = fileOf(5 * PAGE_BYTES);
  await engine.put('k', secret, { tenant: 'a' });
  const { cache } = engine;
  assert.equal(cache.get('b', 'k'), undefined);
  assert.equal(cache.peek('b', 'k'), undefined);
  assert.equal(await cache.delete('b', 'k'), false);
  assert.deepEqual(cache.list('b', '', '', 10).entries, []);
  await assert.rejects(cache.move('b', { key: 'k' }, 'adapter-0', patience()), { code: 'tensor_unknown' });
  assert.equal((await cache.move('b', { prefix: '' }, 'adapter-0', patience())).there, 0);
  const { entries, hits, misses, bytes } = cache.tenantStats('b');
  assert.deepEqual({ entries, hits, misses }, { entries: 0, hits: { hot: 0, cold: 0 }, misses: 1 });
  assert.deepEqual(bytes, { hot: 0, disk: 0, adapters: {} });
  assert.deepEqual(cache.policy('b').tensors.parts, []);
  // The same bytes: all of the work is done again, on the adapter and on the disk.
  const before = cache.stats().bytes;
  const answer = await engine.put('mine', secret, { tenant: 'b' });
  const after = cache.stats().bytes;
  assert.equal(answer.deduplicated, false);
  assert.deepEqual([after.hot - before.hot, after.disk - before.disk, after.saved], [secret.length, secret.length, 0]);
  await cache.delete('b', 'mine');
  assert.equal(cache.peek('a', 'k')?.tier, 'hot');
});

test('a quota of the disk holds at every moment, however many come at once', async (t) => {
  const bytes = fileOf(1000);
  const diskBytes = 3 * bytes.length + 10;
  const engine = await startEngine(t, { cache: { quota: { diskBytes } } });
  const onDisk = () =>
    ['entries', 'incoming'].flatMap((part) =>
      readdirSync(join(engine.path, part), { recursive: true, withFileTypes: true }).flatMap((file) =>
        file.isFile() && file.name.endsWith('.safetensors') ? [join(file.parentPath, file.name)] : [],
      ),
    );
  const watch = setInterval(() => {
    const sizes = onDisk().map((path) => statSync(path, { throwIfNoEntry: false })?.size ?? 0);
    assert.ok(sizes.reduce((sum, size) => sum + size, 0) <= diskBytes);
  }, 1);
  t.after(() => clearInterval(watch));
  const puts = Array.from({ length: 10 }, (_, i) =>
    engine.put(`k${i}`, fileOf(1000), { durability: i % 2 ? 'back' : 'through' }),
  );
  assert.equal(await taken(puts, 'quota_exceeded'), 3);
  clearInterval(watch);
  assert.equal(engine.cache.tenantStats('tenant').bytes.disk, 3 * bytes.length);
  await engine.put('fleeting', fileOf(5000), { durability: 'none' });
  await engine.put('k0', bytes, { tenant: 'other' });
  await until(() => engine.cache.stats().flushing.entries === 0, 'all is on disk');
  const first = engine.all().find(({ key }) => key.startsWith('k'));
  assert.ok(first);
  await assert.rejects(
    engine.put(first.key, fileOf(1000)),
    { code: 'quota_exceeded' },
    'old and new would be too much',
  );
  await engine.cache.delete('tenant', first.key);
  await engine.put('k', bytes);
  await engine.put('k', fileOf(5), { durability: 'none' });
  assert.equal(engine.cache.tenantStats('tenant').bytes.disk, 2 * bytes.length, 'what is forgotten is given back');
  await engine.reopen();
  assert.equal(engine.cache.tenantStats('tenant').bytes.disk, 2 * bytes.length);
  await engine.assertIdle();
});

test('a quota of entries holds however many come at once; replacing and deleting go on', async (t) => {
  const engine = await startEngine(t, { cache: { quota: { entries: 4 }, entriesMax: 6 } });
  const puts = (tenant: string) => Array.from({ length: 12 }, (_, i) => engine.put(`k${i}`, fileOf(i), { tenant }));
  assert.equal(await taken(puts('a'), 'quota_exceeded'), 4);
  assert.equal(await taken(puts('b'), 'capacity_exhausted'), 2, 'the cache has a bound too');
  const [first] = engine.cache.list('a', '', '', 1).entries;
  assert.ok(first);
  assert.equal((await engine.put(first.key, fileOf(9), { tenant: 'a' })).created, false);
  await engine.cache.delete('a', first.key);
  await engine.put('new', fileOf(1), { tenant: 'a' });
  assert.deepEqual([engine.cache.tenantStats('a').entries, engine.cache.stats().entries], [4, 6]);
});

test('durability=back is bounded in bytes, and says for how long a crash can take it, and how much with it', async (t) => {
  const bytesMax = 300_000;
  const engine = await startEngine(t, { cache: { flush: { bytesMax, msMax: 700 } } });
  const said = new Set<number | null | undefined>();
  const put = async (key: string, size: number) => {
    const answer = await engine.put(key, fileOf(size), { durability: 'back' });
    said.add(answer.flushedWithinMs);
    assert.equal(answer.flushedWithinBytes, answer.flushedWithinMs === 0 ? 0 : bytesMax);
    assert.ok(engine.cache.stats().flushing.bytes <= bytesMax);
  };
  await Promise.all(Array.from({ length: 30 }, (_, i) => put(`k${i}`, 100_000)));
  assert.deepEqual(said, new Set([700, 0]), 'what was beyond was written through');
  said.clear();
  await put('large', bytesMax);
  assert.deepEqual(said, new Set([0]));
  assert.equal((await engine.put('k', fileOf(1))).flushedWithinMs, 0);
  assert.equal((await engine.put('k', fileOf(1), { durability: 'none' })).flushedWithinMs, null);
  await until(() => engine.cache.stats().flushing.entries === 0, 'all is on disk');
  assert.deepEqual(engine.cache.stats().flushing, { entries: 0, bytes: 0, ageMs: 0 });
  await engine.reopen();
  assert.equal(engine.all().length, 31, 'nothing that was answered is gone');
});

test('stats() says what was read, what left and why, and what more room would bring', async (t) => {
  const engine = await startEngine(t, { cache: { course: LRU } });
  engine.leavePages(100);
  const files = Array.from({ length: 15 }, () => fileOf(9 * PAGE_BYTES)); // a turn of 150 pages: lru has each just missed
  for (const [i, bytes] of files.entries()) await engine.put(`k${i}`, bytes);
  for (let i = 0; i < 150; i++) await engine.get(`k${i % files.length}`);
  const { hitRatio, removals, ...stats } = engine.cache.stats();
  assert.deepEqual([hitRatio.now, hitRatio.half, hitRatio.same, hitRatio.double], [0, 0, 0, 1]);
  assert.deepEqual([stats.hits.hot, stats.hits.cold, stats.hitBytes.hot], [0, 150, 0]);
  assert.equal(stats.hitBytes.cold, 10 * files.reduce((sum, { length }) => sum + length, 0));
  assert.ok(removals.room >= 150);
  await engine.put('k0', files[1] as Uint8Array);
  await engine.put('short', fileOf(1), { ttlSeconds: 1 });
  await engine.cache.delete('tenant', 'k2');
  engine.clock.now += 2000;
  await until(() => engine.cache.stats().removals.expired === 1, 'it is swept', 20_000);
  const { removals: later, bytes, dedupRatio, compressionRatio } = engine.cache.stats();
  assert.deepEqual([later.replaced, later.deleted, later.quota, later.lost], [1, 1, 0, 0]);
  assert.deepEqual(bytes.adapters, { 'adapter-0': bytes.hot });
  assert.deepEqual([bytes.codecs, compressionRatio], [{ raw: bytes.hot }, 1]);
  assert.equal(dedupRatio, (bytes.hot + bytes.saved) / bytes.hot);
});
