// The crypto port over node:crypto: synchronous, and on Node less than half the time of WebCrypto for short inputs.
// The only file of the contract that needs a node: module; Workers take crypto-web.ts.

import { createHash, createHmac, createSecretKey, type KeyObject, randomFillSync, timingSafeEqual } from 'node:crypto';
import { assertSecret, type Crypto } from './crypto.ts';

// A Buffer is a Uint8Array with other manners (slice shares, JSON differs): callers get the plain kind.
const plain = (bytes: Buffer): Uint8Array => new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** To make one for each request would cost as much as the HMAC of a short text. Secrets are not written to once they are in use. */
const keyObjects = new WeakMap<Uint8Array, KeyObject>();

function keyObjectOf(secret: Uint8Array): KeyObject {
  const known = keyObjects.get(secret);
  if (known) return known;
  assertSecret(secret);
  const made = createSecretKey(secret);
  keyObjects.set(secret, made);
  return made;
}

export const nodeCrypto: Crypto = {
  hmacSha256: (secret, data) => plain(createHmac('sha256', keyObjectOf(secret)).update(data).digest()),
  sha256: (data) => plain(createHash('sha256').update(data).digest()),
  equal: (a, b) => a.length === b.length && timingSafeEqual(a, b),
  randomBytes: (count) => randomFillSync(new Uint8Array(count)),
};
