// The fields that every answer of the edge carries: what a browser must not do with it, and which pages elsewhere may read it, none
// unless EDGE_CORS_ORIGINS names their origins. Pure.
import type { Context, MiddlewareHandler } from 'hono';
import type { EdgeEnv } from './app.ts';

export type Fields = readonly (readonly [name: string, value: string])[];

export const SAFE_FIELDS: Fields = [
  ['x-content-type-options', 'nosniff'],
  ['content-security-policy', "default-src 'none'; frame-ancestors 'none'"],
  ['referrer-policy', 'no-referrer'],
  ['cache-control', 'no-store'],
];

const PREFLIGHT: Fields = [
  ['access-control-allow-methods', 'GET, HEAD, PUT, POST, DELETE'],
  [
    'access-control-allow-headers',
    'accept, authorization, content-digest, content-type, if-none-match, last-event-id, signature, signature-input, traceparent, tracestate, x-deadline-ms',
  ],
  ['access-control-max-age', '600'],
];

/** For pages of `origins`; for all others there is nothing, and their browser keeps the answer from them. */
export const allowOrigins =
  (origins: readonly string[]): MiddlewareHandler<EdgeEnv> =>
  async (c, next) => {
    const fields = originFields(c, origins);
    c.set('safe', [...SAFE_FIELDS, ...fields]);
    if (c.req.method !== 'OPTIONS' || fields.length === 0 || !c.req.header('access-control-request-method'))
      return next();
    return c.body(null, 204, Object.fromEntries([...fields, ...PREFLIGHT]));
  };

function originFields(c: Context<EdgeEnv>, origins: readonly string[]): Fields {
  const origin = c.req.header('origin');
  if (origin === undefined || !origins.includes(origin)) return [];
  return [
    ['access-control-allow-origin', origin],
    [
      'access-control-expose-headers',
      'etag, content-digest, ratelimit, ratelimit-policy, retry-after, x-cache, x-request-id',
    ],
    ['vary', 'origin'],
  ];
}
