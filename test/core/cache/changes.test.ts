// Changes of tensors: heard at once by who is beside, followed by number from elsewhere; and what is told on a real engine.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createChanges } from '../../../core/cache/changes.ts';
import { tensorFile } from '../../support/blatam.ts';
import { startEngine } from '../../support/engine.ts';

test('a change is heard before it is told, and followed by who comes later', async () => {
  const changes = createChanges(() => 1_800_000_000_000);
  const heard: string[] = [];
  changes.hear((tenant, key) => heard.push(`${tenant}/${key}`));
  const follow = changes.follow(undefined, 60_000, AbortSignal.timeout(60_000));
  const { value: begin } = await follow.next();
  changes.tell('t', 'a');
  assert.deepEqual(heard, ['t/a']);
  changes.tell('u', 'b');
  const first = await follow.next();
  assert.deepEqual(first.value, { id: Number(begin) + 1, type: 'TensorChanged', tenant: 't', key: 'a' });
  const again = changes.follow(Number(begin) + 1, 60_000, AbortSignal.timeout(60_000));
  await again.next();
  assert.deepEqual((await again.next()).value, {
    ...{ id: Number(begin) + 2, type: 'TensorChanged' },
    tenant: 'u',
    key: 'b',
  });
  changes.close();
  assert.equal((await follow.next()).done, true);
});

test('whatever ends or replaces what a key holds is a change of it, told before its caller is answered', async (t) => {
  const told: string[] = [];
  const engine = await startEngine(t, { cache: { changed: (_, key) => told.push(key) } });
  const changesIn = async (work: () => Promise<unknown>) => {
    told.length = 0;
    await work();
    return [...new Set(told)].sort();
  };
  assert.deepEqual(await changesIn(() => engine.put('a', tensorFile(100))), ['a']);
  assert.deepEqual(await changesIn(() => engine.put('a', tensorFile(200))), ['a']);
  assert.deepEqual(await changesIn(() => engine.get('a')), []);
  assert.deepEqual(await changesIn(() => engine.cache.delete('tenant', 'a')), ['a']);
  await engine.put('only', tensorFile(100), { durability: 'none' });
  assert.deepEqual(await changesIn(() => engine.killAdapter()), ['only']);
});
