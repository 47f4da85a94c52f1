// What an edge before a core elsewhere does, asked over HTTP, the same on every runtime: tensors pass bit by bit, and
// what must be refused is refused where it must be. Registers its tests; a test file starts the processes.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { request } from 'node:http';
import { test } from 'node:test';
import { joinParts, tensorParts } from '../../core/contract/tensors.ts';
import { createClient } from '../../edge/client.ts';
import { type Blatam, call, codeOf, type KeyFile, sha256, signed, tensorFile } from './blatam.ts';
import type { Issuer } from './issuer.ts';
import type { Relay } from './relay.ts';
import { until } from './until.ts';

export interface EdgeWalk {
  /** URL of the edge that is asked. */
  readonly edge: string;
  readonly core: Blatam;
  /** The way from this edge to the core. */
  readonly line: Relay;
  /** Of tokens that this edge takes. */
  readonly issuer: Issuer;
  /** May do all on the core. */
  readonly key: KeyFile;
}

const FIRST_AT_ONCE = 16;
const STREAM_CHUNK = 100_000;
/** More than what buffers on the way hold. */
const LONG_BYTES = 48 << 20;
const WAIT_MS_MAX = 50_000;
/** Longer than we wait for anything. */
const CLAIM_MS_MAX = 60_000;
/** Of the settings that every edge here runs with. */
export const WALK_BODY_BYTES_MAX = 64 << 20;

export function edgeWalk(where: () => EdgeWalk): void {
  const at = (path: string) => `${where().edge}/v1/tensors/${path}`;
  const ask = (method: string, path: string, o: Parameters<typeof call>[3] = {}) =>
    call(where().key, method, at(path), o);

  test('many callers at once, the first that this edge meets', async () => {
    const answers = await Promise.all(Array.from({ length: FIRST_AT_ONCE }, () => ask('GET', 'far/none')));
    assert.deepEqual(new Set(await Promise.all(answers.map(codeOf))), new Set(['tensor_unknown']));
  });

  test('a hot key is answered by the edge until it is changed, by whatever way', async () => {
    const file = tensorFile(1000);
    const of = async (path: string) => {
      const answer = await ask('GET', path);
      const bytes = new Uint8Array(await answer.arrayBuffer());
      return { status: answer.status, said: answer.headers.get('cache-status'), bytes };
    };
    assert.equal((await ask('PUT', 'far/hot', { body: file })).status, 201);
    for (let i = 0; i < 2; i++) assert.equal((await of('far/hot')).status, 200);
    const hit = await of('far/hot');
    assert.match(hit.said ?? '', /^blatam; (hit|fwd=miss; stored)$/);
    assert.deepEqual(hit.bytes, file);
    const other = tensorFile(2000);
    assert.equal((await ask('PUT', 'far/hot', { body: other })).status, 200);
    for (let i = 0; i < 3; i++) assert.deepEqual((await of('far/hot')).bytes, other);
    const { core, key } = where();
    assert.equal((await call(key, 'DELETE', `${core.core}/v1/tensors/far/hot`)).status, 204);
    await until(async () => (await of('far/hot')).status === 404, 'the edge has heard of it');
  });

  for (const bytes of [1, 300_000, 12 << 20])
    test(`PUT, GET, HEAD, 304 and DELETE of ${bytes} B`, async () => {
      const file = tensorFile(bytes);
      const path = `far/${bytes}`;
      const put = await ask('PUT', path, { body: file });
      assert.equal(put.status, 201, await put.clone().text());
      const got = await ask('GET', path);
      assert.deepEqual(sha256(new Uint8Array(await got.arrayBuffer())), sha256(file));
      assert.match(got.headers.get('x-request-id') ?? '', /./);
      const etag = got.headers.get('etag') ?? '';
      const unchanged = await ask('GET', path, { headers: { 'if-none-match': etag } });
      assert.deepEqual([unchanged.status, await unchanged.text()], [304, '']);
      const head = await ask('HEAD', path);
      assert.deepEqual([head.status, await head.text()], [200, '']);
      assert.equal(head.headers.get('etag'), etag);
      assert.equal(head.headers.get('content-length'), String(file.length));
      assert.equal((await ask('DELETE', path)).status, 204);
      assert.equal(await codeOf(await ask('GET', path)), 'tensor_unknown');
    });

  test('a body of unannounced length passes, and is still the one that was signed', async () => {
    const file = tensorFile(3 << 20);
    const put = await putInChunks(where().key, at('far/chunks'), file, sha256(file));
    assert.equal(put.status, 201, await put.clone().text());
    const got = await ask('GET', 'far/chunks');
    assert.deepEqual(sha256(new Uint8Array(await got.arrayBuffer())), sha256(file));
    const changed = await putInChunks(where().key, at('far/chunks'), file, sha256(new Uint8Array(1)));
    assert.equal(await codeOf(changed), 'digest_mismatch');
    assert.equal((await ask('DELETE', 'far/chunks')).status, 204);
    const unsigned = await putInChunks(where().key, at('far/chunks'), tensorFile(1000), undefined);
    assert.equal(await codeOf(unsigned), 'signature_incomplete');
  });

  test('a small body that was changed on the way is refused here: the core is never asked', async () => {
    const before = await putsSeen(where().core);
    const answer = await ask('PUT', 'far/changed', { body: tensorFile(1000), digest: sha256(new Uint8Array(1)) });
    assert.deepEqual([answer.status, await codeOf(answer)], [401, 'digest_mismatch']);
    assert.equal(await putsSeen(where().core), before);
  });

  test('a large body that was changed on the way is refused by the core behind', async () => {
    const before = await putsSeen(where().core);
    const answer = await ask('PUT', 'far/changed', { body: tensorFile(5 << 20), digest: sha256(new Uint8Array(1)) });
    assert.deepEqual([answer.status, await codeOf(answer)], [401, 'digest_mismatch']);
    assert.equal(await putsSeen(where().core), before + 1);
    assert.equal(await codeOf(await ask('GET', 'far/changed')), 'tensor_unknown');
  });

  test('unsigned, wrongly signed, unknown and copied requests are refused at the edge', async () => {
    const { key } = where();
    const wrong = { ...key, secret: Buffer.alloc(32, 1).toString('base64') };
    assert.equal(await codeOf(await fetch(at('far/x'))), 'signature_missing');
    assert.equal(await codeOf(await call(wrong, 'GET', at('far/x'))), 'signature_invalid');
    assert.equal(await codeOf(await call({ ...key, keyid: 'nobody' }, 'GET', at('far/x'))), 'signature_invalid');
    const headers = await signed(key, 'GET', at('far/x'));
    assert.equal(await codeOf(await fetch(at('far/x'), { headers })), 'tensor_unknown');
    assert.equal(await codeOf(await fetch(at('far/x'), { headers })), 'signature_replayed');
    assert.equal(await codeOf(await fetch(at('far/y'), { headers })), 'signature_invalid');
    const created = Math.floor(Date.now() / 1000);
    for (const off of [-301, 90])
      assert.equal(await codeOf(await ask('GET', 'far/x', { created: created + off })), 'signature_stale', `${off} s`);
  });

  test('batches pass', async () => {
    const client = createClient({ url: where().edge, ...where().key });
    const files = [1, 2, 3].map((i) => ({ key: `far/batch/${i}`, file: tensorFile(100 * i) }));
    for (const { stored } of await client.putMany(files)) assert.ok(stored);
    const found = await client.getMany(files.map(({ key }) => key));
    assert.deepEqual(
      found.map(({ file }) => file),
      files.map(({ file }) => file),
    );
  });

  test('who waits for a claim is answered when it is fulfilled', async () => {
    const { edge: url, key, core } = where();
    let give: (file: Uint8Array) => void = () => {};
    const owned = createClient({ url, ...key }).getOrCompute('far/once', () => new Promise((all) => (give = all)));
    await standing(core, 'blatam_claims', 1);
    const never = () => Promise.reject(new Error('it is computed once'));
    const waits = createClient({ url, ...key }).getOrCompute('far/once', never);
    await standing(core, 'blatam_claims_waiting', 1);
    const file = tensorFile(50);
    give(file);
    assert.deepEqual([await owned, await waits], [file, file]);
    await standing(core, 'blatam_claims', 0);
    assert.equal((await ask('DELETE', 'far/once')).status, 204);
  });

  test('events come as they happen: the first lines while the answer goes on', { timeout: WAIT_MS_MAX }, async () => {
    const { edge, key } = where();
    const url = `${edge}/v1/kv/events`;
    const leaves = new AbortController();
    const answer = await fetch(url, { headers: await signed(key, 'GET', url), signal: leaves.signal });
    assert.equal(answer.headers.get('content-type'), 'text/event-stream');
    const read = textOf(answer);
    await read.until(/^id: \d+$/m);
    const stored = await call(key, 'POST', `${edge}/v1/kv/store?model=far`, { body: oneBlock() });
    assert.equal(stored.status, 200, await stored.text());
    await read.until(/^event: BlockStored$/m);
    leaves.abort();
  });

  test('a token of the issuer says who calls, and nothing else that looks like one', async () => {
    const { issuer } = where();
    const file = tensorFile(2000);
    const by = (token: string, method: string, body?: Uint8Array) =>
      fetch(at('far/token'), {
        ...{ method, headers: { authorization: `Bearer ${token}` } },
        ...(body && { body: body as Uint8Array<ArrayBuffer> }),
      });
    const token = await issuer.tokenOf('acme', 'tensors:read tensors:write');
    const put = await by(token, 'PUT', file);
    assert.equal(put.status, 201, await put.clone().text());
    assert.deepEqual(sha256(new Uint8Array(await (await by(token, 'GET')).arrayBuffer())), sha256(file));
    assert.equal(await codeOf(await by(await issuer.tokenOf('acme', 'tensors:read'), 'DELETE')), 'scope_missing');
    assert.equal(await codeOf(await by(await issuer.tokenOf('other', 'tensors:read'), 'GET')), 'tensor_unknown');
    assert.equal(await codeOf(await by(await issuer.tokenOf('acme', 'tensors:read', -1), 'GET')), 'token_expired');
    assert.equal(await codeOf(await by(`${token.slice(0, -6)}AAAAAA`, 'GET')), 'token_invalid');
    assert.equal((await by(token, 'DELETE')).status, 204);
  });

  test('answers tell how often one may call', async () => {
    const answer = await ask('GET', 'far/none');
    assert.match(answer.headers.get('ratelimit-policy') ?? '', /"key-1s";q=10000;w=1/);
    assert.match(answer.headers.get('ratelimit') ?? '', /"key-1s";r=9\d{3}/);
  });

  test('what is no route is answered with a problem document that carries its request', async () => {
    for (const path of ['/nowhere', `/v1/internal/keys/${where().key.keyid}`]) {
      const answer = await call(where().key, 'GET', where().edge + path);
      assert.equal(answer.headers.get('content-type'), 'application/problem+json');
      const { status, code, requestId } = (await answer.json()) as Record<string, unknown>;
      assert.deepEqual([answer.status, status, code], [404, 404, 'route_unknown']);
      assert.equal(requestId, answer.headers.get('x-request-id'));
    }
  });

  test('an answer whose core goes away in its middle is cut, never ended', async () => {
    const { line } = where();
    await ask('PUT', 'far/long', { body: tensorFile(LONG_BYTES) });
    const got = await ask('GET', 'far/long');
    const reader = got.body?.getReader() ?? assert.fail('no body');
    await reader.read();
    await line.cut();
    await assert.rejects(async () => {
      while (!(await reader.read()).done);
    });
    await line.mend();
    assert.equal((await ask('DELETE', 'far/long')).status, 204);
  });

  test('it is alive and ready; while its core is away it says so, and needs no restart', async () => {
    const { edge, line } = where();
    const states = async () => [
      (await fetch(`${edge}/healthz`)).status,
      (await fetch(`${edge}/readyz`)).status,
      await codeOf(await ask('GET', 'far/x')),
    ];
    assert.deepEqual(await states(), [200, 200, 'tensor_unknown']);
    await line.cut();
    assert.deepEqual(await states(), [200, 503, 'core_unreachable']);
    assert.equal((await ask('GET', 'far/x')).status, 502);
    await line.mend();
    assert.deepEqual(await states(), [200, 200, 'tensor_unknown']);
  });
}

/** Apart from the walk: `wrangler dev` has a proxy before workerd, which waits for bodies and hides from it that a caller left. */
export function connectionWalk(
  where: () => Omit<EdgeWalk, 'line' | 'issuer'>,
  leave: 'close' | 'reset' = 'close',
): void {
  test('a caller who leaves is told of: the core waits no longer for it', async () => {
    const { edge, key, core } = where();
    const url = `${edge}/v1/tensors:claim`;
    const json = { 'content-type': 'application/json' };
    const body = new TextEncoder().encode(JSON.stringify({ key: 'far/left', ttlMs: 600_000, waitMs: CLAIM_MS_MAX }));
    const mine = (await (await call(key, 'POST', url, { body, headers: json })).json()) as { claim: string };
    const asked = request(url, { method: 'POST', headers: { ...(await signed(key, 'POST', url, { body })), ...json } });
    asked.on('error', () => {}).end(body);
    await standing(core, 'blatam_claims_waiting', 1);
    if (leave === 'reset') asked.socket?.resetAndDestroy();
    else asked.destroy();
    await standing(core, 'blatam_claims_waiting', 0);
    const release = new TextEncoder().encode(JSON.stringify({ key: 'far/left', claim: mine.claim }));
    const released = await call(key, 'POST', `${edge}/v1/tensors:release`, { body: release, headers: json });
    assert.equal(released.status, 200);
  });

  test('a body that announces too much is refused before any of it is sent', async () => {
    const digest = sha256(new Uint8Array(1));
    const url = `${where().edge}/v1/tensors/far/huge`;
    const headers = {
      ...(await signed(where().key, 'PUT', url, { digest })),
      'content-length': WALK_BODY_BYTES_MAX + 1,
    };
    const { status, text } = await headAlone(url, headers);
    assert.deepEqual([status, (JSON.parse(text) as { code: string }).code], [413, 'body_too_large']);
  });
}

/** A block of tokens that nobody has stored before, as POST /v1/kv/store takes it. */
function oneBlock(): Uint8Array {
  const [tokens, dim] = [64, 64];
  const block = (name: string) =>
    ({ name, dtype: 'F32', shape: [1, 1, tokens, dim], data: new Uint8Array(4 * tokens * dim) }) as const;
  const data = randomBytes(4 * tokens).map((byte, i) => (i % 4 === 3 ? 0 : byte));
  return joinParts(tensorParts([{ name: 'tokens', dtype: 'I32', shape: [tokens], data }, block('k'), block('v')]));
}

/** Sent in chunks, its length unsaid; without a digest, no body is vouched for. */
async function putInChunks(key: KeyFile, url: string, file: Uint8Array, digest: Uint8Array | undefined) {
  const chunks = Array.from({ length: Math.ceil(file.length / STREAM_CHUNK) }, (_, i) =>
    file.subarray(i * STREAM_CHUNK, (i + 1) * STREAM_CHUNK),
  );
  const headers = await signed(key, 'PUT', url, digest ? { digest } : {});
  return fetch(url, { method: 'PUT', headers, body: ReadableStream.from(chunks), duplex: 'half' } as RequestInit);
}

async function putsSeen(core: Blatam): Promise<number> {
  const text = await (await fetch(`${core.core}/metrics`)).text();
  const counts = text.matchAll(/^blatam_core_request_seconds_count\{method="PUT".*\} (\d+)$/gm);
  return [...counts].reduce((sum, [, count]) => sum + Number(count), 0);
}

/** The head of a request whose body never comes. */
function headAlone(url: string, headers: Record<string, string | number>): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const asked = request(url, { method: 'PUT', headers }, (answer) => {
      let text = '';
      answer.setEncoding('utf8').on('data', (more: string) => {
        text += more;
        if (text.endsWith('}')) done();
      });
      const done = () => {
        resolve({ status: answer.statusCode ?? 0, text });
        asked.destroy();
      };
    });
    asked.on('error', reject).flushHeaders();
  });
}

/** Resolves once the core says that it has `count` of `name`. */
async function standing(core: Blatam, name: string, count: number): Promise<void> {
  let found = Number.NaN;
  for (const end = performance.now() + WAIT_MS_MAX; found !== count && performance.now() < end; ) {
    const text = await (await fetch(`${core.core}/metrics`)).text();
    found = Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(text)?.[1]);
  }
  assert.equal(found, count, name);
}

/** What comes of an answer that goes on. */
function textOf(answer: Response) {
  const reader = answer.body?.pipeThrough(new TextDecoderStream()).getReader() ?? assert.fail('no body');
  let text = '';
  return {
    async until(pattern: RegExp): Promise<void> {
      while (!pattern.test(text)) {
        const { value, done } = await reader.read();
        if (done) assert.fail(`it ended before ${pattern}: ${text}`);
        text += value;
      }
    },
  };
}
