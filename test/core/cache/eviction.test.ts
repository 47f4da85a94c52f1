// Who leaves an adapter for others, on a real one: by lru, nobody in vain, and nobody who is being read.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PAGE_BYTES } from '../../../core/gpu/arena.ts';
import { PIECE_BYTES } from '../../../core/gpu/pieces.ts';
import { assertSameBytes } from '../../support/bytes.ts';
import { assertHolds, fileOf, held, LRU, MiB } from '../../support/cache.ts';
import { bodyOf, patience, readAll, startEngine } from '../../support/engine.ts';

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
