// Who is not let in: every way of calling wrongly is a 401 with a problem document at the edge, and the core hears nothing.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import {
  adminKey,
  type Blatam,
  type CallOptions,
  call,
  codeOf,
  type KeyFile,
  sha256,
  signed,
  startBlatam,
  tensorFile,
} from '../support/blatam.ts';

let blatam: Blatam;
let key: KeyFile;
const now = () => Math.floor(Date.now() / 1000);

before(async () => {
  blatam = await startBlatam();
  key = adminKey(blatam.dataDir);
});
after(() => blatam.stop());

/** Requests that the core has heard on /v1, from its own metrics. */
async function heard(): Promise<number> {
  const text = await (await fetch(`${blatam.core}/metrics`)).text();
  const counts = text.matchAll(/blatam_core_request_seconds_count\{(.*?)\} (\d+)/g);
  return [...counts]
    .filter(([, labels]) => !labels?.includes('route="other"'))
    .reduce((sum, [, , n]) => sum + Number(n), 0);
}

async function assertRefused(send: () => Promise<Response>, code: string): Promise<void> {
  const before = await heard();
  const answer = await send();
  assert.equal(answer.status, 401);
  assert.equal(answer.headers.get('content-type'), 'application/problem+json');
  const document = (await answer.json()) as Record<string, unknown>;
  assert.equal(document.code, code);
  assert.equal(document.status, 401);
  assert.equal(answer.headers.get('www-authenticate'), 'Signature realm="blatam"');
  assert.equal(document.requestId, answer.headers.get('x-request-id'));
  for (const field of ['type', 'title', 'detail']) assert.ok(document[field], field);
  assert.equal(await heard(), before, 'the core was not asked');
}

const url = () => `${blatam.edge}/v1/tensors/refused`;
const file = tensorFile(1000);

const put =
  (o: { as?: KeyFile; sign?: CallOptions; send?: Uint8Array; headers?: Record<string, string>; at?: string }) =>
  async () => {
    const headers = await signed(o.as ?? key, 'PUT', url(), { body: file, ...o.sign });
    return fetch(o.at ?? url(), {
      method: 'PUT',
      headers: { ...headers, ...o.headers },
      body: (o.send ?? file) as Uint8Array<ArrayBuffer>,
    });
  };

test('unsigned requests are refused, with and without a body', async () => {
  await assertRefused(() => fetch(url()), 'signature_missing');
  await assertRefused(
    () => fetch(url(), { method: 'PUT', body: file as Uint8Array<ArrayBuffer> }),
    'signature_missing',
  );
});

test('a wrong secret and an unknown key are refused alike', async () => {
  await assertRefused(put({ as: { ...key, secret: randomBytes(32).toString('base64') } }), 'signature_invalid');
  await assertRefused(put({ as: { ...key, keyid: 'nobody' } }), 'signature_invalid');
});

test('a signature for another method, path or query is refused', async () => {
  await assertRefused(put({ at: `${blatam.edge}/v1/tensors/other` }), 'signature_invalid');
  await assertRefused(put({ at: `${url()}?ttl=1` }), 'signature_invalid');
  const headers = await signed(key, 'GET', url());
  await assertRefused(() => fetch(url(), { method: 'DELETE', headers }), 'signature_invalid');
});

test('stale requests and those from the future are refused', async () => {
  await assertRefused(put({ sign: { created: now() - 301 } }), 'signature_stale');
  await assertRefused(put({ sign: { created: now() + 40 } }), 'signature_stale');
});

test('a replayed request is refused, on every listener', async () => {
  const headers = await signed(key, 'GET', `${blatam.edge}/v1/tensors`);
  const send = (base: string) => fetch(`${base}/v1/tensors`, { headers });
  assert.equal((await send(blatam.edge)).status, 200);
  await assertRefused(() => send(blatam.edge), 'signature_replayed');
  const atCore = await send(blatam.core);
  assert.equal(atCore.status, 401);
  assert.equal(await codeOf(atCore), 'signature_replayed');
});

test('a small body that was changed on the way is refused before the core hears of it', async () => {
  const changed = file.slice();
  changed[changed.length - 1] = (changed.at(-1) ?? 0) ^ 1;
  await assertRefused(put({ send: changed }), 'digest_mismatch');
  await assertRefused(
    put({ headers: { 'content-digest': `sha-256=:${Buffer.from(sha256(changed)).toString('base64')}:` } }),
    'signature_invalid',
  );
});

test('a body that the signature does not cover is refused', async () => {
  const headers = await signed(key, 'PUT', url());
  await assertRefused(
    () => fetch(url(), { method: 'PUT', headers, body: file as Uint8Array<ArrayBuffer> }),
    'signature_incomplete',
  );
});

test('a large body that was changed on the way is refused, and nothing of it is kept', async () => {
  const large = tensorFile(10 << 20);
  const digest = sha256(large);
  large[large.length - 1] = (large.at(-1) ?? 0) ^ 1;
  const stats = async () =>
    (await (await call(key, 'GET', `${blatam.edge}/v1/cache/stats`)).json()) as { entries: number; bytes: object };
  const before = await stats();
  for (const durability of ['none', 'back', 'through']) {
    const answer = await call(key, 'PUT', `${url()}?durability=${durability}`, { body: large, digest });
    assert.equal(answer.status, 401);
    assert.equal(await codeOf(answer), 'digest_mismatch');
  }
  assert.equal((await call(key, 'GET', url())).status, 404);
  const after = await stats();
  assert.deepEqual([after.entries, after.bytes], [before.entries, before.bytes]);
});

test('a body over the limit is refused with 413 before it is read', async () => {
  const { request } = await import('node:http');
  const headers = { ...(await signed(key, 'PUT', url(), { digest: sha256(file) })), 'content-length': String(2 ** 40) };
  const status = await new Promise((resolve, reject) => {
    const sent = request(url(), { method: 'PUT', headers }, (answer) => {
      resolve(answer.statusCode);
      sent.destroy();
    });
    sent.on('error', reject);
    sent.flushHeaders();
  });
  assert.equal(status, 413);
});

test('the core refuses the same callers when it is asked directly', async () => {
  for (const [headers, code] of [
    [{}, 'signature_missing'],
    [await signed({ ...key, keyid: 'nobody' }, 'GET', `${blatam.core}/v1/tensors`), 'signature_invalid'],
    [
      await signed(
        { keyid: 'internal', secret: randomBytes(32).toString('base64') },
        'GET',
        `${blatam.core}/v1/tensors`,
      ),
      'signature_invalid',
    ],
  ] as const) {
    const answer = await fetch(`${blatam.core}/v1/tensors`, { headers });
    assert.equal(answer.status, 401);
    assert.equal(await codeOf(answer), code);
  }
});

test('the core takes a key that signs for it directly, and checks the body itself', async () => {
  const at = `${blatam.core}/v1/tensors/direct`;
  assert.equal((await call(key, 'PUT', at, { body: file })).status, 201);
  const wrong = await call(key, 'PUT', at, { body: file, digest: sha256(new Uint8Array(1)) });
  assert.equal(await codeOf(wrong), 'digest_mismatch');
});
