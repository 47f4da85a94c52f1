// What the link refuses, and what it lets pass, over an app that is this link alone; the fields of answers; JSON that is no data.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Hono } from 'hono';
import { faultOf } from '../../core/contract/json.ts';
import { asProblem, problemResponse } from '../../core/contract/problems.ts';
import { allowOrigins } from '../../edge/answer-fields.ts';
import type { EdgeEnv } from '../../edge/app.ts';
import { sanitize } from '../../edge/sanitize.ts';

const app = new Hono<EdgeEnv>();
app.use(allowOrigins(['https://app.example']));
app.use(sanitize);
app.all('*', (c) => c.json({ safe: c.get('safe') }));
app.onError((thrown) => problemResponse(asProblem(thrown), 'id'));

/** `url` as a runtime hands it on: not tidied by a `Request` of ours. */
async function codeFor(path: string, headers: Record<string, string> = {}): Promise<string> {
  const request = new Request('http://edge/', { headers });
  Object.defineProperty(request, 'url', { value: `http://edge${path}` });
  const answer = await app.fetch(request);
  return answer.ok ? 'passes' : ((await answer.json()) as { code: string }).code;
}

test('paths', async () => {
  for (const path of ['/v1/tensors/a/b:c-d_e.f', '/v1/tensors/a%3Ab', '/v1/tensors:batch', '/v1/keys/x', '/v1/a.b/.c'])
    assert.equal(await codeFor(path), 'passes', path);
  for (const path of [
    'a//b',
    'a/',
    '../b',
    'a/%2e%2e/b',
    'a/..',
    '%252e',
    'a%5Cb',
    'a\\b',
    'a%00',
    'a%0d%0ab',
    'a%E2%80%AEb',
    '%',
    '%ff',
  ])
    assert.equal(await codeFor(`/v1/tensors/${path}`), 'key_malformed', path);
  for (const path of ['/v1//keys', '/v1/%2e%2e/metrics', '/v1/keys/%00', '/v1/keys%'])
    assert.equal(await codeFor(path), 'route_unknown', path);
});

test('queries', async () => {
  for (const query of ['a=1&b=c%20d', 'salt=%C3%A9', 'a', ''])
    assert.equal(await codeFor(`/v1/tensors?${query}`), 'passes', query);
  const many = Array.from({ length: 33 }, (_, i) => `q${i}=1`).join('&');
  for (const query of ['a=%0a', 'a=%E2%80%AE', 'a=%00', 'a=%', 'a=%ff', many])
    assert.equal(await codeFor(`/v1/tensors?${query}`), 'query_malformed', query);
});

test('fields', async () => {
  const path = '/v1/tensors/a';
  for (const headers of [
    { 'content-encoding': 'identity' },
    { 'content-type': 'a/b; c=d' },
    { accept: 'a/b, c/d' },
    { 'x-name': 'caf\u00e9' },
  ])
    assert.equal(await codeFor(path, headers), 'passes', JSON.stringify(headers));
  for (const name of [
    'authorization',
    'content-type',
    'content-digest',
    'signature',
    'host',
    'content-length',
    'x-deadline-ms',
  ])
    assert.equal(await codeFor(path, { [name]: 'a, b' }), 'header_malformed', name);
  assert.equal(await codeFor(path, { 'content-length': '5', 'transfer-encoding': 'chunked' }), 'header_malformed');
  assert.equal(await codeFor(path, { 'x-name': 'a\u0001b' }), 'header_malformed');
  const many = Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`x-${i}`, '1']));
  assert.equal(await codeFor(path, many), 'header_malformed');
  for (const encoding of ['gzip', 'br', 'deflate', 'zstd', 'gzip;q=1'])
    assert.equal(await codeFor(path, { 'content-encoding': encoding }), 'media_type_unsupported');
});

test('pages elsewhere read nothing unless their origin is named', async () => {
  const ask = (origin: string, method = 'GET') =>
    app.fetch(new Request('http://edge/v1/x', { method, headers: { origin, 'access-control-request-method': 'PUT' } }));
  const { safe } = (await (await ask('https://app.example')).json()) as { safe: [string, string][] };
  assert.equal(new Map(safe).get('access-control-allow-origin'), 'https://app.example');
  const preflight = await ask('https://app.example', 'OPTIONS');
  assert.deepEqual(
    [preflight.status, preflight.headers.get('access-control-allow-origin')],
    [204, 'https://app.example'],
  );
  assert.match(preflight.headers.get('access-control-allow-headers') ?? '', /signature-input/);
  for (const origin of ['https://evil.example', 'null', 'https://app.example.evil']) {
    const answer = (await (await ask(origin)).json()) as { safe: [string, string][] };
    assert.ok(answer.safe.every(([name]) => !name.startsWith('access-control')));
    assert.equal((await ask(origin, 'OPTIONS')).headers.get('access-control-allow-origin'), null);
  }
});

test('JSON that names prototypes, or goes too deep, is no data', () => {
  for (const text of ['{"a":{"__proto__":{}}}', '{"constructor":1}', '[{"prototype":[]}]'])
    assert.match(faultOf(JSON.parse(text)) ?? '', /has the name/, text);
  const nested = (depth: number) => JSON.parse('['.repeat(depth) + ']'.repeat(depth)) as unknown;
  assert.equal(faultOf(nested(32)), undefined);
  assert.match(faultOf(nested(33)) ?? '', /32 levels/);
  assert.equal(faultOf({ a: [1, null, 'x', { b: true }] }), undefined);
});
