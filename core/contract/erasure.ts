// What is asked of an erasure, and the receipt that it ends with: what was removed where, signed with Ed25519, so that whoever has
// the receipt and the public key can tell later that it is as it was given. A receipt names no prefix and no salt, only their
// sha-256, or it would keep what was to be erased; who knows them can compare. Pure.
import { z } from 'zod';
import { kvName } from './kv.ts';

const PREFIX_CHARS_MAX = 512;

export const erasureBodySchema = z
  .strictObject({
    /** Whose; the caller's own if left out. */
    tenant: z.string().min(1).max(200).optional(),
    /** Of KV. */
    model: kvName.optional(),
    salt: kvName.optional(),
    /** Of the keys of tensors. */
    prefix: z.string().min(1).max(PREFIX_CHARS_MAX).optional(),
  })
  .refine(
    ({ tenant, model, salt, prefix }) => [tenant, model, salt, prefix].some((part) => part !== undefined),
    'name a tenant, a model, a salt or a prefix',
  )
  .refine(({ model, salt, prefix }) => prefix === undefined || (model ?? salt) === undefined, {
    path: ['prefix'],
    message: 'is of tensors, model and salt are of KV: ask for each',
  });
export type ErasureBody = z.infer<typeof erasureBodySchema>;

export const erasureQuerySchema = z.strictObject({
  /** Whether the answer comes when it is done. */
  wait: z
    .enum(['true', 'false'])
    .default('true')
    .transform((text) => text === 'true'),
});

const digest = z.string().regex(/^[0-9a-f]{64}$/);
export const receiptSchema = z.strictObject({
  version: z.literal(1),
  id: z.string(),
  what: z.strictObject({
    tenant: z.string(),
    /** All of the tenant, its keys included. */
    whole: z.boolean(),
    model: z.string().optional(),
    saltSha256: digest.optional(),
    prefixSha256: digest.optional(),
  }),
  /** The key that asked. */
  by: z.string(),
  askedAt: z.string(),
  doneAt: z.string(),
  /** Place by place, what was removed there, in counts. */
  places: z.record(z.string(), z.record(z.string(), z.number())),
});
export type Receipt = z.infer<typeof receiptSchema>;

export const signedReceiptSchema = z.strictObject({
  receipt: receiptSchema,
  algorithm: z.literal('Ed25519'),
  /** SPKI, base64. */
  publicKey: z.string(),
  /** Of the receipt as `canonical` writes it, base64. */
  signature: z.string(),
});
export type SignedReceipt = z.infer<typeof signedReceiptSchema>;

export const erasureAnswerSchema = z.object({
  id: z.string(),
  state: z.enum(['running', 'failed', 'done']),
  /** Why it is not done; the next start goes on with it. */
  why: z.string().optional(),
  signed: signedReceiptSchema.optional(),
});
export type ErasureAnswer = z.infer<typeof erasureAnswerSchema>;

export const receiptKeySchema = z.object({ algorithm: z.literal('Ed25519'), publicKey: z.string() });
export type ReceiptKey = z.infer<typeof receiptKeySchema>;

/** The same text for the same value, whoever has written it: JSON with names in order and no spaces. */
export function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const parts = Object.entries(value)
    .filter(([, part]) => part !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, part]) => `${JSON.stringify(name)}:${canonical(part)}`);
  return `{${parts.join(',')}}`;
}

/** Whether it is as it was signed; with the key that it brings, or the one that is given (SPKI, base64). */
export async function isGenuine({ receipt, publicKey, signature }: SignedReceipt, trusted?: string): Promise<boolean> {
  if (trusted !== undefined && trusted !== publicKey) return false;
  try {
    const key = await crypto.subtle.importKey('spki', bytesOf(publicKey), 'Ed25519', false, ['verify']);
    return await crypto.subtle.verify('Ed25519', key, bytesOf(signature), new TextEncoder().encode(canonical(receipt)));
  } catch {
    return false; // what is no key, or no signature, proves nothing
  }
}

const bytesOf = (base64: string) => Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
