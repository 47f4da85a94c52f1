// Which bearer tokens are taken, by the settings: those of one issuer, for this server, by public keys that are read from a URL or,
// where there are files, from one.
import type { Crypto } from '../core/contract/crypto.ts';
import { SettingsError } from '../core/contract/settings.ts';
import type { EdgeConfig } from './config.ts';
import { createTokenVerifier, type TokenVerifier } from './token.ts';
import { fetchJwks, tokenKeys } from './token-keys.ts';

export interface TokenParts {
  readonly crypto: Crypto;
  readonly log: (line: string) => void;
  /** The text at a URL of a scheme that `fetch` does not know. */
  readonly readFile?: (url: URL) => Promise<string>;
}

/** Undefined where no tokens are taken. */
export function tokensBy(config: EdgeConfig, { crypto, log, readFile }: TokenParts): TokenVerifier | undefined {
  const { EDGE_JWT_JWKS: url, EDGE_JWT_ISSUER: issuer, EDGE_JWT_AUDIENCE: audience } = config;
  if (url === undefined) return undefined;
  if (issuer === undefined || audience === undefined)
    throw new SettingsError('EDGE_JWT_JWKS needs EDGE_JWT_ISSUER and EDGE_JWT_AUDIENCE: whose tokens, and for whom');
  const isFile = url.startsWith('file:');
  if (isFile && readFile === undefined)
    throw new SettingsError('EDGE_JWT_JWKS must be https://… here: there are no files');
  const now = Date.now;
  const read = async (signal: AbortSignal) =>
    isFile && readFile ? JSON.parse(await readFile(new URL(url))) : fetchJwks(url, signal);
  return createTokenVerifier({
    ...{ issuer, audience, crypto, now, algorithms: config.EDGE_JWT_ALGORITHMS },
    ...{ tenantClaim: config.EDGE_JWT_TENANT_CLAIM, scopesClaim: config.EDGE_JWT_SCOPES_CLAIM },
    keys: tokenKeys({ read, keepMs: 1000 * config.EDGE_JWT_JWKS_SECONDS, now, log }),
  });
}
