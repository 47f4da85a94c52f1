// Before anybody asks: what was hot is hot again after a restart of the whole product, and the next of a run after the one before.
import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { test } from 'node:test';
import { type Client, createClient } from '../../edge/client.ts';
import { adminKey, type Blatam, startBlatam, temporaryFolder, tensorFile } from '../support/blatam.ts';

const clientOf = (blatam: Blatam): Client => createClient({ url: blatam.edge, ...adminKey(blatam.dataDir) });
const files = Array.from({ length: 8 }, (_, i) => ({ key: `run/${i}`, file: tensorFile(200_000) }));

async function hot(client: Client): Promise<string[]> {
  const { entries } = await client.list();
  return entries.filter(({ tier }) => tier === 'hot').map(({ key }) => key);
}

async function becomesHot(client: Client, keys: readonly string[]): Promise<void> {
  for (const end = performance.now() + 20_000; performance.now() < end; ) {
    const found = await hot(client);
    if (keys.every((key) => found.includes(key))) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  assert.deepEqual(await hot(client), keys);
}

test('a restart brings back what was hot, and a read what comes next', async () => {
  const dataDir = temporaryFolder();
  const start = (environment: Record<string, string> = {}) => startBlatam({ dataDir, environment });
  try {
    const first = await start();
    for (const { error } of await clientOf(first).putMany(files)) assert.equal(error, undefined);
    await first.kill('SIGTERM');

    const second = await start();
    await becomesHot(
      clientOf(second),
      files.map(({ key }) => key),
    );
    assert.deepEqual((await clientOf(second).stats()).hits, { hot: 0, cold: 0 }, 'nobody has asked');
    await second.kill('SIGTERM');

    const third = await start({ CACHE_WARM_PERCENT: '0' });
    const client = clientOf(third);
    assert.deepEqual(await hot(client), []);
    for (const i of [0, 1]) {
      const got = await client.get(`run/${i}`);
      assert.equal(got?.cache, 'cold');
      assert.deepEqual(await got.bytes(), files[i]?.file);
    }
    await becomesHot(client, ['run/2']);
    assert.equal((await client.get('run/2'))?.cache, 'hot');
    await third.kill('SIGTERM');
  } finally {
    rmSync(dataDir, { recursive: true, force: true });
  }
});
