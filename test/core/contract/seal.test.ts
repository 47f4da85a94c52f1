// Sealed secrets: open with the same master and context, and with nothing else.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { seal, unseal } from '../../../core/contract/seal.ts';
import { seeded } from '../../support/seeded.ts';

const random = seeded();
const master = random.bytes(32);
const secret = random.bytes(40);

test('unseal() gives what seal() was given', async () => {
  for (const length of [0, 1, 15, 16, 17, 4096]) {
    const bytes = random.bytes(length);
    assert.deepEqual(await unseal(master, await seal(master, bytes, 'context'), 'context'), bytes);
  }
});

test('seal() never gives the same twice, and shows nothing of the secret', async () => {
  const first = await seal(master, secret, 'context');
  const second = await seal(master, secret, 'context');
  assert.notDeepEqual(first, second);
  assert.notDeepEqual(first.subarray(0, 12), second.subarray(0, 12), 'the nonce repeats');
  assert.equal(Buffer.from(first).includes(Buffer.from(secret)), false);
  assert.equal(first.length, 12 + secret.length + 16);
});

test('unseal() refuses another master, another context and every flipped bit', async () => {
  const sealed = await seal(master, secret, 'context');
  await assert.rejects(unseal(random.bytes(32), sealed, 'context'));
  for (const context of ['', 'contex', 'context ', 'Context']) await assert.rejects(unseal(master, sealed, context));
  for (let bit = 0; bit < sealed.length * 8; bit++) {
    const changed = Uint8Array.from(sealed);
    changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    await assert.rejects(unseal(master, changed, 'context'), `bit ${bit}`);
  }
});

test('unseal() refuses what is too short or too long', async () => {
  const sealed = await seal(master, secret, 'context');
  for (let length = 0; length < sealed.length; length++)
    await assert.rejects(unseal(master, sealed.subarray(0, length), 'context'), `${length} bytes`);
  await assert.rejects(unseal(master, Uint8Array.of(...sealed, 0), 'context'));
});

test('seal() and unseal() read views of larger memory where they begin', async () => {
  const around = Uint8Array.of(1, 2, ...secret, 3);
  const sealed = await seal(master, around.subarray(2, 2 + secret.length), 'context');
  const shifted = Uint8Array.of(9, ...sealed, 9);
  assert.deepEqual(await unseal(master, shifted.subarray(1, -1), 'context'), secret);
});
