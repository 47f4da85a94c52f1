// The client's calls for the cache as a whole: what it counts, and by which policy it serves. Pure.
import { z } from 'zod';
import type { Crypto } from '../core/contract/crypto.ts';
import { type PolicyAnswer, type PolicyBody, policyAnswerSchema } from '../core/contract/policy.ts';
import { readJson } from './client-answers.ts';
import type { Answer, Ask } from './client-wire.ts';

/** What is missing is told to keys with `metrics:read` or `cache:admin` only; without these all figures are one's own tenant's. */
const statsSchema = z.looseObject({
  of: z.enum(['all', 'tenant']).default('all'),
  entries: z.number(),
  hits: z.looseObject({ hot: z.number(), cold: z.number() }),
  misses: z.number(),
  puts: z.number(),
  deletes: z.number(),
  evictions: z.number().optional(),
  expired: z.number().optional(),
  lost: z.number().optional(),
  bytes: z.looseObject({ hot: z.number(), disk: z.number() }),
  kv: z.looseObject({
    blocks: z.number(),
    bytes: z.number(),
    evictions: z.number().optional(),
    lost: z.number().optional(),
    tokens: z.looseObject({ asked: z.number(), matched: z.number() }),
  }),
});
export type Stats = z.infer<typeof statsSchema>;

export interface ClientCache {
  stats(): Promise<Stats>;
  /** By which strategy content leaves adapters, and what it has found out about one's own. */
  policy(): Promise<PolicyAnswer>;
  /** One or both, at once and for all; needs the scope `cache:admin`. */
  setPolicy(next: PolicyBody): Promise<PolicyAnswer>;
}

export function clientCache(ask: (ask: Ask) => Promise<Answer>, crypto: Pick<Crypto, 'sha256'>): ClientCache {
  const path = '/v1/cache/policy';
  return {
    stats: async () => readJson(await ask({ path: '/v1/cache/stats' }), statsSchema),
    policy: async () => readJson(await ask({ path }), policyAnswerSchema),
    async setPolicy(next) {
      const body = new TextEncoder().encode(JSON.stringify(next));
      const headers = { 'content-type': 'application/json' };
      const digest = await crypto.sha256(body);
      return readJson(await ask({ method: 'PUT', path, body, digest, headers }), policyAnswerSchema);
    },
  };
}
