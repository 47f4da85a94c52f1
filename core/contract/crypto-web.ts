// The crypto port over WebCrypto: Workers, Deno, Bun, Node and browsers.
// Importing a key costs more than using it, so imported keys are kept, the last KEYS_MAX of them. What is kept is the key
// itself, never its promise: Workers forbid one request to wait on what another one started. Nothing runs at load.

import { assertSecret, type Crypto } from './crypto.ts';

const KEYS_MAX = 256;
/** Longer secrets are imported each time, so that what is kept is bounded in bytes too. */
const SECRET_BYTES_KEPT_MAX = 256;
/** The most that `getRandomValues` fills at once. */
const RANDOM_BYTES_MAX = 65_536;

const HMAC = { name: 'HMAC', hash: 'SHA-256' } as const;
type ImportedKey = Awaited<ReturnType<typeof crypto.subtle.importKey>>;

/** In order of use, the oldest first. Found by content: whoever looks keys up may bring a new array each time. */
const keys = new Map<string, ImportedKey>();

// WebCrypto takes no view of shared memory; nothing that is hashed here lies in any.
const unshared = (bytes: Uint8Array): Uint8Array<ArrayBuffer> =>
  bytes.buffer instanceof ArrayBuffer ? (bytes as Uint8Array<ArrayBuffer>) : new Uint8Array(bytes);

const importKey = (secret: Uint8Array): Promise<ImportedKey> =>
  crypto.subtle.importKey('raw', unshared(secret), HMAC, false, ['sign']);

async function keyOf(secret: Uint8Array): Promise<ImportedKey> {
  if (secret.length > SECRET_BYTES_KEPT_MAX) return importKey(secret);
  const content = String.fromCharCode(...secret);
  const key = keys.get(content) ?? (await importKey(secret));
  keys.delete(content);
  keys.set(content, key);
  if (keys.size > KEYS_MAX) {
    const [oldest = content] = keys.keys();
    keys.delete(oldest);
  }
  return key;
}

export const webCrypto: Crypto = {
  async hmacSha256(secret, data) {
    assertSecret(secret);
    return new Uint8Array(await crypto.subtle.sign('HMAC', await keyOf(secret), unshared(data)));
  },
  sha256: async (data) => new Uint8Array(await crypto.subtle.digest('SHA-256', unshared(data))),
  equal(a, b) {
    if (a.length !== b.length) return false;
    let difference = 0;
    for (let at = 0; at < a.length; at += 1) difference |= (a[at] ?? 0) ^ (b[at] ?? 0);
    return difference === 0;
  },
  randomBytes(count) {
    const bytes = new Uint8Array(count);
    for (let at = 0; at < count; at += RANDOM_BYTES_MAX)
      crypto.getRandomValues(bytes.subarray(at, at + RANDOM_BYTES_MAX));
    return bytes;
  },
};
