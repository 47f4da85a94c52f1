// Signed requests: HTTP Message Signatures (RFC 9421) with hmac-sha256, and Content-Digest (RFC 9530) with sha-256.
// A signature covers "@method" "@path" "@query" and, where there is a body, "content-digest"; it carries created, keyid
// and nonce. One request, one signature. Pure: runs on every runtime, over whichever crypto port it is given.
// For a while after a rotation a key has two secrets, and either is right. A key that has expired signs nothing.
// The verifier does not read the body: it answers the digest that the signer vouched for, and whoever reads the body
// compares. A nonce is remembered only once the signature is right, so nobody can burn another's nonces.
// Not supported, and refused: component parameters (sf, key, bs, req, tr, name), @query-param, @request-target, @status.

import { contentDigest, parseContentDigest } from './content-digest.ts';
import { type Crypto, type MaybePromise, toBase64, toHex } from './crypto.ts';
import type { Grant } from './keys.ts';
import { problem } from './problems.ts';
import { baseOf, incomplete, type Signable, signatureBase, signatureParams } from './signature-base.ts';
import { type Bare, bytesOf, type Item, type Params, parseDictionary } from './structured-fields.ts';

export interface Caller extends Grant {
  readonly keyid: string;
}

export interface Key extends Caller {
  readonly secret: Uint8Array;
  /** The secret before the last rotation, while both work. */
  readonly previous?: { readonly secret: Uint8Array; readonly until: number } | undefined;
}

/** Without its secrets. */
export function callerOf({ secret: _, previous: __, ...caller }: Key): Caller {
  return caller;
}

/** Remembers which nonces each key has used. */
export interface Nonces {
  /** False if this key's nonce was seen; otherwise it is now, at least until `expiresAt` (ms since 1970). */
  firstSeen(keyid: string, nonce: string, expiresAt: number): MaybePromise<boolean>;
}

export interface Received extends Signable {
  readonly hasBody: boolean;
}

/** Whether a message announces a body, by its fields. */
export const hasBody = (headers: Headers): boolean =>
  headers.has('transfer-encoding') || Number(headers.get('content-length') ?? 0) > 0;

const ALGORITHM = 'hmac-sha256';
const SHA256_BYTES = 32;
const REQUIRED_COMPONENTS = ['@method', '@path', '@query'];
const REQUIRED_PARAMS = ['created', 'keyid', 'nonce'];
const KNOWN_PARAMS = new Set([...REQUIRED_PARAMS, 'alg', 'expires', 'tag']);
const KEYID = /^[ -~]{1,128}$/;
const NONCE = /^[!-~]{8,128}$/;

const encoder = new TextEncoder();

// ---- signing

export interface SigningRequest {
  readonly method: string;
  readonly url: string;
  /** Further fields to cover; the request must carry each as it is given here. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly keyid: string;
  readonly secret: Uint8Array;
  /** Seconds since 1970; now, if left out. */
  readonly created?: number;
  /** 8 to 128 visible ASCII characters, never used before with this key; random, if left out. */
  readonly nonce?: string;
  /** The sha-256 of the body; needed where there is one. */
  readonly digest?: Uint8Array;
}

/** The fields to add to the request: `signature-input`, `signature` and, with a digest, `content-digest`. */
export async function signRequest(request: SigningRequest, crypto: Crypto): Promise<Record<string, string>> {
  const { keyid, secret, created = Math.floor(Date.now() / 1000), nonce = toHex(crypto.randomBytes(16)) } = request;
  if (!KEYID.test(keyid)) throw new RangeError('A keyid is 1 to 128 characters of printable ASCII.');
  if (!NONCE.test(nonce)) throw new RangeError('A nonce is 8 to 128 visible ASCII characters.');
  if (!Number.isSafeInteger(created) || created < 0) throw new RangeError(`created is ${created}, not whole seconds.`);
  const headers = new Headers(request.headers);
  const added: Record<string, string> = request.digest ? { 'content-digest': contentDigest(request.digest) } : {};
  for (const [name, value] of Object.entries(added)) headers.set(name, value);
  const components = [...REQUIRED_COMPONENTS, ...headers.keys()];
  const params = new Map<string, Bare>([
    ['created', created],
    ['keyid', keyid],
    ['nonce', nonce],
    ['alg', ALGORITHM],
  ]);
  const paramsText = signatureParams(components, params);
  const base = baseOf(components, paramsText, {
    method: sentMethod(request.method),
    url: sentUrl(request.url),
    headers,
  });
  const signature = await crypto.hmacSha256(secret, encoder.encode(base));
  return { ...added, 'signature-input': `sig=${paramsText}`, signature: `sig=:${toBase64(signature)}:` };
}

// `fetch` changes both before it sends them; what is signed is what is sent.
const sentMethod = (method: string): string =>
  /^(?:delete|get|head|options|post|put)$/i.test(method) ? method.toUpperCase() : method;
const sentUrl = (url: string): string => (url.startsWith('/') ? url : new URL(url).href);

// ---- verifying

export interface VerifierOptions {
  readonly crypto: Crypto;
  readonly keyOf: (keyid: string) => MaybePromise<Key | undefined>;
  readonly nonces: Nonces;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  readonly ageMaxSeconds?: number;
  readonly aheadMaxSeconds?: number;
}

export interface Verified {
  readonly caller: Caller;
  /** The components that the signature covers. */
  readonly covered: readonly string[];
  /** The sha-256 that the body must have, where a digest is covered. */
  readonly digest?: Uint8Array;
}

export type Verifier = (request: Received) => Promise<Verified>;

/** An unknown key costs an HMAC like a known one, and is refused like a wrong signature: nobody can look for keyids. */
const NO_SECRET = new Uint8Array(SHA256_BYTES);

export function createVerifier(options: VerifierOptions): Verifier {
  const { crypto, keyOf, nonces, now, ageMaxSeconds = 300, aheadMaxSeconds = 30 } = options;
  return async (request) => {
    const { components, params, signature } = parseSignature(request);
    assertComplete(components, params, request);
    const terms = termsOf(params);
    assertFresh(terms, now(), ageMaxSeconds, aheadMaxSeconds);
    const covered = components.includes('content-digest') ? request.headers.get('content-digest') : null;
    const digest = covered === null ? undefined : parseContentDigest(covered);
    const base = encoder.encode(signatureBase(components, params, request));
    const key = await keyOf(terms.keyid);
    const right = await isRight(key, base, signature);
    if (key === undefined || !right)
      throw problem(
        'signature_invalid',
        'No key has this keyid, or not any more; or the HMAC differs: another secret, or the method, path, query or a covered field is not what was signed.',
      );
    const expiresAt = 1000 * Math.min(terms.created + ageMaxSeconds, terms.expires);
    if (!(await nonces.firstSeen(key.keyid, terms.nonce, expiresAt)))
      throw problem('signature_replayed', 'This key has used this nonce before; sign each request with a new one.');
    return { caller: callerOf(key), covered: components, ...(digest ? { digest } : {}) };
  };

  async function isRight(key: Key | undefined, base: Uint8Array, signature: Uint8Array): Promise<boolean> {
    const isBy = async (secret: Uint8Array) => crypto.equal(await crypto.hmacSha256(secret, base), signature);
    const until = key?.expiresAt ?? Number.POSITIVE_INFINITY;
    if (await isBy(key?.secret ?? NO_SECRET)) return now() < until;
    const before = key?.previous;
    return before !== undefined && now() < Math.min(before.until, until) && (await isBy(before.secret));
  }
}

interface Signature {
  readonly components: readonly string[];
  readonly params: Params;
  readonly signature: Uint8Array;
}

function parseSignature({ headers }: Signable): Signature {
  const inputField = headers.get('signature-input');
  const signatureField = headers.get('signature');
  if (inputField === null || signatureField === null)
    throw problem(
      'signature_missing',
      `The request has no ${inputField === null ? 'signature-input' : 'signature'} field; sign it by RFC 9421.`,
    );
  const inputs = parseDictionary('signature-input', inputField, 'signature_malformed');
  const signatures = parseDictionary('signature', signatureField, 'signature_malformed');
  if (inputs.size !== 1 || signatures.size !== 1)
    throw malformed(
      `There must be one signature, not ${inputs.size} signature-input and ${signatures.size} signature.`,
    );
  const [[label, input] = []] = inputs;
  if (input === undefined || !('items' in input)) throw malformed('signature-input is not a list of components.');
  const signature = bytesOf(signatures.get(label ?? ''));
  if (signature?.length !== SHA256_BYTES)
    throw malformed(`signature has no "${label}" of 32 bytes in base64 between colons.`);
  for (const name of input.params.keys())
    if (!KNOWN_PARAMS.has(name)) throw malformed(`The parameter ${name} is not supported.`);
  return { components: input.items.map(componentOf), params: input.params, signature };
}

function componentOf({ value, params }: Item): string {
  if (typeof value !== 'string') throw malformed('A covered component is not a quoted name.');
  if (params.size > 0) throw malformed(`The component "${value}" has parameters, which are not supported.`);
  return value;
}

function assertComplete(components: readonly string[], params: Params, { headers, hasBody }: Received): void {
  const missing = REQUIRED_COMPONENTS.filter((name) => !components.includes(name));
  const digestNeeded = hasBody || headers.get('content-digest') !== null;
  if (digestNeeded && !components.includes('content-digest')) missing.push('content-digest');
  for (const name of REQUIRED_PARAMS) if (!params.has(name)) missing.push(name);
  if (missing.length > 0) throw incomplete(missing, `The signature lacks ${missing.join(', ')}.`);
}

interface Terms {
  readonly created: number;
  /** Infinity where the signer set none. */
  readonly expires: number;
  readonly keyid: string;
  readonly nonce: string;
}

function termsOf(params: Params): Terms {
  const {
    created,
    keyid,
    nonce,
    alg = ALGORITHM,
    expires = Number.POSITIVE_INFINITY,
    tag = '',
  } = Object.fromEntries(params);
  if (typeof created !== 'number') throw malformed('created is not an integer.');
  if (typeof expires !== 'number') throw malformed('expires is not an integer.');
  if (typeof tag !== 'string') throw malformed('tag is not a string.');
  if (typeof keyid !== 'string' || !KEYID.test(keyid)) throw malformed('keyid is not a string of 1 to 128 characters.');
  if (typeof nonce !== 'string' || !NONCE.test(nonce))
    throw malformed('nonce is not a string of 8 to 128 visible ASCII characters.');
  if (alg !== ALGORITHM) throw malformed(`alg is not "${ALGORITHM}", the one algorithm accepted.`);
  return { created, expires, keyid, nonce };
}

function assertFresh({ created, expires }: Terms, nowMs: number, ageMax: number, aheadMax: number): void {
  const now = nowMs / 1000;
  const clocks = { created, now: Math.floor(now) };
  const said = `It was created at ${created} by the signer's clock; by ours it is ${clocks.now}`;
  if (now - created > ageMax)
    throw problem(
      'signature_stale',
      `${said}, ${Math.ceil(now - created)} s later; at most ${ageMax} s is accepted.`,
      clocks,
    );
  if (created - now > aheadMax)
    throw problem(
      'signature_stale',
      `${said}, ${Math.ceil(created - now)} s earlier; at most ${aheadMax} s is accepted.`,
      clocks,
    );
  if (now > expires)
    throw problem('signature_stale', `It expired at ${expires}, ${Math.ceil(now - expires)} s ago: ${said}.`, {
      ...clocks,
      expires,
    });
}

const malformed = (detail: string) => problem('signature_malformed', detail);
