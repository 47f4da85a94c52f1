// The routes of the KV of token sequences. What comes is checked here and handed to the cache's kv.
import type { Hono } from 'hono';
import { leaving } from './bodies.ts';
import type { Kv } from './cache/kv.ts';
import { kvAttentionQuerySchema, kvLoadSchema, kvStoreQuerySchema } from './contract/kv.ts';
import { parseBody, parseQuery, SAFETENSORS } from './contract/messages.ts';
import { allow, type CoreEnv, jsonBody, refuseOtherMedia, sendBody, signedBody } from './route.ts';

/** A million tokens in decimal, and what stands beside them. */
const LOAD_BYTES_MAX = 16 << 20;

export function addKvRoutes(app: Hono<CoreEnv>, kv: Kv): void {
  app.post('/v1/kv/store', async (c) => {
    const { tenant } = allow(c, 'kv:write', 'kv-store');
    const query = parseQuery(kvStoreQuerySchema, new URL(c.req.url).searchParams);
    refuseOtherMedia(c);
    return c.json(await kv.store({ tenant, ...query, ...signedBody(c) }));
  });
  app.post('/v1/kv/load', async (c) => {
    const { tenant } = allow(c, 'kv:read', 'kv-load');
    const { tokens, ...asked } = parseBody(kvLoadSchema, await jsonBody(c, LOAD_BYTES_MAX));
    const found = kv.load({ tenant, ...asked, tokens: Int32Array.from(tokens) });
    const headers = { 'content-type': SAFETENSORS, 'content-length': String(found.bytes) };
    return sendBody(c, headers, found.read(leaving(c.env.outgoing)));
  });
  app.post('/v1/kv/attention', async (c) => {
    const { tenant } = allow(c, 'kv:read', 'kv-attention');
    const query = parseQuery(kvAttentionQuerySchema, new URL(c.req.url).searchParams);
    refuseOtherMedia(c);
    const file = await kv.attention({ tenant, ...query, ...signedBody(c) });
    return c.body(file, 200, { 'content-type': SAFETENSORS });
  });
}
