// Readers of the cache on a real adapter and a real disk: of what is replaced, leaves or is wanted by many at the same time, and those
// who leave early.
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Durability } from '../../../core/contract/messages.ts';
import { PAGE_BYTES } from '../../../core/gpu/arena.ts';
import { PIECE_BYTES } from '../../../core/gpu/pieces.ts';
import { takeAll } from '../../support/adapters.ts';
import { assertSameBytes } from '../../support/bytes.ts';
import {
  assertHolds,
  durabilities,
  evict,
  fileOf,
  held,
  openFiles,
  random,
  readAround,
  sha256,
} from '../../support/cache.ts';
import { patience, readAll, startEngine, TENANT } from '../../support/engine.ts';
import { until } from '../../support/until.ts';

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
