// Bearer tokens over HTTP: on a real start, with keys from a file, and on an edge elsewhere, with keys from a URL.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { contentDigest } from '../../core/contract/content-digest.ts';
import { adminKey, type Blatam, call, codeOf, sha256, startBlatam, tensorFile } from '../support/blatam.ts';
import { folder } from '../support/folders.ts';
import { type Issuer, startIssuer } from '../support/issuer.ts';

const INTERNAL_SECRET = randomBytes(32).toString('base64');
const place = folder();
let blatam: Blatam;
let far: Blatam;
let issuer: Issuer;

before(async () => {
  issuer = await startIssuer();
  writeFileSync(join(place, 'jwks.json'), issuer.jwks);
  const file = pathToFileURL(join(place, 'jwks.json')).href;
  blatam = await startBlatam({ environment: { INTERNAL_SECRET, ...issuer.settings, EDGE_JWT_JWKS: file } });
  far = await startBlatam({ environment: { INTERNAL_SECRET, ...issuer.settings, CORE_URLS: blatam.core } });
});
after(async () => {
  issuer?.close();
  await far?.stop();
  await blatam?.stop();
});

const tokenOf: Issuer['tokenOf'] = (...said) => issuer.tokenOf(...said);

function ask(token: string, method: string, url: string, body?: Uint8Array, headers: Record<string, string> = {}) {
  const init = body ? { body: body as Uint8Array<ArrayBuffer> } : {};
  return fetch(url, { method, headers: { authorization: `Bearer ${token}`, ...headers }, ...init });
}

const RIGHTS = 'tensors:read tensors:write keys:admin';

for (const where of ['edge', 'far'] as const)
  test(`a token puts and gets as its tenant, within its scopes, at the ${where}`, async () => {
    const edge = where === 'edge' ? blatam.edge : far.edge;
    const token = await tokenOf('acme', RIGHTS);
    const at = `${edge}/v1/tensors/tokens/${where}`;
    const small = tensorFile(1000);
    assert.equal((await ask(token, 'PUT', at, small)).status, 201);
    const got = await ask(token, 'GET', at);
    assert.deepEqual(sha256(new Uint8Array(await got.arrayBuffer())), sha256(small));
    assert.match(got.headers.get('ratelimit') ?? '', /"key-1s";r=/);
    const large = tensorFile(3 << 20);
    assert.equal(await codeOf(await ask(token, 'PUT', at, large)), 'digest_missing');
    const digest = { 'content-digest': contentDigest(sha256(large)) };
    assert.equal((await ask(token, 'PUT', at, large, digest)).status, 200);
    const wrong = { 'content-digest': contentDigest(sha256(small)) };
    assert.equal(await codeOf(await ask(token, 'PUT', at, large, wrong)), 'digest_mismatch');
    assert.equal(await codeOf(await ask(token, 'PUT', at, tensorFile(500), wrong)), 'digest_mismatch');
    const other = await tokenOf('other', 'tensors:read');
    assert.equal(await codeOf(await ask(other, 'GET', at)), 'tensor_unknown');
    assert.equal(await codeOf(await ask(other, 'PUT', at, small)), 'scope_missing');
  });

test('what is no token of the issuer is refused, and so is a token at the core itself', async () => {
  const at = `${blatam.edge}/v1/tensors`;
  assert.equal(await codeOf(await ask('a.b.c', 'GET', at)), 'token_invalid');
  assert.equal(await codeOf(await ask(await tokenOf('acme', RIGHTS, -1), 'GET', at)), 'token_expired');
  assert.equal(
    await codeOf(await ask(await tokenOf('acme', RIGHTS), 'GET', `${blatam.core}/v1/tensors`)),
    'signature_missing',
  );
  const basic = await fetch(at, { headers: { authorization: 'Basic YTpi' } });
  assert.equal(basic.headers.get('www-authenticate'), 'Signature realm="blatam", Bearer realm="blatam"');
  assert.equal(await codeOf(basic), 'signature_missing');
  const challenge = (await ask('a.b.c', 'GET', at)).headers.get('www-authenticate');
  assert.equal(challenge, 'Bearer realm="blatam", error="invalid_token"');
});

test('a request with a signature too is judged by that alone', async () => {
  const headers = { authorization: `Bearer ${await tokenOf('acme', RIGHTS)}` };
  const answer = await call(adminKey(blatam.dataDir), 'GET', `${blatam.edge}/v1/keys?limit=1`, { headers });
  const { keys } = (await answer.json()) as { keys: { tenant: string }[] };
  assert.equal(keys[0]?.tenant, 'default');
  const wrong = { ...adminKey(blatam.dataDir), secret: randomBytes(32).toString('base64') };
  assert.equal(await codeOf(await call(wrong, 'GET', `${blatam.edge}/v1/tensors`, { headers })), 'signature_invalid');
});

test('a key that a token makes is of its tenant, and lives no longer than it does', async () => {
  const token = await tokenOf('acme', `${RIGHTS} operator`);
  const make = (asked: object) =>
    ask(token, 'POST', `${blatam.edge}/v1/keys`, Buffer.from(JSON.stringify(asked)), {
      'content-type': 'application/json',
    });
  const made = (await (await make({ scopes: ['tensors:read'] })).json()) as { tenant: string; expiresAt: string };
  assert.equal(made.tenant, 'acme');
  assert.ok(Date.parse(made.expiresAt) <= Date.now() + 600_000);
  assert.equal(await codeOf(await make({ scopes: ['tensors:read'], tenant: 'default' })), 'grant_exceeded');
  assert.equal(await codeOf(await make({ scopes: ['tensors:read'], ttl: 7200 })), 'grant_exceeded');
});

test('a start whose tokens nobody could tell apart says what is missing', async () => {
  await assert.rejects(
    startBlatam({
      environment: { INTERNAL_SECRET, CORE_URLS: blatam.core, EDGE_JWT_JWKS: 'https://issuer.example/jwks' },
    }),
    /EDGE_JWT_ISSUER and EDGE_JWT_AUDIENCE/,
  );
  await assert.rejects(
    startBlatam({ environment: { INTERNAL_SECRET, CORE_URLS: blatam.core, EDGE_JWT_ALGORITHMS: 'HS256' } }),
    /EDGE_JWT_ALGORITHMS=HS256: must be of RS256/,
  );
});
