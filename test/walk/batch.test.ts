// Batches over HTTP: many small tensors in one signed request, each with a status of its own, and frames that are refused whole.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { BATCH, BATCH_BYTES_MAX, frameHead } from '../../core/contract/batch.ts';
import { joinParts } from '../../core/contract/tensors.ts';
import { type Client, createClient } from '../../edge/client.ts';
import { adminKey, type Blatam, call, codeOf, type KeyFile, startBlatam, tensorFile } from '../support/blatam.ts';

let blatam: Blatam;
let key: KeyFile;
let client: Client;

before(async () => {
  blatam = await startBlatam();
  key = adminKey(blatam.dataDir);
  client = createClient({ url: blatam.edge, ...key });
});
after(() => blatam.stop());

const post = (body: Uint8Array, type: string): Promise<Response> =>
  call(key, 'POST', `${blatam.edge}/v1/tensors:batch`, { body, headers: { 'content-type': type } });
const put = (header: unknown, files: readonly Uint8Array[] = []) =>
  post(joinParts([frameHead(header), ...files]), BATCH);
const get = (said: unknown) => post(Buffer.from(JSON.stringify(said)), 'application/json');

async function assertRefused(asked: Promise<Response>, status: number, code: string): Promise<Record<string, unknown>> {
  const answer = await asked;
  const document = (await answer.json()) as Record<string, unknown>;
  assert.deepEqual([answer.status, document.code], [status, code], JSON.stringify(document));
  return document;
}

test('putMany() and getMany() of a thousand tensors, and of one that fits no batch', async () => {
  const files = Array.from({ length: 1000 }, (_, i) => ({ key: `many/${i}`, file: tensorFile(i * 3) }));
  files.push({ key: 'many/huge', file: tensorFile(BATCH_BYTES_MAX + 1) });
  for (let i = 0; i < 5; i++) files.push({ key: `many/large/${i}`, file: tensorFile(BATCH_BYTES_MAX / 2) });
  const stored = await client.putMany(files.map((one) => ({ ...one, durability: 'none', ttl: 600 })));
  assert.deepEqual(
    stored.map(({ key, stored, error }) => [key, stored?.bytes ?? error?.code]),
    files.map(({ key, file }) => [key, file.length]),
  );
  assert.ok(stored.every(({ stored }) => stored?.created && stored.expiresAt));
  const keys = files.map(({ key }) => key).reverse();
  const found = await client.getMany([...keys, 'many/none']);
  assert.deepEqual(found.pop(), { key: 'many/none' });
  for (const [i, { key, file, cache }] of found.reverse().entries()) {
    assert.equal(key, files[i]?.key);
    assert.deepEqual(file, files[i]?.file, key);
    assert.equal(cache, 'hot');
  }
  assert.equal((await client.putMany(files.slice(0, 1)))[0]?.stored?.created, false);
});

test('each entry has a status of its own, and what was put is there for everybody', async () => {
  const file = tensorFile(100);
  const wrong = Buffer.from('no safetensors at all');
  const answer = await put(
    {
      put: [
        { key: 'own/a', bytes: file.length, priority: 7 },
        { key: 'own/b', bytes: wrong.length },
      ],
    },
    [file, wrong],
  );
  assert.equal(answer.status, 200);
  const { entries } = (await answer.json()) as { entries: Record<string, unknown>[] };
  assert.deepEqual([entries[0]?.key, entries[0]?.status, entries[0]?.priority], ['own/a', 201, 7]);
  assert.deepEqual([entries[1]?.key, entries[1]?.status], ['own/b', 422]);
  assert.match(String(entries[1]?.code), /^tensors_/);
  const single = await call(key, 'GET', `${blatam.edge}/v1/tensors/own/a`);
  assert.deepEqual(new Uint8Array(await single.arrayBuffer()), file);
  const [a, b] = await client.getMany(['own/a', 'own/b']);
  assert.deepEqual(a?.file, file);
  assert.deepEqual(b, { key: 'own/b' });
});

test('a put of a batch fulfils who waits for its key', async () => {
  const waits = client.getOrCompute('claimed/b', () => Promise.reject(new Error('it is not to be computed here')));
  const said = Buffer.from(JSON.stringify({ key: 'claimed/a' }));
  const url = `${blatam.edge}/v1/tensors:claim`;
  await assert.rejects(waits); // it owned the claim
  const headers = { 'content-type': 'application/json' };
  const mine = (await (await call(key, 'POST', url, { body: said, headers })).json()) as { claim: string };
  const follows = client.getOrCompute('claimed/a', () => Promise.reject(new Error('it is not to be computed here')));
  await new Promise((resolve) => setTimeout(resolve, 200));
  const file = tensorFile(10);
  await put({ put: [{ key: 'claimed/a', bytes: file.length, claim: mine.claim }] }, [file]);
  assert.deepEqual(await follows, file);
});

test('a frame that is wrong as a whole is refused, and says why', async () => {
  const file = tensorFile(10);
  const one = { key: 'k', bytes: file.length };
  const malformed = 'body_malformed';
  await assertRefused(put({ put: [one] }, [file, file]), 422, malformed);
  await assertRefused(put({ put: [one] }, [file.subarray(1)]), 422, malformed);
  await assertRefused(put({ put: [one, one] }, [file, file]), 422, malformed);
  await assertRefused(put({ put: [] }), 422, malformed);
  await assertRefused(post(Uint8Array.of(1, 2), BATCH), 422, malformed);
  await assertRefused(post(Uint8Array.of(255, 255, 255, 255, 255, 255, 255, 255), BATCH), 422, malformed);
  await assertRefused(post(joinParts([frameHead({}).subarray(0, 9)]), BATCH), 422, malformed);
  await assertRefused(post(Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0, 123), BATCH), 422, malformed);
  const { faults } = await assertRefused(put({ put: [{ ...one, key: '/x' }] }, [file]), 422, malformed);
  assert.equal((faults as { path: string }[])[0]?.path, 'put.0.key');
  const many = Array.from({ length: 513 }, (_, i) => ({ key: `k${i}`, bytes: 0 }));
  const { detail } = await assertRefused(put({ put: many }), 422, malformed);
  assert.match(String(detail), /at most 512 entries/);
  await assertRefused(get({ get: many.map(({ key }) => key) }), 422, malformed);
  await assertRefused(get({ get: ['a', 'a'] }), 422, malformed);
  await assertRefused(post(file, 'application/vnd.safetensors'), 415, 'media_type_unsupported');
  const large = await assertRefused(
    put({ put: [{ key: 'k', bytes: BATCH_BYTES_MAX + 1 }] }, []),
    413,
    'body_too_large',
  );
  assert.equal(large.bytesMax, BATCH_BYTES_MAX);
  const body = new Uint8Array(18 << 20);
  assert.equal(await codeOf(await post(body, BATCH)), 'body_too_large');
});
