// The routes of claims: who computes a key that is not held. What comes is checked here and handed to the cache's claims.
import type { Hono } from 'hono';
import { leaving } from './bodies.ts';
import type { Cache } from './cache/cache.ts';
import { claim, renew } from './cache/claiming.ts';
import type { Claims } from './cache/claims.ts';
import { claimBodySchema, releaseBodySchema, renewBodySchema } from './contract/claims.ts';
import { parseBody } from './contract/messages.ts';
import { allow, allowName, type CoreEnv, jsonBody } from './route.ts';

export function addClaimRoutes(app: Hono<CoreEnv>, claims: Claims, cache: Pick<Cache, 'peek'>): void {
  app.post('/v1/tensors:claim', async (c) => {
    const { tenant } = allow(c, 'tensors:write', 'claim');
    const asked = parseBody(claimBodySchema, await jsonBody(c));
    allowName(c, asked.key);
    const peek = () => cache.peek(tenant, asked.key);
    return c.json(await claim(claims, { tenant, ...asked, peek, signal: leaving(c.env.outgoing) }));
  });
  app.post('/v1/tensors:renew', async (c) => {
    const { tenant } = allow(c, 'tensors:write', 'renew');
    const asked = parseBody(renewBodySchema, await jsonBody(c));
    allowName(c, asked.key);
    const { expiresAt, waiting } = await renew(claims, { tenant, ...asked, signal: leaving(c.env.outgoing) });
    return c.json({ expiresAt: new Date(expiresAt).toISOString(), waiting });
  });
  app.post('/v1/tensors:release', async (c) => {
    const { tenant } = allow(c, 'tensors:write', 'release');
    const { reason, ...claimed } = parseBody(releaseBodySchema, await jsonBody(c));
    allowName(c, claimed.key);
    return c.json({ waiting: claims.release({ tenant, ...claimed }, reason) });
  });
}
