// An answer of server-sent events on a real socket: its text, its end, and readers who leave or do not read.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { type TestContext, test } from 'node:test';
import { serve } from '@hono/node-server';
import { Hono } from 'hono';
import type { KvNumberedEvent } from '../../core/contract/kv-calls.ts';
import { type Problem, problem, problemResponse } from '../../core/contract/problems.ts';
import { type Follow, sendEvents } from '../../core/event-stream.ts';
import type { CoreEnv } from '../../core/route.ts';
import { until } from '../support/until.ts';

const removed = (id: number, hash = 'h'): KvNumberedEvent => ({ id, type: 'BlockRemoved', hash, cause: 'lost' });

/** A server that answers everything with these events; its port. */
async function open(t: TestContext, follow: Follow, takenMs?: number): Promise<number> {
  const app = new Hono<CoreEnv>();
  app.use((c, next) => {
    c.set('requestId', 'id');
    return next();
  });
  app.get('/', (c) => sendEvents(c, follow, takenMs));
  app.onError((error) => problemResponse(error as Problem, 'id'));
  return new Promise((resolve) => {
    const server = serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' }, ({ port }) => resolve(port));
    t.after(() => server.close());
  });
}

test('sendEvents() sends numbers, types and data, and ends when there is no more', async (t) => {
  const port = await open(t, async function* () {
    yield 4;
    yield removed(5);
    yield { id: 8, type: 'gap', after: 5, next: 9 };
    yield 8;
  });
  const answer = await fetch(`http://127.0.0.1:${port}/`);
  assert.equal(answer.headers.get('content-type'), 'text/event-stream');
  assert.equal(answer.headers.get('cache-control'), 'no-store');
  assert.equal(
    await answer.text(),
    'retry: 2000\nid: 4\n\n' +
      'id: 5\nevent: BlockRemoved\ndata: {"type":"BlockRemoved","hash":"h","cause":"lost"}\n\n' +
      'id: 8\nevent: gap\ndata: {"type":"gap","after":5,"next":9}\n\nid: 8\n\n',
  );
});

test('sendEvents() answers a refusal as one, and no HEAD', async (t) => {
  const port = await open(t, async function* () {
    yield* []; // never
    throw problem('followers_full', 'Too many.');
  });
  assert.equal((await fetch(`http://127.0.0.1:${port}/`)).status, 503);
  assert.equal((await fetch(`http://127.0.0.1:${port}/`, { method: 'HEAD' })).status, 405);
});

test('sendEvents() ends with a reader who leaves, while it waits', async (t) => {
  let ended = false;
  const port = await open(t, async function* (_, signal) {
    try {
      yield 1;
      await once(signal, 'abort');
    } finally {
      ended = true;
    }
  });
  const leaving = new AbortController();
  const answer = await fetch(`http://127.0.0.1:${port}/`, { signal: leaving.signal });
  await answer.body?.getReader().read();
  leaving.abort();
  await until(() => ended, 'the events end');
});

test('sendEvents() cuts off who does not take what is sent', async (t) => {
  let [sent, ended] = [0, false];
  const port = await open(
    t,
    async function* () {
      try {
        for (;;) yield removed(++sent, 'x'.repeat(1000));
      } finally {
        ended = true;
      }
    },
    100,
  );
  const socket = connect(port, '127.0.0.1').pause();
  t.after(() => socket.destroy());
  socket.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n');
  await until(() => ended, 'the events end');
  assert.ok(sent * 1000 < 64 << 20, `${sent} events were kept for nobody`);
});
