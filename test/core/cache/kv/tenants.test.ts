// Tenants beside each other in KV, on a real adapter and in memory: a flood takes of another's blocks only what is beyond its fair
// share, a quota holds at every moment, and one that is alone has all. And whose blocks are that two tenants have stored.
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { createHouseholds } from '../../../../core/cache/kv/households.ts';
import { type Engine, patience, startEngine } from '../../../support/engine.ts';
import { OWNER, type Sequence, sequence, storeKv } from '../../../support/kv.ts';
import { type Seeded, seeded } from '../../../support/seeded.ts';

const EXACT = { firstBlocks: 0, lastBlocks: 0 };
/** Two blocks of 32 KiB. */
const SHAPE = [2, 1, 64 * 2, 64] as const;
const BLOCK_BYTES = 32 << 10;
/** Room for 20 blocks. */
const SHARE = (20 * 32) / (128 << 10);

const start = (t: TestContext, kv: NonNullable<Parameters<typeof startEngine>[1]>['kv'] = {}) =>
  startEngine(t, { kv: { window: EXACT, share: SHARE, coldBytesMax: 0, ...kv } });

/** So many blocks are held of them, of all places. */
const heldOf = (engine: Engine, tenant: string, given: readonly Sequence[], salt?: string): number =>
  given.reduce((sum, { tokens }) => {
    const asked = { ...OWNER, tenant, salt, tokens, explain: false, use: false, layout: {} };
    return sum + engine.kv.lookup(asked).blocks.length;
  }, 0);

/** So many sequences of two blocks each. */
async function store(engine: Engine, random: Seeded, tenant: string, count: number): Promise<Sequence[]> {
  const given: Sequence[] = [];
  for (let i = 0; i < count; i++) {
    const own = sequence(random, SHAPE);
    await storeKv(engine, own, { tenant, priority: tenant === 'a' ? 0 : 100 });
    await engine.kv.settled();
    given.push(own);
  }
  return given;
}

for (const coldBytesMax of [0, 20 * BLOCK_BYTES])
  test(`a flood takes nothing of who is within its share, with ${coldBytesMax} bytes of memory beside the adapter`, async (t) => {
    const random = seeded();
    const engine = await start(t, { coldBytesMax });
    const quarter = await store(engine, random, 'a', 3);
    for (let i = 0; i < 8; i++) {
      await store(engine, random, 'b', 5);
      assert.equal(heldOf(engine, 'a', quarter), 6, `SEED=${random.seed}`);
    }
    assert.ok(engine.kv.stats().evictions > 20, 'it made room of its own');
    await store(engine, random, 'c', 10);
    assert.equal(heldOf(engine, 'a', quarter), 6, 'two who flood');
    await engine.assertIdle();
  });

test('one that is alone has all, and gives what is beyond its share as soon as another wants it', async (t) => {
  const random = seeded();
  const engine = await start(t);
  const all = await store(engine, random, 'a', 10);
  assert.equal(heldOf(engine, 'a', all), 20);
  const others = await store(engine, random, 'b', 10);
  assert.deepEqual([heldOf(engine, 'a', all), heldOf(engine, 'b', others)], [10, 10]);
  await engine.assertIdle();
});

test('a quota is kept at every moment, on adapters and in memory, and room beyond it stays free', async (t) => {
  const random = seeded();
  const engine = await start(t, { quota: 0.5, coldBytesMax: 20 * BLOCK_BYTES });
  await store(engine, random, 'a', 30);
  const { bytesMost, memory } = engine.kv.stats();
  assert.ok(bytesMost <= 10 * BLOCK_BYTES && memory.bytesMost <= 10 * BLOCK_BYTES);
  assert.ok(memory.demotions > 30, 'it goes to memory ahead of need');
  await engine.assertIdle();
});

test('what two have stored under a salt is the first one’s share, and the other’s once that one forgets it', async (t) => {
  const random = seeded();
  const engine = await start(t);
  const shared = sequence(random, SHAPE);
  const salt = 'shared';
  await storeKv(engine, shared, { tenant: 'a', salt });
  await storeKv(engine, shared, { tenant: 'b', salt });
  const flood = await store(engine, random, 'b', 30);
  assert.equal(heldOf(engine, 'a', [shared], salt), 2);
  assert.equal((await engine.kv.clear({ tenant: 'a', salt })).shared, 2);
  flood.push(...(await store(engine, random, 'b', 30)));
  assert.deepEqual([heldOf(engine, 'b', [shared], salt), heldOf(engine, 'b', flood)], [0, 20]);
  await engine.assertIdle();
});

test('nothing of who is within its share goes with what it follows', async (t) => {
  const random = seeded();
  const engine = await start(t, { coldBytesMax: 20 * BLOCK_BYTES });
  const salt = 'shared';
  const whole = sequence(random, [2, 1, 64 * 4, 64]);
  const beginning = whole.tokens.slice(0, 128);
  const of = (name: 'k' | 'v') =>
    Buffer.concat([0, 1].map((layer) => whole[name].subarray(layer * 32_768, layer * 32_768 + 16_384)));
  await storeKv(engine, { ...whole, shape: SHAPE, tokens: beginning, k: of('k'), v: of('v') }, { tenant: 'b', salt });
  await storeKv(engine, whole, { tenant: 'a', salt });
  const asked = { model: OWNER.model, salt, signal: patience() };
  const moved = await engine.kv.move({ ...asked, tenant: 'a', tokens: whole.tokens, to: { tier: 'cold' } });
  assert.equal(moved.moved, 4);
  assert.equal((await engine.kv.prefetch({ ...asked, tenant: 'b', tokens: beginning })).returned, 2);
  await store(engine, random, 'b', 40);
  assert.equal(heldOf(engine, 'a', [whole], salt), 4, `SEED=${random.seed}`);
});

test('turns() are his who has most, not below the share; without an asker anybody’s', () => {
  const left: number[] = [];
  const households = createHouseholds(0.8, (number) => left.push(number));
  for (const [tenant, bytes] of [
    ['a', 10],
    ['b', 30],
    ['c', 60],
  ] as const)
    households.account(tenant, 'pages', bytes);
  const named = (number: number | undefined) => ['a', 'b', 'c'].find((one) => households.numberOf(one) === number);
  const none = new Set<number>();
  const [a, b, c] = ['a', 'b', 'c'].map(households.numberOf);
  assert.ok(a !== undefined && b !== undefined && c !== undefined);
  const turns = households.turns('pages', 100, { tenant: 'b', bytes: 5 });
  assert.equal(named(turns.next(none)), 'c');
  turns.wouldGive('c', 30);
  assert.equal(named(turns.next(none)), 'b', 'has as much with what it asks for');
  assert.equal(named(turns.next(new Set([b, c]))), undefined, 'a is below its share');
  assert.equal(named(households.turns('pages', 100).next(new Set([b, c]))), 'a');
  assert.equal(named(households.turns('pages', 100, { tenant: 'a', bytes: 75 }).next(none)), 'a', 'beyond its quota');
  assert.equal(households.turns('packages', 100).next(none), undefined);
  households.account('b', 'pages', -30);
  assert.deepEqual(left, [b]);
  households.account('d', 'packages', 1);
  assert.equal(households.numberOf('d'), b);
});
