// Entries that change their adapter: bit by bit, under readers and writers, over two adapters of different drivers where the
// machine has them, else over two processes on one.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { type TestContext, test } from 'node:test';
import type { Found } from '../../../core/cache/cache.ts';
import { newEntry } from '../../../core/cache/entry.ts';
import { createHoldings } from '../../../core/cache/holdings.ts';
import { createMoves } from '../../../core/cache/moves.ts';
import { joinParts, tensorParts } from '../../../core/contract/tensors.ts';
import { type Arena, createArena, PAGE_BYTES } from '../../../core/gpu/arena.ts';
import type { RequestOptions } from '../../../core/gpu/device-link.ts';
import { type GpuLease, gpuLease } from '../../../core/gpu/gpu-lease.ts';
import { openPieces, PIECE_BYTES } from '../../../core/gpu/pieces.ts';
import type { LeaseOptions } from '../../../core/gpu/pool.ts';
import { SOURCE, takeAll } from '../../support/adapters.ts';
import { assertSameBytes } from '../../support/bytes.ts';
import { type Engine, patience, readAll, startEngine, TENANT } from '../../support/engine.ts';
import { seeded } from '../../support/seeded.ts';
import { until } from '../../support/until.ts';

const MiB = 1 << 20;
const random = seeded();
const LAVAPIPE = '/usr/share/vulkan/icd.d/lvp_icd.json';
const PAIRS = [[SOURCE, SOURCE], ...(existsSync(LAVAPIPE) ? [[SOURCE, LAVAPIPE]] : [])];
const [A, B] = ['adapter-0', 'adapter-1'] as const;

const fileOf = (bytes: number): Uint8Array =>
  joinParts(tensorParts([{ name: 'x', dtype: 'U8', shape: [bytes], data: random.bytes(bytes) }]));

const start = (t: TestContext, adapters = PAIRS.at(-1)): Promise<Engine> =>
  startEngine(t, { pool: { adapters: adapters ?? [] } });

async function assertHolds(engine: Engine, key: string, bytes: Uint8Array): Promise<void> {
  const found = await engine.get(key);
  assert.ok(found, `${key} is not there`);
  assertSameBytes(found, bytes, key);
}
const on = (engine: Engine, adapter: string | null): string[] =>
  engine
    .all()
    .filter((entry) => entry.adapter === adapter)
    .map(({ key }) => key);
/** Everything that is put from now on goes to one adapter. */
async function onlyOn(engine: Engine, adapter: string, work: () => Promise<void>): Promise<void> {
  const other = adapter === A ? B : A;
  engine.pool.drain(other);
  await work();
  engine.pool.resume(other);
}
const move = (engine: Engine, what: { key: string } | { prefix: string }, adapter: string, signal = patience()) =>
  engine.cache.move(TENANT, what, adapter, signal);
const never = () => Promise.reject(new Error('no kernel runs here'));
const NOTHING = { moved: 0, bytes: 0, there: 0, cold: 0, noRoom: 0, gone: 0 };
const STAYED = { moved: 0, bytes: 0, left: 0, kept: 0, gone: 0 };

for (const pair of PAIRS)
  test(`move() and drain() keep every byte, on ${pair.map((source) => source.split('/').at(-1)).join(' and ')}`, async (t) => {
    const engine = await start(t, pair);
    const sizes = [0, 1, 1000, 65_000, 70_000, 300_001, PIECE_BYTES, 2 * PIECE_BYTES + 77];
    const files = new Map(sizes.map((size, i) => [`m/${i}`, fileOf(size)]));
    await onlyOn(engine, A, async () => {
      for (const [key, bytes] of files) await engine.put(key, bytes, { durability: 'none' });
    });
    const total = [...files.values()].reduce((sum, { length }) => sum + length, 0);
    assert.equal(on(engine, A).length, sizes.length);
    assert.deepEqual(await move(engine, { prefix: 'm/' }, B), { ...NOTHING, moved: sizes.length, bytes: total });
    assert.equal(on(engine, B).length, sizes.length);
    assert.equal(engine.pool.reportOf(A).memory.used, 0);
    for (const [key, bytes] of files) await assertHolds(engine, key, bytes);
    assert.deepEqual(await move(engine, { prefix: 'm/' }, B), { ...NOTHING, there: sizes.length });

    const drained = await engine.cache.drain(B, patience());
    assert.deepEqual(drained, { ...STAYED, moved: sizes.length, bytes: total, state: 'drained' });
    for (const [key, bytes] of files) await assertHolds(engine, key, bytes);
    await engine.assertIdle();
    engine.pool.resume(B);
    assert.deepEqual(await move(engine, { key: 'm/7' }, B), { ...NOTHING, moved: 1, bytes: files.get('m/7')?.length });
    assert.deepEqual([on(engine, B), on(engine, A).length], [['m/7'], sizes.length - 1]);
    await engine.assertIdle();
  });

test('move() of what is not there, or to where nothing goes, says so', async (t) => {
  const engine = await start(t);
  await engine.put('k', fileOf(10));
  await assert.rejects(move(engine, { key: 'other' }, B), { code: 'tensor_unknown' });
  await assert.rejects(engine.cache.move('somebody else', { key: 'k' }, B, patience()), { code: 'tensor_unknown' });
  await assert.rejects(move(engine, { key: 'k' }, 'adapter-9'), { code: 'adapter_unknown' });
  await assert.rejects(engine.cache.drain('adapter-9', patience()), { code: 'adapter_unknown' });
  await assert.rejects(engine.cache.restart('adapter-9', patience()), { code: 'adapter_unknown' });
  engine.pool.drain(B);
  await assert.rejects(move(engine, { key: 'k' }, B), { code: 'adapter_unavailable' });
  assert.deepEqual(await move(engine, { prefix: 'none/' }, A), NOTHING);
});

test('readers go on where they began, and their pages go with the last of them', async (t) => {
  const engine = await start(t);
  const bytes = fileOf(6 * PIECE_BYTES);
  await onlyOn(engine, A, async () => {
    await engine.put('k', bytes, { durability: 'none' });
  });
  const reading = engine.cache.get(TENANT, 'k')?.read(patience());
  assert.ok(reading);
  const parts: Uint8Array[] = [];
  for await (const { piece, length } of reading) {
    parts.push(Uint8Array.from(piece.bytes.subarray(0, length)));
    piece.release();
    if (parts.length > 1) continue;
    const done = await engine.cache.drain(A, patience());
    assert.deepEqual([done.moved, done.state], [1, 'draining'], 'somebody still reads there');
    assert.equal(engine.peek('k')?.adapter, B);
    await assertHolds(engine, 'k', bytes);
  }
  assertSameBytes(Buffer.concat(parts), bytes, 'what was read meanwhile');
  assert.equal(engine.pool.reportOf(A).state, 'drained');
  await engine.assertIdle();
});

test('drain() where the others are full: what is on disk leaves, what is only there stays and is counted', async (t) => {
  const engine = await start(t);
  const [kept, durable, lucky] = [fileOf(9 * PAGE_BYTES), fileOf(9 * PAGE_BYTES), fileOf(9 * PAGE_BYTES)];
  await onlyOn(engine, A, async () => {
    await engine.put('lucky', lucky, { durability: 'none' });
    await engine.put('kept', kept, { durability: 'none' });
    await engine.put('durable', durable);
  });
  const ballast = engine.pool.lease({ adapter: B });
  assert.ok(ballast.grow(128 * MiB - 12 * PAGE_BYTES)); // 10 pages each: room for one
  const done = await engine.cache.drain(A, patience());
  assert.deepEqual(done, { ...STAYED, moved: 1, bytes: lucky.length, left: 1, kept: 1, state: 'draining' });
  assert.deepEqual([on(engine, A), on(engine, B), on(engine, null)], [['kept'], ['lucky'], ['durable']]);
  for (const [key, bytes] of Object.entries({ kept, lucky })) await assertHolds(engine, key, bytes);
  ballast.release();
  assert.deepEqual(await engine.cache.drain(A, patience()), {
    ...STAYED,
    moved: 1,
    bytes: kept.length,
    state: 'drained',
  });
  for (const [key, bytes] of Object.entries({ kept, durable, lucky })) await assertHolds(engine, key, bytes);
  await engine.assertIdle();
});

test('move() to a full adapter makes room as a new tensor would', async (t) => {
  const engine = await start(t);
  const files = { old: fileOf(9 * PAGE_BYTES), young: fileOf(9 * PAGE_BYTES), comes: fileOf(9 * PAGE_BYTES) };
  await onlyOn(engine, B, async () => {
    await engine.put('old', files.old);
    await engine.put('young', files.young);
  });
  await onlyOn(engine, A, async () => {
    await engine.put('comes', files.comes);
  });
  const ballast = engine.pool.lease({ adapter: B });
  assert.ok(ballast.grow(128 * MiB - 20 * PAGE_BYTES));
  assert.equal((await move(engine, { key: 'comes' }, B)).moved, 1);
  assert.deepEqual([on(engine, B), on(engine, null)], [['comes', 'young'], ['old']]);
  const reading = engine.cache.get(TENANT, 'young')?.read(patience());
  const first = await reading?.next();
  const large = fileOf(15 * PAGE_BYTES);
  await onlyOn(engine, A, async () => {
    await engine.put('large', large);
  });
  assert.deepEqual(await move(engine, { key: 'large' }, B), { ...NOTHING, noRoom: 1 });
  assert.deepEqual([on(engine, A), on(engine, B)], [['large'], ['comes', 'young']], 'somebody left in vain');
  if (first?.value) first.value.piece.release();
  await reading?.return();
  ballast.release();
  await engine.assertIdle();
});

test('a caller who leaves stops the moving, and all is where it was or where it goes', async (t) => {
  const engine = await start(t);
  const bytes = fileOf(3 * PIECE_BYTES);
  await onlyOn(engine, A, async () => {
    await engine.put('k', bytes, { durability: 'none' });
  });
  const pieces = await takeAll(engine.pieces);
  const controller = new AbortController();
  const moving = move(engine, { key: 'k' }, B, controller.signal);
  await until(() => engine.pieces.waiting > 0, 'the move waits for a piece');
  controller.abort(new Error('the caller left'));
  await assert.rejects(moving, /the caller left/);
  for (const piece of pieces) piece.release();
  assert.equal(engine.peek('k')?.adapter, A);
  await engine.assertIdle();
  await assertHolds(engine, 'k', bytes);
});

test('a move that is called off while adapters work on it ends with them, and leaves nothing behind', async (t) => {
  const engine = await start(t);
  const bytes = fileOf(3 * PIECE_BYTES + 5);
  await onlyOn(engine, A, async () => {
    await engine.put('k', bytes, { durability: 'none' });
  });
  for (const halted of [A, B]) {
    const { pid } = engine.pool.reportOf(halted);
    assert.ok(pid);
    process.kill(pid, 'SIGSTOP');
    const controller = new AbortController();
    const moving = move(engine, { key: 'k' }, B, controller.signal);
    await until(() => engine.pool.reportOf(halted).bytesInFlight > 0, 'it is asked to read or write');
    assert.equal(engine.pieces.free, engine.pieces.count - 1);
    controller.abort(new Error('the caller left'));
    const ended = assert.rejects(moving, /the caller left/);
    assert.equal(engine.pieces.free, engine.pieces.count - 1, 'the process may still touch the piece');
    process.kill(pid, 'SIGCONT');
    await ended;
    assert.deepEqual([on(engine, A), engine.pool.reportOf(B).memory.used], [['k'], 0]);
    await engine.assertIdle();
    await assertHolds(engine, 'k', bytes);
  }
  assert.equal((await move(engine, { key: 'k' }, B)).moved, 1);
  await assertHolds(engine, 'k', bytes);
});

test('a move that is called off calls off what it asked of an adapter', async () => {
  for (const silent of ['read', 'write'] as const) {
    const answer = (op: string) => async (_: unknown, length: number, __: unknown, options?: RequestOptions) => {
      if (op !== silent || length !== 77) return;
      await new Promise((_, reject) => {
        options?.signal?.addEventListener('abort', () => reject(options.signal?.reason)); // as a link does it
        waiting.resolve();
      });
    };
    const waiting = Promise.withResolvers<void>();
    const arenas = new Map<string, Arena>([A, B].map((id) => [id, createArena(1)]));
    const leaseOn = (id: string, options: LeaseOptions): GpuLease => {
      const arena = arenas.get(id) ?? createArena(1);
      return gpuLease(id, { arena, read: answer('read'), write: answer('write'), run: never }, options);
    };
    const isDraining = () => false;
    const pool = { isDraining, places: () => [A, B], lease: (o: LeaseOptions = {}) => leaseOn(o.adapter ?? A, o) };
    const holdings = createHoldings(() => 0);
    const pieces = await openPieces({ count: 2, shared: false });
    const bytes = PIECE_BYTES + 77; // the second piece is the one that hangs
    const lease = leaseOn(A, { pageBytes: PAGE_BYTES, account: holdings.account('t') });
    assert.ok(lease.grow(bytes));
    const facts = { codec: 'raw', dtype: null, shape: null, tensors: 1, priority: 50, createdAt: 0, expiresAt: null };
    const entry = newEntry({ tenant: 't', key: 'k', digest: '', bytes, ...facts }, lease, false);
    holdings.insert(entry);
    const controller = new AbortController();
    const moving = createMoves({ holdings, pool, pieces }).move([entry], B, controller.signal);
    await waiting.promise;
    controller.abort(new Error('the caller left'));
    await assert.rejects(moving, /the caller left/);
    assert.deepEqual([arenas.get(B)?.usedBytes, pieces.free, entry.lease, entry.readers], [0, 2, lease, 0]);
    assert.deepEqual([entry.moving, holdings.faults(), arenas.get(A)?.faults()], [false, [], []]);
  }
});

test('an entry that is replaced or deleted on its way is let go, and its pages on both sides', async (t) => {
  const engine = await start(t);
  const next = fileOf(1000);
  for (const change of ['put', 'delete'] as const) {
    await onlyOn(engine, A, async () => {
      await engine.put('k', fileOf(3 * PIECE_BYTES), { durability: 'none' });
    });
    const pieces = await takeAll(engine.pieces);
    const moving = move(engine, { key: 'k' }, B);
    await until(() => engine.pieces.waiting > 0, 'the move waits for a piece');
    if (change === 'put') await engine.put('k', next);
    else await engine.cache.delete(TENANT, 'k');
    for (const piece of pieces) piece.release();
    assert.deepEqual(await moving, { ...NOTHING, gone: 1 });
    if (change === 'put') await assertHolds(engine, 'k', next);
    else assert.equal(engine.peek('k'), undefined);
    await engine.assertIdle();
  }
});

test('an adapter that dies under a move costs what it would have cost anyway', async (t) => {
  const engine = await start(t);
  const files = { durable: fileOf(3 * PIECE_BYTES), fleeting: fileOf(3 * PIECE_BYTES) };
  for (const dying of [0, 1]) {
    await onlyOn(engine, A, async () => {
      await engine.put('durable', files.durable);
      await engine.put('fleeting', files.fleeting, { durability: 'none' });
    });
    const pieces = await takeAll(engine.pieces);
    const moving = move(engine, { prefix: '' }, B);
    await until(() => engine.pieces.waiting > 1, 'both wait for a piece');
    process.kill(engine.pool.report()[dying]?.pid ?? 0, 'SIGKILL');
    await until(() => engine.pool.report()[dying]?.restarts === 1, 'the loss was seen');
    for (const piece of pieces) piece.release();
    assert.deepEqual(await moving, { ...NOTHING, gone: 2 });
    assert.equal(engine.peek('fleeting')?.adapter, dying === 0 ? undefined : A);
    await assertHolds(engine, 'durable', files.durable);
    await until(() => engine.pool.report().every(({ state }) => state === 'ready'), 'both serve again');
    await engine.assertIdle();
  }
});

test('what comes to an adapter while it drains leaves it again', async (t) => {
  const engine = await start(t);
  const bytes = fileOf(3 * PIECE_BYTES);
  let drained = false;
  async function* chunks(): AsyncGenerator<Uint8Array, void, void> {
    for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
      yield Uint8Array.from(bytes.subarray(at, at + PIECE_BYTES));
      if (drained || at === 0) continue;
      drained = true;
      engine.pool.resume(B);
      await engine.cache.drain(A, patience());
    }
  }
  engine.pool.drain(B);
  await engine.put('k', bytes, { durability: 'none', body: { chunks: chunks(), length: bytes.length } });
  await until(() => engine.peek('k')?.adapter === B, 'it has moved on');
  await until(() => engine.pool.reportOf(A).state === 'drained', 'nothing is left there');
  await assertHolds(engine, 'k', bytes);
  await engine.assertIdle();
});

test('what is moved to an adapter that is told to drain meanwhile leaves it again', async (t) => {
  const engine = await start(t);
  const bytes = fileOf(3 * PIECE_BYTES);
  await onlyOn(engine, A, () => engine.put('k', bytes, { durability: 'none' }).then(() => {}));
  const pieces = await takeAll(engine.pieces);
  const moving = move(engine, { key: 'k' }, B);
  await until(() => engine.pieces.waiting > 0, 'the tensor waits for a piece');
  await engine.cache.drain(B, patience());
  for (const piece of pieces) piece.release();
  assert.equal((await moving).moved, 1);
  await until(() => engine.peek('k')?.adapter === A, 'it has gone back');
  await until(() => engine.pool.reportOf(B).state === 'drained', 'nothing is left there');
  await assertHolds(engine, 'k', bytes);
  await engine.assertIdle();
});

test('restart() tells what went with the process, and what is served from disk', async (t) => {
  const engine = await start(t);
  const files = { durable: fileOf(100_000), elsewhere: fileOf(1000) };
  await onlyOn(engine, A, async () => {
    await engine.put('durable', files.durable);
    await engine.put('fleeting', fileOf(10), { durability: 'none' });
  });
  await onlyOn(engine, B, async () => {
    await engine.put('elsewhere', files.elsewhere, { durability: 'none' });
  });
  assert.deepEqual(await engine.cache.restart(A, patience()), { state: 'ready', restarts: 1, cold: 1, lost: 1 });
  assert.equal(engine.peek('fleeting'), undefined);
  for (const [key, bytes] of Object.entries(files)) await assertHolds(engine, key, bytes);
  await engine.assertIdle();
});

test('readers and writers under moves, drains and resumes read what was put, and pages add up', async (t) => {
  const engine = await start(t);
  const keys = Array.from({ length: 10 }, (_, i) => `w/${i}`);
  const held = new Map<string, Uint8Array>();
  /** What a key may hold while its put is under way. */
  const coming = new Map<string, Uint8Array>();
  const size = () => random.pick([random.below(3000), random.below(400_000), PIECE_BYTES + random.below(PIECE_BYTES)]);
  let going = true;
  const put = async (key: string): Promise<void> => {
    const bytes = fileOf(size());
    coming.set(key, bytes);
    await engine.put(key, bytes, { durability: random.pick(['through', 'back', 'none']) });
    held.set(key, bytes);
    coming.delete(key);
  };
  const writer = async (mine: string[]): Promise<void> => {
    while (going) await put(mine[random.below(mine.length)] ?? keys[0] ?? '');
  };
  const reader = async (): Promise<void> => {
    while (going) {
      const key = keys[random.below(keys.length)] ?? '';
      const allowed = [held.get(key), coming.get(key)];
      const found = engine.cache.get(TENANT, key);
      const bytes = found && (await readAll(found));
      allowed.push(held.get(key), coming.get(key));
      assert.ok(bytes, `${key} is gone`);
      assert.ok(
        allowed.some((one) => one && Buffer.compare(one, bytes) === 0),
        `${key} holds what nobody put there`,
      );
    }
  };
  for (const key of keys) await put(key);
  const working = [writer(keys.slice(0, 5)), writer(keys.slice(5)), reader(), reader(), reader()];
  const rounds = Number(process.env.MOVE_ROUNDS ?? 8);
  t.diagnostic(`SEED=${random.seed} MOVE_ROUNDS=${rounds}`);
  for (let round = 0; round < rounds; round++) {
    const [from, to] = round % 2 === 0 ? [A, B] : [B, A];
    await move(engine, { prefix: 'w/' }, to);
    const { kept } = await engine.cache.drain(from, patience());
    assert.ok(kept >= 0);
    await until(() => engine.pool.reportOf(from).state === 'drained', 'all have left', 10_000);
    assert.deepEqual(engine.cache.check(), []);
    engine.pool.resume(from);
  }
  going = false;
  await Promise.all(working);
  for (const [key, bytes] of held) await assertHolds(engine, key, bytes);
  await until(() => engine.pieces.free === engine.pieces.count, 'all pieces are back');
  await engine.cache.close();
  await engine.assertIdle();
});

test('names that share their pages share them where they come, moved or drained, also several at once', async (t) => {
  const engine = await start(t);
  const file = fileOf(300_000);
  const keys = ['s/1', 's/2', 's/3', 's/4', 's/5', 's/6'];
  await onlyOn(engine, A, async () => {
    for (const key of keys) await engine.put(key, file, { durability: 'none' });
  });
  const { hot, saved } = engine.cache.stats().bytes;
  assert.deepEqual([hot, saved], [file.length, 5 * file.length]);
  const both = { moved: 6, bytes: 6 * file.length };
  assert.deepEqual(await move(engine, { prefix: 's/' }, B), { ...NOTHING, ...both });
  assert.equal(engine.cache.stats().bytes.saved, saved);
  assert.deepEqual(await engine.cache.drain(B, patience()), { ...STAYED, ...both, state: 'drained' });
  assert.deepEqual(on(engine, A), keys);
  assert.deepEqual([engine.cache.stats().bytes.hot, engine.cache.stats().bytes.saved], [hot, saved]);
  for (const key of keys) await assertHolds(engine, key, file);
  await engine.assertIdle();
});

test('what comes to an adapter under a name of another while it is read from disk is there once, also when that is lost', async (t) => {
  for (const isLost of [false, true]) {
    const engine = await start(t, [SOURCE, SOURCE]);
    const file = fileOf(4 * PIECE_BYTES);
    await engine.put('slow', file);
    await engine.reopen();
    let reading: ReturnType<Found['read']> | undefined;
    await onlyOn(engine, B, async () => {
      reading = engine.cache.get(TENANT, 'slow')?.read(patience());
      (await reading?.next())?.value?.piece.release();
    });
    await onlyOn(engine, A, async () => void (await engine.put('twin', file)));
    await assertHolds(engine, 'slow', file);
    assert.deepEqual(on(engine, A), ['slow', 'twin']);
    if (isLost) await engine.cache.restart(A, patience());
    else engine.pool.drain(A);
    for await (const { piece } of reading ?? []) piece.release();
    assert.deepEqual(engine.cache.check(), []);
    if (!isLost) await engine.cache.drain(A, patience());
    await until(() => on(engine, A).length === 0, 'nothing is left there');
    assert.deepEqual(engine.cache.check(), []);
    assert.equal(engine.pool.reportOf(A).memory.used, 0);
    await assertHolds(engine, 'slow', file);
    await engine.assertIdle();
  }
});
