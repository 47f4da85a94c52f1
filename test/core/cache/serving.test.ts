// Tensors served by policy, on a real adapter: whatever the strategy, what was put is read back, nobody takes more than its
// quota, and a change of strategy drops nothing. A seeded walk of two tenants against a plain model.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import type { Durability } from '../../../core/contract/messages.ts';
import { OBJECTIVES, STRATEGIES } from '../../../core/contract/policy.ts';
import { joinParts, tensorParts } from '../../../core/contract/tensors.ts';
import { PAGE_BYTES, pageBytesFor } from '../../../core/gpu/arena.ts';
import { type Engine, patience, readAll, startEngine } from '../../support/engine.ts';
import { seeded } from '../../support/seeded.ts';
import { until } from '../../support/until.ts';

const random = seeded();
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const fileOf = (bytes: number): Uint8Array =>
  joinParts(tensorParts([{ name: 'x', dtype: 'U8', shape: [bytes], data: random.bytes(bytes) }]));
const hotBytes = (engine: Engine, tenant: string): number => {
  const shared = new Set<string>();
  let bytes = 0;
  for (const entry of engine.cache.list(tenant, '', '', 1000).entries) {
    const place = `${entry.adapter} ${entry.digest}`;
    if (entry.tier !== 'hot' || shared.has(place)) continue;
    shared.add(place);
    bytes += Math.ceil(entry.bytes / pageBytesFor(entry.bytes)) * pageBytesFor(entry.bytes);
  }
  return bytes;
};

test('each strategy serves what was put, keeps to the adapter, and takes over from the one before without loss', async (t) => {
  const engine = await startEngine(t, { cache: { course: { strategy: 'lru', objective: 'hits', adjustEvery: 100 } } });
  const pages = 60;
  engine.leavePages(pages);
  const files = Array.from({ length: 24 }, (_, i) => fileOf(4 * PAGE_BYTES + i)); // 5 pages each: half of them fit
  for (const [i, bytes] of files.entries()) await engine.put(`k${i}`, bytes);
  for (const strategy of [...STRATEGIES, ...STRATEGIES.toReversed()])
    for (const objective of OBJECTIVES) {
      const before = engine.all();
      engine.cache.setPolicy({ strategy, objective });
      assert.deepEqual(engine.all(), before, 'somebody left by another strategy');
      const { tensors, ...said } = engine.cache.policy('tenant');
      assert.deepEqual(said, { strategy, objective, adjustEvery: 100 });
      assert.equal(tensors.parts.length, 1);
      assert.ok(strategy === 'adaptive' || tensors.inCharge === strategy);
      for (let i = 0; i < 20; i++) {
        const which = random.below(files.length);
        assert.equal(sha256((await engine.get(`k${which}`)) ?? new Uint8Array()), sha256(files[which] as Uint8Array));
        assert.ok(hotBytes(engine, 'tenant') <= pages * PAGE_BYTES);
      }
      assert.deepEqual(engine.cache.check(), []);
    }
  assert.ok(engine.cache.stats().evictions > 0);
  await engine.assertIdle();
});

test("adaptive tells the pattern and how its experts do, of the caller's tenant alone", async (t) => {
  const engine = await startEngine(t, {
    cache: { course: { strategy: 'adaptive', objective: 'hits', adjustEvery: 100 } },
  });
  for (let i = 0; i < 40; i++) await engine.put(`k${i}`, fileOf(100 + i));
  for (let i = 0; i < 400; i++) await engine.get(`k${i % 40}`);
  const { tensors } = engine.cache.policy('tenant');
  assert.equal(tensors.pattern, 'sequential');
  assert.ok(tensors.experts.length >= 6 && tensors.experts.every(({ hitRatio }) => (hitRatio ?? 0) > 0.5));
  assert.ok(tensors.experts.some(({ name }) => name === tensors.inCharge));
  const [part] = tensors.parts;
  assert.deepEqual([part?.priority, part?.payloads, part?.adapter], ['34-66', 40, 'adapter-0']);
  assert.deepEqual(engine.cache.policy('other').tensors, {
    ...{ pattern: null, inCharge: null, experts: [], changes: 0, parts: [] },
  });
});

test('equal payloads of a tenant take their pages once, whatever their names; of two tenants, twice', async (t) => {
  const engine = await startEngine(t);
  const bytes = fileOf(10 * PAGE_BYTES);
  assert.equal((await engine.put('one', bytes)).deduplicated, false);
  const used = engine.cache.stats().bytes.hot;
  assert.equal((await engine.put('two', bytes, { durability: 'none' })).deduplicated, true);
  assert.deepEqual(engine.cache.stats().bytes, { ...engine.cache.stats().bytes, hot: used, saved: used });
  assert.equal((await engine.put('one', bytes, { tenant: 'other' })).deduplicated, false);
  assert.equal(engine.cache.stats().bytes.hot, 2 * used);
  await engine.cache.delete('tenant', 'one');
  await engine.cache.delete('other', 'one');
  assert.equal(sha256((await engine.get('two')) ?? new Uint8Array()), sha256(bytes), 'the other name goes on');
  await engine.assertIdle();
  await engine.put('three', bytes);
  await engine.reopen();
  await engine.put('four', bytes);
  const found = engine.cache.get('tenant', 'three');
  assert.equal(found?.source, 'cold');
  if (found) assert.equal(sha256(await readAll(found)), sha256(bytes));
  assert.equal(engine.peek('three')?.tier, 'hot', 'it has the pages of the other name');
  assert.equal(engine.cache.stats().bytes.saved, used);
  await engine.assertIdle();
});

interface Expected {
  readonly digest: string;
  readonly lasts: boolean;
  readonly expiresAt: number;
}

test('a walk of two tenants under changing policies: what lasts is there, what is there is right, quotas are kept', async (t) => {
  const rounds = Number(process.env.CACHE_ROUNDS ?? 400);
  t.diagnostic(`SEED=${random.seed} CACHE_ROUNDS=${rounds}`);
  const share = 0.09;
  const engine = await startEngine(t, {
    cache: { quota: { share }, course: { strategy: 'adaptive', objective: 'hits', adjustEvery: 100 } },
  });
  engine.leavePages(400);
  const quota = share * engine.pool.capacityBytes;
  const model = new Map<string, Expected>();
  const contents = Array.from({ length: 12 }, (_, i) => fileOf([10, 5000, 70_000, 300_000, 2 << 20][i % 5] ?? 10));
  const peak = { a: 0, b: 0 };
  const nameOf = (tenant: string, key: string) => `${tenant}/${key}`;

  async function put(tenant: 'a' | 'b', key: string): Promise<void> {
    const bytes =
      random.below(3) > 0
        ? fileOf(random.below(random.pick<number>([100, 50_000, 3 << 20])))
        : (contents[random.below(12)] as Uint8Array);
    const durability = random.pick<Durability>(['through', 'back', 'none', 'none']);
    const ttlSeconds = random.below(6) === 0 ? 1 + random.below(30) : undefined;
    const priority = random.below(101);
    try {
      await engine.put(key, bytes, { tenant, durability, ttlSeconds, priority });
    } catch (error) {
      if (durability !== 'none' || (error as { code?: string }).code !== 'capacity_exhausted') throw error;
      return;
    }
    const expiresAt = ttlSeconds === undefined ? Number.POSITIVE_INFINITY : engine.clock.now + 1000 * ttlSeconds;
    model.set(nameOf(tenant, key), { digest: sha256(bytes), lasts: durability !== 'none', expiresAt });
  }

  async function get(tenant: string, key: string): Promise<void> {
    const expected = model.get(nameOf(tenant, key));
    const found = engine.cache.get(tenant, key);
    if (!found) return void assert.ok(!expected?.lasts || expected.expiresAt <= engine.clock.now, `${key} is gone`);
    assert.equal(sha256(await readAll(found)), expected?.digest);
    assert.ok((expected?.expiresAt ?? 0) > engine.clock.now);
  }

  for (let round = 0; round < rounds; round++) {
    const tenant = random.pick<'a' | 'b'>(['a', 'a', 'b']);
    const key = `k${random.below(30)}`;
    const dice = random.below(100);
    if (dice < 45) await put(tenant, key);
    else if (dice < 80) await get(tenant, key);
    else if (dice < 86) {
      await engine.cache.delete(tenant, key);
      model.delete(nameOf(tenant, key));
    } else if (dice < 90) engine.clock.now += 1000 * random.below(10);
    else if (dice < 93) await engine.cache.move(tenant, { prefix: 'k' }, 'adapter-0', patience());
    else if (dice < 97)
      engine.cache.setPolicy({ strategy: random.pick(STRATEGIES), objective: random.pick(OBJECTIVES) });
    else await Promise.all(Array.from({ length: 4 }, (_, i) => put(tenant, `k${30 + i}`)));
    for (const one of ['a', 'b'] as const) {
      peak[one] = Math.max(peak[one], hotBytes(engine, one));
      assert.ok(hotBytes(engine, one) <= quota, `${one} has more than its quota`);
    }
    assert.deepEqual(engine.cache.check(), []);
  }
  t.diagnostic(JSON.stringify({ ...engine.cache.stats(), peak, quota }));
  assert.ok(peak.a > 0.8 * quota && engine.cache.stats().evictions > 0);
  for (const name of model.keys()) await get(...(name.split('/') as [string, string]));
  await until(() => engine.pieces.free === engine.pieces.count, 'all pieces are back');
  assert.deepEqual(engine.cache.check(), []);
});
