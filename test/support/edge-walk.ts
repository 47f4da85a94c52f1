// What an edge before a core elsewhere does, asked over HTTP, the same on every runtime: tensors pass bit by bit, and
// what must be refused is refused where it must be. Registers its tests; a test file starts the processes.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Blatam, call, codeOf, type KeyFile, sha256, signed, tensorFile } from './blatam.ts';

export interface EdgeWalk {
  /** URL of the edge that is asked. */
  readonly edge: string;
  /** URL of an edge of the same kind whose core does not answer. */
  readonly alone: string;
  readonly core: Blatam;
  /** May do all on the core. */
  readonly key: KeyFile;
}

const FIRST_AT_ONCE = 16;
const STREAM_CHUNK = 100_000;

export function edgeWalk(where: () => EdgeWalk): void {
  const at = (path: string) => `${where().edge}/v1/tensors/${path}`;
  const ask = (method: string, path: string, o: Parameters<typeof call>[3] = {}) =>
    call(where().key, method, at(path), o);

  test('many callers at once, the first that this edge meets', async () => {
    const answers = await Promise.all(Array.from({ length: FIRST_AT_ONCE }, () => ask('GET', 'far/none')));
    assert.deepEqual(new Set(await Promise.all(answers.map(codeOf))), new Set(['tensor_unknown']));
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

  test('it is alive and ready; one whose core is away says so', async () => {
    const { edge, alone, key } = where();
    const alive = await fetch(`${edge}/healthz`);
    assert.deepEqual([alive.status, await alive.json()], [200, { alive: true }]);
    assert.equal((await fetch(`${edge}/readyz`)).status, 200);
    assert.equal((await fetch(`${alone}/healthz`)).status, 200);
    assert.equal((await fetch(`${alone}/readyz`)).status, 503);
    const answer = await call(key, 'GET', `${alone}/v1/tensors/x`);
    assert.deepEqual([answer.status, await codeOf(answer)], [502, 'core_unreachable']);
  });
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
