// Batches over a real engine: every entry is as if it had been put or read alone, in one run to and one from the adapter.

import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { type BatchPutting, type Gotten, getMany, putMany } from '../../../core/cache/batch.ts';
import { Problem } from '../../../core/contract/problems.ts';
import { joinParts, tensorParts } from '../../../core/contract/tensors.ts';
import { takeAll } from '../../support/adapters.ts';
import { assertSameBytes } from '../../support/bytes.ts';
import { type Engine, patience, startEngine, TENANT } from '../../support/engine.ts';
import { seeded } from '../../support/seeded.ts';
import { until } from '../../support/until.ts';

const MiB = 1 << 20;
const random = seeded();

const fileOf = (bytes: number): Uint8Array =>
  joinParts(tensorParts([{ name: 'x', dtype: 'U8', shape: [bytes], data: random.bytes(bytes) }]));

const entry = (key: string, file: Uint8Array, more: Partial<BatchPutting> = {}): BatchPutting => ({
  ...{ tenant: TENANT, key, file, ttlSeconds: undefined, priority: 50, durability: 'through', signal: patience() },
  ...more,
});
const get = (engine: Engine, keys: readonly string[], bytesMax = 16 * MiB) =>
  getMany(engine.cache, { tenant: TENANT, keys, bytesMax, signal: patience() });

/** What the first adapter was asked: frames of each kind. */
function asked(t: TestContext, engine: Engine): Record<'write' | 'read' | 'run', number> {
  const count = { write: 0, read: 0, run: 0 };
  const { lease } = engine.pool;
  t.mock.method(engine.pool, 'lease', (...options: Parameters<typeof lease>) => {
    const made = lease(...options);
    for (const name of ['write', 'read', 'run'] as const) {
      const method = made[name].bind(made) as (...words: unknown[]) => Promise<never>;
      Object.assign(made, {
        [name]: (...words: unknown[]) => {
          count[name]++;
          return method(...words);
        },
      });
    }
    return made;
  });
  return count;
}

function codes(done: readonly (Problem | object)[]): (string | undefined)[] {
  return done.map((one) => (one instanceof Problem ? one.code : undefined));
}
const fileIn = (one: Gotten | Problem | undefined): Uint8Array => {
  assert.ok(one && !(one instanceof Problem), String(one));
  return one.file;
};

for (const transport of ['ring', 'socket'] as const)
  test(`256 small tensors go up in one run, and come down in one (${transport})`, async (t) => {
    t.diagnostic(`SEED=${random.seed}`);
    const engine = await startEngine(t, { transport });
    const count = asked(t, engine);
    const files = Array.from({ length: 256 }, (_, i) => fileOf(i === 0 ? 0 : random.below(8000)));
    const keys = files.map((_, i) => `small/${i}`);
    const durabilities = ['through', 'back', 'none'] as const;
    const stored = await putMany(
      engine.cache,
      files.map((file, i) => entry(`small/${i}`, file, { durability: random.pick(durabilities) })),
    );
    assert.deepEqual(codes(stored), Array(256).fill(undefined));
    assert.deepEqual(count, { write: 0, read: 0, run: 1 });
    const found = await get(engine, keys);
    for (const [i, file] of files.entries()) assertSameBytes(fileIn(found[i]), file, keys[i] ?? '');
    assert.deepEqual(count, { write: 0, read: 0, run: 2 });
    for (const [i, key] of keys.entries())
      assertSameBytes((await engine.get(key)) ?? new Uint8Array(), files[i] ?? new Uint8Array(), key);
    await engine.assertIdle();
  });

test('each entry fails by itself: malformed, unknown, without room, from disk, large', async (t) => {
  const engine = await startEngine(t);
  const file = fileOf(1000);
  const large = fileOf(5 * MiB);
  const stored = await putMany(engine.cache, [
    entry('a', file),
    entry('wrong', random.bytes(100)),
    entry('short', file.subarray(0, 500)),
    entry('large', large),
    entry('b', file),
  ]);
  assert.deepEqual(codes(stored), [undefined, 'tensors_header_too_large', 'tensors_truncated', undefined, undefined]);
  assert.deepEqual(
    engine.all().map(({ key }) => key),
    ['a', 'b', 'large'],
  );
  await engine.reopen(); // from disk now
  const found = await get(engine, ['b', 'none', 'large', 'a']);
  assert.deepEqual(codes(found), [undefined, 'tensor_unknown', undefined, undefined]);
  assertSameBytes(fileIn(found[0]), file, 'b');
  assertSameBytes(fileIn(found[2]), large, 'large');
  engine.leavePages(0);
  const full = await putMany(engine.cache, [
    entry('disk', fileOf(60_000)),
    entry('none', fileOf(60_000), { durability: 'none' }),
  ]);
  assert.equal(full.filter((one) => one instanceof Problem && one.code !== 'capacity_exhausted').length, 0);
  assertSameBytes((await engine.get('a')) ?? new Uint8Array(), file, 'a');
  await engine.assertIdle();
});

test('an answer is bounded in bytes: what is beyond is refused, what fits behind it is not', async (t) => {
  const engine = await startEngine(t);
  await putMany(
    engine.cache,
    [1000, 5000, 2000].map((bytes, i) => entry(`k${i}`, fileOf(bytes))),
  );
  assert.deepEqual(codes(await get(engine, ['k0', 'k1', 'k2'], 4000)), [undefined, 'batch_full', undefined]);
});

test('an adapter that dies takes nothing with it that is on disk', async (t) => {
  const engine = await startEngine(t);
  const files = Array.from({ length: 20 }, () => fileOf(3000));
  const keys = files.map((_, i) => `k${i}`);
  await putMany(
    engine.cache,
    files.map((file, i) => entry(`k${i}`, file)),
  );
  const reading = get(engine, keys);
  process.kill(engine.pid(), 'SIGKILL');
  const found = await reading;
  for (const [i, file] of files.entries()) assertSameBytes(fileIn(found[i]), file, keys[i] ?? '');
});

test('an entry that is replaced while the batch waits for its turn is the new one, if that still fits', async (t) => {
  const engine = await startEngine(t);
  const keys = ['1', '2', '3', '4', 'smaller', 'larger', 'gone'];
  for (const key of keys) await engine.put(key, fileOf(70_000), { durability: 'none' });
  const taken = await takeAll(engine.pieces);
  const found = get(engine, keys);
  await until(() => engine.pieces.waiting === 4, 'the first four wait for pieces');
  const smaller = fileOf(1000);
  await engine.put('smaller', smaller, { durability: 'none' });
  await engine.cache.delete(TENANT, 'gone');
  const putting = engine.put('larger', fileOf(90_000), { durability: 'none' });
  await until(() => engine.pieces.waiting === 5, 'so does the larger one');
  taken.pop()?.release();
  for (const piece of taken.reverse()) piece.release();
  const all = await found;
  await putting;
  const [told] = codes(all).slice(5);
  assert.ok(told === undefined || told === 'batch_full', told);
  assert.deepEqual(codes(all).toSpliced(5, 1), [
    undefined,
    undefined,
    undefined,
    undefined,
    undefined,
    'tensor_unknown',
  ]);
  assertSameBytes(fileIn(all[4]), smaller, 'smaller');
  await engine.assertIdle();
});
