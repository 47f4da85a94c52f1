// The route of batches: many small tensors put or asked for in one request. What comes is checked here, whole in memory and
// therefore few at a time, and handed to the cache.
import type { Hono } from 'hono';
import { leaving } from './bodies.ts';
import { type BatchPutting, type Gotten, getMany, putMany } from './cache/batch.ts';
import type { Cache } from './cache/cache.ts';
import type { Claims } from './cache/claims.ts';
import {
  BATCH,
  BATCH_BYTES_MAX,
  BATCH_FRAME_BYTES_MAX,
  type BatchFound,
  type BatchRefused,
  frameHead,
  getBodySchema,
  readPuts,
} from './contract/batch.ts';
import { parseBody } from './contract/messages.ts';
import { Problem, problem } from './contract/problems.ts';
import { joinParts } from './contract/tensors.ts';
import { privatePiece } from './gpu/pieces.ts';
import { allow, allowName, type C, type CoreEnv, jsonBody, sendBody, wholeBody } from './route.ts';

/** Each has a body or an answer of 17 MiB at most. */
const UNDER_WAY_MAX = 8;
/** Beyond those, one for each tenant that has none: who sends slowly keeps nobody else out. */
const UNDER_WAY_EVER = 16;

export interface BatchParts {
  readonly cache: Cache;
  readonly claims: Claims;
  readonly log: (line: string) => void;
}

export function addBatchRoutes(app: Hono<CoreEnv>, { cache, claims, log }: BatchParts): void {
  /** By tenant. */
  const underWay = createCounts();

  app.post('/v1/tensors:batch', async (c) => {
    const isPut = c.req.header('content-type')?.split(';')[0]?.trim().toLowerCase() === BATCH;
    const { tenant } = allow(c, isPut ? 'tensors:write' : 'tensors:read', 'batch');
    if (underWay.all >= (underWay.of(tenant) > 0 ? UNDER_WAY_MAX : UNDER_WAY_EVER))
      throw problem('pieces_exhausted', 'As many batches are on their way as may be. Send it again.');
    underWay.add(tenant, 1);
    try {
      return isPut ? await put(c, tenant) : await get(c, tenant);
    } finally {
      underWay.add(tenant, -1);
    }
  });

  async function put(c: C, tenant: string): Promise<Response> {
    const frame = await wholeBody(c, BATCH, { bytesMax: BATCH_FRAME_BYTES_MAX, isCounted: false });
    const asked = readPuts(frame);
    for (const { entry } of asked) allowName(c, entry.key);
    const signal = leaving(c.env.outgoing);
    const resume = asked.map(({ entry: { key, claim } }) => claim && claims.suspend({ tenant, key, claim }));
    const done = await putMany(
      cache,
      asked.map(({ entry: { key, ttl, priority, durability }, file }): BatchPutting => {
        return { tenant, key, file, ttlSeconds: ttl, priority, durability, signal };
      }),
    );
    for (const each of resume) if (each) each();
    const entries = done.map((one, i) => {
      const key = asked[i]?.entry.key ?? '';
      if (one instanceof Problem) return refused(c, key, one);
      claims.fulfil({ tenant, key });
      const { created, ...answer } = one;
      return { status: created ? 201 : 200, ...answer };
    });
    return c.json({ entries });
  }

  async function get(c: C, tenant: string): Promise<Response> {
    const { get: keys } = parseBody(getBodySchema, await jsonBody(c, BATCH_FRAME_BYTES_MAX - BATCH_BYTES_MAX));
    for (const key of keys) allowName(c, key);
    const signal = leaving(c.env.outgoing);
    const found = await getMany(cache, { tenant, keys, bytesMax: BATCH_BYTES_MAX, signal });
    const entries = found.map((one, i) => {
      const key = keys[i] ?? '';
      return one instanceof Problem ? refused(c, key, one) : told(key, one);
    });
    const files = found.flatMap((one) => (one instanceof Problem ? [] : [one.file]));
    const answer = joinParts([frameHead({ entries }), ...files]);
    return sendBody(c, { 'content-type': BATCH, 'content-length': String(answer.length) }, whole(answer));
  }

  function refused(c: C, key: string, fault: Problem): BatchRefused {
    if (fault.status >= 500)
      log(`${c.get('requestId')} batch, ${key}: ${fault.message} ${fault.cause ? String(fault.cause) : ''}`);
    return { key, status: fault.status, code: fault.code, detail: fault.message };
  }
}

/** Nothing is kept of a tenant who has none. */
function createCounts() {
  const counts = new Map<string, number>();
  const of = (tenant: string): number => counts.get(tenant) ?? 0;
  return {
    of,
    get all() {
      return [...counts.values()].reduce((sum, count) => sum + count, 0);
    },
    add(tenant: string, more: 1 | -1) {
      const count = of(tenant) + more;
      if (count > 0) counts.set(tenant, count);
      else counts.delete(tenant);
    },
  };
}

const told = (key: string, { file, digest, source }: Gotten): BatchFound => {
  return { key, status: 200, bytes: file.length, digest, cache: source };
};

async function* whole(bytes: Uint8Array) {
  yield { piece: privatePiece(bytes), length: bytes.length };
}
