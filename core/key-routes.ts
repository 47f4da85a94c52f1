// The routes of keys and of the audit log, and what an edge elsewhere asks: keys, sealed, and a place for its refusals.
import type { Hono } from 'hono';
import type { Audit } from './audit.ts';
import type { SealKey } from './callers.ts';
import { INTERNAL_SCOPE } from './contract/internal.ts';
import { auditQuerySchema, keyBodySchema, keysQuerySchema, rotateBodySchema } from './contract/keys.ts';
import { parseBody, parseQuery } from './contract/messages.ts';
import { problem } from './contract/problems.ts';
import { refusalLinesSchema } from './contract/refusals.ts';
import type { Grants } from './grants.ts';
import { allow, type C, type CoreEnv, jsonBody } from './route.ts';

export interface KeyParts {
  readonly grants: Grants;
  readonly audit: Audit;
  /** A key for an edge elsewhere, sealed. */
  readonly sealKey: SealKey;
}

/** A secret is nobody's to keep on the way. */
const UNKEPT = { 'cache-control': 'no-store' };

export function addKeyRoutes(app: Hono<CoreEnv>, { grants, audit, sealKey }: KeyParts): void {
  /** What changes keys writes its own line. */
  function allowKeys(c: C, route: string) {
    const caller = allow(c, 'keys:admin', route);
    c.set('act', undefined);
    return caller;
  }

  app.post('/v1/keys', async (c) => {
    const caller = allowKeys(c, 'key-create');
    return c.json(await grants.create(caller, parseBody(keyBodySchema, await jsonBody(c))), 201, UNKEPT);
  });
  app.get('/v1/keys', async (c) => {
    const caller = allowKeys(c, 'key-list');
    return c.json(await grants.list(caller, parseQuery(keysQuerySchema, new URL(c.req.url).searchParams)));
  });
  app.post('/v1/keys/:keyid/rotate', async (c) => {
    const caller = allowKeys(c, 'key-rotate');
    const { overlap } = parseBody(rotateBodySchema, await jsonBody(c));
    return c.json(await grants.rotate(caller, c.req.param('keyid'), overlap), 200, UNKEPT);
  });
  app.delete('/v1/keys/:keyid', async (c) => {
    await grants.revoke(allowKeys(c, 'key-revoke'), c.req.param('keyid'));
    return c.body(null, 204);
  });
  app.all('/v1/keys/*', (c) => {
    throw problem('method_unsupported', `A key takes DELETE, and POST …/rotate, not ${c.req.method}.`);
  });
  app.get('/v1/audit', async (c) => {
    const caller = allow(c, 'keys:admin', 'audit');
    const { after, limit } = parseQuery(auditQuerySchema, new URL(c.req.url).searchParams);
    return c.json(await audit.list(caller, after, limit));
  });

  app.get('/v1/internal/keys/:keyid', async (c) => {
    allow(c, INTERNAL_SCOPE, 'key');
    return c.json({ sealed: await sealKey(c.req.param('keyid')) });
  });
  app.post('/v1/internal/refusals', async (c) => {
    allow(c, INTERNAL_SCOPE, 'refusals');
    await audit.append(parseBody(refusalLinesSchema, await jsonBody(c)));
    return c.body(null, 204);
  });
}
