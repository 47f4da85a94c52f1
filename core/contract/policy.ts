// `GET` and `PUT /v1/cache/policy`: by which strategy content leaves adapters, and what it has found out. Pure.
import { z } from 'zod';

export const STRATEGIES = ['lru', 'lfu', 'adaptive'] as const;
export type Strategy = (typeof STRATEGIES)[number];
/** What a hit counts for: one, its bytes, or what it would cost to have it again. */
export const OBJECTIVES = ['hits', 'bytes', 'cost'] as const;

export const policyBodySchema = z
  .strictObject({ strategy: z.enum(STRATEGIES).optional(), objective: z.enum(OBJECTIVES).optional() })
  .refine(({ strategy, objective }) => strategy ?? objective, 'name a strategy, an objective, or both');

const watchedSchema = z.object({
  /** Of the requests: sequential, random or mixed; null before enough was seen, and where nobody looks. */
  pattern: z.string().nullable(),
  /** The policy that names who leaves. */
  inCharge: z.string().nullable(),
  /** How the adaptive strategy's experts do, each in a small cache of its own beside the real one. */
  experts: z.array(z.object({ name: z.string(), hitRatio: z.number().nullable() })),
  changes: z.number(),
});
/** Null before enough was asked for. */
const ratioSchema = z.number().nullable();
/** What is ordered by one policy: a tenant's payloads of one band of priority on one adapter. */
const partSchema = watchedSchema.extend({
  adapter: z.string(),
  priority: z.string(),
  payloads: z.number(),
  bytes: z.number(),
});
/** Of the blocks of token sequences, of all tenants; and the shares that were held lately, and would have been in other room. */
const kvPolicySchema = watchedSchema.extend({
  hitRatio: z.object({ now: ratioSchema, half: ratioSchema, double: ratioSchema }),
});
export const policyAnswerSchema = z.looseObject({
  strategy: z.enum(STRATEGIES),
  objective: z.enum(OBJECTIVES),
  /** Requests between comparisons of experts; null: as many as the policy finds right. */
  adjustEvery: z.number().nullable(),
  /** Of the caller's tenant; first what is said of the largest part, and the changes of all. */
  tensors: watchedSchema.extend({ parts: z.array(partSchema) }),
  /** For who may see figures of all tenants. */
  kv: kvPolicySchema.optional(),
});

export type PolicyBody = z.infer<typeof policyBodySchema>;
export type KvPolicy = z.infer<typeof kvPolicySchema>;
export type PolicyAnswer = z.infer<typeof policyAnswerSchema>;
/** Without what is said of KV. */
export type TensorsPolicy = Pick<PolicyAnswer, 'strategy' | 'objective' | 'adjustEvery' | 'tensors'>;
