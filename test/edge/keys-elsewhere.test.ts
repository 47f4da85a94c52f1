// The keys of a core elsewhere, on a core that a test plays: how long each is kept, and who pushes out whom.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nodeCrypto } from '../../core/contract/crypto-node.ts';
import { sealKey } from '../../core/contract/internal.ts';
import { createCores } from '../../edge/cores.ts';
import { keysElsewhere } from '../../edge/forward.ts';

const KEEP_MS = 30_000;
const internalSecret = new Uint8Array(32).fill(1);

/** A core that has one key; whom it was asked for. */
function open() {
  const clock = { now: 1_800_000_000_000 };
  const now = () => clock.now;
  const asked: string[] = [];
  const key = { keyid: 'mine', tenant: 'a', scopes: ['tensors:read'], secret: new Uint8Array(32).fill(2) };
  const fetch: typeof globalThis.fetch = async (input) => {
    const keyid = new URL(String(input)).pathname.split('/').at(-1) ?? '';
    asked.push(keyid);
    return keyid === key.keyid
      ? Response.json({ sealed: await sealKey(internalSecret, key) })
      : new Response('{}', { status: 404 });
  };
  const cores = createCores({ urls: ['http://core'], away: 'refuse', now, random: Math.random });
  return { clock, asked, keyOf: keysElsewhere({ cores, internalSecret, crypto: nodeCrypto, fetch, now }, KEEP_MS) };
}

test('a key is kept as long as is said, and that there is none for five seconds', async () => {
  const { clock, asked, keyOf } = open();
  for (let i = 0; i < 3; i++) {
    assert.equal((await keyOf('mine'))?.tenant, 'a');
    assert.equal(await keyOf('none'), undefined);
  }
  assert.deepEqual(asked, ['mine', 'none']);
  clock.now += 5000;
  await keyOf('mine');
  await keyOf('none');
  assert.deepEqual(asked.slice(2), ['none']);
  clock.now += KEEP_MS - 5000;
  await keyOf('mine');
  assert.deepEqual(asked.slice(3), ['mine']);
});

test('whoever tries names at random pushes out no key that is in use', async () => {
  const { asked, keyOf } = open();
  await keyOf('mine');
  for (let i = 0; i < 10_001; i++) await keyOf(`none-${i}`);
  await keyOf('mine');
  assert.equal(asked.filter((keyid) => keyid === 'mine').length, 1);
});
