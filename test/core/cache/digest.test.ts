// Hashes of bodies: right for any mix of bodies and pieces, and never of a part when the thread that makes them dies.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { after, type TestContext, test } from 'node:test';
import type { Worker } from 'node:worker_threads';
import { openDigests } from '../../../core/cache/digest.ts';
import { openPieces, PIECE_BYTES, privatePiece } from '../../../core/gpu/pieces.ts';
import { seeded } from '../../support/seeded.ts';

// The thread keeps no process alive; what waits for it here must.
const alive = setInterval(() => {}, 1000);
after(() => clearInterval(alive));

const random = seeded();
const sha256 = (...parts: Uint8Array[]): string => createHash('sha256').update(Buffer.concat(parts)).digest('hex');
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

const shared = {
  ring: await openPieces({ count: 4, shared: true }),
  socket: await openPieces({ count: 4, shared: false }),
};
const open = (t: TestContext, transport: keyof typeof shared = 'ring') => {
  const pieces = shared[transport];
  const digests = openDigests(pieces);
  t.after(() => digests.close());
  return { pieces, digests };
};
/** The next thread that begins. */
const nextThread = async (): Promise<Worker> => (await once(process, 'worker'))[0] as Worker;

for (const transport of ['ring', 'socket'] as const)
  test(`a body in shared pieces has the sha-256 of its bytes (${transport})`, async (t) => {
    const { pieces, digests } = open(t, transport);
    const parts = [random.bytes(PIECE_BYTES), random.bytes(1), random.bytes(70_000)];
    const digest = digests.begin('shared');
    for (const part of parts) {
      const piece = await pieces.take();
      piece.bytes.set(part);
      await digest.update(piece, part.length);
      piece.bytes.fill(0); // it may be reused once `update` has resolved
      piece.release();
    }
    assert.equal(hex(await digest.end()), sha256(...parts));
    assert.equal(pieces.free, pieces.count);
  });

test('a body in private pieces is hashed without a thread', async (t) => {
  const { digests } = open(t);
  let threads = 0;
  const count = () => threads++;
  process.on('worker', count);
  t.after(() => process.off('worker', count));
  const bytes = random.bytes(1000);
  const digest = digests.begin('private');
  await digest.update(privatePiece(bytes), 700);
  await digest.update(privatePiece(bytes.subarray(700)), 300);
  assert.equal(hex(await digest.end()), sha256(bytes));
  assert.equal(hex(await digests.begin('private').end()), sha256());
  digests.begin('private').drop();
  assert.equal(threads, 0);
});

test('bodies that come at the same time do not mix', async (t) => {
  const { pieces, digests } = open(t);
  const bodies = Array.from({ length: 8 }, () =>
    Array.from({ length: 1 + random.below(5) }, () => random.bytes(random.below(50_000))),
  );
  const found = await Promise.all(
    bodies.map(async (parts) => {
      const digest = digests.begin('shared');
      for (const part of parts) {
        const piece = await pieces.take();
        piece.bytes.set(part);
        await digest.update(piece, part.length);
        piece.release();
      }
      return hex(await digest.end());
    }),
  );
  assert.deepEqual(
    found,
    bodies.map((parts) => sha256(...parts)),
  );
});

test('update() keeps the order in which it was called', async (t) => {
  const { pieces, digests } = open(t);
  const taken = await Promise.all([pieces.take(), pieces.take(), pieces.take()]);
  const digest = digests.begin('shared');
  const updates = taken.map((piece, i) => {
    piece.bytes.fill(i + 1, 0, 1000);
    return digest.update(piece, 1000);
  });
  const ended = digest.end();
  await Promise.all(updates);
  for (const piece of taken) piece.release();
  assert.equal(hex(await ended), sha256(...[1, 2, 3].map((byte) => new Uint8Array(1000).fill(byte))));
});

test('drop() forgets a body, and others go on', async (t) => {
  const { pieces, digests } = open(t);
  const piece = await pieces.take();
  piece.bytes.fill(5, 0, 10);
  const dropped = digests.begin('shared');
  dropped.drop(); // before anything came
  const started = digests.begin('shared');
  const other = digests.begin('shared');
  await started.update(piece, 10);
  await other.update(piece, 10);
  started.drop();
  assert.equal(hex(await other.end()), sha256(new Uint8Array(10).fill(5)));
  piece.release();
});

test('a thread that dies fails what waits for it, and the next body has another', async (t) => {
  const { pieces, digests } = open(t);
  const piece = await pieces.take();
  piece.bytes.fill(1);
  const begun = nextThread();
  const waiting = digests.begin('shared');
  const updates = Array.from({ length: 50 }, () => waiting.update(piece, PIECE_BYTES));
  const told = Promise.allSettled(updates);
  await (await begun).terminate();
  assert.ok((await told).some(({ status }) => status === 'rejected'));
  await assert.rejects(waiting.end(), /the thread that hashed this body ended/);

  const next = digests.begin('shared');
  await next.update(piece, 100);
  assert.equal(hex(await next.end()), sha256(new Uint8Array(100).fill(1)));
  piece.release();
});

test('a body whose thread died between two of its pieces fails: it has no hash of its rest', async (t) => {
  const { pieces, digests } = open(t);
  const piece = await pieces.take();
  const begun = nextThread();
  const half = digests.begin('shared');
  await half.update(piece, 10);
  await (await begun).terminate();
  const other = digests.begin('shared');
  await other.update(piece, 10); // the next thread is there
  await assert.rejects(half.update(piece, 10), /the thread that hashed this body ended/);
  await assert.rejects(half.end(), /the thread that hashed this body ended/);
  half.drop();
  assert.equal(hex(await other.end()), sha256(piece.bytes.subarray(0, 10)));
  piece.release();
});

test('close() ends the thread and fails what waits', async () => {
  const pieces = shared.ring;
  const digests = openDigests(pieces);
  await digests.close(); // without a thread
  const piece = await pieces.take();
  const begun = nextThread();
  const digest = digests.begin('shared');
  const told = Promise.allSettled(Array.from({ length: 50 }, () => digest.update(piece, PIECE_BYTES)));
  const thread = await begun;
  await digests.close();
  assert.equal(thread.threadId, -1, 'it still runs');
  assert.ok((await told).some(({ status }) => status === 'rejected'));
  await digests.close();
  piece.release();
});
