// Bodies over real sockets: who is too slow is cut off, who waits for us is not, and every piece comes back.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { requestBody, sendPieces } from '../../core/bodies.ts';
import { Piece } from '../../core/gpu/pieces.ts';

const WINDOW_MS = 300;

type Handler = (incoming: IncomingMessage, outgoing: ServerResponse) => Promise<void>;

/** A raw connection to a server that does one thing. */
async function open(t: TestContext, handler: Handler): Promise<Socket> {
  const server = createServer((incoming, outgoing) => void handler(incoming, outgoing));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
  socket.on('error', () => {});
  await once(socket, 'connect');
  t.after(() => {
    socket.destroy();
    server.close();
  });
  return socket;
}

/** What reading a body came to. */
function reading(t: TestContext, pauseMs: number) {
  const { promise, resolve } = Promise.withResolvers<{ bytes: number; code: string | undefined }>();
  const socket = open(t, async (incoming) => {
    let bytes = 0;
    try {
      for await (const chunk of requestBody(incoming, undefined, WINDOW_MS).chunks) {
        bytes += chunk.length;
        await sleep(pauseMs);
      }
      resolve({ bytes, code: undefined });
    } catch (error) {
      resolve({ bytes, code: (error as { code?: string }).code });
    }
  });
  return { socket, result: promise };
}

const HEAD = 'PUT / HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n';

test('a body that stops coming is body_cut after a window', async (t) => {
  const { socket, result } = reading(t, 0);
  (await socket).write(HEAD);
  (await socket).write(Buffer.alloc(10));
  assert.deepEqual(await result, { bytes: 10, code: 'body_cut' });
});

test('a body that trickles is body_cut, however long it goes on', async (t) => {
  const { socket, result } = reading(t, 0);
  (await socket).write(HEAD);
  const trickle = setInterval(async () => (await socket).write(Buffer.alloc(10)), 20);
  t.after(() => clearInterval(trickle));
  assert.equal((await result).code, 'body_cut');
});

test('a body that comes slowly but steadily is read to its end', async (t) => {
  const { socket, result } = reading(t, 0);
  (await socket).write(HEAD);
  for (let sent = 0; sent < 100_000; sent += 5000) {
    (await socket).write(Buffer.alloc(5000));
    await sleep(60);
  }
  assert.deepEqual(await result, { bytes: 100_000, code: undefined });
});

test('time that we take over a chunk is not held against the caller', async (t) => {
  const { socket, result } = reading(t, 2 * WINDOW_MS);
  (await socket).write(HEAD);
  (await socket).write(Buffer.alloc(50_000));
  await sleep(WINDOW_MS);
  (await socket).write(Buffer.alloc(50_000));
  assert.deepEqual(await result, { bytes: 100_000, code: undefined });
});

test('an answer that nobody takes is cut off, and its pieces come back', async (t) => {
  let held = 0;
  const size = 64 << 10;
  async function* pieces(): AsyncGenerator<{ piece: Piece; length: number }, void, void> {
    for (let i = 0; i < 4000; i++) {
      held++;
      yield { piece: new Piece(-1, new Uint8Array(size), () => void held--), length: size };
    }
  }
  const { promise: sent, resolve } = Promise.withResolvers<void>();
  const socket = await open(t, async (_, outgoing) => {
    await sendPieces(outgoing, { 'content-length': 4000 * size }, pieces(), WINDOW_MS - (1000 * size) / (16 << 10));
    resolve();
  });
  socket.pause();
  socket.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n');
  await sent;
  assert.equal(held, 0);
  socket.resume();
  await once(socket, 'close');
});
