// What is asked and answered about who computes a key that is not held. Pure: edge, core and client read the same file.
import { z } from 'zod';
import { claimSchema, keySchema, tensorEntrySchema } from './messages.ts';

const TTL_MS = { min: 100, max: 3_600_000, default: 30_000 };
const WAIT_MS_MAX = 60_000;
const REASON_CHARS_MAX = 1000;

const ttlMs = z.int().min(TTL_MS.min).max(TTL_MS.max).default(TTL_MS.default);
const waitMs = z.int().min(0).max(WAIT_MS_MAX);

export const claimBodySchema = z.strictObject({ key: keySchema, ttlMs, waitMs: waitMs.default(20_000) });

export const renewBodySchema = z.strictObject({ key: keySchema, claim: claimSchema, ttlMs, waitMs: waitMs.default(0) });

export const releaseBodySchema = z.strictObject({
  key: keySchema,
  claim: claimSchema,
  reason: z.string().min(1).max(REASON_CHARS_MAX).optional(),
});

export const claimAnswerSchema = z.discriminatedUnion('state', [
  z.object({ state: z.literal('held'), entry: tensorEntrySchema }),
  z.object({ state: z.literal('yours'), claim: claimSchema, expiresAt: z.string() }),
  /** Somebody else still computes it: ask again. */
  z.object({ state: z.literal('theirs') }),
]);

export const renewAnswerSchema = z.object({ expiresAt: z.string(), waiting: z.number() });

export type ClaimAsked = z.infer<typeof claimBodySchema>;
export type ClaimAnswer = z.infer<typeof claimAnswerSchema>;
