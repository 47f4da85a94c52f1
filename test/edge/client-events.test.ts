// The client's events against a loopback server: what it makes of the stream, and how it goes on where that ends, is cut or is not
// to be had. Against the real server: test/walk/kv-calls.test.ts.

import assert from 'node:assert/strict';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { after, afterEach, before, test } from 'node:test';
import { problem } from '../../core/contract/problems.ts';
import { BlatamError, createClient, type KvNumberedEvent, TransferError } from '../../edge/client.ts';
import { openTensorServer, refuse, type TensorServer } from './tensor-server.ts';

let server: TensorServer;
before(async () => {
  server = await openTensorServer();
});
after(() => server.close());
afterEach(() => {
  server.override = undefined;
  server.requests.length = 0;
});

const kv = () => createClient({ url: server.url, keyid: server.keyid, secret: server.secret }).kv;
const removed = (id: number) =>
  `id: ${id}\nevent: BlockRemoved\ndata: {"type":"BlockRemoved","hash":"h${id}","cause":"lost"}\n\n`;

type Answering = (answer: ServerResponse<IncomingMessage>) => void;

/** The first request is answered by the first of these, and so on. */
function answering(...answers: Answering[]): void {
  server.override = (_, answer) => {
    answers.shift()?.(answer);
    return true;
  };
}

const sending =
  (text: string, end: (answer: ServerResponse<IncomingMessage>) => void = (answer) => answer.end()): Answering =>
  (answer) => {
    answer.writeHead(200, { 'content-type': 'text/event-stream' });
    answer.write(text, () => setTimeout(end, 50, answer));
  };

async function take(events: AsyncGenerator<KvNumberedEvent>, count: number): Promise<(number | string)[]> {
  const found: (number | string)[] = [];
  for (let next = await events.next(); !next.done; next = await events.next()) {
    found.push(next.value.id, next.value.type);
    if (found.length === 2 * count) break;
  }
  return found;
}

const asked = () => server.requests.map(({ url }) => url);

test('events() goes on from the last number, that of a quiet server too, where the answer ends or is cut', async () => {
  answering(
    sending(`retry: 9\nid: 4\n\n: hello\n\n`),
    sending(`id: 4\n\n${removed(5)}${removed(6).slice(0, 20)}`, (answer) => answer.destroy()),
    sending(removed(6).replaceAll(': ', ':')),
    sending(`${removed(7)}id: 9\nevent: gap\ndata: {"type":"gap","after":7,"next":10}\n\n`, () => {}),
  );
  const events = kv().events();
  assert.deepEqual(await take(events, 4), [...[5, 'BlockRemoved', 6, 'BlockRemoved', 7, 'BlockRemoved', 9, 'gap']]);
  await events.return(undefined);
  assert.deepEqual(asked(), ['/v1/kv/events', ...[4, 5, 6].map((n) => `/v1/kv/events?after=${n}`)]);
});

test('events() asks again while nobody is there, and throws what is refused or none of the contract', async () => {
  answering((answer) => refuse(answer, problem('core_unreachable', 'The core does not answer.')), sending(removed(1)));
  assert.deepEqual(await take(kv().events({ after: 0 }), 1), [1, 'BlockRemoved']);
  assert.deepEqual(asked(), ['/v1/kv/events?after=0', '/v1/kv/events?after=0']);
  answering((answer) => refuse(answer, problem('scope_missing', 'This needs the scope kv:read.')));
  await assert.rejects(kv().events().next(), (error) => error instanceof BlatamError && error.code === 'scope_missing');
  for (const odd of ['data: {}\n\n', 'id: 1\ndata: {"type":"Other"}\n\n', removed(1).replace('1', 'x')]) {
    answering(sending(odd));
    await assert.rejects(
      kv().events().next(),
      (error) =>
        error instanceof TransferError && error.fault === 'unreadable' && /sent what is no event/.test(error.message),
    );
  }
});

test('events() ends without an error when its signal aborts, while it waits and between two tries', async () => {
  const signal = new AbortController();
  answering(sending(removed(1), () => {}));
  const events = kv().events({ signal: signal.signal });
  assert.deepEqual(await take(events, 1), [1, 'BlockRemoved']);
  const next = events.next();
  setTimeout(() => signal.abort(), 20);
  assert.equal((await next).done, true);
  const other = new AbortController();
  answering(sending(''), sending(''), sending(''));
  const waiting = kv().events({ signal: other.signal }).next();
  setTimeout(() => other.abort(), 300);
  assert.equal((await waiting).done, true);
  assert.equal((await kv().events({ signal: other.signal }).next()).done, true);
});
