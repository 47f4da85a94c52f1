// Limits over HTTP, on a real start and on an edge elsewhere behind a proxy: fields on each answer, quotas by key, address, route and bytes,
// requests at once, and addresses that are not let in.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createClient, type KeyAsked } from '../../edge/client.ts';
import {
  adminKey,
  type Blatam,
  type CallOptions,
  call,
  codeOf,
  type KeyFile,
  signed,
  startBlatam,
  tensorFile,
} from '../support/blatam.ts';

const INTERNAL_SECRET = randomBytes(32).toString('base64');
const ADMIN_QUOTA = 30;
const FAILED_QUOTA = 20;
const HOUR = 3600;

let blatam: Blatam;
let far: Blatam;
let root: KeyFile;
before(async () => {
  blatam = await startBlatam({ environment: { INTERNAL_SECRET, EDGE_LIMIT_ADMIN: `${ADMIN_QUOTA}/1h` } });
  far = await startBlatam({
    environment: {
      ...{ INTERNAL_SECRET, CORE_URLS: blatam.core, EDGE_LIMIT_FAILED: `${FAILED_QUOTA}/1h` },
      ...{ EDGE_PROXIES: '127.0.0.0/8,::1', EDGE_DENY: '203.0.113.0/24' },
    },
  });
  root = adminKey(blatam.dataDir);
});
after(async () => {
  await far?.stop();
  await blatam?.stop();
});

const make = (limits: KeyAsked['limits']): Promise<KeyFile> =>
  createClient({ url: blatam.edge, ...root }).keys.create({
    scopes: ['tensors:read', 'tensors:write', 'kv:read', 'keys:admin'],
    limits,
  });
const list = (key: KeyFile, url = blatam.edge, o?: CallOptions) => call(key, 'GET', `${url}/v1/tensors`, o);

async function assertLimited(answer: Response, policy: string): Promise<number> {
  const retryAfter = Number(answer.headers.get('retry-after'));
  const document = (await answer.json()) as Record<string, unknown>;
  assert.deepEqual([answer.status, document.code], [429, 'rate_limited']);
  assert.deepEqual(document['violated-policies'], [policy]);
  assert.ok(retryAfter >= 1, `${retryAfter}`);
  assert.match(answer.headers.get('ratelimit') ?? '', new RegExp(`"${policy}";r=\\d+`));
  return retryAfter;
}

test('every answer tells the policies and where they stand, whatever it is and however it came', async () => {
  const file = tensorFile(300_000);
  for (const url of [blatam.edge, far.edge]) {
    const at = `${url}/v1/tensors/fields`;
    const left: number[] = [];
    const see = async (answer: Response, policy = 'key-1s') => {
      await answer.arrayBuffer();
      assert.match(
        answer.headers.get('ratelimit-policy') ?? '',
        new RegExp(`"${policy}";q=\\d+;w=\\d+`),
        `${answer.status}`,
      );
      const [, r] = new RegExp(`"${policy}";r=(\\d+)`).exec(answer.headers.get('ratelimit') ?? '') ?? [];
      left.push(Number(r));
    };
    await see(await call(root, 'PUT', at, { body: file }));
    const got = await call(root, 'GET', at);
    const etag = got.headers.get('etag') ?? '';
    await see(got);
    await see(await call(root, 'GET', at, { headers: { 'if-none-match': etag } }));
    await see(await call(root, 'HEAD', at));
    await see(await call(root, 'DELETE', at));
    await see(await call(root, 'GET', at));
    await see(await call(root, 'POST', `${url}/v1/kv/lookup`, { body: Buffer.from('{') }));
    await see(await fetch(at), 'address-1s');
    assert.ok(left.every((r) => r > 0));
  }
  for (const path of ['healthz', 'readyz'])
    assert.equal((await fetch(`${blatam.edge}/${path}`)).headers.get('ratelimit'), null);
});

test('a quota of its own holds for a key, for bursts and for the long run, and for no other key', async () => {
  const burst = await make({
    requests: [
      { quota: 3, seconds: 1 },
      { quota: 1000, seconds: HOUR },
    ],
  });
  const slow = await make({ requests: [{ quota: 2, seconds: HOUR }] });
  for (let i = 0; i < 2; i++) assert.equal((await list(slow)).status, 200);
  assert.ok((await assertLimited(await list(slow), `key-${HOUR}s`)) > 60);
  assert.equal((await list(burst)).status, 200);
  assert.equal((await list(root)).status, 200);
  // Told to come again in a second: then it passes.
  for (;;) {
    const answer = await list(burst);
    if (answer.status === 200) continue;
    await assertLimited(answer, 'key-1s');
    break;
  }
  await sleep(1000);
  assert.equal((await list(burst)).status, 200);
  assert.equal((await list(burst, far.edge)).status, 200, 'each edge counts for itself');
});

test('requests at once are bounded for a key, and end when they end', async () => {
  const key = await make({ concurrent: 1 });
  const url = `${blatam.edge}/v1/kv/events`;
  const leaves = new AbortController();
  const stream = await fetch(url, { headers: await signed(key, 'GET', url), signal: leaves.signal });
  assert.equal(stream.status, 200);
  assert.equal(await assertLimited(await list(key), 'concurrent'), 1);
  assert.equal((await list(root)).status, 200);
  leaves.abort();
  await stream.text().catch(() => {});
  for (const end = performance.now() + 30_000; (await list(key)).status !== 200; ) assert.ok(performance.now() < end);
});

test('bytes count: announced before, and what was moved beyond it after', async () => {
  const key = await make({ bytes: [{ quota: 100_000, seconds: HOUR }] });
  const put = (bytes: number) =>
    call(key, 'PUT', `${blatam.edge}/v1/tensors/bytes/${bytes}`, { body: tensorFile(bytes) });
  assert.equal((await put(60_000)).status, 201);
  await assertLimited(await put(60_001), `bytes-${HOUR}s`);
  assert.equal((await put(10_000)).status, 201, 'what still fits');
  const got = await call(key, 'GET', `${blatam.edge}/v1/tensors/bytes/60000`);
  assert.equal((await got.arrayBuffer()).byteLength > 60_000, true, 'an answer is never cut');
  await assertLimited(await list(key), `bytes-${HOUR}s`);
});

test('administrative routes have a quota of their own', async () => {
  const key = await make({});
  const ask = () => call(key, 'GET', `${blatam.edge}/v1/keys?limit=1`);
  for (let i = 0; i < ADMIN_QUOTA; i++) assert.equal((await ask()).status, 200);
  await assertLimited(await ask(), `admin-${HOUR}s`);
  for (const path of ['audit', 'cache/policy', 'cache/check', 'tensors:move', 'kv/move', 'adapters/0/drain'])
    await assertLimited(await call(key, 'POST', `${blatam.edge}/v1/${path}`), `admin-${HOUR}s`);
  assert.equal((await list(key)).status, 200);
});

test('a key with limits makes no keys', async () => {
  const key = await make({ concurrent: 5 });
  const made = createClient({ url: blatam.edge, ...key }).keys.create({ scopes: ['tensors:read'] });
  await assert.rejects(made, { code: 'grant_exceeded' });
});

test('whoever fails to say who they are too often is refused before that is looked at, by address', async () => {
  const wrong = { ...root, secret: randomBytes(32).toString('base64') };
  const from = (address: string) => ({ headers: { 'x-forwarded-for': `10.9.9.9, ${address}` } });
  for (let i = 0; i < FAILED_QUOTA; i++)
    assert.equal(await codeOf(await list(wrong, far.edge, from('198.51.100.1'))), 'signature_invalid');
  await assertLimited(await list(wrong, far.edge, from('198.51.100.1')), `failed-${HOUR}s`);
  await assertLimited(await list(root, far.edge, from('198.51.100.1')), `failed-${HOUR}s`);
  assert.equal((await list(root, far.edge, from('198.51.100.2'))).status, 200);
  assert.equal((await list(root, far.edge)).status, 200);
});

test('whoever asks for metrics is limited as an address; readiness is told to all, but not where a core is', async () => {
  const edge = await startBlatam({
    environment: { INTERNAL_SECRET, CORE_URLS: 'http://127.0.0.1:9', EDGE_LIMIT_ADDRESS: '3/1h' },
  });
  try {
    const ready = await fetch(`${edge.edge}/readyz`);
    assert.deepEqual(await ready.json(), { ready: false, checks: { core: { ok: false, detail: 'does not answer' } } });
    for (let i = 0; i < 3; i++) await (await fetch(`${edge.edge}/metrics`)).text();
    await assertLimited(await fetch(`${edge.edge}/metrics`), `address-${HOUR}s`);
    assert.equal((await fetch(`${edge.edge}/readyz`)).status, 503);
    assert.equal((await fetch(`${edge.edge}/healthz`)).status, 200);
  } finally {
    await edge.stop();
  }
});

test('who makes his address unreadable is limited with all who do, and however long the field, its end counts', async () => {
  const hidden = { headers: { 'x-forwarded-for': 'unknown' } };
  const wrong = { ...root, secret: randomBytes(32).toString('base64') };
  const edge = await startBlatam({
    environment: {
      ...{ INTERNAL_SECRET, CORE_URLS: blatam.core, EDGE_LIMIT_FAILED: '2/1h', EDGE_PROXIES: '127.0.0.0/8,::1' },
    },
  });
  try {
    for (let i = 0; i < 2; i++) assert.equal(await codeOf(await list(wrong, edge.edge, hidden)), 'signature_invalid');
    await assertLimited(await list(wrong, edge.edge, hidden), `failed-${HOUR}s`);
    const long = { headers: { 'x-forwarded-for': `${'x'.repeat(9000)}, 198.51.100.9` } };
    for (let i = 0; i < 2; i++) assert.equal(await codeOf(await list(wrong, edge.edge, long)), 'signature_invalid');
    await assertLimited(await list(wrong, edge.edge, long), `failed-${HOUR}s`);
    assert.equal((await list(root, edge.edge)).status, 200);
  } finally {
    await edge.stop();
  }
});

test('an address that is denied is not let in, whatever it has; health is told to all', async () => {
  const from = { headers: { 'x-forwarded-for': '203.0.113.77' } };
  assert.equal(await codeOf(await list(root, far.edge, from)), 'address_refused');
  assert.equal((await fetch(`${far.edge}/metrics`, from)).status, 403);
  assert.equal((await fetch(`${far.edge}/healthz`, from)).status, 200);
  // Nobody else is believed: there the field says nothing.
  assert.equal((await list(root, blatam.edge, from)).status, 200);
});
