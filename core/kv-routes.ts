// The routes of the KV of token sequences. What comes is checked here and handed to the cache's kv.
import type { Hono } from 'hono';
import { leaving } from './bodies.ts';
import type { Kv } from './cache/kv/kv.ts';
import { eventsQuerySchema } from './contract/events.ts';
import { kvAttentionQuerySchema, kvLoadSchema, kvStoreQuerySchema } from './contract/kv.ts';
import {
  kvClearSchema,
  kvLookupSchema,
  kvMoveSchema,
  kvPinSchema,
  kvPrefetchSchema,
  kvRecodeSchema,
  kvUnpinSchema,
} from './contract/kv-calls.ts';
import { parseBody, parseQuery, SAFETENSORS } from './contract/messages.ts';
import { sendEvents } from './event-stream.ts';
import { allow, allowModel, type C, type CoreEnv, jsonBody, refuseOtherMedia, sendBody, signedBody } from './route.ts';

/** A million tokens in decimal, and what stands beside them. */
const TOKENS_BYTES_MAX = 16 << 20;

export function addKvRoutes(app: Hono<CoreEnv>, kv: Kv): void {
  app.post('/v1/kv/store', async (c) => {
    const { tenant } = allow(c, 'kv:write', 'kv-store');
    const query = parseQuery(kvStoreQuerySchema, new URL(c.req.url).searchParams);
    allowModel(c, query.model);
    refuseOtherMedia(c);
    return c.json(await kv.store({ tenant, ...query, ...signedBody(c) }));
  });
  app.post('/v1/kv/load', async (c) => {
    const { tenant } = allow(c, 'kv:read', 'kv-load');
    const asked = withTokens(c, parseBody(kvLoadSchema, await longBody(c)));
    const signal = leaving(c.env.outgoing);
    const found = await kv.load({ tenant, ...asked, signal });
    const headers = { 'content-type': SAFETENSORS, 'content-length': String(found.bytes) };
    return sendBody(c, headers, found.read(signal));
  });
  app.post('/v1/kv/attention', async (c) => {
    const { tenant } = allow(c, 'kv:read', 'kv-attention');
    const query = parseQuery(kvAttentionQuerySchema, new URL(c.req.url).searchParams);
    allowModel(c, query.model);
    refuseOtherMedia(c);
    const file = await kv.attention({ tenant, ...query, ...signedBody(c) });
    return c.body(file, 200, { 'content-type': SAFETENSORS });
  });
  app.post('/v1/kv/lookup', async (c) => {
    const { tenant } = allow(c, 'kv:read', 'kv-lookup');
    return c.json(kv.lookup({ tenant, ...withTokens(c, parseBody(kvLookupSchema, await longBody(c))) }));
  });
  app.post('/v1/kv/pin', async (c) => {
    const { tenant } = allow(c, 'kv:write', 'kv-pin');
    return c.json(kv.pin({ tenant, ...withTokens(c, parseBody(kvPinSchema, await longBody(c))) }));
  });
  app.post('/v1/kv/unpin', async (c) => {
    const { tenant } = allow(c, 'kv:write', 'kv-unpin');
    const asked = parseBody(kvUnpinSchema, await longBody(c));
    if (!('pin' in asked)) return c.json(kv.unpin({ tenant, ...withTokens(c, asked) }));
    allowModel(c, undefined);
    return c.json(kv.unpin({ tenant, ...asked }));
  });
  app.post('/v1/kv/clear', async (c) => {
    const { tenant } = allow(c, 'kv:write', 'kv-clear');
    const { prefix, ...asked } = parseBody(kvClearSchema, await longBody(c));
    allowModel(c, asked.model);
    return c.json(await kv.clear({ tenant, ...asked, prefix: prefix && Int32Array.from(prefix) }));
  });
  app.post('/v1/kv/recode', async (c) => {
    const { tenant } = allow(c, 'kv:write', 'kv-recode');
    const asked = withTokens(c, parseBody(kvRecodeSchema, await longBody(c)));
    return c.json(await kv.recode({ tenant, ...asked, signal: leaving(c.env.outgoing) }));
  });
  app.post('/v1/kv/move', async (c) => {
    const { tenant } = allow(c, 'cache:admin', 'kv-move');
    const asked = withTokens(c, parseBody(kvMoveSchema, await longBody(c)));
    return c.json(await kv.move({ tenant, ...asked, signal: leaving(c.env.outgoing) }));
  });
  app.post('/v1/kv/prefetch', async (c) => {
    const { tenant } = allow(c, 'kv:read', 'kv-prefetch');
    const { tier: _, ...asked } = withTokens(c, parseBody(kvPrefetchSchema, await longBody(c)));
    return c.json(await kv.prefetch({ tenant, ...asked, signal: leaving(c.env.outgoing) }));
  });
  app.get('/v1/kv/events', async (c) => {
    const { tenant } = allow(c, 'kv:read', 'kv-events');
    allowModel(c, undefined);
    const query = new URL(c.req.url).searchParams;
    const last = c.req.header('last-event-id');
    if (last) query.set('after', last); // of a reader who comes back with the address that it began with
    const { after } = parseQuery(eventsQuerySchema, query);
    return sendEvents(c, (quietMs, signal) => kv.follow(tenant, after, quietMs, signal));
  });
}

const longBody = (c: C): Promise<Uint8Array> => jsonBody(c, TOKENS_BYTES_MAX);

/** Of a model that the caller may name. */
function withTokens<T extends { model: string; tokens: number[] }>(c: C, { tokens, ...asked }: T) {
  allowModel(c, asked.model);
  return { ...asked, tokens: Int32Array.from(tokens) };
}
