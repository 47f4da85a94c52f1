// Bearer tokens, with real key pairs and a real server that publishes the public ones: what is let in, each way of being wrong, keys that
// change, and a publisher that is away.
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, test } from 'node:test';
import { exportJWK, generateKeyPair, type JWK, type JWTPayload, SignJWT } from 'jose';
import { nodeCrypto } from '../../core/contract/crypto-node.ts';
import { webCrypto } from '../../core/contract/crypto-web.ts';
import { bearerOf, createTokenVerifier } from '../../edge/token.ts';
import { fetchJwks, RETRY_MS, tokenKeys } from '../../edge/token-keys.ts';

const NOW = 1_800_000_000;
const ISSUER = 'https://issuer.example';
const AUDIENCE = 'blatam';

type Pair = Awaited<ReturnType<typeof generateKeyPair>> & { readonly alg: string; readonly kid: string };

async function pairOf(alg: string, kid: string): Promise<Pair> {
  return { ...(await generateKeyPair(alg, { extractable: true })), alg, kid };
}
const published = async ({ publicKey, alg, kid }: Pair): Promise<JWK> => ({
  ...(await exportJWK(publicKey)),
  alg,
  kid,
});

let pairs: Record<string, Pair>;
let rsa: Pair;
let jwks: { keys: JWK[] };
let reads = 0;
let isAway = false;
const publisher = createServer((_request, answer) => {
  reads += 1;
  if (isAway) answer.writeHead(503).end();
  else answer.setHeader('content-type', 'application/json').end(JSON.stringify(jwks));
});
before(async () => {
  rsa = await pairOf('RS256', 'rsa');
  pairs = { RS256: rsa, ES256: await pairOf('ES256', 'ec'), EdDSA: await pairOf('EdDSA', 'ed') };
  publisher.listen(0, '127.0.0.1');
  await once(publisher, 'listening');
});
after(() => publisher.close());

async function setup(o: { algorithms?: string[]; crypto?: typeof nodeCrypto } = {}) {
  jwks = { keys: await Promise.all(Object.values(pairs).map(published)) };
  isAway = false;
  reads = 0;
  const state = { now: NOW * 1000 };
  const told: string[] = [];
  const url = `http://127.0.0.1:${(publisher.address() as AddressInfo).port}/`;
  const now = () => state.now;
  const verify = createTokenVerifier({
    keys: tokenKeys({ read: (signal) => fetchJwks(url, signal), keepMs: 300_000, now, log: (line) => told.push(line) }),
    ...{ algorithms: o.algorithms ?? ['RS256', 'ES256', 'EdDSA'], issuer: ISSUER, audience: AUDIENCE, now },
    ...{ tenantClaim: 'tenant', scopesClaim: 'scope', crypto: o.crypto ?? nodeCrypto },
  });
  return { state, told, verify };
}

const CLAIMS: JWTPayload = {
  ...{ iss: ISSUER, aud: AUDIENCE, sub: 'somebody', exp: NOW + 600, tenant: 'acme', scope: 'tensors:read kv:read' },
};

/** `undefined` takes a claim away. */
function signed(pair: Pair, change: Record<string, unknown> = {}): Promise<string> {
  const claims = JSON.parse(JSON.stringify({ ...CLAIMS, ...change })) as JWTPayload;
  return new SignJWT(claims).setProtectedHeader({ alg: pair.alg, kid: pair.kid }).sign(pair.privateKey);
}

/** Right but for what nobody here understands. */
const critical = (): Promise<string> =>
  new SignJWT(CLAIMS)
    .setProtectedHeader({ alg: 'RS256', kid: 'rsa', crit: ['x'], x: 1 })
    .sign(rsa.privateKey, { crit: { x: true } });

const refused = (attempt: Promise<unknown>, code: string, fact?: RegExp) =>
  assert.rejects(attempt, (thrown: { code?: string; message?: string }) => {
    assert.equal(thrown.code, code, thrown.message);
    if (fact) assert.match(thrown.message ?? '', fact);
    return true;
  });

const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');

for (const [name, crypto] of Object.entries({ nodeCrypto, webCrypto }))
  test(`a token by each algorithm says who calls, with ${name}`, async () => {
    const { verify } = await setup({ crypto });
    for (const pair of Object.values(pairs))
      assert.deepEqual(await verify(await signed(pair)), {
        ...{
          keyid: 'jwt:somebody',
          tenant: 'acme',
          scopes: ['tensors:read', 'kv:read'],
          expiresAt: (NOW + 600) * 1000,
        },
      });
    assert.equal(reads, 1, 'the keys are kept');
  });

test('scopes are those that there are, as text or as a list, and never an operator', async () => {
  const { verify } = await setup();
  const scopesOf = async (scope: unknown) => (await verify(await signed(rsa, { scope }))).scopes;
  assert.deepEqual(await scopesOf(['kv:write', 'openid', 'operator', 'internal']), ['kv:write']);
  assert.deepEqual(await scopesOf('operator openid'), []);
  assert.deepEqual(await scopesOf(undefined), []);
  await refused(scopesOf(7), 'token_invalid', /scope/);
});

test('what is missing, not ours, too early or over is refused', async () => {
  const { verify } = await setup();
  for (const [change, code, fact] of [
    [{ exp: undefined }, 'token_invalid', /exp/],
    [{ exp: NOW }, 'token_expired', /expired/],
    [{ exp: NOW - 1 }, 'token_expired', /expired/],
    [{ exp: 'soon' }, 'token_invalid', /exp/],
    [{ nbf: NOW + 60 }, 'token_invalid', /nbf/],
    [{ iss: 'https://other.example' }, 'token_invalid', /iss/],
    [{ iss: undefined }, 'token_invalid', /iss/],
    [{ aud: 'others' }, 'token_invalid', /aud/],
    [{ aud: undefined }, 'token_invalid', /aud/],
    [{ sub: undefined }, 'token_invalid', /sub/],
    [{ sub: 'a\nb' }, 'token_invalid', /sub/],
    [{ tenant: undefined }, 'token_invalid', /tenant/],
    [{ tenant: '../b' }, 'token_invalid', /tenant/],
    [{ tenant: ['a'] }, 'token_invalid', /tenant/],
  ] as const)
    await refused(verify(await signed(rsa, change)), code, fact);
  await verify(await signed(rsa, { nbf: NOW + 3 }));
  await verify(await signed(rsa, { aud: ['others', AUDIENCE] }));
});

test('no algorithm is taken but those that are set: none, a secret, another one', async () => {
  const { verify } = await setup({ algorithms: ['ES256'] });
  await refused(verify(await signed(rsa)), 'token_invalid', /algorithm/);
  const { verify: any } = await setup();
  const unsigned = `${part({ alg: 'none' })}.${part(CLAIMS)}.`;
  await refused(any(unsigned), 'token_invalid');
  await refused(any(`${unsigned}AA`), 'token_invalid', /algorithm/);
  // The public key as a secret, in each form that somebody may have it in.
  const jwk = await published(rsa);
  for (const secret of [JSON.stringify(jwk), jwk.n ?? '', Buffer.from(jwk.n ?? '', 'base64url')]) {
    const said = `${part({ alg: 'HS256', kid: 'rsa' })}.${part(CLAIMS)}`;
    const forged = `${said}.${createHmac('sha256', secret).update(said).digest('base64url')}`;
    await refused(any(forged), 'token_invalid', /algorithm/);
  }
  // A symmetric key that somebody published is none.
  jwks.keys.push({ kty: 'oct', k: Buffer.from('secret').toString('base64url'), alg: 'HS256', kid: 'oct' });
  const said = `${part({ alg: 'HS256', kid: 'oct' })}.${part(CLAIMS)}`;
  await refused(any(`${said}.${createHmac('sha256', 'secret').update(said).digest('base64url')}`), 'token_invalid');
});

test('a token that was changed, cut, or signed by somebody else is refused', async () => {
  const { verify } = await setup();
  const token = await signed(rsa);
  const [header = '', claims = '', signature = ''] = token.split('.');
  for (const wrong of [
    ...[
      '',
      'x',
      'a.b',
      'a.b.c',
      `${token}.x`,
      `${token}=`,
      `${header}.${claims}.`,
      token.slice(0, -4),
      'a'.repeat(9000),
    ],
    `${header}.${part({ ...CLAIMS, tenant: 'other' })}.${signature}`,
    `${part({ alg: 'RS256', kid: 'ec' })}.${claims}.${signature}`,
    await signed(await pairOf('RS256', 'rsa')),
    await critical(),
  ])
    await refused(verify(wrong), 'token_invalid');
});

test('a verified token costs no key, is kept until it expires, and not a moment longer', async () => {
  const { state, verify } = await setup();
  const token = await signed(rsa);
  await verify(token);
  isAway = true;
  state.now += 599_999;
  assert.equal((await verify(token)).tenant, 'acme');
  state.now += 1;
  await refused(verify(token), 'token_expired');
});

test('a key that is new is found, and whoever names unknown ones has them read seldom', async () => {
  const { state, verify } = await setup();
  await verify(await signed(rsa));
  const next = await pairOf('ES256', 'next');
  const token = await signed(next);
  state.now += RETRY_MS;
  jwks.keys = [await published(next)];
  assert.equal((await verify(token)).tenant, 'acme');
  assert.equal(reads, 2);
  const stranger = await pairOf('ES256', 'stranger');
  for (let i = 0; i < 20; i++) await refused(verify(await signed(stranger, { n: i })), 'token_invalid');
  assert.equal(reads, 2);
  // The old one is no key any more.
  await refused(verify(await signed(rsa, { n: 1 })), 'token_invalid');
});

test('while the publisher is away its keys go on for an hour; without any, tokens wait', async () => {
  const { state, told, verify } = await setup();
  isAway = true;
  for (let i = 0; i < 5; i++) await refused(verify(await signed(rsa, { exp: NOW + 99_999 })), 'token_keys_unavailable');
  assert.equal(reads, 1);
  assert.match(told[0] ?? '', /EDGE_JWT_JWKS.*503/);
  state.now += RETRY_MS;
  isAway = false;
  await verify(await signed(rsa, { exp: NOW + 99_999 }));
  isAway = true;
  state.now += 1_800_000;
  await verify(await signed(rsa, { exp: NOW + 99_999, n: 1 }));
  assert.equal(reads, 3, 'it is asked again');
  state.now += 2_200_000;
  await refused(verify(await signed(rsa, { exp: NOW + 99_999, n: 2 })), 'token_keys_unavailable');
});

test('a publisher that sends anything but keys is one that is away', async () => {
  const { verify, told } = await setup();
  for (const wrong of [
    {},
    { keys: 'x' },
    { keys: Array(101).fill({ kty: 'EC' }) },
    { keys: [], x: 'a'.repeat(300_000) },
  ]) {
    const { verify: fresh } = await setup();
    jwks = wrong as typeof jwks;
    await refused(fresh(await signed(rsa)), 'token_keys_unavailable');
  }
  jwks = { keys: await Promise.all(Object.values(pairs).map(published)) };
  await verify(await signed(rsa));
  assert.deepEqual(told, []);
});

test('bearerOf() reads an Authorization field', () => {
  assert.equal(bearerOf('Bearer a.b.c'), 'a.b.c');
  assert.equal(bearerOf('bearer  a.b.c'), 'a.b.c');
  for (const field of [null, '', 'Bearer', 'Basic a', 'Bearer a b', 'xBearer a'])
    assert.equal(bearerOf(field), undefined);
});
