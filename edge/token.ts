// Who calls by a bearer token (JWT): signed by a key of the issuer with one of the algorithms that are set, for this audience, not expired,
// with a tenant, and scopes that there are. Algorithms are asymmetric: no token is verified by a secret, and `none` is no algorithm.
// A token that was verified is kept until it expires, by its hash, the last TOKENS_MAX: it costs a look-up then. It cannot be
// taken back before; issue short ones. No token acts for another tenant: `operator` is for keys alone.
import { errors, type JWTVerifyGetKey, jwtVerify } from 'jose';
import { z } from 'zod';
import { type Crypto, toHex } from '../core/contract/crypto.ts';
import { OPERATOR_SCOPE, SCOPES, tenantSchema } from '../core/contract/keys.ts';
import { Problem, problem } from '../core/contract/problems.ts';
import type { Caller } from '../core/contract/signatures.ts';

export const ALGORITHMS = [
  ...['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'],
  ...['ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519'],
] as const;

export interface TokenOptions {
  readonly keys: JWTVerifyGetKey;
  readonly algorithms: readonly string[];
  readonly issuer: string;
  readonly audience: string;
  readonly tenantClaim: string;
  readonly scopesClaim: string;
  readonly crypto: Pick<Crypto, 'sha256'>;
  readonly now: () => number;
}

export type TokenVerifier = (token: string) => Promise<Caller>;

const TOKENS_MAX = 10_000;
const TOKEN_CHARS_MAX = 8192;
/** How far the issuer's clock may be ahead of ours. */
const AHEAD_SECONDS = 5;
const COMPACT = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/;
const BEARER = /^Bearer +(\S+)$/i;

/** The token of an Authorization field, if that has one. */
export const bearerOf = (authorization: string | null): string | undefined => BEARER.exec(authorization ?? '')?.[1];

const claimsSchema = z.object({ sub: z.string().regex(/^[ -~]{1,120}$/), exp: z.number() });
const scopesSchema = z.union([z.string().transform((text) => text.split(' ')), z.array(z.string())]);
const GRANTED: readonly string[] = SCOPES.filter((scope) => scope !== OPERATOR_SCOPE);

export function createTokenVerifier(options: TokenOptions): TokenVerifier {
  const { crypto, now } = options;
  const verified = new Map<string, { readonly caller: Caller; readonly until: number }>();

  return async (token) => {
    if (token.length > TOKEN_CHARS_MAX || !COMPACT.test(token)) throw invalid('it is no JWT of three parts.');
    const name = toHex(await crypto.sha256(new TextEncoder().encode(token)));
    const known = verified.get(name);
    if (known && now() < known.until) return known.caller;
    verified.delete(name);
    const caller = await verify(token, options);
    verified.set(name, { caller, until: caller.expiresAt ?? 0 });
    const [oldest] = verified.keys();
    if (verified.size > TOKENS_MAX && oldest !== undefined) verified.delete(oldest);
    return caller;
  };
}

async function verify(token: string, o: TokenOptions): Promise<Caller> {
  const { payload } = await jwtVerify(token, o.keys, {
    algorithms: [...o.algorithms],
    issuer: o.issuer,
    audience: o.audience,
    requiredClaims: ['exp', 'sub', o.tenantClaim],
    currentDate: new Date(o.now()),
    clockTolerance: AHEAD_SECONDS,
  }).catch((thrown) => {
    throw refusalOf(thrown);
  });
  const claims = claimsSchema.safeParse(payload);
  if (!claims.success) throw invalid(`its claim ${claims.error.issues[0]?.path.join('.')} is malformed.`);
  const { sub, exp } = claims.data;
  // The tolerance is for clocks that are ahead, and prolongs nothing.
  if (o.now() >= 1000 * exp) throw expired();
  const tenant = tenantSchema.safeParse(payload[o.tenantClaim]);
  if (!tenant.success) throw invalid(`its claim ${o.tenantClaim} names no tenant.`);
  const scopes = scopesSchema.safeParse(payload[o.scopesClaim] ?? []);
  if (!scopes.success) throw invalid(`its claim ${o.scopesClaim} is no list of scopes.`);
  const granted = GRANTED.filter((scope) => scopes.data.includes(scope));
  return { keyid: `jwt:${sub}`, tenant: tenant.data, scopes: granted, expiresAt: 1000 * exp };
}

const invalid = (why: string) => problem('token_invalid', `The token is refused: ${why}`);
const expired = () => problem('token_expired', 'The token has expired; get another one.');

/** What a caller may know; of keys and signatures, not which of them it was. */
function refusalOf(thrown: unknown): unknown {
  if (thrown instanceof Problem) return thrown;
  if (thrown instanceof errors.JWTExpired) return expired();
  if (thrown instanceof errors.JWTClaimValidationFailed)
    return invalid(`its claim ${thrown.claim} is missing or not ours.`);
  if (thrown instanceof errors.JOSEAlgNotAllowed)
    return invalid('it is signed with an algorithm that is not accepted here.');
  if (thrown instanceof errors.JOSEError || thrown instanceof TypeError)
    return invalid('no key of the issuer has signed it so, or it cannot be read.');
  return thrown;
}
