// The public keys that tokens are signed with (a JWK set), read from where the issuer publishes them and kept.
// Kept for `keepMs`; a token by an unknown key has them read again, whoever comes, at most once in RETRY_MS. Where they cannot be read,
// those of the last hour go on, and without any tokens are refused with 503. What is kept is the set, never the promise of it: on
// Workers that dies with the request that asked. Symmetric keys of a set are not looked at: nobody verifies by a secret that is published.
import { createLocalJWKSet, errors, type JSONWebKeySet, type JWTVerifyGetKey } from 'jose';
import { z } from 'zod';
import { problem } from '../core/contract/problems.ts';

export interface TokenKeysOptions {
  /** The set as the issuer has it now. */
  readonly read: (signal: AbortSignal) => Promise<unknown>;
  readonly keepMs: number;
  readonly now: () => number;
  readonly log: (line: string) => void;
}

export const RETRY_MS = 5_000;
const KEPT_WHILE_AWAY_MS = 3_600_000;
const READ_MS_MAX = 5_000;
/** Reads under way while there are no keys yet. */
const FIRST_READS_MAX = 16;
const KEYS_MAX = 100;

const jwksSchema = z.object({ keys: z.array(z.looseObject({ kty: z.string() })).max(KEYS_MAX) });

export function tokenKeys({ read, keepMs, now, log }: TokenKeysOptions): JWTVerifyGetKey {
  let kept: { readonly find: JWTVerifyGetKey; readonly at: number } | undefined;
  let askedAt = Number.NEGATIVE_INFINITY;
  let reading = 0;

  async function readAgain(): Promise<void> {
    askedAt = now();
    reading += 1;
    try {
      const { keys } = jwksSchema.parse(await read(AbortSignal.timeout(READ_MS_MAX)));
      const asymmetric = keys.filter(({ kty }) => kty !== 'oct');
      kept = { find: createLocalJWKSet({ keys: asymmetric } as JSONWebKeySet), at: now() };
    } catch (error) {
      log(
        `the keys of tokens cannot be read (EDGE_JWT_JWKS): ${error instanceof Error ? error.message : String(error)}`,
      );
    } finally {
      reading -= 1;
    }
  }

  const mayAsk = (): boolean => now() - askedAt >= RETRY_MS;

  async function current(): Promise<JWTVerifyGetKey> {
    const age = kept ? now() - kept.at : Number.POSITIVE_INFINITY;
    if (age >= keepMs && (mayAsk() || (!kept && reading > 0 && reading < FIRST_READS_MAX))) await readAgain();
    if (kept && now() - kept.at < keepMs + KEPT_WHILE_AWAY_MS) return kept.find;
    throw problem('token_keys_unavailable', 'Tokens cannot be verified just now. Send the request again later.', {
      retryAfterSeconds: Math.ceil(RETRY_MS / 1000),
    });
  }

  return async (header, token) => {
    const find = await current();
    try {
      return await find(header, token);
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey) || !mayAsk()) throw error;
      await readAgain();
      return (await current())(header, token);
    }
  };
}

const JWKS_BYTES_MAX = 256 * 1024;

/** From a URL, as it answers itself, and no more than a set of keys has. */
export async function fetchJwks(url: string, signal: AbortSignal): Promise<unknown> {
  // workerd knows no 'error'; an answer that leads elsewhere is not ok.
  const answer = await fetch(url, { signal, redirect: 'manual', headers: { accept: 'application/json' } });
  if (!answer.ok) throw new Error(`it was answered with ${answer.status}`);
  let text = '';
  const decoder = new TextDecoder();
  for await (const piece of answer.body ?? []) {
    text += decoder.decode(piece, { stream: true });
    if (text.length > JWKS_BYTES_MAX) throw new Error(`it has more than ${JWKS_BYTES_MAX} bytes`);
  }
  return JSON.parse(text);
}
