// The port to cryptography, and the text forms of bytes that go with it. Pure: runs on every runtime.
// A port's answer may be a value (node:crypto) or a promise (WebCrypto); whoever calls awaits it. Both ports give the same
// bytes for the same input and refuse an empty secret, which would let anyone sign.
// The decoders are strict: one text for one value. What is not exactly the canonical form is `undefined`, never a guess.

export type MaybePromise<T> = T | Promise<T>;

export interface Crypto {
  hmacSha256(secret: Uint8Array, data: Uint8Array): MaybePromise<Uint8Array>;
  sha256(data: Uint8Array): MaybePromise<Uint8Array>;
  /** Takes the same time wherever the bytes differ; only a difference in length shows. */
  equal(a: Uint8Array, b: Uint8Array): boolean;
  randomBytes(count: number): Uint8Array;
}

/** Characters handed to one `String.fromCharCode`: arguments live on the stack, so their count is limited. */
const CHUNK = 8192;

// With a length that is a multiple of four: padded, and no bit set in the part of the last character that is not data.
const BASE64 = /^[A-Za-z0-9+/]*(?:[AQgw]==|[AEIMQUYcgkosw048]=)?$/;
const HEX = /^[0-9a-f]*$/;

export function toBase64(bytes: Uint8Array): string {
  if (bytes.length <= CHUNK) return btoa(String.fromCharCode(...bytes));
  let characters = '';
  for (let at = 0; at < bytes.length; at += CHUNK) characters += String.fromCharCode(...bytes.subarray(at, at + CHUNK));
  return btoa(characters);
}

/** Canonical RFC 4648 base64 with padding, else undefined. */
export function fromBase64(text: string): Uint8Array | undefined {
  if (text.length % 4 !== 0 || !BASE64.test(text)) return undefined;
  const characters = atob(text);
  const bytes = new Uint8Array(characters.length);
  for (let at = 0; at < bytes.length; at += 1) bytes[at] = characters.charCodeAt(at);
  return bytes;
}

const hexOfByte = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));

export function toHex(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) text += hexOfByte[byte];
  return text;
}

/** Lower-case hex, two digits a byte, else undefined. */
export function fromHex(text: string): Uint8Array | undefined {
  if (text.length % 2 !== 0 || !HEX.test(text)) return undefined;
  const bytes = new Uint8Array(text.length / 2);
  for (let at = 0; at < bytes.length; at += 1) bytes[at] = Number.parseInt(text.slice(2 * at, 2 * at + 2), 16);
  return bytes;
}

/** Both ports call this first: WebCrypto would refuse an empty secret anyway, node:crypto would not. */
export function assertSecret(secret: Uint8Array): void {
  if (secret.length === 0) throw new RangeError('A secret must not be empty.');
}
