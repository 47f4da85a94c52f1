// Secrets at rest and on the way between our own processes: AES-256-GCM with a random nonce in front, bound to a context
// (what the secret is of), so that one cannot pass for another. Pure: WebCrypto is on every runtime.

const NONCE_BYTES = 12;

async function keyFor(master: Uint8Array) {
  const material = await crypto.subtle.digest('SHA-256', master.slice());
  return crypto.subtle.importKey('raw', material, 'AES-GCM', false, ['encrypt', 'decrypt']);
}

const withContext = (iv: Uint8Array<ArrayBuffer>, context: string) => ({
  name: 'AES-GCM',
  iv,
  additionalData: new TextEncoder().encode(context),
});

export async function seal(master: Uint8Array, secret: Uint8Array, context: string): Promise<Uint8Array> {
  const iv = crypto.getRandomValues(new Uint8Array(NONCE_BYTES));
  const sealed = await crypto.subtle.encrypt(withContext(iv, context), await keyFor(master), secret.slice());
  const out = new Uint8Array(NONCE_BYTES + sealed.byteLength);
  out.set(iv);
  out.set(new Uint8Array(sealed), NONCE_BYTES);
  return out;
}

/** Throws if the master key, the context or a single bit differs. */
export async function unseal(master: Uint8Array, sealed: Uint8Array, context: string): Promise<Uint8Array> {
  const iv = sealed.slice(0, NONCE_BYTES);
  const key = await keyFor(master);
  return new Uint8Array(await crypto.subtle.decrypt(withContext(iv, context), key, sealed.slice(NONCE_BYTES)));
}
