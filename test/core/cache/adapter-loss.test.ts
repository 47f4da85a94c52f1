// Adapters that die under the cache, and what is damaged on disk: what is durable is served, what is not is told, and damaged bytes
// are never a whole answer.
import assert from 'node:assert/strict';
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { PIECE_BYTES } from '../../../core/gpu/pieces.ts';
import { payloadName } from '../../../core/store/records.ts';
import type { StoreWriter } from '../../../core/store/store.ts';
import { SOURCE } from '../../support/adapters.ts';
import { assertSameBytes } from '../../support/bytes.ts';
import {
  assertHolds,
  durabilities,
  evict,
  fileOf,
  flipOnDisk,
  held,
  openFiles,
  readAround,
} from '../../support/cache.ts';
import { bodyOf, type Engine, startEngine, TENANT } from '../../support/engine.ts';
import { until } from '../../support/until.ts';

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
