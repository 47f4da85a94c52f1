// The cache over a real pool and a real store: what it holds is bit-exact wherever it lies, what it answered stays, and
// pages, pieces and files add up after everything that can happen to an entry.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Found, PutOptions } from '../../../core/cache/cache.ts';
import { newEntry } from '../../../core/cache/entry.ts';
import { startSweep } from '../../../core/cache/sweep.ts';
import type { Durability } from '../../../core/contract/messages.ts';
import { joinParts, tensorParts } from '../../../core/contract/tensors.ts';
import { PAGE_BYTES } from '../../../core/gpu/arena.ts';
import { PIECE_BYTES } from '../../../core/gpu/pieces.ts';
import { payloadName } from '../../../core/store/records.ts';
import type { StoreWriter } from '../../../core/store/store.ts';
import { SOURCE, takeAll } from '../../support/adapters.ts';
import { assertSameBytes } from '../../support/bytes.ts';
import { bodyOf, type Engine, patience, readAll, startEngine, TENANT } from '../../support/engine.ts';
import { seeded } from '../../support/seeded.ts';
import { until } from '../../support/until.ts';

const MiB = 1 << 20;
const random = seeded();
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest();

const fileOf = (bytes: number): Uint8Array =>
  joinParts(tensorParts([{ name: 'x', dtype: 'U8', shape: [bytes], data: random.bytes(bytes) }]));

async function assertHolds(engine: Engine, key: string, bytes: Uint8Array): Promise<void> {
  const found = await engine.get(key);
  assert.ok(found, `${key} is not there`);
  assertSameBytes(found, bytes, key);
}
const held = (engine: Engine, key: string): Found => {
  const found = engine.cache.get(TENANT, key);
  assert.ok(found, `${key} is not there`);
  return found;
};
/** Pushes an entry off the adapter, to the disk. */
async function evict(engine: Engine, key: string): Promise<void> {
  engine.leavePages(0);
  await engine
    .put('pusher', fileOf(5 * PAGE_BYTES), { durability: 'none' })
    .finally(() => engine.cache.delete(TENANT, 'pusher'));
  assert.equal(engine.peek(key)?.tier, 'cold');
  engine.leavePages(512);
}
/** Changes one bit of a payload, wherever it lies. */
function flipOnDisk(path: string, payload: Uint8Array): void {
  const names = readdirSync(join(path, 'entries'), { recursive: true, withFileTypes: true });
  for (const entry of names.filter((entry) => entry.isFile())) {
    const file = join(entry.parentPath, entry.name);
    const bytes = readFileSync(file);
    const at = bytes.indexOf(payload);
    if (at < 0) continue;
    const last = at + payload.length - 1;
    bytes[last] = (bytes[last] ?? 0) ^ 1;
    writeFileSync(file, bytes);
    return;
  }
  assert.fail('it is nowhere on disk');
}
const openFiles = (): number => readdirSync('/dev/fd').length;
const LRU = { strategy: 'lru', objective: 'hits', adjustEvery: undefined } as const;
const durabilities: readonly Durability[] = ['through', 'back', 'none'];

for (const transport of ['ring', 'socket'] as const)
  test(`put() is there at once, bit by bit, on the adapter (${transport})`, async (t) => {
    const engine = await startEngine(t, { transport });
    for (const durability of durabilities)
      for (const size of [0, 1, 65_000, 70_000, PIECE_BYTES, 2 * PIECE_BYTES + 1]) {
        const bytes = fileOf(size);
        const answer = await engine.put('k', bytes, { durability });
        assert.equal(answer.digest, sha256(bytes).toString('hex'));
        assert.equal(held(engine, 'k').source, 'hot');
        await assertHolds(engine, 'k', bytes);
        await engine.assertIdle().catch(async (error: unknown) => {
          if (durability !== 'back') throw error;
          await until(() => readdirSync(join(engine.path, 'incoming')).length === 0, 'it is on disk');
          await engine.assertIdle();
        });
      }
  });

test('put() answers with what is in the file', async (t) => {
  const engine = await startEngine(t);
  const one = joinParts(
    tensorParts([{ name: 'x', dtype: 'F16', shape: [2, 3], data: random.bytes(12) }], { model: 'm' }),
  );
  const answer = await engine.put('k', one, { ttlSeconds: 60, priority: 7 });
  assert.deepEqual(answer, {
    key: 'k',
    digest: sha256(one).toString('hex'),
    codec: 'raw',
    dtype: 'F16',
    shape: [2, 3],
    tensors: 1,
    bytes: one.length,
    storedBytes: one.length,
    tier: 'hot',
    adapter: 'adapter-0',
    priority: 7,
    expiresAt: new Date(engine.clock.now + 60_000).toISOString(),
    created: true,
    deduplicated: false,
    flushedWithinMs: 0,
    flushedWithinBytes: 0,
  });
  const { created, deduplicated, flushedWithinMs, flushedWithinBytes, ...entry } = answer;
  assert.deepEqual(engine.peek('k'), entry);
  assert.deepEqual(engine.all(), [entry]);

  const two = ['a', 'b'].map((name) => ({ name, dtype: 'U8' as const, shape: [1], data: random.bytes(1) }));
  const several = await engine.put('k', joinParts(tensorParts(two)));
  assert.deepEqual([several.dtype, several.shape, several.tensors, several.created], [null, null, 2, false]);
  const none = await engine.put('empty', joinParts(tensorParts([])));
  assert.deepEqual([none.dtype, none.shape, none.tensors, none.created], [null, null, 0, true]);
  assert.equal((await engine.put('other', one)).deduplicated, false);
  assert.equal((await engine.put('third', one)).deduplicated, true);
});

test('durability: through and back outlive everything, none does not', async (t) => {
  const engine = await startEngine(t);
  const files = { through: fileOf(100_000), back: fileOf(200_000), none: fileOf(300_000) };
  for (const durability of durabilities) await engine.put(durability, files[durability], { durability });
  await until(() => engine.cache.stats().bytes.disk > 200_000, '`back` is on disk');
  assert.equal(engine.cache.stats().bytes.disk, files.through.length + files.back.length);
  await engine.reopen();
  assert.deepEqual(
    engine.all().map(({ key, tier, adapter }) => [key, tier, adapter]),
    [
      ['back', 'cold', null],
      ['through', 'cold', null],
    ],
  );
  assert.equal(await engine.get('none'), undefined);
  await assertHolds(engine, 'through', files.through);
  await assertHolds(engine, 'back', files.back);
  await engine.assertIdle();
});

test('what leaves between get() and its first byte, and was nowhere else, is unknown', async (t) => {
  const engine = await startEngine(t);
  await engine.put('k', fileOf(4 * PAGE_BYTES), { durability: 'none' });
  const found = held(engine, 'k');
  engine.leavePages(0);
  await engine.put('pusher', fileOf(4 * PAGE_BYTES), { durability: 'none' });
  assert.equal(engine.peek('k'), undefined);
  await assert.rejects(readAll(found), { code: 'tensor_unknown', status: 404 });
  engine.leavePages(512);
  await engine.assertIdle();
});

test('close() waits for what was answered from memory', async (t) => {
  const engine = await startEngine(t);
  const files = Array.from({ length: 80 }, () => fileOf(1000));
  await Promise.all(files.map((bytes, i) => engine.put(`k${i}`, bytes, { durability: 'back' })));
  await engine.reopen();
  for (const [i, bytes] of files.entries()) await assertHolds(engine, `k${i}`, bytes);
});

test('put() with none over something durable leaves nothing of it on disk', async (t) => {
  const engine = await startEngine(t);
  const next = fileOf(2000);
  await engine.put('k', fileOf(1000));
  await engine.put('k', next, { durability: 'none' });
  assert.equal(engine.cache.stats().bytes.disk, 0);
  await assertHolds(engine, 'k', next);
  await engine.reopen();
  assert.deepEqual(engine.all(), [], 'what was replaced came back');
});

test('a write that was answered from memory and fails on disk is told, and what it replaced stays gone', async (t) => {
  const engine = await startEngine(t);
  const next = fileOf(200_000); // too large for a pack
  const shard = sha256(next).toString('hex').slice(0, 2);
  let old = fileOf(1000);
  while (sha256(old).toString('hex').startsWith(shard)) old = fileOf(1000);
  await engine.put('k', old);
  rmSync(join(engine.path, 'entries', shard), { recursive: true }); // its place on disk
  await engine.put('k', next, { durability: 'back' });
  await until(() => engine.lines.some((line) => line.includes('did not reach the disk (k)')), 'the failure is told');
  await assertHolds(engine, 'k', next);
  await assert.rejects(engine.put('k', next), { code: 'disk_failed' });
  await assertHolds(engine, 'k', next);
  mkdirSync(join(engine.path, 'entries', shard));
  await engine.assertIdle();
  await engine.reopen();
  assert.deepEqual(engine.all(), []);
});

test('entries expire to the millisecond, and are gone from the disk soon after', async (t) => {
  const engine = await startEngine(t);
  const bytes = fileOf(1000);
  for (const durability of durabilities) await engine.put(durability, bytes, { durability, ttlSeconds: 10 });
  await engine.put('stays', bytes, { ttlSeconds: 20 });
  engine.clock.now += 9_999;
  assert.equal(engine.all().length, 4);
  await assertHolds(engine, 'through', bytes);
  engine.clock.now += 1;
  for (const key of durabilities) {
    assert.equal(engine.peek(key), undefined);
    assert.equal(await engine.get(key), undefined);
    assert.equal(await engine.cache.delete(TENANT, key), false);
  }
  assert.deepEqual(
    engine.all().map(({ key }) => key),
    ['stays'],
  );
  assert.equal((await engine.put('back', bytes)).created, true, 'an expired entry is none');
  await until(() => engine.cache.stats().expired === 2, 'the sweep has come by', 8000);
  assert.equal(engine.cache.stats().entries, 2);
  await engine.assertIdle();
  await engine.reopen();
  assert.deepEqual(
    engine
      .all()
      .map(({ key }) => key)
      .sort(),
    ['back', 'stays'],
  );
  engine.clock.now += 20_000;
  await engine.reopen();
  assert.deepEqual(
    engine.all().map(({ key }) => key),
    ['back'],
  );
});

test('eviction by lru takes the least recently used; what is durable is served cold, then hot again', async (t) => {
  const engine = await startEngine(t, { cache: { course: LRU } });
  engine.leavePages(40);
  const files = Array.from({ length: 4 }, () => fileOf(9 * PAGE_BYTES)); // 10 pages each
  for (const [i, bytes] of files.entries()) await engine.put(`k${i}`, bytes);
  assert.equal(engine.cache.stats().evictions, 0);
  await assertHolds(engine, 'k0', files[0] ?? new Uint8Array(0)); // k1 is the oldest now
  await engine.put('next', fileOf(9 * PAGE_BYTES));
  const tiers = () => engine.all().map(({ key, tier }) => `${key} ${tier}`);
  assert.deepEqual(tiers(), ['k0 hot', 'k1 cold', 'k2 hot', 'k3 hot', 'next hot']);
  assert.equal(engine.cache.stats().evictions, 1);

  const cold = held(engine, 'k1');
  assert.equal(cold.source, 'cold');
  assertSameBytes(await readAll(cold), files[1] ?? new Uint8Array(0), 'k1 from disk');
  assert.deepEqual(tiers(), ['k0 hot', 'k1 hot', 'k2 cold', 'k3 hot', 'next hot']);
  const hot = held(engine, 'k1');
  assert.equal(hot.source, 'hot');
  assertSameBytes(await readAll(hot), files[1] ?? new Uint8Array(0), 'k1 from the adapter');
  for (const [i, bytes] of files.entries()) await assertHolds(engine, `k${i}`, bytes);
  await engine.assertIdle();
});

test('an entry that takes the place of one in use is the youngest', async (t) => {
  const engine = await startEngine(t, { cache: { course: LRU } });
  engine.leavePages(40);
  for (const key of ['a', 'b']) await engine.put(key, fileOf(9 * PAGE_BYTES)); // 10 pages each
  const reading = held(engine, 'a').read(patience());
  const first = await reading.next();
  await engine.get('b');
  await engine.put('a', fileOf(9 * PAGE_BYTES));
  await engine.put('c', fileOf(19 * PAGE_BYTES)); // takes the last 10 free, and those of b
  const tiers = [engine.peek('a')?.tier, engine.peek('b')?.tier];
  first.value?.piece.release();
  await reading.return();
  assert.deepEqual(tiers, ['hot', 'cold']);
  await engine.assertIdle();
});

test('entries that are nowhere else are gone once they are evicted', async (t) => {
  const engine = await startEngine(t, { cache: { course: LRU } });
  engine.leavePages(20);
  for (const key of ['a', 'b']) await engine.put(key, fileOf(9 * PAGE_BYTES), { durability: 'none' });
  await engine.put('c', fileOf(9 * PAGE_BYTES), { durability: 'none' });
  assert.deepEqual(
    engine.all().map(({ key }) => key),
    ['b', 'c'],
  );
  assert.equal(await engine.get('a'), undefined);
  assert.equal(engine.cache.stats().entries, 2);
  await engine.assertIdle();
});

test('a body that no eviction makes room for evicts nobody', async (t) => {
  const engine = await startEngine(t);
  engine.leavePages(20);
  const kept = fileOf(9 * PAGE_BYTES);
  await engine.put('kept', kept, { durability: 'none' });
  const large = fileOf(20 * PAGE_BYTES);
  await assert.rejects(engine.put('large', large, { durability: 'none' }), { code: 'capacity_exhausted', status: 507 });
  assert.equal(engine.peek('large'), undefined);
  for (const durability of ['through', 'back'] as const) {
    assert.equal((await engine.put('large', large, { durability })).tier, 'cold');
    assert.equal(held(engine, 'large').source, 'cold');
    await assertHolds(engine, 'large', large);
    assert.equal(engine.peek('large')?.tier, 'cold', 'there is no room to promote it');
  }
  await assertHolds(engine, 'kept', kept);
  assert.equal(engine.cache.stats().evictions, 0);
  await engine.assertIdle();
});

test('an entry that is read is not evicted', async (t) => {
  const engine = await startEngine(t);
  const bytes = fileOf(3 * PIECE_BYTES);
  engine.leavePages(200);
  await engine.put('read', bytes, { durability: 'none' });
  const reading = held(engine, 'read').read(patience());
  const first = await reading.next();
  await assert.rejects(engine.put('k', fileOf(MiB), { durability: 'none' }), { code: 'capacity_exhausted' });
  assert.equal((await engine.put('k', fileOf(MiB))).tier, 'cold');
  const parts = [Uint8Array.from(first.value?.piece.bytes ?? [])];
  first.value?.piece.release();
  for await (const { piece, length } of reading) {
    parts.push(Uint8Array.from(piece.bytes.subarray(0, length)));
    piece.release();
  }
  assertSameBytes(Buffer.concat(parts), bytes, 'what was read');
  await engine.put('k', fileOf(MiB), { durability: 'none' });
  assert.equal(engine.peek('read'), undefined);
  await engine.assertIdle();
});

/** Reads the first piece, lets `meanwhile` happen, and gives the whole. */
async function readAround(engine: Engine, key: string, meanwhile: () => Promise<unknown>): Promise<Uint8Array> {
  const reading = held(engine, key).read(patience());
  const parts: Uint8Array[] = [];
  for await (const { piece, length } of reading) {
    parts.push(Uint8Array.from(piece.bytes.subarray(0, length)));
    piece.release();
    if (parts.length === 1) await meanwhile();
  }
  return Buffer.concat(parts);
}

for (const tier of ['hot', 'cold'] as const) {
  test(`a reader finishes on the bytes it began, though they are replaced or deleted (${tier})`, async (t) => {
    const engine = await startEngine(t);
    const size = 6 * PIECE_BYTES;
    const changes: [string, () => Promise<unknown>][] = [
      ['through', () => engine.put('k', fileOf(1000))],
      ['back', () => engine.put('k', fileOf(1000), { durability: 'back' })],
      ['none', () => engine.put('k', fileOf(1000), { durability: 'none' })],
      ['delete', () => engine.cache.delete(TENANT, 'k')],
      ['twice', () => engine.put('k', fileOf(10)).then(() => engine.put('k', fileOf(20)))],
    ];
    for (const [name, change] of changes) {
      const bytes = fileOf(size);
      await engine.put('k', bytes);
      if (tier === 'cold') await evict(engine, 'k');
      const found = await readAround(engine, 'k', async () => {
        await change();
        if (name !== 'delete') assert.notEqual(engine.peek('k')?.bytes, bytes.length);
      });
      assertSameBytes(found, bytes, `${name}, ${tier}`);
      await until(() => readdirSync(join(engine.path, 'incoming')).length === 0, 'the change is on disk');
      await engine.assertIdle();
    }
  });

  test(`a reader that waits for its first piece finds its bytes, though they are deleted before (${tier})`, async (t) => {
    const engine = await startEngine(t);
    const bytes = fileOf(PIECE_BYTES);
    await engine.put('k', bytes);
    if (tier === 'cold') await evict(engine, 'k');
    const pieces = await takeAll(engine.pieces);
    const reading = readAll(held(engine, 'k'));
    await until(() => engine.pieces.waiting > 0, 'somebody waits for a piece');
    await engine.cache.delete(TENANT, 'k');
    await engine.store.settle(); // the file is gone
    for (const piece of pieces) piece.release();
    assertSameBytes(await reading, bytes, 'what was read');
    await engine.assertIdle();
  });
}

test('a reader that leaves early gives everything back', async (t) => {
  const engine = await startEngine(t);
  const bytes = fileOf(6 * PIECE_BYTES);
  await engine.put('k', bytes);
  await engine.store.settle();
  const before = openFiles();
  for (const tier of ['hot', 'cold'] as const) {
    if (tier === 'cold') await evict(engine, 'k');
    await held(engine, 'k').read(patience()).return(); // before it began
    const reading = held(engine, 'k').read(patience());
    const first = await reading.next();
    first.value?.piece.release();
    await reading.return();
    assert.equal(engine.peek('k')?.tier, tier, 'half a read promotes nothing');
    await engine.assertIdle();
  }
  assert.equal(openFiles(), before);
  await assertHolds(engine, 'k', bytes);
});

test('a reader whose caller left stops waiting for pieces', async (t) => {
  const engine = await startEngine(t);
  await engine.put('k', fileOf(6 * PIECE_BYTES));
  const pieces = await takeAll(engine.pieces);
  const controller = new AbortController();
  const reading = readAll(held(engine, 'k'), controller.signal);
  await until(() => engine.pieces.waiting > 0, 'somebody waits for a piece');
  controller.abort(new Error('the caller left'));
  await assert.rejects(reading, /the caller left/);
  for (const piece of pieces) piece.release();
  await engine.assertIdle();
});

test('many readers of one cold entry read the same, and one of them promotes it', async (t) => {
  const engine = await startEngine(t);
  const bytes = fileOf(2 * PIECE_BYTES + 77);
  await engine.put('k', bytes);
  await evict(engine, 'k');
  const read = await Promise.all(Array.from({ length: 10 }, () => readAll(held(engine, 'k'))));
  for (const found of read) assertSameBytes(found, bytes, 'what was read');
  assert.equal(engine.peek('k')?.tier, 'hot');
  await engine.assertIdle();
});

test('puts of one key at the same time are all answered, and one of them is what is held', async (t) => {
  const engine = await startEngine(t);
  const files = Array.from({ length: 12 }, () => fileOf(1 + random.below(300_000)));
  const answers = await Promise.all(
    files.map((bytes, i) => engine.put('k', bytes, { durability: durabilities[i % 3] ?? 'none' })),
  );
  for (const [i, answer] of answers.entries())
    assert.equal(answer.digest, sha256(files[i] ?? new Uint8Array(0)).toString('hex'));
  assert.equal(answers.filter(({ created }) => created).length, 1);
  const last = engine.peek('k');
  const winner = files.find((bytes) => sha256(bytes).toString('hex') === last?.digest);
  assert.ok(winner);
  await assertHolds(engine, 'k', winner);
  await until(() => readdirSync(join(engine.path, 'incoming')).length === 0, 'all is on disk');
  await engine.assertIdle();
  await engine.reopen();
  const after = engine.peek('k');
  assert.ok(after === undefined || after.digest === last?.digest, 'something older came back');
});

test('a put, a delete and reads of one key at the same time leave the new entry or none', async (t) => {
  const engine = await startEngine(t);
  for (let round = 0; round < 20; round++) {
    const durability = random.pick<Durability>(['through', 'back', 'none']);
    const [old, next] = [fileOf(5000), fileOf(70_000)];
    await engine.put('k', old, { durability: random.pick<Durability>(['through', 'back', 'none']) });
    const read = engine.get('k');
    const [, deleted, found] = await Promise.all([
      engine.put('k', next, { durability }),
      engine.cache.delete(TENANT, 'k'),
      read,
    ]);
    assert.equal(deleted, true);
    assert.ok(found);
    assertSameBytes(found, old, 'what was read');
    const now = await engine.get('k');
    if (now) assertSameBytes(now, next, 'what is held');
    await engine.cache.delete(TENANT, 'k');
  }
  await until(() => readdirSync(join(engine.path, 'incoming')).length === 0, 'all is on disk');
  await engine.assertIdle();
  assert.equal(engine.cache.stats().entries, 0);
});

test('delete() removes from adapter and disk, once', async (t) => {
  const engine = await startEngine(t);
  for (const durability of durabilities) {
    await engine.put('k', fileOf(1000), { durability });
    assert.equal(await engine.cache.delete('somebody else', 'k'), false);
    assert.deepEqual(
      await Promise.all([engine.cache.delete(TENANT, 'k'), engine.cache.delete(TENANT, 'k')]),
      [true, false],
      durability,
    );
    assert.equal(engine.peek('k'), undefined);
    await engine.assertIdle();
  }
  await engine.store.settle();
  assert.equal(engine.cache.stats().bytes.disk, 0);
  await engine.reopen();
  assert.deepEqual(engine.all(), []);
});

test('list() pages through the names of one tenant in order, by prefix', async (t) => {
  const engine = await startEngine(t);
  const bytes = fileOf(10);
  const keys = ['a', 'a/1', 'a/10', 'a/2', 'a0', 'b', 'B', 'c/1', 'c/2', 'c/3', 'c/4', 'c/5'];
  for (const key of keys.toReversed()) await engine.put(key, bytes, { durability: 'none' });
  await engine.put('c/9', bytes, { tenant: 'other', durability: 'none' });
  const { cache } = engine;
  const pageAll = (prefix: string, limit: number): string[] => {
    const found: string[] = [];
    for (let cursor: string | null = ''; cursor !== null; ) {
      const page: ReturnType<typeof cache.list> = cache.list(TENANT, prefix, cursor, limit);
      assert.ok(page.entries.length <= limit);
      assert.ok(page.cursor === null || page.entries.length === limit, 'a page that is not full has a next');
      found.push(...page.entries.map(({ key }) => key));
      cursor = page.cursor;
    }
    return found;
  };
  for (const prefix of ['', 'a', 'a/', 'a/1', 'c/', 'z', 'B'])
    for (const limit of [1, 2, 3, 5, 1000])
      assert.deepEqual(
        pageAll(prefix, limit),
        keys.filter((key) => key.startsWith(prefix)).sort(),
        `${prefix} ${limit}`,
      );
  assert.deepEqual(
    cache.list('other', '', '', 10).entries.map(({ key }) => key),
    ['c/9'],
  );
  assert.deepEqual(cache.list('nobody', '', '', 10), { entries: [], cursor: null });
  assert.deepEqual(
    cache.list(TENANT, 'c/', 'a', 2).entries.map(({ key }) => key),
    ['c/1', 'c/2'],
    'a cursor before the prefix',
  );
  assert.deepEqual(cache.list(TENANT, 'a', 'c/1', 2).entries, [], 'a cursor behind it');
  await cache.delete(TENANT, 'c/2');
  assert.deepEqual(
    cache.list(TENANT, 'c/', 'c/2', 2).entries.map(({ key }) => key),
    ['c/3', 'c/4'],
    'a cursor whose key is gone',
  );
});

test('tenants do not see each other', async (t) => {
  const engine = await startEngine(t);
  const [mine, theirs] = [fileOf(100), fileOf(100)];
  await engine.put('k', mine);
  await engine.put('k', theirs, { tenant: 'other' });
  await assertHolds(engine, 'k', mine);
  const other = engine.cache.get('other', 'k');
  assert.ok(other);
  assertSameBytes(await readAll(other), theirs, 'theirs');
  assert.equal(engine.cache.peek('third', 'k'), undefined);
});

test('an adapter that dies takes what was only there; the rest is served cold, then hot again', async (t) => {
  const engine = await startEngine(t);
  const files = { through: fileOf(100_000), back: fileOf(PIECE_BYTES), none: fileOf(1000) };
  for (const durability of durabilities) await engine.put(durability, files[durability], { durability });
  await engine.killAdapter();
  assert.equal(engine.peek('none'), undefined);
  assert.equal(engine.cache.stats().lost, 1);
  assert.deepEqual(
    engine.all().map(({ key, tier, adapter }) => [key, tier, adapter]),
    [
      ['back', 'cold', null],
      ['through', 'cold', null],
    ],
  );
  assert.equal(engine.cache.stats().bytes.hot, 0);
  for (const key of ['through', 'back'] as const) {
    await assertHolds(engine, key, files[key]);
    assert.equal(held(engine, key).source, 'hot');
    await assertHolds(engine, key, files[key]);
  }
  assert.equal(engine.cache.stats().entries, 2);
  await engine.assertIdle();
});

/** Flushes wait until the result is called. */
function holdFlushes(t: TestContext, { store }: Engine): () => void {
  const gate = Promise.withResolvers<void>();
  t.after(() => gate.resolve()); // a cache is closed once it has flushed
  const begin = store.begin;
  t.mock.method(store, 'begin', async (aligned: boolean): Promise<StoreWriter> => {
    const writer = await begin(aligned);
    const commit: StoreWriter['commit'] = (...all) => gate.promise.then(() => writer.commit(...all));
    return { ...writer, commit };
  });
  return gate.resolve;
}

test('`back` is there, can be read and deleted, when its adapter dies before the disk has it', async (t) => {
  const engine = await startEngine(t);
  const flush = holdFlushes(t, engine);
  const bytes = fileOf(3 * PIECE_BYTES);
  await engine.put('read', bytes, { durability: 'back' });
  await engine.put('gone', fileOf(1000), { durability: 'back' });
  await engine.killAdapter();
  assert.equal(engine.peek('read')?.tier, 'cold');
  const reading = engine.get('read');
  const deleting = engine.cache.delete(TENANT, 'gone');
  flush();
  assertSameBytes((await reading) ?? new Uint8Array(0), bytes, 'what was answered');
  assert.equal(await deleting, true);
  assert.equal(engine.peek('gone'), undefined);
  await engine.assertIdle();
});

test('a reader on an adapter that dies goes on once `back` is on disk', async (t) => {
  const engine = await startEngine(t);
  const flush = holdFlushes(t, engine);
  const bytes = fileOf(8 * PIECE_BYTES);
  await engine.put('k', bytes, { durability: 'back' });
  const found = await readAround(engine, 'k', async () => {
    await engine.killAdapter();
    flush();
  });
  assertSameBytes(found, bytes, 'what was read');
  await engine.assertIdle();
});

test('an adapter that dies under a reader of replaced bytes is what the reader is told of', async (t) => {
  const engine = await startEngine(t);
  for (const change of [() => engine.put('k', fileOf(10)), () => engine.cache.delete(TENANT, 'k')]) {
    await engine.put('k', fileOf(8 * PIECE_BYTES));
    const reading = readAround(engine, 'k', async () => {
      await change();
      await engine.store.settle(); // the file is gone
      await engine.killAdapter();
    });
    await assert.rejects(reading, { code: 'adapter_lost' });
    await engine.assertIdle();
  }
  assert.doesNotMatch(engine.lines.join('\n'), /damaged/);
});

test('an adapter that dies under a reader costs it nothing if the bytes are durable', async (t) => {
  const engine = await startEngine(t);
  const bytes = fileOf(8 * PIECE_BYTES);
  await engine.put('k', bytes);
  const found = await readAround(engine, 'k', () => engine.killAdapter());
  assertSameBytes(found, bytes, 'what was read');
  await engine.assertIdle();
  await assertHolds(engine, 'k', bytes);
  assert.equal(engine.peek('k')?.tier, 'hot');

  await engine.put('k', bytes, { durability: 'none' });
  await assert.rejects(
    readAround(engine, 'k', () => engine.killAdapter()),
    { code: 'adapter_lost' },
  );
  assert.equal(engine.peek('k'), undefined);
  await engine.assertIdle();
});

test('a reader that falls to the disk halfway is not given damaged bytes as a whole answer', async (t) => {
  const engine = await startEngine(t);
  const bytes = fileOf(8 * PIECE_BYTES);
  for (const at of [100, bytes.length - 100]) {
    await engine.put('k', bytes);
    await engine.store.settle();
    const digest = engine.peek('k')?.digest ?? '';
    const file = join(engine.path, 'entries', digest.slice(0, 2), `${payloadName(TENANT, digest)}.safetensors`);
    const held = readFileSync(file);
    held[at] = (held[at] ?? 0) ^ 1;
    writeFileSync(file, held);
    await assert.rejects(
      readAround(engine, 'k', () => engine.killAdapter()),
      { code: 'record_damaged', message: /its sha-256 is/ },
    );
    await engine.store.settle();
    assert.match(engine.lines.join('\n'), /damaged on disk: tenant\/k/);
    await engine.cache.delete(TENANT, 'k');
    await engine.assertIdle();
  }
});

test('an adapter that dies under a put fails it with adapter_lost, and what was held stays', async (t) => {
  const engine = await startEngine(t);
  const old = fileOf(1000);
  await engine.put('k', old);
  for (const durability of durabilities) {
    const bytes = fileOf(4 * PIECE_BYTES);
    async function* chunks(): AsyncGenerator<Uint8Array, void, void> {
      let sent = 0;
      for await (const chunk of bodyOf(bytes)) {
        yield chunk;
        sent += chunk.length;
        if (sent === 2 * PIECE_BYTES) await engine.killAdapter();
      }
    }
    const failing = engine.put('k', bytes, { durability, body: { chunks: chunks(), length: bytes.length } });
    await assert.rejects(failing, { code: 'adapter_lost' });
    await assertHolds(engine, 'k', old);
    await engine.assertIdle();
  }
});

test('put() that fails changes nothing', async (t) => {
  const engine = await startEngine(t, { cache: { bodyBytesMax: 20 * MiB } });
  const old = fileOf(1000);
  await engine.put('k', old);
  const bytes = fileOf(2 * PIECE_BYTES);
  await engine.put('k', bytes); // the thread that hashes runs from here on
  await engine.put('k', old);
  async function* cut(): AsyncGenerator<Uint8Array, void, void> {
    yield bytes.subarray(0, PIECE_BYTES + 5);
    throw new Error('the connection ended');
  }
  const leaving = new AbortController();
  async function* aborted(): AsyncGenerator<Uint8Array, void, void> {
    yield bytes.subarray(0, PIECE_BYTES + 5);
    leaving.abort(new Error('the caller left'));
    yield bytes.subarray(PIECE_BYTES + 5);
  }
  const wrong = { bytes: sha256(old), proven: false };
  const failures: [Partial<PutOptions>, RegExp | { code: string }][] = [
    [{ digest: wrong }, { code: 'digest_mismatch' }],
    [{ body: { chunks: bodyOf(bytes.subarray(0, -1)), length: undefined } }, { code: 'tensors_truncated' }],
    [{ body: { chunks: bodyOf(Buffer.concat([bytes, bytes])), length: undefined } }, { code: 'tensors_trailing' }],
    [{ body: { chunks: bodyOf(bytes), length: 21 * MiB } }, { code: 'body_too_large' }],
    [{ body: { chunks: bodyOf(new Uint8Array(100)), length: 100 } }, { code: 'tensors_header_malformed' }],
    [{ body: { chunks: cut(), length: bytes.length } }, /connection ended/],
    [{ body: { chunks: aborted(), length: bytes.length }, signal: leaving.signal }, /the caller left/],
  ];
  await engine.store.settle();
  const before = openFiles();
  for (const [options, wanted] of failures) {
    for (const key of ['k', 'new']) {
      if (key === 'new' && options.body) continue; // its body is spent
      await assert.rejects(engine.put(key, bytes, options), wanted);
    }
    await engine.assertIdle();
  }
  assert.equal(openFiles(), before);
  assert.deepEqual(
    engine.all().map(({ key }) => key),
    ['k'],
  );
  await assertHolds(engine, 'k', old);
  const right = { bytes: sha256(bytes), proven: false };
  await engine.put('k', bytes, { digest: right });
  await engine.reopen();
  await assertHolds(engine, 'k', bytes);
});

test('put() beyond CACHE_ENTRIES_MAX is capacity_exhausted; replacing and deleting go on', async (t) => {
  const engine = await startEngine(t, { cache: { entriesMax: 2 } });
  const bytes = fileOf(10);
  await engine.put('a', bytes);
  await engine.put('b', bytes, { durability: 'none' });
  await assert.rejects(engine.put('c', bytes), { code: 'capacity_exhausted' });
  await engine.put('a', bytes);
  await engine.cache.delete(TENANT, 'b');
  await engine.put('c', bytes);
  await engine.assertIdle();
});

test('without an adapter the disk is served, and puts are adapter_unavailable', async (t) => {
  const engine = await startEngine(t);
  const bytes = fileOf(PIECE_BYTES + 1);
  await engine.put('k', bytes);
  await engine.pool.close();
  for (let i = 0; i < 2; i++) {
    assert.equal(engine.peek('k')?.tier, 'cold');
    await assertHolds(engine, 'k', bytes);
  }
  for (const durability of durabilities)
    await assert.rejects(engine.put('k', bytes, { durability }), { code: 'adapter_unavailable', status: 503 });
  assert.equal(await engine.cache.delete(TENANT, 'k'), true);
  assert.equal(engine.pieces.free, engine.pieces.count);
});

test('a payload that is shorter than its record is record_damaged, and promotes nothing', async (t) => {
  const engine = await startEngine(t);
  const bytes = fileOf(6 * PIECE_BYTES);
  const { digest } = await engine.put('k', bytes);
  await evict(engine, 'k');
  await engine.store.settle();
  const before = openFiles();
  truncateSync(
    join(engine.path, 'entries', digest.slice(0, 2), `${payloadName(TENANT, digest)}.safetensors`),
    4 * PIECE_BYTES + 3,
  );
  await assert.rejects(engine.get('k'), { code: 'record_damaged', message: new RegExp(`byte ${4 * PIECE_BYTES + 3}`) });
  assert.equal(engine.peek('k')?.tier, 'cold');
  await engine.store.settle(); // it looks at what it was told is damaged
  assert.equal(openFiles(), before);
  await engine.assertIdle();
});

test('entries spread over adapters, and lose only what lies on the one that dies', async (t) => {
  const engine = await startEngine(t, { pool: { adapters: [SOURCE, SOURCE] } });
  const files = new Map(Array.from({ length: 6 }, (_, i) => [`k${i}`, fileOf(500_000 + i)]));
  for (const [key, bytes] of files) await engine.put(key, bytes, { durability: 'none' });
  const on = (adapter: string) => engine.all().filter((entry) => entry.adapter === adapter);
  const first = on('adapter-0').length;
  assert.ok(first > 0 && first < 6, `${first} of 6 are on the first adapter`);
  const kept = on('adapter-1').map(({ key }) => key);
  process.kill(engine.pid(), 'SIGKILL');
  await until(() => engine.cache.stats().lost === first, 'the loss was seen');
  assert.deepEqual(
    engine.all().map(({ key }) => key),
    kept,
  );
  for (const key of kept) await assertHolds(engine, key, files.get(key) ?? new Uint8Array(0));
  await until(() => engine.pool.report().every(({ state }) => state === 'ready'), 'both serve again');
  await engine.assertIdle();
});

test('stats() counts', async (t) => {
  const engine = await startEngine(t);
  const bytes = fileOf(1000);
  await engine.put('a', bytes);
  await engine.put('b', bytes);
  await engine.put('n', bytes, { durability: 'none' });
  await engine.get('a');
  await engine.get('missing');
  await engine.cache.delete(TENANT, 'n');
  await evict(engine, 'b'); // used before a
  await engine.get('b');
  const stats = engine.cache.stats();
  assert.deepEqual(stats.hits, { hot: 1, cold: 1 });
  assert.deepEqual([stats.entries, stats.misses, stats.puts, stats.deletes], [2, 1, 4, 2]);
  assert.equal(stats.bytes.disk, bytes.length, 'equal payloads count once');
});

// ---- everything at once

/** What may be found under a key: exactly this, or, where that is allowed, nothing. */
interface Expected {
  readonly bytes: Uint8Array;
  readonly durability: Durability;
}

/** All of one candidate, or nothing where one of them may be gone. */
function assertOneOf(name: string, found: Uint8Array | undefined, candidates: (Expected | undefined)[]): void {
  if (!found) {
    const mayBeGone = candidates.some((one) => one === undefined || one.durability === 'none');
    assert.ok(mayBeGone, `${name} is gone`);
    return;
  }
  const match = candidates.some((one) => one && Buffer.compare(one.bytes, found) === 0);
  assert.ok(match, `${name} holds ${found.length} bytes that nobody put there last`);
}

async function walk(t: TestContext, rounds: number): Promise<void> {
  const engine = await startEngine(t);
  const pages = 80;
  engine.leavePages(pages);
  const model = new Map<string, Expected>();
  const key = () => `k${random.below(12)}`;
  const size = () =>
    random.pick([0, random.below(1000), random.below(200_000), random.below(2 * MiB), 4 * MiB + 70_000]);
  let kills = 0;

  const put = async (name: string): Promise<void> => {
    const expected = {
      bytes: fileOf(size()),
      durability: random.pick<Durability>(['through', 'back', 'none']),
    };
    const known = random.below(2) > 0;
    const length = known ? expected.bytes.length : undefined;
    const chunks = bodyOf(expected.bytes, 1 + random.below(100_000) + (expected.bytes.length >> 6));
    const digest = random.below(2) > 0 ? { bytes: sha256(expected.bytes), proven: false } : undefined;
    try {
      await engine.put(name, expected.bytes, { durability: expected.durability, body: { chunks, length }, digest });
      model.set(name, expected);
    } catch (error) {
      if ((error as { code?: string }).code !== 'capacity_exhausted' || expected.durability !== 'none') throw error;
    }
  };
  const check = async (name: string, ...candidates: (Expected | undefined)[]): Promise<void> =>
    assertOneOf(name, await engine.get(name), candidates);
  const remove = async (name: string): Promise<void> => {
    const there = engine.peek(name) !== undefined;
    assert.equal(await engine.cache.delete(TENANT, name), there);
    model.delete(name);
  };
  const dropVolatile = () => {
    for (const [name, { durability }] of model) if (durability === 'none') model.delete(name);
  };
  const settled = () => until(() => readdirSync(join(engine.path, 'incoming')).length === 0, 'all is on disk');
  const actions: [weight: number, act: () => Promise<unknown>][] = [
    [40, () => put(key())],
    [
      40,
      () => {
        const name = key();
        return check(name, model.get(name));
      },
    ],
    [10, () => remove(key())],
    [
      12,
      async () => {
        const names = [...new Set(Array.from({ length: 5 }, key))];
        const before = new Map(names.map((name) => [name, model.get(name)]));
        const putting = names.filter(() => random.below(2) > 0).map(put);
        const reading = names.map(async (name) => ({ name, found: await engine.get(name) }));
        await Promise.all(putting);
        for (const { name, found } of await Promise.all(reading))
          assertOneOf(name, found, [before.get(name), model.get(name)]);
      },
    ],
    [6, evictAll],
    [
      2,
      async () => {
        if (++kills > 4) return;
        await engine.killAdapter();
        dropVolatile();
        await settled();
        engine.leavePages(pages);
      },
    ],
    [
      2,
      async () => {
        await engine.reopen();
        kills = 0;
        dropVolatile();
        engine.leavePages(pages);
      },
    ],
  ];
  async function evictAll(): Promise<void> {
    await settled();
    const pusher = fileOf((pages - 1) * PAGE_BYTES);
    // Refused until the last entry that was on its way to the disk has arrived.
    const pushes = () => engine.put('pusher', pusher, { durability: 'none' }).catch(() => undefined);
    for (let tries = 0; !(await pushes()); tries++) {
      assert.ok(tries < 100, 'nothing can be evicted');
      await sleep(10);
    }
    await engine.cache.delete(TENANT, 'pusher');
    assert.ok(engine.all().every(({ tier }) => tier === 'cold'));
  }
  const deck = actions.flatMap(([weight, act]) => Array.from({ length: weight }, () => act));
  for (let round = 0; round < rounds; round++) {
    const act = deck[random.below(deck.length)];
    assert.ok(act);
    await act();
    await settled();
    await engine.assertIdle();
    for (const { key: name, digest } of engine.all()) {
      const expected = model.get(name);
      assert.ok(expected, `${name} should be gone`);
      assert.equal(digest, sha256(expected.bytes).toString('hex'));
    }
    for (const [name, { durability }] of model)
      if (durability !== 'none') assert.ok(engine.peek(name), `${name} (${durability}) is gone`);
  }
  for (const [name, expected] of model) await check(name, expected);
  await engine.reopen();
  for (const [name, expected] of model) await check(name, expected.durability === 'none' ? undefined : expected);
  assert.equal(engine.all().length, [...model.values()].filter(({ durability }) => durability !== 'none').length);
}

test('a random walk of everything keeps every promise', async (t) => {
  const rounds = Number(process.env.CACHE_ROUNDS ?? 150);
  t.diagnostic(`SEED=${random.seed} CACHE_ROUNDS=${rounds}`);
  await walk(t, rounds);
});

test('damaged bytes on disk are never a whole answer, and the same bytes put again mend them', async (t) => {
  const engine = await startEngine(t);
  for (const size of [1000, 3 * PIECE_BYTES]) {
    const bytes = fileOf(size);
    await engine.put('k', bytes);
    await evict(engine, 'k');
    flipOnDisk(engine.path, bytes);
    await assert.rejects(engine.get('k'), { code: 'record_damaged' });
    assert.equal(engine.peek('k')?.tier, 'cold', 'it was not promoted');
    assert.equal((await engine.put('same', bytes)).deduplicated, false);
    await evict(engine, 'same');
    await assertHolds(engine, 'k', bytes);
    await engine.cache.delete(TENANT, 'k');
    await engine.cache.delete(TENANT, 'same');
    await engine.assertIdle();
  }
});

test('a body that announces much and brings little evicts only for what it brought', async (t) => {
  const engine = await startEngine(t);
  const fleeting = fileOf(8 * PIECE_BYTES);
  engine.leavePages((14 * PIECE_BYTES) / PAGE_BYTES);
  await engine.put('fleeting', fleeting, { durability: 'none' });
  const promised = fileOf(12 * PIECE_BYTES);
  async function* cut(): AsyncGenerator<Uint8Array, void, void> {
    yield* bodyOf(promised.subarray(0, 3 * PIECE_BYTES));
    throw new Error('the caller left');
  }
  const body = { chunks: cut(), length: promised.length };
  await assert.rejects(engine.put('promised', promised, { durability: 'none', body }), /the caller left/);
  await assertHolds(engine, 'fleeting', fleeting);
  assert.equal(engine.cache.stats().evictions, 0);
  await engine.put('promised', promised, { durability: 'none' });
  assert.equal(await engine.get('fleeting'), undefined, 'a whole body does evict');
  await assertHolds(engine, 'promised', promised);
  await engine.assertIdle();
});

test('close() does not wait for all that has expired: the next start goes on with it', async (t) => {
  const facts = { tenant: TENANT, digest: '', bytes: 1, codec: 'raw', dtype: null, shape: null, tensors: 1 };
  const due = Array.from({ length: 1000 }, (_, i) =>
    newEntry({ ...facts, key: `${i}`, priority: 50, createdAt: 0, expiresAt: 1 }, undefined, true),
  );
  const begun = Promise.withResolvers<void>();
  const goOn = Promise.withResolvers<boolean>();
  let discarded = 0;
  t.mock.timers.enable({ apis: ['setInterval'] });
  const sweep = startSweep({
    due: () => due,
    discard() {
      if (++discarded === 16) begun.resolve();
      return goOn.promise;
    },
    log: (line) => assert.fail(line),
  });
  t.mock.timers.tick(5000);
  await begun.promise;
  const closed = sweep.close();
  goOn.resolve(true);
  await closed;
  assert.deepEqual([discarded, sweep.expired], [16, 16]);
});

test('expired entries leave the disk a few at a time, and writers get through meanwhile', async (t) => {
  const engine = await startEngine(t);
  for (let i = 0; i < 300; i++) await engine.put(`short/${i}`, fileOf(10), { ttlSeconds: 1 });
  await engine.put('lasting', fileOf(10));
  engine.clock.now += 2000;
  assert.deepEqual(
    engine.all().map(({ key }) => key),
    ['lasting'],
  );
  await until(() => engine.cache.stats().expired === 300, 'all are gone', 20_000);
  assert.equal(engine.cache.stats().entries, 1);
  await engine.put('after', fileOf(10));
  await engine.assertIdle();
});
