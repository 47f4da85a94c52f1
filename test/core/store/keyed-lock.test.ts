// The keyed lock: in order under one key, side by side under others, whatever the work does.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createKeyedLock } from '../../../core/store/keyed-lock.ts';
import { seeded } from '../../support/seeded.ts';

test('run() does the work of one key in the order given, one at a time', async (t) => {
  const random = seeded();
  t.diagnostic(`SEED=${random.seed}`);
  const lock = createKeyedLock();
  const order = new Map<string, number[]>();
  const busy = new Set<string>();
  const all = Array.from({ length: 200 }, (_, i) => {
    const key = `key ${random.below(5)}`;
    return lock.run(key, async () => {
      assert.ok(!busy.has(key), 'two at a time');
      busy.add(key);
      await sleep(random.below(3));
      order.set(key, [...(order.get(key) ?? []), i]);
      busy.delete(key);
      return i;
    });
  });
  assert.deepEqual(
    await Promise.all(all),
    all.map((_, i) => i),
  );
  for (const list of order.values())
    assert.deepEqual(
      list,
      list.toSorted((a, b) => a - b),
    );
});

test('run() holds up no other key', async () => {
  const lock = createKeyedLock();
  const gate = Promise.withResolvers<void>();
  const slow = lock.run('slow', () => gate.promise);
  assert.equal(await lock.run('other', async () => 'done'), 'done');
  gate.resolve();
  await slow;
});

test('run() goes on after work that failed, and only its caller hears of it', async () => {
  const lock = createKeyedLock();
  const failed = lock.run('key', async () => {
    throw new Error('rejected');
  });
  const threw = lock.run('key', () => {
    throw new Error('thrown');
  });
  const next = lock.run('key', async () => 'next');
  await assert.rejects(failed, /rejected/);
  await assert.rejects(threw, /thrown/);
  assert.equal(await next, 'next');
});

test('run() under a key may be asked for from within its own work, and comes after it', async () => {
  const lock = createKeyedLock();
  const order: string[] = [];
  let inner: Promise<void> | undefined;
  await lock.run('key', async () => {
    inner = lock.run('key', async () => void order.push('inner'));
    await sleep(5);
    order.push('outer');
  });
  await inner;
  assert.deepEqual(order, ['outer', 'inner']);
});
