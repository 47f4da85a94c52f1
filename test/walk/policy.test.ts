// The policy of a running server: read by whoever reads tensors, changed by who may, through the edge, in the client's words.
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { BlatamError, type Client, createClient } from '../../edge/client.ts';
import { adminKey, type Blatam, call, codeOf, spawnBlatam, startBlatam, tensorFile } from '../support/blatam.ts';
import { until } from '../support/until.ts';

describe('policy', () => {
  let blatam: Blatam;
  let client: Client;

  before(async () => {
    blatam = await startBlatam({ environment: { CACHE_STRATEGY: 'lfu', CACHE_OBJECTIVE: 'bytes' } });
    const { keyid, secret } = adminKey(blatam.dataDir);
    client = createClient({ url: blatam.edge, keyid, secret });
  });
  after(() => blatam.stop());

  test('the settings say how it begins, and a call what it is from then on', async () => {
    await client.put('policy/one', tensorFile(1000), { priority: 90 });
    const first = await client.cache.policy();
    assert.deepEqual([first.strategy, first.objective, first.adjustEvery], ['lfu', 'bytes', null]);
    assert.deepEqual(
      first.tensors.parts.map(({ priority, payloads, inCharge }) => [priority, payloads, inCharge]),
      [['67-100', 1, 'lfu']],
    );
    assert.deepEqual([first.kv?.inCharge, first.kv?.hitRatio.now], ['lfu', null]);
    const second = await client.cache.setPolicy({ strategy: 'adaptive' });
    assert.equal(second.kv?.inCharge, 'lru');
    assert.equal(second.kv?.experts.length, 9);
    assert.deepEqual([second.strategy, second.objective], ['adaptive', 'bytes']);
    assert.equal((await client.cache.setPolicy({ objective: 'cost' })).objective, 'cost');
    assert.equal((await client.head('policy/one'))?.cache, 'hot');
    assert.equal((await client.cache.policy()).strategy, 'adaptive');
    const path = join(blatam.dataDir, 'policy.json');
    const kept = () =>
      existsSync(path) && readFileSync(path, 'utf8').includes('{"strategy":"adaptive","objective":"cost"}');
    await until(kept, 'it is kept for the next start');
  });

  test('what is no policy is refused, and nothing is changed', async () => {
    const before = await client.cache.policy();
    const key = adminKey(blatam.dataDir);
    for (const body of ['{}', '{"strategy":"arc"}', '{"objective":1}', '{"strategy":"lru","more":1}', 'no']) {
      const headers = { 'content-type': 'application/json' };
      const answer = await call(key, 'PUT', `${blatam.edge}/v1/cache/policy`, { body: Buffer.from(body), headers });
      assert.deepEqual([answer.status, await codeOf(answer)], [422, 'body_malformed'], body);
    }
    assert.deepEqual(await client.cache.policy(), before);
    await assert.rejects(client.cache.setPolicy({}), (error) => error instanceof BlatamError && error.status === 422);
  });
});

test('a strategy that there is not stops the start with one line', async () => {
  const { child, output } = spawnBlatam({ environment: { CACHE_STRATEGY: 'fifo' } });
  const code = await new Promise((resolve) => child.once('exit', resolve));
  assert.equal(code, 1);
  assert.match(output(), /CACHE_STRATEGY=fifo: must be one of lru, lfu, adaptive/);
});
