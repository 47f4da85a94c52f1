// Bodies of the core's HTTP server, streamed: a request's chunks as they come, an answer's pieces straight from shared
// memory into the socket. Node only; a piece goes back when the socket has taken it, or is gone.
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Drained } from './cache/drain.ts';
import type { Body } from './cache/pour.ts';
import { problem } from './contract/problems.ts';

/** Bytes a second. Who is slower than this over a window is cut off: it holds pieces that others wait for. */
const RATE_MIN = 16 << 10;
const WINDOW_MS = 30_000;

/** The request's body: what the edge has read already, else the socket's chunks. */
export function requestBody(incoming: IncomingMessage, read: Uint8Array | undefined, windowMs = WINDOW_MS): Body {
  if (read) return { chunks: once(read), length: read.length };
  const announced = incoming.headers['content-length'];
  return { chunks: chunksOf(incoming, windowMs), length: announced === undefined ? undefined : Number(announced) };
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array, void, void> {
  if (bytes.length > 0) yield bytes;
}

async function* chunksOf(incoming: IncomingMessage, windowMs: number): AsyncGenerator<Uint8Array, void, void> {
  let received = 0;
  /** Since when we hold a chunk, and how long we did so before in this window: time that is not the caller's. */
  let since = 0;
  let ours = 0;
  const watch = setInterval(() => {
    const now = performance.now();
    if (since > 0) ours += now - since;
    if (received < (RATE_MIN / 1000) * (windowMs - ours)) incoming.destroy(new Error('the body comes too slowly'));
    received = 0;
    ours = 0;
    if (since > 0) since = now;
  }, windowMs);
  try {
    // Not destroyed when we stop early: the refusal still has to travel back over the same socket.
    for await (const chunk of incoming.iterator({ destroyOnReturn: false })) {
      received += (chunk as Buffer).length;
      since = performance.now();
      yield chunk as Buffer;
      free(chunk as Buffer);
      ours += performance.now() - since;
      since = 0;
    }
  } catch (cause) {
    throw problem('body_cut', 'The connection ended before the body did.', {}, { cause });
  } finally {
    clearInterval(watch);
  }
}

/**
 * Gives a chunk's memory back now, once it has been copied: 64 KiB each, left to the garbage collector they cost it half of
 * all the processor time of a large body. Only a chunk that is alone on its memory.
 */
function free(chunk: Buffer): void {
  if (chunk.buffer instanceof ArrayBuffer && chunk.byteLength === chunk.buffer.byteLength) chunk.buffer.transfer(0);
}

/** Aborts when the connection closes before the answer is out. */
export function leaving(outgoing: ServerResponse): AbortSignal {
  const controller = new AbortController();
  outgoing.once('close', () => {
    if (!outgoing.writableFinished) controller.abort(problem('body_cut', 'The caller left.'));
  });
  return controller.signal;
}

/**
 * Sends pieces as the body of an answer. The first piece is there before the head goes out, so that a failure up to then
 * is still an error document; a failure after it cuts the connection, which no caller can take for the end.
 */
export async function sendPieces(
  outgoing: ServerResponse,
  headers: Record<string, string | number>,
  pieces: AsyncGenerator<Drained, void, void>,
  windowMs = WINDOW_MS,
): Promise<void> {
  let next = await pieces.next();
  outgoing.writeHead(200, headers);
  try {
    while (!next.done) {
      const { piece, length } = next.value;
      try {
        await write(outgoing, piece.bytes.subarray(0, length), windowMs);
      } finally {
        piece.release();
      }
      next = await pieces.next();
    }
    outgoing.end();
  } catch {
    outgoing.destroy();
  } finally {
    await pieces.return();
  }
}

/** Resolves once the socket has taken it; whoever is too slow for it is cut off. */
export function write(outgoing: ServerResponse, bytes: Uint8Array, windowMs = WINDOW_MS): Promise<void> {
  return new Promise((resolve, reject) => {
    if (outgoing.destroyed) return reject(new Error('the caller left'));
    const gone = () => settle(new Error('the caller left'));
    const timer = setTimeout(() => outgoing.destroy(), windowMs + (1000 * bytes.length) / RATE_MIN);
    const settle = (error: Error | null | undefined) => {
      clearTimeout(timer);
      outgoing.off('close', gone);
      if (error) reject(error);
      else resolve();
    };
    outgoing.once('close', gone);
    outgoing.write(bytes, settle);
  });
}
