// The walk of a tensor, over HTTP, through everything: signed PUT at the edge, core, adapter process, disk, signed GET.
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { after, before, test } from 'node:test';
import type { Dtype } from '../../core/contract/tensors.ts';
import { joinParts, tensorParts } from '../../core/contract/tensors.ts';
import {
  adminKey,
  type Blatam,
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
const at = (path: string) => `${blatam.edge}/v1/tensors/${path}`;

before(async () => {
  blatam = await startBlatam({ environment: { GPU_MEMORY_MIB: '512' } });
  key = adminKey(blatam.dataDir);
});
after(() => blatam.stop());

const DTYPES: [Dtype, number][] = [
  ['F32', 4],
  ['F16', 2],
  ['BF16', 2],
  ['I32', 4],
  ['U8', 1],
];

for (const size of [0, 1, 1 << 20])
  for (const [dtype, elementBytes] of DTYPES)
    test(`PUT then GET of ${dtype} at ${size} B gives the same bytes`, async () => {
      const file = tensorFile(size, dtype, elementBytes);
      const path = `walk/${dtype}/${size}`;
      const put = await call(key, 'PUT', at(path), { body: file });
      assert.equal(put.status, 201);
      const answer = (await put.json()) as Record<string, unknown>;
      assert.equal(answer.dtype, dtype);
      assert.deepEqual(answer.shape, [Math.floor(size / elementBytes)]);
      assert.equal(answer.bytes, file.length);
      assert.equal(answer.digest, Buffer.from(sha256(file)).toString('hex'));
      assert.equal(answer.tier, 'hot');
      assert.equal(answer.adapter, 'adapter-0');
      const got = await call(key, 'GET', at(path));
      assert.equal(got.status, 200);
      assert.equal(got.headers.get('x-cache'), 'hot');
      assert.equal(got.headers.get('content-type'), 'application/vnd.safetensors');
      assert.deepEqual(new Uint8Array(await got.arrayBuffer()), file);
    });

test('PUT then GET of 256 MiB gives the same bytes, and the core holds less than 1.5 times that', async () => {
  const file = tensorFile(256 << 20);
  resetPeak();
  assert.equal((await call(key, 'PUT', at('walk/large'), { body: file })).status, 201);
  const putPeak = peakMiB();
  resetPeak();
  const got = await call(key, 'GET', at('walk/large'));
  const digest = sha256(new Uint8Array(await got.arrayBuffer()));
  assert.deepEqual(digest, sha256(file));
  assert.ok(putPeak < 1.5 * 256, `the core's peak was ${putPeak} MiB during PUT`);
  assert.ok(peakMiB() < 1.5 * 256, `the core's peak was ${peakMiB()} MiB during GET`);
});

/** Linux counts the peak of resident memory, and lets us begin anew. */
const resetPeak = () => writeFileSync(`/proc/${blatam.pid}/clear_refs`, '5');
const peakMiB = () => Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${blatam.pid}/status`, 'utf8'))?.[1]) / 1024;

test('PUT of several tensors, scalars and metadata keeps the file as it came', async () => {
  const f32 = (...values: number[]) => new Uint8Array(Float32Array.from(values).buffer);
  const parts = tensorParts(
    [
      { name: 'a', dtype: 'F32', shape: [2, 2], data: f32(1, Number.NaN, -0, Number.POSITIVE_INFINITY) },
      { name: 'scalar', dtype: 'I32', shape: [], data: new Uint8Array(4) },
      { name: 'empty', dtype: 'BF16', shape: [0, 7], data: new Uint8Array(0) },
    ],
    { origin: 'a test' },
  );
  const file = joinParts(parts);
  const put = await call(key, 'PUT', at('walk/several'), { body: file });
  const answer = (await put.json()) as Record<string, unknown>;
  assert.equal(answer.tensors, 3);
  assert.equal(answer.dtype, null);
  assert.deepEqual(new Uint8Array(await (await call(key, 'GET', at('walk/several'))).arrayBuffer()), file);
});

test('PUT of a held key answers 200 and replaces what it held', async () => {
  const [first, second] = [tensorFile(1000), tensorFile(2000)];
  assert.equal((await call(key, 'PUT', at('walk/again'), { body: first })).status, 201);
  assert.equal((await call(key, 'PUT', at('walk/again'), { body: second })).status, 200);
  assert.deepEqual(new Uint8Array(await (await call(key, 'GET', at('walk/again'))).arrayBuffer()), second);
});

test('PUT of a body without Content-Length is taken as it streams', async () => {
  const file = tensorFile(9 << 20);
  const url = at('walk/chunked');
  const headers = await signed(key, 'PUT', url, { body: file });
  const chunks = async function* () {
    for (let i = 0; i < file.length; i += 100_001) yield file.subarray(i, i + 100_001);
  };
  const init = { method: 'PUT', headers, body: ReadableStream.from(chunks()), duplex: 'half' };
  const put = await fetch(url, init as RequestInit);
  assert.equal(put.status, 201, await put.text());
  assert.deepEqual(new Uint8Array(await (await call(key, 'GET', at('walk/chunked'))).arrayBuffer()), file);
});

test('GET answers 304 to the ETag it gave, HEAD the same fields and no body', async () => {
  const file = tensorFile(5000);
  await call(key, 'PUT', at('walk/tagged'), { body: file });
  const got = await call(key, 'GET', at('walk/tagged'));
  await got.arrayBuffer();
  const etag = got.headers.get('etag') ?? '';
  assert.equal(etag, `"${Buffer.from(sha256(file)).toString('hex')}"`);
  assert.equal(got.headers.get('content-digest'), `sha-256=:${Buffer.from(sha256(file)).toString('base64')}:`);
  const again = await call(key, 'GET', at('walk/tagged'), { headers: { 'if-none-match': etag } });
  assert.equal(again.status, 304);
  const known = await call(key, 'HEAD', at('walk/tagged'), { headers: { 'if-none-match': `"other", W/${etag}` } });
  assert.equal(known.status, 304);
  const head = await call(key, 'HEAD', at('walk/tagged'));
  assert.equal(head.status, 200);
  assert.equal(head.headers.get('content-length'), String(file.length));
  assert.equal(head.headers.get('etag'), etag);
  assert.equal((await head.arrayBuffer()).byteLength, 0);
});

test('DELETE answers 204, and 404 after', async () => {
  await call(key, 'PUT', at('walk/gone'), { body: tensorFile(10) });
  assert.equal((await call(key, 'DELETE', at('walk/gone'))).status, 204);
  for (const method of ['GET', 'DELETE']) {
    const answer = await call(key, method, at('walk/gone'));
    assert.equal(answer.status, 404);
    assert.equal(await codeOf(answer), 'tensor_unknown');
  }
  assert.equal((await call(key, 'HEAD', at('walk/gone'))).status, 404);
});

test('GET of the list pages through a prefix in order', async () => {
  for (const name of ['c', 'a', 'b']) await call(key, 'PUT', at(`list/${name}`), { body: tensorFile(1) });
  const list = async (query: string) =>
    (await (await call(key, 'GET', `${blatam.edge}/v1/tensors?${query}`)).json()) as {
      entries: { key: string }[];
      cursor: string | null;
    };
  const first = await list('prefix=list/&limit=2');
  assert.deepEqual(
    first.entries.map((e) => e.key),
    ['list/a', 'list/b'],
  );
  assert.equal(first.cursor, 'list/b');
  const second = await list(`prefix=list/&limit=2&cursor=${first.cursor}`);
  assert.deepEqual(
    second.entries.map((e) => e.key),
    ['list/c'],
  );
  assert.equal(second.cursor, null);
});

test('PUT with a ttl is gone after it', async () => {
  const put = await call(key, 'PUT', at('walk/short?ttl=1'), { body: tensorFile(10) });
  assert.ok(((await put.json()) as { expiresAt: string }).expiresAt);
  await new Promise((resolve) => setTimeout(resolve, 1100));
  assert.equal((await call(key, 'GET', at('walk/short'))).status, 404);
});

test('the same bytes under two keys are stored once on disk', async () => {
  const file = tensorFile(300_000);
  const first = (await (await call(key, 'PUT', at('same/one'), { body: file })).json()) as { deduplicated: boolean };
  const second = (await (await call(key, 'PUT', at('same/two'), { body: file })).json()) as { deduplicated: boolean };
  assert.equal(first.deduplicated, false);
  assert.equal(second.deduplicated, true);
  await call(key, 'DELETE', at('same/one'));
  assert.deepEqual(new Uint8Array(await (await call(key, 'GET', at('same/two'))).arrayBuffer()), file);
});

const MALFORMED: [string, string, number, string][] = [
  // The server judges a path without dot segments; who signed one with them signed another path.
  ['PUT', 'bad/../key', 401, 'signature_invalid'],
  ['PUT', 'bad/%2e%2e/key', 401, 'signature_invalid'],
  ['PUT', 'bad/.../key', 422, 'key_malformed'],
  ['PUT', 'bad//key', 422, 'key_malformed'],
  ['PUT', 'bad%20key', 422, 'key_malformed'],
  ['PUT', `bad/${'x'.repeat(512)}`, 422, 'key_malformed'],
  ['PUT', 'bad/codec?codec=zip', 422, 'codec_unknown'],
  ['PUT', 'bad/ttl?ttl=soon', 422, 'query_malformed'],
  ['PUT', 'bad/unknown?colour=red', 422, 'query_malformed'],
  ['PUT', 'bad/twice?ttl=1&ttl=2', 422, 'query_malformed'],
  ['PUT', 'bad/durability?durability=maybe', 422, 'query_malformed'],
];
for (const [method, path, status, code] of MALFORMED)
  test(`${method} ${path.slice(0, 40)} is refused with ${status} ${code}`, async () => {
    // By node:http: fetch would tidy the path before it is sent.
    const body = tensorFile(1);
    const url = `${blatam.edge}/v1/tensors/${path}`;
    const headers = await signed(key, method, url.slice(blatam.edge.length), { body });
    const { status: got, text } = await new Promise<{ status: number; text: string }>((resolve, reject) => {
      const { hostname, port } = new URL(blatam.edge);
      const sent = request({ hostname, port, method, path: url.slice(blatam.edge.length), headers }, (answer) => {
        let text = '';
        answer.setEncoding('utf8').on('data', (more: string) => {
          text += more;
        });
        answer.on('end', () => resolve({ status: answer.statusCode ?? 0, text }));
      });
      sent.on('error', reject);
      sent.end(body);
    });
    assert.equal(got, status, text);
    assert.equal((JSON.parse(text) as { code: string }).code, code);
  });

test('an escaped route is no way around the key, and a method that a tensor has not is 405', async () => {
  const escaped = await call(key, 'PUT', `${blatam.edge}/v1/%74ensors/escaped`, { body: tensorFile(1) });
  assert.equal(escaped.status, 404);
  assert.equal(await codeOf(escaped), 'route_unknown');
  const posted = await call(key, 'POST', at('walk/posted'), { body: tensorFile(1) });
  assert.equal(posted.status, 405);
  assert.equal(await codeOf(posted), 'method_unsupported');
});

test('other media types and encodings are refused with 415', async () => {
  for (const headers of [{ 'content-type': 'application/json' }, { 'content-encoding': 'gzip' }]) {
    const answer = await call(key, 'PUT', at('bad/media'), { body: tensorFile(1), headers });
    assert.equal(answer.status, 415);
    assert.equal(await codeOf(answer), 'media_type_unsupported');
  }
});

test('a body that is no safetensors file is refused with 422 and leaves nothing', async () => {
  const answer = await call(key, 'PUT', at('bad/body'), { body: new Uint8Array(100).fill(255) });
  assert.equal(answer.status, 422);
  assert.match(await codeOf(answer), /^tensors_/);
  assert.equal((await call(key, 'GET', at('bad/body'))).status, 404);
});

test('unknown routes are 404 at edge and core, with a problem document', async () => {
  for (const path of ['/v1/nothing', '/nothing', '/v1/internal/keys/x']) {
    const answer = await call(key, 'GET', blatam.edge + path);
    assert.equal(answer.status, 404);
    assert.equal(answer.headers.get('content-type'), 'application/problem+json');
    assert.equal(await codeOf(answer), 'route_unknown');
  }
});

test('every answer carries x-request-id', async () => {
  for (const [method, path] of [
    ['GET', '/healthz'],
    ['GET', '/v1/tensors'],
    ['GET', '/v1/tensors/walk/several'],
    ['GET', '/v1/tensors/nothing'],
    ['GET', '/v1/adapters'],
  ] as const) {
    const answer = await call(key, method, blatam.edge + path);
    await answer.arrayBuffer();
    assert.match(answer.headers.get('x-request-id') ?? '', /^[0-9a-f-]{36}$/, path);
  }
});

test('/v1/adapters says what serves, that it is software, and how much it holds', async () => {
  const { adapters } = (await (await call(key, 'GET', `${blatam.edge}/v1/adapters`)).json()) as {
    adapters: { state: string; software: boolean; memory: { capacity: number } }[];
  };
  const [adapter] = adapters;
  assert.equal(adapters.length, 1);
  assert.equal(adapter?.state, 'ready');
  assert.equal(typeof adapter?.software, 'boolean');
  assert.equal(adapter?.memory.capacity, 512 << 20);
});

test('/healthz, /readyz and /metrics answer on edge and core', async () => {
  for (const base of [blatam.edge, blatam.core]) {
    assert.equal((await fetch(`${base}/healthz`)).status, 200);
    const ready = await fetch(`${base}/readyz`);
    assert.equal(ready.status, 200);
    assert.equal(((await ready.json()) as { ready: boolean }).ready, true);
    assert.match(await (await fetch(`${base}/metrics`)).text(), /blatam_(edge|core)_request_seconds_count/);
  }
});
