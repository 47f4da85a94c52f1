// KV beyond what adapters have room for, on a real adapter: it goes to memory ahead of need and comes back bit for bit, within
// both budgets at every step, whatever happens to the adapter meanwhile and however many read it; `ec` keeps to its error once it has been there, and loses nothing more on its next way.
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { floatsOf } from '../../../../core/codec/means.ts';
import { Problem } from '../../../../core/contract/problems.ts';
import { type Engine, patience, startEngine } from '../../../support/engine.ts';
import { attendKv, flipBit, leasesOf, loadKv, type Sequence, sequence, storeKv } from '../../../support/kv.ts';
import { type Seeded, seeded } from '../../../support/seeded.ts';

const EXACT = { firstBlocks: 0, lastBlocks: 0 };
/** Room for 20 blocks of 32 KiB. */
const SHARE = (20 * 32) / (128 << 10);
const SHAPE = [2, 1, 64 * 2, 64] as const;

const start = (t: TestContext, coldBytesMax = 8 << 20, more: Parameters<typeof startEngine>[1] = {}) =>
  startEngine(t, { ...more, kv: { window: EXACT, share: SHARE, coldBytesMax, ...more.kv } });

/** Within both budgets, and all accounted for. */
async function assertSettled(engine: Engine): Promise<void> {
  await engine.kv.settled();
  const { bytesMost, memory } = engine.kv.stats();
  assert.ok(bytesMost <= SHARE * engine.pool.capacityBytes, `${bytesMost} bytes of pages`);
  assert.ok(memory.bytesMost <= memory.bytesMax, `${memory.bytesMost} of ${memory.bytesMax} bytes of packages`);
  await engine.assertIdle();
}

/** So many sequences, stored one after the other. */
async function fill(engine: Engine, random: Seeded, count: number, more = {}, dtype: Sequence['dtype'] = 'F16') {
  const given: Sequence[] = [];
  for (let i = 0; i < count; i++) {
    const own = sequence(random, SHAPE, dtype);
    given.push(own);
    await storeKv(engine, own, more);
    await assertSettled(engine);
  }
  return given;
}

async function assertBack(engine: Engine, { tokens, dtype, k, v }: Sequence, what = ''): Promise<void> {
  const found = await loadKv(engine, tokens, dtype);
  assert.equal(found.matchedTokens, tokens.length, what);
  assert.ok(Buffer.compare(found.k, k) === 0 && Buffer.compare(found.v, v) === 0, what);
}

for (const dtype of ['F16', 'BF16'] as const)
  test(`what adapters have no room for is found in memory, and every bit of ${dtype} comes back`, async (t) => {
    const random = seeded();
    const engine = await start(t);
    const given = await fill(engine, random, 40, {}, dtype);
    const { tiers, memory, evictions, lost } = engine.kv.stats();
    assert.deepEqual([tiers.hot.blocks + tiers.cold.blocks, evictions, lost], [80, 0, 0]);
    assert.ok(tiers.cold.blocks >= 60 && memory.demotions >= 60, `${tiers.cold.blocks} cold`);
    assert.ok(memory.savedBytes > 0.05 * memory.packedBytes, 'lossless is smaller');
    for (let round = 0; round < 60; round++) {
      const own = random.pick(given as [Sequence, ...Sequence[]]);
      await assertBack(engine, own, `round ${round}, SEED=${random.seed}`);
      await assertSettled(engine);
    }
    assert.ok(engine.kv.stats().memory.returned > 20);
    assert.deepEqual((await engine.kv.verify(patience())).faults, []);
    assert.equal(engine.kv.stats().evictions, 0);
  });

test('coded blocks go as they are and come back as they were; attention finds what load does', async (t) => {
  const random = seeded();
  const engine = await start(t);
  const codecs = { codecK: 'q8r', codecV: 'tq4' };
  const first = sequence(random, SHAPE);
  const { blocks } = await storeKv(engine, first, codecs);
  assert.deepEqual(
    blocks.map(({ tier }) => tier),
    ['warm', 'warm'],
  );
  const loaded = await loadKv(engine, first.tokens, 'F32');
  const attended = await attendKv(engine, first, 1);
  await fill(engine, random, 20);
  const cold = (await storeKv(engine, first, codecs)).blocks;
  assert.deepEqual(
    cold.map(({ tier, adapter, codecK, codecV }) => [tier, adapter, codecK, codecV]),
    Array.from({ length: 2 }, () => ['cold', null, 'q8r', 'tq4']),
    'a store of what is in memory leaves it there',
  );
  assert.deepEqual(await attendKv(engine, first, 1), attended);
  await fill(engine, random, 20);
  assert.deepEqual(await loadKv(engine, first.tokens, 'F32'), loaded);
  await assertSettled(engine);
});

test('memory is kept within its budget, the least recently used leave it', async (t) => {
  const random = seeded();
  const engine = await start(t, (20 * 32) << 10);
  const given = await fill(engine, random, 40);
  const { tiers, memory } = engine.kv.stats();
  assert.ok(tiers.cold.blocks >= 18 && memory.bytes <= memory.bytesMax);
  const newest = given.slice(-17);
  for (const own of newest) await assertBack(engine, own);
  const [oldest] = given;
  assert.ok(oldest);
  await assert.rejects(loadKv(engine, oldest.tokens, 'F16'), isCode('kv_unknown'));
  await assertSettled(engine);
});

const isCode = (code: string) => (error: unknown) => error instanceof Problem && error.code === code;

test('pages that are damaged come back from memory where that has them', async (t) => {
  const random = seeded();
  const engine = await start(t);
  const leases = leasesOf(t, engine);
  const [given] = await fill(engine, random, 24);
  assert.ok(given);
  await assertBack(engine, given);
  const lease = leases.at(-1); // of its second block, which has come back
  assert.ok(lease);
  await flipBit(engine, lease, 1, random.below(lease.pageBytes * 8));
  await assert.rejects(loadKv(engine, given.tokens, 'F16'), isCode('kv_damaged'));
  await assertBack(engine, given);
  await assertSettled(engine);
});

test('what is in memory survives its adapter', async (t) => {
  const random = seeded();
  const engine = await start(t);
  const given = await fill(engine, random, 30);
  const { tiers } = engine.kv.stats();
  await engine.killAdapter();
  await assertSettled(engine);
  const after = engine.kv.stats();
  assert.ok(after.tiers.cold.blocks >= tiers.cold.blocks && after.tiers.hot.blocks === 0);
  for (const own of given.slice(0, 15)) await assertBack(engine, own);
  // in the middle of reads, stores, packing and returns
  const busy = Promise.allSettled(
    Array.from({ length: 12 }, (_, i) =>
      i % 3 === 0
        ? storeKv(engine, sequence(random, SHAPE))
        : loadKv(engine, random.pick(given as [Sequence]).tokens, 'F16'),
    ),
  );
  await engine.killAdapter();
  for (const each of await busy)
    if (each.status === 'rejected')
      assert.ok(
        ['adapter_lost', 'adapter_unavailable', 'kv_unknown', 'capacity_exhausted'].includes(each.reason.code),
        String(each.reason),
      );
  await assertSettled(engine);
  const found = await Promise.allSettled(given.map((own) => assertBack(engine, own)));
  for (const each of found)
    if (each.status === 'rejected') assert.ok(isCode('kv_unknown')(each.reason), String(each.reason));
  await assertSettled(engine);
});

test('many readers of what comes and goes all read what was stored; each block comes back once for all of them', async (t) => {
  const random = seeded();
  const engine = await start(t);
  const given = await fill(engine, random, 24);
  const before = engine.kv.stats().memory.returned;
  const [first] = given;
  assert.ok(first);
  await Promise.all(Array.from({ length: 5 }, () => assertBack(engine, first)));
  assert.equal(engine.kv.stats().memory.returned, before + 2);
  for (let round = 0; round < 6; round++) {
    const reads = Array.from({ length: 6 }, () => assertBack(engine, random.pick(given as [Sequence])));
    await Promise.all(reads);
    await assertSettled(engine);
  }
});

test('ec keeps 16 bits on an adapter, and its error once it has been in memory; then it loses nothing more', async (t) => {
  const random = seeded();
  const engine = await start(t);
  const given = sequence(random, [2, 1, 64 * 2, 64]);
  const { blocks } = await storeKv(engine, given, { codecK: 'ec:0.003', codecV: 'ec' });
  assert.deepEqual(
    blocks.map(({ codecK, codecV, tier }) => [codecK, codecV, tier]),
    Array.from({ length: 2 }, () => ['ec:0.003', 'ec:0.0094', 'hot']),
  );
  await assertBack(engine, given, 'every bit, at first');
  await fill(engine, random, 20);
  const once = await loadKv(engine, given.tokens, 'F16');
  const error = (found: Uint8Array, wanted: Uint8Array): number => {
    const [a, b] = [floatsOf(found, 'F16'), floatsOf(wanted, 'F16')];
    const square = (sum: number, x: number) => sum + x * x;
    return b.map((x, i) => x - (a[i] ?? 0)).reduce(square, 0) / b.reduce(square, 0);
  };
  const [k, v] = [error(once.k, given.k), error(once.v, given.v)];
  assert.ok(k > 0 && k < 0.0032 && v > 0 && v < 0.0097, `K ${k}, V ${v}`);
  await fill(engine, random, 40);
  assert.deepEqual(await loadKv(engine, given.tokens, 'F16'), once);
  for (const codecK of ['ec:0', 'ec:2', 'ec:40b', 'ec:b', 'ec:-1', 'ec:1e-3', 'ecx'])
    await assert.rejects(storeKv(engine, sequence(random, SHAPE), { codecK }), isCode('codec_unknown'), codecK);
  await assertSettled(engine);
});

test('a block whose return would take longer than computing it is a miss, but for one now and then', async (t) => {
  const random = seeded();
  const engine = await start(t, 8 << 20, { kv: { recomputeTokensPerSecond: 10_000_000 } });
  const given = await fill(engine, random, 24);
  for (const own of given.slice(0, 6)) await loadKv(engine, own.tokens, 'F16').catch(() => {});
  const { declined, returned } = engine.kv.stats().memory;
  assert.ok(declined > 0 && returned > 0, `${declined} declined, ${returned} returned`);
  const { asked, matched } = engine.kv.stats().tokens;
  assert.ok(matched < asked);
  await assertSettled(engine);
});

test('drain() brings to memory what no other adapter has room for', async (t) => {
  const random = seeded();
  const engine = await start(t);
  const [own] = await fill(engine, random, 3);
  assert.ok(own);
  const { id = '' } = engine.pool.report()[0] ?? {};
  engine.pool.drain(id);
  const { moved, cooled, left } = await engine.kv.drain(id, patience());
  assert.deepEqual([moved, cooled, left], [0, 6, 0]);
  assert.equal(engine.pool.reportOf(id).state, 'drained');
  await assert.rejects(loadKv(engine, own.tokens, 'F16'), isCode('adapter_unavailable'));
  engine.pool.resume(id);
  await assertBack(engine, own);
  await assertSettled(engine);
});
