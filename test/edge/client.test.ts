// The client against a loopback server that verifies every request: what it sends, what it answers, and every way in which
// an answer can be refused, cut, late or wrong.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { after, afterEach, before, describe, test } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { BATCH, frameHead } from '../../core/contract/batch.ts';
import { nodeCrypto } from '../../core/contract/crypto-node.ts';
import { problem } from '../../core/contract/problems.ts';
import { joinParts, type TensorData, tensorParts } from '../../core/contract/tensors.ts';
import { BlatamError, type ClientOptions, createClient, type Fetched, TransferError } from '../../edge/client.ts';
import {
  ADAPTERS,
  bodyHeaders,
  openTensorServer,
  refuse,
  STATS,
  sendJson,
  type TensorServer,
} from './tensor-server.ts';

let server: TensorServer;
before(async () => {
  server = await openTensorServer();
});
after(() => server.close());
afterEach(() => {
  server.override = undefined;
  server.tensors.clear();
  server.requests.length = 0;
  server.pageSize = 1000;
});

const tensors: TensorData[] = [
  { name: 'k', dtype: 'F32', shape: [2, 3], data: Uint8Array.from({ length: 24 }, (_, at) => (at * 7) & 255) },
  { name: 'mask', dtype: 'U8', shape: [5], data: Uint8Array.of(1, 2, 3, 4, 5) },
];
const file = joinParts(tensorParts(tensors));
const sha256 = (bytes: Uint8Array): Uint8Array => createHash('sha256').update(bytes).digest();
const etag = Buffer.from(sha256(file)).toString('hex');

const client = (options: Partial<ClientOptions> = {}) =>
  createClient({ url: server.url, keyid: server.keyid, secret: server.secret, ...options });

async function stored(key: string): Promise<Fetched> {
  const fetched = await client().get(key);
  assert.ok(fetched);
  return fetched;
}

const transferFault = (fault: TransferError['fault'], message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof TransferError, String(error));
  assert.equal(error.fault, fault, error.message);
  assert.match(error.message, message);
  return true;
};

function filled(length: number): Uint8Array {
  const header = tensorParts([{ name: 'x', dtype: 'U8', shape: [length], data: new Uint8Array(length).fill(7) }]);
  return joinParts(header);
}

/** A body that counts what is taken of it, and tells whether it was given up. */
function counting(bytes: Uint8Array, pieceBytes: number) {
  const seen = { taken: 0, cancelled: false };
  const stream = () =>
    new ReadableStream<Uint8Array>(
      {
        pull(controller) {
          const piece = bytes.subarray(seen.taken, seen.taken + pieceBytes);
          seen.taken += piece.length;
          if (piece.length === 0) controller.close();
          else controller.enqueue(piece);
        },
        cancel() {
          seen.cancelled = true;
        },
      },
      { highWaterMark: 0 },
    );
  return { seen, body: { stream, digest: sha256(bytes), length: bytes.length } };
}

describe('put()', () => {
  test('stores bytes, says whether they were new, and sends only the options given', async () => {
    const first = await client().put('a/b:c', file, { ttl: 60 });
    assert.equal(first.created, true);
    assert.equal(first.digest, etag);
    assert.equal(first.tensors, 2);
    assert.ok(first.expiresAt);
    assert.equal(server.requests[0]?.url, '/v1/tensors/a/b:c?ttl=60');
    assert.equal(server.requests[0]?.headers['content-type'], 'application/vnd.safetensors');
    const options = { codec: 'raw', priority: 0, durability: 'none' } as const;
    const second = await client().put('a/b:c', file, options);
    assert.deepEqual([second.created, second.deduplicated], [false, true]);
    assert.equal(server.requests[1]?.url, '/v1/tensors/a/b:c?codec=raw&priority=0&durability=none');
    assert.deepEqual(server.tensors.get('a/b:c'), file);
  });

  test('streams a body with its length', async () => {
    const bytes = filled(3_000_000);
    const { body, seen } = counting(bytes, 65_536);
    assert.equal((await client().put('big', body)).bytes, bytes.length);
    assert.equal(seen.taken, bytes.length);
    assert.equal(server.requests[0]?.headers['content-length'], String(bytes.length));
    assert.deepEqual(server.tensors.get('big'), bytes);
  });

  test("streams through the runtime's FixedLengthStream where it has one, as Workers do", async () => {
    const lengths: number[] = [];
    class FixedLengthStream extends TransformStream<Uint8Array, Uint8Array> {
      constructor(length: number) {
        super();
        lengths.push(length);
      }
    }
    Object.assign(globalThis, { FixedLengthStream });
    try {
      await client().put('x', counting(file, 16).body);
    } finally {
      Reflect.deleteProperty(globalThis, 'FixedLengthStream');
    }
    assert.deepEqual(lengths, [file.length]);
    assert.deepEqual(server.tensors.get('x'), file);
  });

  test('takes bytes in shared memory', async () => {
    const shared = new Uint8Array(new SharedArrayBuffer(file.length));
    shared.set(file);
    await client({ crypto: nodeCrypto }).put('shared', shared);
    assert.deepEqual(server.tensors.get('shared'), file);
  });

  test('holds no more of a stream in memory than is on its way', async () => {
    let received = 0;
    server.override = async (request, answer) => {
      for await (const piece of request) received += piece.length;
      refuse(answer, problem('disk_full', 'Read to its end.'));
      return true;
    };
    const length = 512 * 1024 * 1024;
    const before = process.memoryUsage.rss();
    let peak = before;
    async function* zeros() {
      for (let at = 0; at < length; at += 1024 * 1024) {
        yield new Uint8Array(1024 * 1024);
        peak = Math.max(peak, process.memoryUsage.rss());
      }
    }
    const body = { stream: () => ReadableStream.from(zeros()), digest: sha256(file), length };
    await assert.rejects(client().put('x', body), { code: 'disk_full' });
    assert.equal(received, length);
    assert.ok(peak - before < length / 2, `${peak - before} bytes more`);
  });

  test('follows no redirect', async () => {
    server.override = (_request, answer) => {
      answer.writeHead(307, { location: '/v1/tensors/y' }).end();
      return true;
    };
    await assert.rejects(client().put('x', file), { name: 'BlatamError', status: 307 });
    await assert.rejects(client().put('x', counting(file, 16).body), { name: 'TransferError', message: /redirect/ });
    assert.equal(server.requests.length, 2);
  });

  test('is refused where the digest is not that of the bytes', async () => {
    const { body } = counting(file, 16);
    const error = await client()
      .put('x', { ...body, digest: sha256(Uint8Array.of(1)) })
      .catch((thrown: unknown) => thrown);
    assert.ok(error instanceof BlatamError);
    assert.deepEqual([error.status, error.code, error.requestId], [401, 'digest_mismatch', 'request-7']);
    assert.equal(server.tensors.size, 0);
  });

  for (const [said, given] of [
    [file.length + 1, file.length],
    [file.length - 1, file.length],
  ] as const)
    test(`throws if the stream gives ${given} bytes and ${said} were said`, async () => {
      const { body } = counting(file, 16);
      const message = new RegExp(`The stream of the body gave \\d+ bytes, and its length was said to be ${said}`);
      await assert.rejects(client().put('x', { ...body, length: said }), { name: 'RangeError', message });
      assert.equal(server.tensors.size, 0);
    });

  test("throws what the caller's stream throws", async () => {
    const fault = new Error('the disk is gone');
    const stream = () =>
      new ReadableStream<Uint8Array>({
        pull(controller) {
          controller.error(fault);
        },
      });
    const failed = await client()
      .put('x', { stream, digest: sha256(file), length: file.length })
      .catch((thrown: unknown) => thrown);
    assert.equal(failed, fault);
  });

  test('gives the stream up once the server has refused it', async () => {
    server.override = (_request, answer) => {
      refuse(answer, problem('body_too_large', 'At most 1 MiB.'));
      return true;
    };
    const { body, seen } = counting(filled(64 * 1024 * 1024), 65_536);
    const error = await client()
      .put('x', body)
      .catch((thrown: unknown) => thrown);
    assert.ok(error instanceof BlatamError, String(error));
    assert.deepEqual([error.status, error.code], [413, 'body_too_large']);
    await wait(20);
    assert.equal(seen.cancelled, true);
    assert.ok(seen.taken < body.length);
  });
});

describe('get()', () => {
  test('answers the bytes with etag, cache and length', async () => {
    await client().put('x', file);
    const fetched = await stored('x');
    assert.deepEqual([fetched.etag, fetched.cache, fetched.length], [etag, 'hot', file.length]);
    assert.deepEqual(fetched.digest, new Uint8Array(sha256(file)));
    assert.deepEqual(await fetched.bytes(), file);
  });

  test('streams', async () => {
    const bytes = filled(1_000_000);
    await client().put('x', bytes);
    const parts: Uint8Array[] = [];
    for await (const part of (await stored('x')).stream) parts.push(part);
    assert.deepEqual(joinParts(parts), bytes);
  });

  test('is undefined where there is none', async () => assert.equal(await client().get('none'), undefined));

  test("is 'unchanged' where the etag still holds", async () => {
    await client().put('x', file);
    assert.equal(await client().get('x', { etag }), 'unchanged');
    const other = await client().get('x', { etag: etag.replace(/./, (c) => (c === '0' ? '1' : '0')) });
    assert.ok(other && other !== 'unchanged');
    assert.deepEqual(await other.bytes(), file);
  });

  test('bytes() throws `cut` where the connection ends early', async () => {
    server.override = (_request, answer) => {
      answer.writeHead(200, bodyHeaders(file));
      answer.write(file.subarray(0, 10));
      setTimeout(() => answer.destroy(), 50);
      return true;
    };
    const fetched = await stored('x');
    await assert.rejects(fetched.bytes(), transferFault('cut', new RegExp(`ended after \\d+ of ${file.length} bytes`)));
  });

  for (const [name, body] of [
    ['short', file.subarray(0, -1)],
    ['long', joinParts([file, Uint8Array.of(0)])],
  ] as const)
    test(`bytes() throws \`cut\` where a runtime lets a ${name} body pass`, async () => {
      const answer = async () => new Response(body, { headers: bodyHeaders(file) });
      const fetched = await client({ fetch: answer }).get('x');
      await assert.rejects(async () => fetched?.bytes(), transferFault('cut', /ended after \d+ of \d+ bytes/));
    });

  test('bytes() throws `damaged` where a byte differs', async () => {
    const wrong = Uint8Array.from(file, (byte, at) => (at === file.length - 1 ? byte ^ 1 : byte));
    for (const headers of [bodyHeaders(file), { 'content-digest': bodyHeaders(file)['content-digest'] ?? '' }]) {
      server.override = (_request, answer) => {
        answer.writeHead(200, headers).end(wrong);
        return true;
      };
      await assert.rejects((await stored('x')).bytes(), transferFault('damaged', /do not match its content-digest/));
    }
  });

  test('throws `unreadable` without a content-digest that can be read', async () => {
    for (const [digest, message] of [
      [undefined, /has no content-digest/],
      ['sha-256=:AA==:', /has a content-digest that cannot be read/],
    ] as const) {
      server.override = (_request, answer) => {
        answer.writeHead(200, digest === undefined ? {} : { 'content-digest': digest }).end(file);
        return true;
      };
      await assert.rejects(client().get('x'), transferFault('unreadable', message));
    }
  });
});

describe('head(), delete(), list(), stats(), adapters()', () => {
  test('head() tells of a tensor without its bytes', async () => {
    await client().put('x', file);
    assert.deepEqual(await client().head('x'), { etag, cache: 'hot', length: file.length });
    assert.equal(await client().head('none'), undefined);
  });

  test('head() throws on a refusal, which has no document', async () => {
    const wrong = client({ keyid: 'other' });
    await assert.rejects(wrong.head('x'), {
      name: 'BlatamError',
      status: 401,
      code: 'http_401',
      requestId: 'request-7',
    });
  });

  test('delete() says whether there was one', async () => {
    await client().put('x', file);
    assert.equal(await client().delete('x'), true);
    assert.equal(await client().delete('x'), false);
  });

  test('list() answers a page, listAll() every entry', async () => {
    for (const key of ['a/1', 'a/2', 'a/3', 'b/1']) server.tensors.set(key, file);
    const page = await client().list({ prefix: 'a/', limit: 2 });
    assert.deepEqual([page.entries.map(({ key }) => key), page.cursor], [['a/1', 'a/2'], 'a/2']);
    server.pageSize = 2;
    const keys: string[] = [];
    for await (const { key } of client().listAll('a/')) keys.push(key);
    assert.deepEqual(keys, ['a/1', 'a/2', 'a/3']);
    assert.deepEqual((await client().list()).entries.length, 2);
  });

  test('stats() and adapters() answer what the server says', async () => {
    assert.deepEqual(await client().stats(), { of: 'all', ...STATS });
    assert.deepEqual(await client().adapters(), ADAPTERS);
  });

  test('stats() throws `unreadable` on another shape', async () => {
    for (const value of [{ ...STATS, misses: 'many' }, 'text', null]) {
      server.override = (_request, answer) => {
        sendJson(answer, 200, value);
        return true;
      };
      await assert.rejects(client().stats(), transferFault('unreadable', /has another shape/));
    }
  });
});

describe('putTensors() and getTensors()', () => {
  test('bring the tensors back as views into one array', async () => {
    await client().putTensors('t', tensors);
    const back = await client().getTensors('t');
    assert.deepEqual(back, tensors);
    assert.equal(back?.[0]?.data.buffer, back?.[1]?.data.buffer);
    assert.equal(await client().getTensors('none'), undefined);
  });

  test('putTensors() refuses a tensor of another length before anything is sent', async () => {
    const wrong = { name: 'k', dtype: 'F32', shape: [2], data: new Uint8Array(7) } as const;
    await assert.rejects(async () => client().putTensors('t', [wrong]), { code: 'tensors_length_mismatch' });
    assert.equal(server.requests.length, 0);
  });
});

describe('what is signed', () => {
  test('each request has a nonce of its own', async () => {
    for (let i = 0; i < 20; i++) await client().stats();
    const inputs = server.requests.map(
      ({ headers }) => /nonce="([^"]+)"/.exec(String(headers['signature-input']))?.[1],
    );
    assert.equal(new Set(inputs).size, 20);
  });

  test('both crypto ports are accepted', async () => {
    for (const options of [{}, { crypto: nodeCrypto }]) assert.equal((await client(options).stats()).entries, 3);
  });
});

describe('refusals', () => {
  test('throw BlatamError with what the problem document says', async () => {
    const error = await client({ secret: 'AAAA' })
      .stats()
      .catch((thrown: unknown) => thrown);
    assert.ok(error instanceof BlatamError);
    assert.deepEqual([error.status, error.code, error.requestId], [401, 'signature_invalid', 'request-7']);
    assert.match(error.detail, /the HMAC differs/);
    assert.equal(error.document.title, 'The signature does not match the request');
    assert.match(error.message, /^GET http:\S+\/v1\/cache\/stats was refused with 401 signature_invalid: .*HMAC/);
  });

  test('tell a missing route from a missing tensor', async () => {
    const elsewhere = client({ url: `${server.url}/proxied/` });
    for (const call of [() => elsewhere.get('x'), () => elsewhere.delete('x'), () => elsewhere.list()])
      await assert.rejects(call, { name: 'BlatamError', status: 404, code: 'route_unknown' });
  });

  test('without a document have a code from the status and the text', async () => {
    for (const [status, headers, body, detail] of [
      [502, {}, 'bad gateway\n', /^bad gateway$/],
      [404, {}, '', /says no more/],
      [503, {}, '[1]', /^\[1\]$/],
      [500, {}, 'x'.repeat(100_000), /says no more/],
      [307, { location: 'http://elsewhere.invalid/' }, '', /points to http:\/\/elsewhere\.invalid\//],
    ] as const) {
      server.override = (_request, answer) => {
        answer.writeHead(status, headers).end(body);
        return true;
      };
      const error = await client()
        .get('x')
        .catch((thrown: unknown) => thrown);
      assert.ok(error instanceof BlatamError, String(error));
      assert.deepEqual([error.status, error.code, error.document], [status, `http_${status}`, {}]);
      assert.match(error.detail, detail);
    }
  });
});

describe('no answer', () => {
  test('`unreachable` names the request and the reason', async () => {
    const closed = await openTensorServer();
    await closed.close();
    const message = /^GET http:\S+\/v1\/adapters reached no server \(ECONNREFUSED\)\.$/;
    await assert.rejects(client({ url: closed.url }).adapters(), transferFault('unreachable', message));
  });

  test('`cut` where the connection is closed without one', async () => {
    server.override = (request) => {
      request.socket.destroy();
      return true;
    };
    await assert.rejects(client().stats(), transferFault('cut', /was closed before GET \S+ was answered/));
  });

  test('`timeout` where the server keeps silent, before the answer and within it', async () => {
    server.override = () => true;
    await assert.rejects(client({ timeoutMs: 40 }).stats(), transferFault('timeout', /kept silent for 40 ms/));
    server.override = (_request, answer) => {
      answer.writeHead(200, bodyHeaders(file)).write(file.subarray(0, 10));
      return true;
    };
    const fetched = await client({ timeoutMs: 40 }).get('x');
    await assert.rejects(async () => fetched?.bytes(), transferFault('timeout', /kept silent for 40 ms/));
  });

  test('no timeout while the caller is the slow one, nor in a transfer that goes on', async () => {
    const bytes = filled(100);
    const stream = () =>
      ReadableStream.from(
        (async function* () {
          for (const half of [bytes.subarray(0, 50), bytes.subarray(50)]) {
            await wait(1200);
            yield half;
          }
        })(),
      );
    const impatient = client({ timeoutMs: 1000 }); // and a busy machine may take a while for each part
    await impatient.put('x', { stream, digest: sha256(bytes), length: bytes.length });
    server.override = async (_request, answer) => {
      answer.writeHead(200, bodyHeaders(bytes));
      for (let at = 0; at < bytes.length; at += 20) {
        answer.write(bytes.subarray(at, at + 20));
        await wait(250);
      }
      answer.end();
      return true;
    };
    const fetched = await impatient.get('x');
    await wait(1200);
    assert.ok(fetched);
    assert.deepEqual(await fetched.bytes(), bytes);
  });

  test("the caller's signal ends what is under way and what follows", async () => {
    const controller = new AbortController();
    const given = client({ signal: controller.signal });
    let closed: Promise<unknown> | undefined;
    server.override = (_request, answer) => {
      closed = once(answer, 'close');
      setImmediate(() => controller.abort(new Error('enough')));
      return true;
    };
    await assert.rejects(given.stats(), { message: 'enough' });
    await closed;
    await assert.rejects(given.stats(), { message: 'enough' });
    assert.equal(server.requests.length, 1);
  });
});

describe('createClient() and its calls refuse', () => {
  for (const [name, options, message] of [
    ['a url without scheme', { url: 'localhost:8000' }, /does not begin with http/],
    ['another scheme', { url: 'ftp://localhost' }, /does not begin with http/],
    ['a url with a query', { url: 'http://localhost?x=1' }, /has a query/],
    ['a url with a password', { url: 'http://a:b@localhost' }, /password/],
    ['a secret that is not base64', { secret: '%%' }, /not base64/],
    ['an empty secret', { secret: '' }, /not base64/],
    ['no time at all', { timeoutMs: 0 }, /timeoutMs is 0/],
  ] as const)
    test(name, () => assert.throws(() => client(options), { name: 'RangeError', message }));

  test('malformed keys, before anything is sent', async () => {
    for (const key of ['', '/a', 'a//b', 'a/../b', '.', 'a b', 'a%2fb', 'ä', 'x'.repeat(513)])
      await assert.rejects(async () => client().get(key), { name: 'RangeError', message: /is malformed/ });
    assert.equal(server.requests.length, 0);
  });
});

test('getMany() of an answer that leaves a key out says so, and asks no more', async () => {
  const frame = frameHead({
    entries: [{ key: 'a', status: 404, code: 'tensor_unknown', title: 'Unknown', detail: '' }],
  });
  server.override = (_request, answer) => {
    answer.writeHead(200, { 'content-type': BATCH, 'content-length': frame.length }).end(frame);
    return true;
  };
  await assert.rejects(client().getMany(['a', 'b']), transferFault('unreadable', /says nothing of b, which was asked/));
});
