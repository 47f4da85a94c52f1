// What an edge says to a core elsewhere: who called, which cannot be the edge itself, and keys, which travel sealed.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { toBase64 } from '../../../core/contract/crypto.ts';
import {
  decodeCaller,
  edgeItself,
  encodeCaller,
  INTERNAL_SCOPE,
  sealKey,
  unsealKey,
} from '../../../core/contract/internal.ts';
import { seal } from '../../../core/contract/seal.ts';
import { seeded } from '../../support/seeded.ts';

const random = seeded();
const internalSecret = random.bytes(32);
const key = { keyid: 'k1', tenant: 'tenant ä', scopes: ['tensors:read'], secret: random.bytes(32) };
const json = (value: unknown) => toBase64(new TextEncoder().encode(JSON.stringify(value)));

test('decodeCaller() gives what encodeCaller() was given, in a field that a header can hold', () => {
  const caller = { keyid: 'k1', tenant: 'ténant 💥', scopes: ['tensors:read', 'tensors:write'] };
  const field = encodeCaller(caller);
  assert.match(field, /^[A-Za-z0-9+/=]+$/);
  assert.deepEqual(decodeCaller(field), caller);
  const restricted = { ...caller, restrictions: { prefixes: ['a/'] }, expiresAt: 5 };
  assert.deepEqual(decodeCaller(encodeCaller(restricted)), restricted);
  assert.deepEqual(decodeCaller(encodeCaller({ keyid: '', tenant: '', scopes: [] })), {
    keyid: '',
    tenant: '',
    scopes: [],
  });
});

test('encodeCaller() says nothing of a secret', () => {
  assert.ok(!Buffer.from(encodeCaller(key), 'base64').toString().includes('secret'));
});

test('decodeCaller() takes the scope of the edge from everybody', () => {
  const scopes = [INTERNAL_SCOPE, 'tensors:read', INTERNAL_SCOPE];
  assert.deepEqual(decodeCaller(encodeCaller({ keyid: 'k1', tenant: 't', scopes })).scopes, ['tensors:read']);
  assert.deepEqual(decodeCaller(encodeCaller(edgeItself)).scopes, []);
});

test('decodeCaller() refuses what it cannot read', () => {
  const malformed = [
    '',
    'x',
    '!!!!',
    toBase64(Uint8Array.of(0xff, 0xfe)),
    toBase64(new TextEncoder().encode('{"keyid":')),
    json(null),
    json([]),
    json('k1'),
    json({ keyid: 'k1', tenant: 't' }),
    json({ keyid: 1, tenant: 't', scopes: [] }),
    json({ keyid: 'k1', tenant: 't', scopes: 'tensors:read' }),
    json({ keyid: 'k1', tenant: 't', scopes: [1] }),
    ` ${encodeCaller(key)}`,
  ];
  for (const field of malformed) assert.throws(() => decodeCaller(field), { code: 'signature_malformed', status: 401 });
});

test('unsealKey() gives what sealKey() was given', async () => {
  assert.deepEqual(await unsealKey(internalSecret, 'k1', await sealKey(internalSecret, key)), key);
  const rotated = { ...key, previous: { secret: random.bytes(32), until: 7 }, restrictions: { models: ['m'] } };
  assert.deepEqual(await unsealKey(internalSecret, 'k1', await sealKey(internalSecret, rotated)), rotated);
});

test('unsealKey() refuses a key of another name, another secret and what is no seal', async () => {
  const sealed = await sealKey(internalSecret, key);
  await assert.rejects(unsealKey(internalSecret, 'k2', sealed));
  await assert.rejects(unsealKey(internalSecret, 'K1', sealed));
  await assert.rejects(unsealKey(random.bytes(32), 'k1', sealed));
  for (const text of ['', 'x', '====', sealed.slice(0, -4), `${sealed}AAAA`])
    await assert.rejects(unsealKey(internalSecret, 'k1', text));
});

test('unsealKey() refuses a rightly sealed key that is none', async () => {
  for (const value of ['', 'null', '{}', '{"keyid":"k1","tenant":"t","scopes":[]}']) {
    const sealed = await seal(internalSecret, new TextEncoder().encode(value), 'key k1');
    await assert.rejects(unsealKey(internalSecret, 'k1', toBase64(sealed)));
  }
});
