// The routes of the cache as a whole: what it counts, by which policy it serves, and whether all is accounted for. Figures of all
// tenants are told to whoever may read metrics or runs the cache; others are told their own.
import type { Hono } from 'hono';
import { leaving } from './bodies.ts';
import type { Cache } from './cache/cache.ts';
import type { Kv } from './cache/kv/kv.ts';
import { checkQuerySchema, parseBody, parseQuery } from './contract/messages.ts';
import { policyBodySchema } from './contract/policy.ts';
import { allow, type CoreEnv, jsonBody, seesAll } from './route.ts';

export function addCacheRoutes(app: Hono<CoreEnv>, cache: Cache, kv: Kv): void {
  app.get('/v1/cache/stats', (c) => {
    const caller = allow(c, 'tensors:read', 'stats');
    const own = { ...cache.tenantStats(caller.tenant), kv: kv.tenantStats(caller.tenant) };
    if (!seesAll(caller)) return c.json({ of: 'tenant', ...own });
    return c.json({ of: 'all', ...cache.stats(), tenant: own, kv: kv.stats() });
  });
  app.get('/v1/cache/policy', (c) => {
    const caller = allow(c, 'tensors:read', 'policy');
    return c.json({ ...cache.policy(caller.tenant), ...(seesAll(caller) && { kv: kv.policy() }) });
  });
  app.put('/v1/cache/policy', async (c) => {
    const { tenant } = allow(c, 'cache:admin', 'policy');
    const next = parseBody(policyBodySchema, await jsonBody(c));
    cache.setPolicy(next);
    kv.setPolicy(next);
    return c.json({ ...cache.policy(tenant), kv: kv.policy() });
  });
  app.post('/v1/cache/check', async (c) => {
    allow(c, 'cache:admin', 'check');
    const { pages } = parseQuery(checkQuerySchema, new URL(c.req.url).searchParams);
    const faults = [...cache.check(), ...kv.check()];
    const verified = pages ? await kv.verify(leaving(c.env.outgoing)) : undefined;
    faults.push(...(verified?.faults ?? []));
    return c.json({ ok: faults.length === 0, faults, ...(verified && { pages: verified.pages }) });
  });
}
