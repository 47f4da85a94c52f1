// The cache over a real pool and a real store: what it holds is bit-exact wherever it lies, what it answered stays, and
// pages, pieces and files add up after everything that can happen to an entry.

import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { PutOptions } from '../../../core/cache/cache.ts';
import { joinParts, tensorParts } from '../../../core/contract/tensors.ts';
import { PIECE_BYTES } from '../../../core/gpu/pieces.ts';
import { assertSameBytes } from '../../support/bytes.ts';
import { assertHolds, durabilities, evict, fileOf, held, MiB, openFiles, random, sha256 } from '../../support/cache.ts';
import { bodyOf, readAll, startEngine, TENANT } from '../../support/engine.ts';
import { until } from '../../support/until.ts';

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
