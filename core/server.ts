// The core's HTTP face: routes to rooms. A call is either handed over by the edge of the same process, which has checked
// it, or signed: by a key, or by the internal secret on behalf of a caller that an edge elsewhere has checked.
// One boundary turns what rooms throw into problem documents. Nothing is done here that a room could do.
import { Hono } from 'hono';
import type { Audit } from './audit.ts';
import { addBackupRoutes } from './backup-routes.ts';
import type { Backups } from './backups/backups.ts';
import { addBatchRoutes } from './batch-routes.ts';
import { leaving } from './bodies.ts';
import type { Cache } from './cache/cache.ts';
import type { Changes } from './cache/changes.ts';
import type { Claims } from './cache/claims.ts';
import type { Kv } from './cache/kv/kv.ts';
import { addCacheRoutes } from './cache-routes.ts';
import type { Authenticate, SealKey } from './callers.ts';
import { addClaimRoutes } from './claim-routes.ts';
import { DEADLINE_HEADER, parseDeadline } from './contract/deadline.ts';
import type { ReceiptKey } from './contract/erasure.ts';
import { namesTag } from './contract/etag.ts';
import { eventsQuerySchema } from './contract/events.ts';
import { INTERNAL_SCOPE } from './contract/internal.ts';
import {
  listQuerySchema,
  moveBodySchema,
  parseBody,
  parseCodec,
  parseKey,
  parseQuery,
  putQuerySchema,
} from './contract/messages.ts';
import { asProblem, type Problem, problem, problemResponse } from './contract/problems.ts';
import { isNoted } from './contract/refusals.ts';
import { traceOf } from './contract/trace.ts';
import type { Erasures } from './erasure/erasures.ts';
import { addErasureRoutes } from './erasure-routes.ts';
import { sendEvents } from './event-stream.ts';
import type { AdapterReport, Pool } from './gpu/pool.ts';
import type { Grants } from './grants.ts';
import { addKeyRoutes } from './key-routes.ts';
import { addKvRoutes } from './kv-routes.ts';
import type { CoreMetrics } from './metrics.ts';
import type { Readiness } from './readiness.ts';
import {
  allow,
  allowName,
  type C,
  type CoreEnv,
  jsonBody,
  refuseOtherMedia,
  seesAll,
  sendBody,
  signedBody,
} from './route.ts';
import { headersOf } from './tensor-answers.ts';

/** An edge that has heard nothing for longer takes nothing for unchanged. */
const CHANGES_QUIET_MS = 1000;

export interface ServerParts {
  readonly cache: Cache;
  readonly claims: Claims;
  readonly changes: Changes;
  readonly kv: Kv;
  readonly pool: Pool;
  readonly backups: Backups;
  readonly erasures: Erasures;
  readonly receiptKey: ReceiptKey;
  readonly authenticate: Authenticate;
  readonly readiness: Readiness;
  readonly metrics: CoreMetrics;
  /** Whether /metrics may be read with this Authorization field. */
  readonly mayReadMetrics: (authorization: string | undefined) => boolean;
  readonly grants: Grants;
  readonly audit: Audit;
  /** A key for an edge elsewhere, sealed. */
  readonly sealKey: SealKey;
  readonly log: (line: string) => void;
}

export function createServer(parts: ServerParts): Hono<CoreEnv> {
  const { cache, claims, pool } = parts;
  const app = new Hono<CoreEnv>();

  app.use(async (c, next) => {
    const requestId = c.env.handover?.requestId ?? givenId(c) ?? crypto.randomUUID();
    c.set('requestId', requestId);
    c.set('traceId', c.env.handover?.traceId ?? traceOf(c.req.raw.headers, requestId).traceId);
    const end = parts.metrics.begin(c.req.method);
    await next();
    if (!c.env.outgoing.headersSent) c.res.headers.set('x-request-id', requestId);
    end(c.get('route') ?? 'other', c.env.outgoing.headersSent ? c.env.outgoing.statusCode : c.res.status);
  });
  app.onError((thrown, c) => {
    const fault = asProblem(thrown);
    if (isNoted(fault.status)) noteRefusal(c, fault);
    if (fault.status >= 500)
      parts.log(
        `${c.get('requestId')} trace ${c.get('traceId')} ${c.req.method} ${oneLine(c.req.path)}: ${causes(fault)}`,
      );
    return problemResponse(fault, c.get('requestId'));
  });
  app.notFound((c) => {
    throw problem('route_unknown', `There is no ${c.req.method} ${c.req.path.slice(0, 200)}.`);
  });

  app.get('/healthz', (c) => c.json({ alive: true }));
  app.get('/readyz', async (c) => {
    const report = await parts.readiness();
    return c.json(report, report.ready ? 200 : 503);
  });
  app.get('/metrics', async (c) => {
    if (!parts.mayReadMetrics(c.req.header('authorization')))
      throw problem('metrics_closed', 'This listener is not on loopback: send Authorization: Bearer METRICS_TOKEN.');
    return c.body(await parts.metrics.text(), 200, { 'content-type': parts.metrics.contentType });
  });

  app.use('/v1/*', async (c, next) => {
    const { handover } = c.env;
    const verified = handover ?? (await parts.authenticate(c.req.raw, addressOf(c)));
    c.set('caller', verified.caller);
    c.set('digest', verified.digest);
    await next();
    const action = c.get('act');
    if (action !== undefined) await parts.audit.act({ ...inAudit(c), caller: verified.caller, action });
  });

  // Whoever waits no longer is as one who left: the connection is cut, and what was done for it is called off.
  app.use('/v1/*', async (c, next) => {
    const ms = parseDeadline(c.req.header(DEADLINE_HEADER));
    if (ms === undefined) return next();
    const timer = setTimeout(() => c.env.outgoing.destroy(), ms);
    await next();
    clearTimeout(timer);
  });

  app.get('/v1/tensors', (c) => {
    const caller = allow(c, 'tensors:read', 'list');
    const { prefix, cursor, limit } = parseQuery(listQuerySchema, new URL(c.req.url).searchParams);
    allowName(c, prefix);
    return c.json(cache.list(caller.tenant, prefix, cursor, limit));
  });
  app.put('/v1/tensors/:key{.+}', async (c) => {
    const caller = allow(c, 'tensors:write', 'put');
    const key = keyOf(c);
    const query = parseQuery(putQuerySchema, new URL(c.req.url).searchParams);
    parseCodec(query.codec);
    refuseOtherMedia(c);
    const named = { tenant: caller.tenant, key };
    const resume = query.claim === undefined ? undefined : claims.suspend({ ...named, claim: query.claim });
    const { created, ...answer } = await cache
      .put({
        ...named,
        ...signedBody(c),
        ttlSeconds: query.ttl,
        priority: query.priority,
        durability: query.durability,
      })
      .finally(resume);
    claims.fulfil(named);
    return c.json(answer, created ? 201 : 200);
  });
  app.get('/v1/tensors/:key{.+}', async (c) => {
    const caller = allow(c, 'tensors:read', 'get');
    const key = keyOf(c);
    if (c.req.method === 'HEAD') {
      const entry = cache.peek(caller.tenant, key);
      if (!entry) throw unknownTensor(key);
      const headers = headersOf(entry, entry.tier);
      return namesTag(c.req.header('if-none-match'), headers.etag)
        ? notModified(c, headers.etag)
        : c.body(null, 200, headers);
    }
    const found = cache.get(caller.tenant, key);
    if (!found) throw unknownTensor(key);
    const headers = headersOf(found.entry, found.source);
    return namesTag(c.req.header('if-none-match'), headers.etag)
      ? notModified(c, headers.etag)
      : sendBody(c, headers, found.read(leaving(c.env.outgoing)));
  });
  app.delete('/v1/tensors/:key{.+}', async (c) => {
    const caller = allow(c, 'tensors:write', 'delete');
    const key = keyOf(c);
    if (!(await cache.delete(caller.tenant, key))) throw unknownTensor(key);
    return c.body(null, 204);
  });
  app.all('/v1/tensors/*', (c) => {
    throw problem('method_unsupported', `A tensor takes GET, HEAD, PUT and DELETE, not ${c.req.method}.`);
  });
  addBatchRoutes(app, parts);
  addClaimRoutes(app, claims, cache);
  addKvRoutes(app, parts.kv);
  addCacheRoutes(app, cache, parts.kv);
  addKeyRoutes(app, parts);
  addBackupRoutes(app, parts.backups);
  addErasureRoutes(app, parts.erasures, parts.receiptKey);
  app.get('/v1/adapters', (c) => {
    const caller = allow(c, 'tensors:read', 'adapters');
    if (seesAll(caller)) return c.json({ adapters: pool.report() });
    const own = cache.tenantStats(caller.tenant).bytes.adapters;
    return c.json({ adapters: pool.report().map((adapter) => asTenantsSee(adapter, own[adapter.id] ?? 0)) });
  });
  app.post('/v1/tensors:move', async (c) => {
    const caller = allow(c, 'cache:admin', 'move');
    const { what, adapter } = parseBody(moveBodySchema, await jsonBody(c));
    allowName(c, 'key' in what ? what.key : what.prefix);
    return c.json({ adapter, ...(await cache.move(caller.tenant, what, adapter, leaving(c.env.outgoing))) });
  });
  app.post('/v1/adapters/:id/drain', async (c) => {
    allow(c, 'cache:admin', 'drain');
    const adapter = c.req.param('id');
    const signal = leaving(c.env.outgoing);
    const tensors = await cache.drain(adapter, signal);
    const blocks = await parts.kv.drain(adapter, signal);
    return c.json({ adapter, ...tensors, state: pool.reportOf(adapter).state, kv: blocks });
  });
  app.post('/v1/adapters/:id/resume', (c) => {
    allow(c, 'cache:admin', 'resume');
    const adapter = c.req.param('id');
    return c.json({ adapter, state: pool.resume(adapter).state });
  });
  app.post('/v1/adapters/:id/restart', async (c) => {
    allow(c, 'cache:admin', 'restart');
    const adapter = c.req.param('id');
    return c.json({ adapter, ...(await cache.restart(adapter, leaving(c.env.outgoing))) });
  });
  app.get('/v1/internal/changes', (c) => {
    allow(c, INTERNAL_SCOPE, 'changes');
    const { after } = parseQuery(eventsQuerySchema, new URL(c.req.url).searchParams);
    return sendEvents(c, (_, signal) => parts.changes.follow(after, CHANGES_QUIET_MS, signal));
  });
  return app;

  function noteRefusal(c: C, { status, code }: Problem): void {
    const { method, path } = c.req;
    const address = addressOf(c);
    void parts.audit.note({
      status,
      code,
      method,
      path,
      address,
      caller: c.get('caller'),
      requestId: c.get('requestId'),
    });
  }
}

const addressOf = (c: C): string | undefined => c.env.incoming.socket.remoteAddress;

/** An act as it ended. */
const inAudit = (c: C) => ({
  subject: oneLine(`${c.req.method} ${c.req.path}`),
  detail: { status: c.res.status, requestId: c.get('requestId') },
});

/** An edge elsewhere has named the request already; one name for it in both logs. */
const givenId = (c: C): string | undefined => {
  const given = c.req.header('x-request-id');
  return given && REQUEST_ID.test(given) ? given : undefined;
};
const REQUEST_ID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

const KEY_ROUTE = '/v1/tensors/';
/** As it was sent: Hono would decode what `parseKey` has to judge. */
function encodedKey(c: C): string {
  const { url } = c.req;
  const path = url.slice(url.indexOf('/', url.indexOf('://') + 3)).split(/[?#]/, 1)[0] ?? '';
  if (path.startsWith(KEY_ROUTE)) return path.slice(KEY_ROUTE.length);
  throw problem('route_unknown', `Tensors are at ${KEY_ROUTE}, in these characters.`);
}

/** One that the caller may name. */
function keyOf(c: C): string {
  const key = parseKey(encodedKey(c));
  allowName(c, key);
  return key;
}

/** Without what tells how busy others are; `used` are the pages of the tenant's own tensors. */
const asTenantsSee = (adapter: AdapterReport, used: number) => {
  const { utilization: _, queue: __, bytesInFlight: ___, memory, ...rest } = adapter;
  return { ...rest, memory: { used, capacity: memory.capacity } };
};
const unknownTensor = (key: string) => problem('tensor_unknown', `No tensor is held under ${key}.`);

const notModified = (c: C, etag: string) => c.body(null, 304, { etag });

/** No caller writes lines of our log. */
const oneLine = (text: string): string => text.slice(0, 300).replace(/[^\x20-\x7e]/g, '?');

/** An error and what caused it, in one line for the log. */
function causes(error: Error): string {
  const inner = error.cause instanceof Error ? ` <- ${causes(error.cause)}` : '';
  return `${error.message}${inner}`;
}
