// The crypto port over node:crypto: synchronous, and on Node less than half the time of WebCrypto for short inputs.
// The only file of the contract that needs a node: module; Workers take crypto-web.ts.

import { createHash, createHmac, randomFillSync, timingSafeEqual } from 'node:crypto';
import { assertSecret, type Crypto } from './crypto.ts';

// A Buffer is a Uint8Array with other manners (slice shares, JSON differs): callers get the plain kind.
const plain = (bytes: Buffer): Uint8Array => new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);

export const nodeCrypto: Crypto = {
  hmacSha256(secret, data) {
    assertSecret(secret);
    return plain(createHmac('sha256', secret).update(data).digest());
  },
  sha256: (data) => plain(createHash('sha256').update(data).digest()),
  equal: (a, b) => a.length === b.length && timingSafeEqual(a, b),
  randomBytes: (count) => randomFillSync(new Uint8Array(count)),
};
