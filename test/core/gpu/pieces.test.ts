// Pieces: leased to one at a time, in the order of asking, and seen by every thread and process that was given them.

import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Worker } from 'node:worker_threads';
import { openPieces, PIECE_BYTES, type Piece, type Pieces, privatePiece } from '../../../core/gpu/pieces.ts';
import { seeded } from '../../support/seeded.ts';

const few = (count = 3): Promise<Pieces> => openPieces({ count, shared: false });
const takeAll = (pieces: Pieces): Promise<Piece[]> =>
  Promise.all(Array.from({ length: pieces.count }, () => pieces.take()));

test('take() gives each piece once, of its own memory, and all come back', async () => {
  const pieces = await few();
  const taken = await takeAll(pieces);
  assert.equal(pieces.free, 0);
  assert.deepEqual(taken.map((piece) => piece.index).sort(), [0, 1, 2]);
  for (const piece of taken) {
    assert.equal(piece.bytes.length, PIECE_BYTES);
    piece.bytes.fill(piece.index + 1);
  }
  for (const piece of taken) assert.ok(piece.bytes.every((byte) => byte === piece.index + 1));
  for (const piece of taken) piece.release();
  assert.equal(pieces.free, pieces.count);
});

test('take() serves those who wait in the order of asking', async () => {
  const pieces = await few();
  const taken = await takeAll(pieces);
  const served: string[] = [];
  const waiting = ['first', 'second', 'third'].map(async (name) => {
    const piece = await pieces.take();
    served.push(name);
    return piece;
  });
  await turn();
  assert.equal(pieces.waiting, 3);
  assert.deepEqual(served, []);
  for (const piece of taken) {
    piece.release();
    assert.equal(pieces.free, 0, 'a piece passed those who wait');
    await turn();
  }
  assert.deepEqual(served, ['first', 'second', 'third']);
  for (const piece of await Promise.all(waiting)) piece.release();
  assert.equal(pieces.free, pieces.count);
});

test('take() leaves the line when its signal aborts, and those behind move up', async () => {
  const pieces = await few(1);
  const held = await pieces.take();
  const leaving = new AbortController();
  const reason = new Error('the caller left');
  const left = pieces.take(leaving.signal);
  const behind = pieces.take();
  leaving.abort(reason);
  await assert.rejects(left, reason);
  assert.equal(pieces.waiting, 1);
  held.release();
  (await behind).release();
  assert.equal(pieces.free, 1);
});

test('of() has no more of a tenant’s than stay free for others, and who is alone half of them', async () => {
  const pieces = await few(8);
  const taken: Piece[] = [];
  const takeAllOf = async (tenant: string): Promise<number> => {
    const own = pieces.of(tenant);
    const promised = own.free;
    for (let i = 0; i < promised; i++) taken.push(await own.take());
    assert.equal(own.free, 0);
    const waits = new AbortController();
    const more = assert.rejects(own.take(waits.signal), { name: 'AbortError' });
    assert.equal(own.waiting, 1);
    waits.abort();
    await more;
    return promised;
  };
  assert.deepEqual(
    [await takeAllOf('a'), await takeAllOf('b'), await takeAllOf('c'), await takeAllOf('d')],
    [4, 2, 1, 1],
  );
  for (const piece of taken) piece.release();
  assert.deepEqual([pieces.free, pieces.of('a').free], [8, 4]);
});

test('of() gives tenants who wait their turn one after the other, whoever has more in line', async () => {
  const pieces = await few(2);
  const taken = await takeAll(pieces);
  const served: string[] = [];
  const asked = [...'aaabac'].map(async (tenant) => {
    const piece = await pieces.of(tenant).take();
    served.push(tenant);
    piece.release();
  });
  await turn();
  for (const piece of taken) piece.release();
  await Promise.all(asked);
  assert.equal(served.slice(0, 3).sort().join(''), 'abc');
  assert.deepEqual([served.length, pieces.free, pieces.waiting], [6, 2, 0]);
});

test('take() refuses a signal that has aborted, though a piece is free', async () => {
  const pieces = await few(1);
  await assert.rejects(pieces.take(AbortSignal.abort()), { name: 'AbortError' });
  assert.equal(pieces.free, 1);
});

test('take() forgets a signal once it was served', async () => {
  const pieces = await few(1);
  const held = await pieces.take();
  const controller = new AbortController();
  const next = pieces.take(controller.signal);
  held.release();
  const piece = await next;
  controller.abort();
  await turn();
  assert.equal(pieces.free, 0);
  piece.release();
  assert.equal(pieces.free, 1);
});

test('release() gives a piece back after its last holder', async () => {
  const pieces = await few(1);
  const piece = await pieces.take();
  assert.equal(piece.retain(), piece);
  piece.retain();
  piece.release();
  piece.release();
  assert.equal(pieces.free, 0);
  piece.release();
  assert.equal(pieces.free, 1);
});

test('release() and retain() throw after the last release, also while somebody else has the memory', async () => {
  const pieces = await few(1);
  const piece = await pieces.take();
  piece.release();
  assert.throws(() => piece.release(), /more often than held/);
  assert.throws(() => piece.retain(), /after its last release/);
  const next = await pieces.take();
  assert.throws(() => piece.release(), /more often than held/);
  assert.equal(pieces.free, 0);
  next.release();
});

test('privatePiece() has the same rules over bytes of its own', () => {
  const piece = privatePiece(Uint8Array.of(1, 2));
  assert.equal(piece.index, -1);
  piece.retain().release();
  piece.release();
  assert.throws(() => piece.release(), /more often than held/);
});

test('free + held = count over a random walk of takes, aborts and releases', async (t) => {
  const random = seeded();
  t.diagnostic(`SEED=${random.seed}`);
  const pieces = await few(4);
  const held: Piece[] = [];
  const waiting = new Set<AbortController>();
  const seen = [pieces, pieces.of('a'), pieces.of('b')] as const;
  for (let step = 0; step < 2000; step++) {
    const action = random.below(8);
    if (action < 4) {
      const controller = new AbortController();
      waiting.add(controller);
      random
        .pick(seen)
        .take(controller.signal)
        .then((piece) => held.push(piece))
        .catch(() => {})
        .finally(() => waiting.delete(controller));
    } else if (action < 7) held.splice(random.below(held.length), 1)[0]?.release();
    else [...waiting][random.below(waiting.size)]?.abort();
    await turn();
    assert.equal(pieces.free + held.length, pieces.count);
    assert.equal(new Set(held.map(({ index }) => index)).size, held.length, 'a piece is held twice');
    assert.equal(pieces.waiting, waiting.size);
    assert.ok(pieces.of('c').free > 0 || pieces.free === 0, 'a tenant who has none gets one as long as one is free');
    for (const own of seen.slice(1))
      assert.ok(own.waiting === 0 || own.free === 0, 'somebody waits though he need not');
  }
});

for (const shared of [true, false])
  test(`a thread sees the pieces (${shared ? 'ring' : 'socket'})`, async () => {
    const pieces = await openPieces({ count: 2, shared });
    const [, piece] = await takeAll(pieces);
    assert.ok(piece);
    piece.bytes.fill(41);
    const worker = new Worker(new URL('../../support/pieces-worker.ts', import.meta.url), {
      workerData: { handle: pieces.handle, index: piece.index },
    });
    await once(worker, 'message');
    assert.ok(piece.bytes.every((byte) => byte === 42));
    await worker.terminate();
  });

test('a process that inherits the descriptor sees the pieces', async (t) => {
  const pieces = await openPieces({ count: 2, shared: true });
  if (pieces.descriptor === undefined) return t.skip('pieces cannot be shared between processes here');
  const [, piece] = await takeAll(pieces);
  assert.ok(piece);
  piece.bytes.fill(41);
  const script = fileURLToPath(new URL('../../support/pieces-child.ts', import.meta.url));
  const child = spawn(process.execPath, [script, String(pieces.count), String(piece.index)], {
    stdio: ['ignore', 'ignore', 'inherit', 'ignore', pieces.descriptor],
  });
  const [code] = await once(child, 'exit');
  assert.equal(code, 0);
  assert.ok(piece.bytes.every((byte) => byte === 42));
});

test('openPieces() without sharing between processes has no descriptor', async () => {
  assert.equal((await few()).descriptor, undefined);
});

test('openPieces() says what to do where there is not enough memory', {
  skip: process.platform !== 'linux',
}, async () => {
  const module = new URL('../../../core/gpu/pieces.ts', import.meta.url).href;
  const script = `import { openPieces } from '${module}';
    const { descriptor } = await openPieces({ count: 8, shared: true }).catch((error) => {
      console.log(error.message);
      return {};
    });
    if (descriptor !== undefined) console.log('shared');`;
  const { stdout } = await promisify(execFile)('sh', [
    '-c',
    'trap "" XFSZ; ulimit -f 1000; exec "$0" --input-type=module -e "$1"',
    process.execPath,
    script,
  ]);
  assert.match(stdout, /cannot set aside 32 MiB .* set GPU_PIECES lower/);
});
