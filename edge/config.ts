// The edge's settings: from the environment on Node, Bun and Deno, from the bindings on Workers. `npm start -- --help`
// prints them.
import { z } from 'zod';
import { parseRange } from '../core/contract/addresses.ts';
import { ratesText } from '../core/contract/rates.ts';
import {
  choice,
  type Environment,
  integer,
  list,
  optionalText,
  readSettings,
  setting,
  text,
} from '../core/contract/settings.ts';
import { sharedSettings } from '../core/contract/shared-settings.ts';
import { type AddressRules, PROXY_FIELDS } from './client-address.ts';
import { ALGORITHMS } from './token.ts';

const ranges = list.transform((texts, context) =>
  texts.flatMap((text) => {
    const range = parseRange(text);
    if (range === undefined)
      context.addIssue({
        code: 'custom',
        message: 'must be addresses and ranges as 10.0.0.0/8 or 2001:db8::/32, with commas',
      });
    return range ?? [];
  }),
);

const algorithms = list.refine(
  (names) => names.length > 0 && names.every((name) => ALGORITHMS.some((each) => each === name)),
  `must be of ${ALGORITHMS.join(', ')}, with commas`,
);

export const edgeSettings = {
  ...sharedSettings,
  EDGE_PORT: setting(integer(0, 65_535), '8000', "the edge's port (0: a free one)"),
  CORE_URLS: setting(
    list.pipe(z.array(z.url({ protocol: /^https?$/, error: 'must be http(s)://… URLs, comma separated' }))),
    '',
    'cores elsewhere, comma separated; unset: the core of the same process',
  ),
  CORE_AWAY: setting(
    choice(['refuse', 'next']),
    'refuse',
    'of several cores, while that of a tenant is away: refuse, or ask the next, which does not know its tensors',
  ),
  EDGE_CORS_ORIGINS: setting(
    list.pipe(
      z.array(z.string().regex(/^https?:\/\/[^/\s*]+$/, 'must be origins as https://app.example, with commas')),
    ),
    '',
    'origins whose pages may read answers; unset: none',
  ),
  EDGE_HOT_MIB: setting(integer(0, 65_536), '64', 'memory for tensors that are asked for often (0: none)'),
  EDGE_HOT_FRESH_MS: setting(
    integer(0, 600_000),
    '1000',
    'before a core elsewhere that is silent: how long such a tensor is answered without asking it',
  ),
  EDGE_HOT_STALE_MS: setting(integer(0, 600_000), '0', 'as above: and beyond that, while it is asked'),
  EDGE_HOT_ERROR_SECONDS: setting(integer(0, 86_400), '30', 'how long one is answered while the core is away'),
  EDGE_KEY_SECONDS: setting(integer(1, 3600), '30', 'how long a key fetched from a core elsewhere is kept'),
  EDGE_ALLOW: setting(ranges, '', 'addresses that are let in, as 10.0.0.0/8,::1; unset: all'),
  EDGE_DENY: setting(ranges, '', 'addresses that are not let in, whatever EDGE_ALLOW says'),
  EDGE_PROXIES: setting(ranges, '', 'networks of proxies that are believed when they say whose request they pass on'),
  EDGE_PROXY_FIELD: setting(choice(PROXY_FIELDS), 'x-forwarded-for', 'the field in which they say it'),
  EDGE_LIMIT_KEY: setting(ratesText, '10000/1s,300000/1m', 'requests of a key without limits of its own; or none'),
  EDGE_LIMIT_KEY_BYTES: setting(ratesText, 'none', 'bytes of its bodies and answers, as 1GiB/1m; or none'),
  EDGE_LIMIT_KEY_AT_ONCE: setting(integer(1, 100_000), '1024', 'requests of it that are under way at once'),
  EDGE_LIMIT_ADMIN: setting(
    ratesText,
    '100/1s,6000/1m',
    'its administrative requests: keys, audit log, backups, erasures, policy, moves, adapters; or none',
  ),
  EDGE_LIMIT_ADDRESS: setting(
    ratesText,
    '20000/1s',
    'requests of an address, before anything else is looked at; or none',
  ),
  EDGE_LIMIT_FAILED: setting(ratesText, '1000/1m', 'of these, those whose signature was refused; or none'),
  EDGE_LIMIT_BUCKETS: setting(integer(100, 10_000_000), '100000', 'keys, and addresses, whose use is remembered'),
  ACCESS_LOG: setting(
    choice(['off', 'on']),
    'off',
    'on: a line of JSON for each request to the edge, on standard output',
  ),
  EDGE_JWT_JWKS: setting(
    z.union([
      z.literal('').transform(() => undefined),
      z.url({ protocol: /^(?:https?|file)$/, error: 'must be https://… or file:///…' }),
    ]),
    '',
    'the public keys of bearer tokens, a JWK set (a file: on Node alone); unset: no tokens are taken',
  ),
  EDGE_JWT_ISSUER: setting(optionalText, '', 'iss of the tokens'),
  EDGE_JWT_AUDIENCE: setting(optionalText, '', 'aud that tokens for this server have'),
  EDGE_JWT_ALGORITHMS: setting(algorithms, 'ES256,EdDSA,RS256', 'what they may be signed with'),
  EDGE_JWT_TENANT_CLAIM: setting(text, 'tenant', 'the claim that names the tenant'),
  EDGE_JWT_SCOPES_CLAIM: setting(text, 'scope', 'the claim with the scopes: a list, or a text with spaces'),
  EDGE_JWT_JWKS_SECONDS: setting(integer(10, 86_400), '300', 'how long the public keys are kept'),
} as const;

export type EdgeConfig = ReturnType<typeof readEdgeConfig>;

export const readEdgeConfig = (environment: Environment) => readSettings(edgeSettings, environment);

export const addressesBy = (config: EdgeConfig): AddressRules => ({
  proxies: config.EDGE_PROXIES,
  field: config.EDGE_PROXY_FIELD,
  allow: config.EDGE_ALLOW,
  deny: config.EDGE_DENY,
});
