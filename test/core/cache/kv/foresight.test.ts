// What follows a sequence that was read comes to an adapter ahead, into room that nobody has to leave, on a real adapter.
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { type Engine, patience, startEngine } from '../../../support/engine.ts';
import { loadKv, OWNER, type Sequence, sequence, storeKv } from '../../../support/kv.ts';
import { seeded } from '../../../support/seeded.ts';
import { until } from '../../../support/until.ts';

/** Blocks of 32 KiB. */
const SHAPE = [2, 1, 64 * 6, 64] as const;
const share = (blocks: number) => (blocks * 32) / (128 << 10);

const start = (t: TestContext, blocks: number, prefetch: number) =>
  startEngine(t, {
    kv: { window: { firstBlocks: 0, lastBlocks: 0 }, share: share(blocks), coldBytesMax: 8 << 20, prefetch },
  });

const load = async (engine: Engine, { tokens }: Sequence, blocks: number) => {
  const { matchedTokens } = await loadKv(engine, tokens.subarray(0, blocks * 64), 'F16');
  assert.equal(matchedTokens, blocks * 64);
};
const idle = (engine: Engine) => until(() => engine.kv.stats().prefetch.coming === 0, 'nothing is on its way');

/** All of it in memory, and nothing of it on an adapter. */
async function moveToMemory(engine: Engine, { tokens }: Sequence): Promise<void> {
  await engine.kv.move({ ...OWNER, tokens, to: { tier: 'cold' }, signal: patience() });
  assert.equal(engine.kv.stats().tiers.hot.blocks, 0);
}

test('blocks that follow come ahead, and their readers find them there', async (t) => {
  const engine = await start(t, 40, 2);
  const own = sequence(seeded(), SHAPE);
  await storeKv(engine, own);
  await moveToMemory(engine, own);
  await load(engine, own, 2);
  await idle(engine);
  assert.equal(engine.kv.stats().tiers.hot.blocks, 4, 'two that were read, and two that follow');
  const before = engine.kv.stats().memory.returned;
  await load(engine, own, 4);
  assert.equal(engine.kv.stats().memory.returned, before, 'nobody waited for them');
  await idle(engine);
  const { used, late, wrong, cancelled, precision } = engine.kv.stats().prefetch;
  assert.deepEqual([used, late, wrong, cancelled, precision], [2, 0, 0, 0, 1]);
  assert.equal(engine.kv.stats().tiers.hot.blocks, 6);
  await engine.assertIdle();
});

test('room is made for none of them, and a reader that finds one left behind makes its own', async (t) => {
  const random = seeded();
  const engine = await start(t, 6, 4);
  const [own, other] = [sequence(random, SHAPE), sequence(random, [2, 1, 64 * 4, 64])];
  await storeKv(engine, own);
  await moveToMemory(engine, own);
  await storeKv(engine, other); // four of six
  await load(engine, own, 2);
  await idle(engine);
  const { tiers, prefetch, evictions } = engine.kv.stats();
  assert.deepEqual([tiers.hot.blocks, prefetch.used, evictions], [6, 0, 0]);
  assert.ok(prefetch.cancelled > 0);
  await load(engine, own, 6);
  await idle(engine);
  await engine.assertIdle();
});

test('readers that come while blocks are brought ahead get every one of them', async (t) => {
  const random = seeded();
  const engine = await start(t, 16, 4);
  const given = Array.from({ length: 6 }, () => sequence(random, SHAPE));
  for (const own of given) {
    await storeKv(engine, own);
    await moveToMemory(engine, own);
  }
  for (let round = 0; round < 12; round++) {
    const reads = Array.from({ length: 3 }, () => load(engine, random.pick(given as [Sequence]), 1 + random.below(4)));
    await Promise.all(reads);
    assert.deepEqual(engine.kv.check(), []);
  }
  await idle(engine);
  const { evictions, bytesMost } = engine.kv.stats();
  assert.deepEqual([evictions, bytesMost <= share(16) * engine.pool.capacityBytes], [0, true]);
  await engine.kv.settled();
  await engine.assertIdle();
});
