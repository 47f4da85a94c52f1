// KV over restarts of the whole product: a kill leaves what was on disk, bit for bit, and not what was cleared; a stop in order
// leaves what was on adapters too.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createClient } from '../../edge/client.ts';
import { adminKey, startBlatam } from '../support/blatam.ts';
import { folder } from '../support/folders.ts';
import { seeded } from '../support/seeded.ts';

const SHAPE = { layers: 1, kvHeads: 1, dim: 64 };

test('KV on disk outlives a kill, what was cleared does not come back, and a stop in order loses nothing', async (t) => {
  const random = seeded();
  const dataDir = folder(t);
  const sequence = () => {
    const numbers = () => Float32Array.from({ length: 128 * SHAPE.dim }, () => random.next());
    const tokens = Int32Array.from({ length: 128 }, () => random.below(30_000));
    return { model: 'm', shape: SHAPE, dtype: 'F32', tokens, k: numbers(), v: numbers() } as const;
  };
  const [kept, cleared, late] = [sequence(), sequence(), sequence()];

  const open = async () => {
    const blatam = await startBlatam({ dataDir });
    t.after(() => blatam.kill('SIGTERM'));
    const client = createClient({ url: blatam.edge, ...adminKey(dataDir) });
    const tiers = async ({ tokens }: typeof kept) =>
      (await client.kv.lookup({ model: 'm', tokens })).blocks.map(({ tier }) => tier);
    const assertWhole = async ({ tokens, k, v }: typeof kept) => {
      const found = await client.kv.load({ model: 'm', tokens, dtype: 'F32' });
      assert.equal(found?.matchedTokens, 128);
      assert.deepEqual([found.k, found.v], [k, v]);
    };
    return { ...blatam, ...client, tiers, assertWhole };
  };

  const first = await open();
  for (const each of [kept, cleared]) {
    await first.kv.store(each);
    const { moved } = await first.kv.move({ model: 'm', tokens: each.tokens, tier: 'disk' });
    assert.equal(moved, 2);
  }
  await first.kv.clear({ model: 'm', prefix: cleared.tokens.subarray(0, 10) });
  await first.kill('SIGKILL');

  const second = await open();
  assert.deepEqual([await second.tiers(kept), await second.tiers(cleared)], [['disk', 'disk'], []]);
  await second.assertWhole(kept);
  await second.kv.store(late);
  await second.kill('SIGTERM');
  assert.deepEqual((await second.exited).code, 0, second.output());

  const third = await open();
  assert.match(third.output(), /4 blocks of KV on disk/);
  for (const each of [kept, late]) {
    assert.deepEqual(await third.tiers(each), ['disk', 'disk']);
    await third.assertWhole(each);
  }
  await third.kill('SIGTERM');
});
