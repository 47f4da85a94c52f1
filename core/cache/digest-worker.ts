// The thread that hashes bodies: it sees the shared pieces and is told which bytes of which belong to which body.
// Started by digest.ts. One message in, one message out, in order.
import { createHash, type Hash } from 'node:crypto';
import { parentPort, workerData } from 'node:worker_threads';
import { openHandle, type SharedHandle } from '../gpu/memory.ts';
import { PIECE_BYTES } from '../gpu/pieces.ts';

export type DigestWord =
  | { body: number; piece: number; length: number }
  | { body: number; end: true }
  | { body: number; drop: true };

const port = parentPort;
if (!port) throw new Error('digest-worker.ts is a worker thread; it is started by digest.ts');
const memory = await openHandle(workerData as SharedHandle);
const bodies = new Map<number, Hash>();

const hashOf = (body: number): Hash => {
  const hash = bodies.get(body) ?? createHash('sha256');
  bodies.set(body, hash);
  return hash;
};

port.on('message', (word: DigestWord) => {
  if ('drop' in word) return void bodies.delete(word.body);
  if ('end' in word) {
    const digest = hashOf(word.body).digest();
    bodies.delete(word.body);
    return port.postMessage({ body: word.body, digest: new Uint8Array(digest) });
  }
  const at = word.piece * PIECE_BYTES;
  hashOf(word.body).update(memory.subarray(at, at + word.length));
  port.postMessage({ body: word.body });
});
