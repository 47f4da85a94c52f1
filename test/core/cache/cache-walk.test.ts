// A random walk of everything that the cache does, on a real adapter and a real disk.
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Durability } from '../../../core/contract/messages.ts';
import { PAGE_BYTES } from '../../../core/gpu/arena.ts';
import { fileOf, MiB, random, sha256 } from '../../support/cache.ts';
import { bodyOf, startEngine, TENANT } from '../../support/engine.ts';
import { until } from '../../support/until.ts';

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
