// What callers ask of held KV beside reading it, and are answered, as zod schemas: lookups, pins, clearing, recoding, moving, and
// the events of a tenant's blocks. Pure: edge and core read the same file.
import { z } from 'zod';
import { HEAD_DIMS, HEADS_MAX, kvBlockSchema, kvName, kvTokens, LAYERS_MAX } from './kv.ts';

const asked = { model: kvName, tokens: kvTokens, salt: kvName.optional() };

export const kvLookupSchema = z.strictObject({
  ...asked,
  /** Why it is not more. */
  explain: z.boolean().default(false),
  /** Counts as a use: what was found leaves last. */
  use: z.boolean().default(false),
  /** Only what is held in a layout like this. */
  layout: z
    .strictObject({
      layers: z.int().min(1).max(LAYERS_MAX).optional(),
      kvHeads: z.int().min(1).max(HEADS_MAX).optional(),
      dim: z
        .int()
        .min(1)
        .max(Math.max(...HEAD_DIMS))
        .optional(),
    })
    .default({}),
});

/** Of blocks that left, and of some that are there and have expired. */
const KV_CAUSES = ['evicted', 'expired', 'cleared', 'lost', 'drained', 'damaged'] as const;
export type KvCause = (typeof KV_CAUSES)[number];

const at = { at: z.number() };
const when = z.string();
export const kvExplanationSchema = z.discriminatedUnion('reason', [
  /** `at` is the first token that differs from what is held there; so many of its block agree before it. */
  z.object({ reason: z.literal('diverges'), ...at, agreeing: z.number() }),
  /** By the rule `policy`, for others. */
  z.object({ reason: z.literal('evicted'), ...at, when, policy: z.string() }),
  z.object({ reason: z.enum(KV_CAUSES).exclude(['evicted']), ...at, when }),
  /** The caller's tenant holds more under another salt, or under none; or in another layout. */
  z.object({ reason: z.enum(['other_salt', 'other_layout']), ...at, matchedTokens: z.number() }),
  /** What is left of the tokens fills no block, and is never kept. */
  z.object({ reason: z.literal('shorter_than_block'), ...at, tokens: z.number() }),
  z.object({ reason: z.literal('unknown'), ...at }),
]);
export const kvLookupAnswerSchema = z.object({
  matchedTokens: z.number(),
  blocks: z.array(kvBlockSchema),
  /** Null where all is held; left out where nobody asked. */
  explain: kvExplanationSchema.nullish(),
});
export type KvExplanation = z.infer<typeof kvExplanationSchema>;
export type KvLookupAnswer = z.infer<typeof kvLookupAnswerSchema>;

export const PIN_SECONDS_MAX = 86_400;
export const kvPinSchema = z.strictObject({ ...asked, ttl: z.int().min(1).max(PIN_SECONDS_MAX) });
/** A pin by its id, or by what it was made for. */
export const kvUnpinSchema = z.union(
  [z.strictObject({ pin: z.string().min(1).max(64) }), z.strictObject(asked)],
  'must name a pin, or model and tokens',
);
export const kvPinAnswerSchema = z.object({
  pin: z.string(),
  matchedTokens: z.number(),
  pinnedBlocks: z.number(),
  expiresAt: z.string(),
});
/** How many pins the tenant still has. */
export const kvUnpinAnswerSchema = z.object({ pins: z.number() });
export type KvPinAnswer = z.infer<typeof kvPinAnswerSchema>;
export type KvUnpinAnswer = z.infer<typeof kvUnpinAnswerSchema>;

/** What is not said restricts nothing. */
export const kvClearSchema = z
  .strictObject({ model: kvName.optional(), salt: kvName.optional(), prefix: kvTokens.optional() })
  .refine(({ model, prefix }) => prefix === undefined || model !== undefined, {
    path: ['model'],
    message: 'is needed with prefix: tokens are those of a model',
  });
export const kvClearAnswerSchema = z.object({
  /** Gone, and those of them that were pinned. */
  blocks: z.number(),
  bytes: z.number(),
  pinned: z.number(),
  /** The tenant's no more, and still there: others have stored them too, under the same salt. */
  shared: z.number(),
});
export type KvClearAnswer = z.infer<typeof kvClearAnswerSchema>;

const codec = z.string().max(64).default('raw');
/** `raw`: as it is. */
export const kvRecodeSchema = z.strictObject({ ...asked, codecK: codec, codecV: codec });
export const kvRecodeAnswerSchema = z.object({
  matchedTokens: z.number(),
  recoded: z.number(),
  /** As asked before. */
  already: z.number(),
  /** As they were: what has lost something is not coded again; no room for both forms; others' under the salt; gone meanwhile. */
  left: z.object({ coded: z.number(), noRoom: z.number(), others: z.number(), gone: z.number() }),
});
export type KvRecodeAnswer = z.infer<typeof kvRecodeAnswerSchema>;

/** To another adapter; or into memory (cold) and back to adapters (hot). */
export const kvMoveSchema = z
  .strictObject({
    ...asked,
    adapter: z.string().min(1).max(64).optional(),
    tier: z.enum(['hot', 'cold', 'disk']).optional(),
  })
  .refine(
    ({ adapter, tier }) => (adapter === undefined) !== (tier === undefined),
    'must name either an adapter or a tier',
  )
  .transform(({ adapter, tier, ...rest }) => ({
    ...rest,
    to: adapter === undefined ? { tier: tier ?? 'hot' } : { adapter },
  }));
export const kvPrefetchSchema = z.strictObject({ ...asked, tier: z.literal('hot').default('hot') });
/** `left` in memory: there was no room on adapters, or they are gone. */
export const kvPrefetchAnswerSchema = z.object({
  matchedTokens: z.number(),
  returned: z.number(),
  bytes: z.number(),
  already: z.number(),
  left: z.number(),
});
export type KvPrefetchAnswer = z.infer<typeof kvPrefetchAnswerSchema>;

export const kvMoveAnswerSchema = z.object({
  matchedTokens: z.number(),
  moved: z.number(),
  bytes: z.number(),
  /** There before. */
  already: z.number(),
  left: z.object({ noRoom: z.number(), others: z.number(), gone: z.number() }),
});
export type KvMoveAnswer = z.infer<typeof kvMoveAnswerSchema>;

/** What happens to blocks that the caller's tenant has stored. */
export const kvEventSchema = z.discriminatedUnion('type', [
  /** They follow each other, and the block `parentHash`; null where they begin a sequence. */
  z.object({
    type: z.literal('BlockStored'),
    hashes: z.array(z.string()),
    parentHash: z.string().nullable(),
    tokens: z.number(),
    model: z.string(),
    tier: z.string(),
    adapter: z.string().nullable(),
  }),
  z.object({ type: z.literal('BlockRemoved'), hash: z.string(), cause: z.enum(KV_CAUSES) }),
  z.object({ type: z.literal('AllBlocksCleared') }),
  z.object({ type: z.literal('BlockMoved'), hash: z.string(), tier: z.string(), adapter: z.string().nullable() }),
]);
/** What came after the number `after` is not kept, up to the one before `next`. */
export const kvEventGapSchema = z.object({ type: z.literal('gap'), after: z.number(), next: z.number() });
export type KvEvent = z.infer<typeof kvEventSchema>;
export type KvEventGap = z.infer<typeof kvEventGapSchema>;
export type KvNumberedEvent = (KvEvent | KvEventGap) & { readonly id: number };
