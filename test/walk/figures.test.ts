// Figures of two tenants on one server: a key that may neither read metrics nor run the cache is told what is its own tenant's,
// and whatever another tenant does, its answers stay what they were, to the letter.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type Client, createClient } from '../../edge/client.ts';
import { type Blatam, call, type KeyFile, startBlatam, temporaryFolder, tensorFile } from '../support/blatam.ts';
import { seeded } from '../support/seeded.ts';
import { keysWith } from '../support/tenants.ts';

const OWN = ['tensors:read', 'tensors:write', 'kv:read', 'kv:write'];
const random = seeded();

let blatam: Blatam;
let plain: KeyFile;
let own: Client;
let other: Client;
let reader: Client;

before(async () => {
  const dataDir = temporaryFolder();
  const [first, second, third] = await keysWith(dataDir, [
    { tenant: 'own', scopes: OWN },
    { tenant: 'other', scopes: OWN },
    { tenant: 'own', scopes: [...OWN, 'metrics:read'] },
  ]);
  assert.ok(first && second && third);
  blatam = await startBlatam({ dataDir, environment: { TENANT_ENTRIES_MAX: '50' } });
  plain = first;
  [own, other, reader] = [first, second, third].map((key) => createClient({ url: blatam.edge, ...key })) as [
    Client,
    Client,
    Client,
  ];
});
after(() => blatam?.stop());

const sequence = () => {
  const tokens = Int32Array.from({ length: 128 }, () => random.below(30_000));
  const numbers = () => Float32Array.from({ length: 128 * 64 }, () => random.next());
  const shape = { layers: 1, kvHeads: 1, dim: 64 };
  return { model: 'm', shape, dtype: 'F32' as const, tokens, k: numbers(), v: numbers() };
};

async function use(client: Client, times: number): Promise<void> {
  for (let i = 0; i < times; i++) {
    await client.put(`k${i}`, tensorFile(1000));
    await (await client.get(`k${i}`))?.bytes();
    assert.equal(await client.get('none'), undefined);
    const stored = sequence();
    await client.kv.store(stored);
    assert.equal((await client.kv.load({ model: 'm', tokens: stored.tokens }))?.matchedTokens, 128);
  }
  await client.delete('k0');
}

const answers = () =>
  Promise.all(
    ['cache/stats', 'adapters', 'cache/policy'].map(async (path) => {
      const answer = await call(plain, 'GET', `${blatam.edge}/v1/${path}`);
      return (await answer.json()) as Record<string, unknown>;
    }),
  );

test('a tenant is told its own figures, and nothing of how busy others are', async () => {
  await use(own, 2);
  const before = await answers();
  const [stats, adapters, policy] = before;
  assert.ok(stats && adapters && policy);
  assert.deepEqual(
    Object.keys(stats).sort(),
    ['bytes', 'deletes', 'entries', 'hitBytes', 'hits', 'kv', 'misses', 'of', 'puts', 'quota'].sort(),
  );
  const { of, entries, hits, misses, puts, deletes, kv, quota } = await own.stats();
  assert.deepEqual(
    { of, entries, misses, puts, deletes },
    { of: 'tenant', entries: 1, misses: 2, puts: 2, deletes: 1 },
  );
  assert.equal(hits.hot + hits.cold, 2);
  assert.deepEqual([kv.blocks, kv.tokens], [4, { asked: 256, matched: 256 }]);
  assert.deepEqual(quota, { entries: 50, diskBytes: null, memoryShare: 1 });
  for (const hidden of ['queue', 'utilization', 'bytesInFlight']) assert.ok(!JSON.stringify(adapters).includes(hidden));
  assert.equal('kv' in policy, false);
  await use(other, 5);
  assert.deepEqual(await answers(), before, `SEED=${random.seed}`);
});

test('who may read metrics is told of all tenants, and of its own beside', async () => {
  const all = await reader.stats();
  assert.deepEqual([all.of, all.entries, all.kv.blocks], ['all', 5, 14]);
  assert.equal((all.tenant as { entries: number }).entries, 1);
  assert.equal(typeof all.evictions, 'number');
  const [adapter] = await reader.adapters();
  assert.equal(typeof adapter?.queue, 'number');
  assert.ok((await reader.cache.policy()).kv);
});
