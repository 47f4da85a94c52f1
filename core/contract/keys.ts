// The keys that callers sign with: what one may do, and what is asked and answered about them. Pure: edge, core and client read
// the same file. Nobody grants more than they have: `beyond` names what a grant has beyond its maker's, whatever that is.
import { z } from 'zod';
import { type Address, contains, isWithin, parseRange, type Range } from './addresses.ts';
import { problem } from './problems.ts';
import { type LimitsOfKey, limitsSchema } from './rates.ts';
import { integer } from './settings.ts';

/** All there are. `operator` acts for every tenant, on the scopes beside it. */
export const SCOPES = [
  'tensors:read',
  'tensors:write',
  'kv:read',
  'kv:write',
  'cache:admin',
  'keys:admin',
  'backups:admin',
  'metrics:read',
  'operator',
] as const;
export const OPERATOR_SCOPE = 'operator';

const NAME_MAX = 200;
const KEYID_MAX = 128;
const TENANT_MAX = 64;
const EACH_MAX = 64;
const TTL_MAX = 10 * 365 * 86_400;
const OVERLAP_SECONDS_MAX = 30 * 86_400;
const LIST_MAX = 1000;

const few = (each: z.ZodString) => z.array(each).min(1).max(EACH_MAX).optional();

/** What is left out restricts nothing. */
export const restrictionsSchema = z.strictObject({
  /** Keys of tensors begin with one of these. */
  prefixes: few(z.string().min(1).max(512)),
  /** KV is of one of these models. */
  models: few(z.string().min(1).max(NAME_MAX)),
  /** Callers are at one of these addresses. */
  addresses: few(
    z.string().refine((text) => parseRange(text) !== undefined, 'must be an address, or a range as 10.0.0.0/8'),
  ),
});
export type Restrictions = z.infer<typeof restrictionsSchema>;

/** Whether a tensor may be named, or all that begin so. */
export const mayName = (restrictions: Restrictions | undefined, name: string): boolean =>
  restrictions?.prefixes?.some((each) => name.startsWith(each)) ?? true;

/** What a key is worth. */
export interface Grant {
  readonly tenant: string;
  readonly scopes: readonly string[];
  readonly restrictions?: Restrictions | undefined;
  /** Instead of those that an edge is set to. */
  readonly limits?: LimitsOfKey | undefined;
  /** Milliseconds since 1970; left out: never. */
  readonly expiresAt?: number | undefined;
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: what no line of a log may hold
const PLAIN = /^[^\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]*$/;
const nameSchema = z.string().max(NAME_MAX).regex(PLAIN, 'must have no control characters');
export const tenantSchema = z
  .string()
  .max(TENANT_MAX)
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/, 'only A–Z a–z 0–9 . _ - are allowed');

export const keyBodySchema = z.strictObject({
  name: nameSchema.default(''),
  scopes: z.array(z.enum(SCOPES)).min(1).max(SCOPES.length),
  /** The maker's own, if left out. */
  tenant: tenantSchema.optional(),
  /** Seconds; left out: as long as the maker's. */
  ttl: z.int().min(1).max(TTL_MAX).optional(),
  restrictions: restrictionsSchema.default({}),
  limits: limitsSchema.default({}),
});
export const rotateBodySchema = z.strictObject({
  /** Seconds for which the secret so far goes on working. */
  overlap: z.int().min(0).max(OVERLAP_SECONDS_MAX).default(3600),
});
export const keysQuerySchema = z.strictObject({
  tenant: tenantSchema.optional(),
  cursor: z.string().max(KEYID_MAX).default(''),
  limit: integer(1, LIST_MAX).default(100),
});
export const auditQuerySchema = z.strictObject({
  after: integer(0, Number.MAX_SAFE_INTEGER).default(0),
  limit: integer(1, LIST_MAX).default(100),
});

const moment = z.string().nullable();
export const keyAnswerSchema = z.object({
  keyid: z.string(),
  tenant: z.string(),
  name: z.string(),
  scopes: z.array(z.string()),
  restrictions: restrictionsSchema,
  limits: limitsSchema,
  createdAt: z.string(),
  expiresAt: moment,
  revokedAt: moment,
  /** Until then the secret before the last rotation works too. */
  overlapUntil: moment,
});
/** The one time that the secret is told, base64. */
export const newKeyAnswerSchema = keyAnswerSchema.extend({ secret: z.string() });
export const keysAnswerSchema = z.object({ keys: z.array(keyAnswerSchema), cursor: z.string().nullable() });
export const auditAnswerSchema = z.object({
  entries: z.array(
    z.object({
      id: z.number(),
      at: z.string(),
      tenant: z.string().nullable(),
      actor: z.string(),
      action: z.string(),
      subject: z.string(),
      detail: z.record(z.string(), z.unknown()),
    }),
  ),
  /** For the next call, also where there is nothing new. */
  after: z.number(),
});

export type KeyBody = z.infer<typeof keyBodySchema>;
export type KeyAnswer = z.infer<typeof keyAnswerSchema>;
export type NewKeyAnswer = z.infer<typeof newKeyAnswerSchema>;
export type KeysAnswer = z.infer<typeof keysAnswerSchema>;
export type AuditAnswer = z.infer<typeof auditAnswerSchema>;

export const isOperator = ({ scopes }: Pick<Grant, 'scopes'>): boolean => scopes.includes(OPERATOR_SCOPE);

/** What is left out of a new key's restrictions and life is as the maker's. */
export function inherit(maker: Grant, { tenant, scopes, restrictions = {}, limits, expiresAt }: Grant): Grant {
  const ends = expiresAt ?? maker.expiresAt;
  const all = { ...maker.restrictions, ...restrictions };
  return { tenant, scopes, restrictions: all, ...(limits && { limits }), ...(ends && { expiresAt: ends }) };
}

/** The first thing that `grant` has beyond the maker's; undefined if there is none. */
export function beyond(maker: Grant, grant: Grant): string | undefined {
  if (grant.tenant !== maker.tenant && !isOperator(maker)) return `the tenant ${grant.tenant}`;
  const scope = grant.scopes.find((each) => !maker.scopes.includes(each));
  if (scope !== undefined) return `the scope ${scope}`;
  if ((grant.expiresAt ?? Number.POSITIVE_INFINITY) > (maker.expiresAt ?? Number.POSITIVE_INFINITY))
    return 'a longer life';
  // Each key counts for itself: those that it made would add to what it may.
  if (Object.keys(maker.limits ?? {}).length > 0) return 'a use without limits';
  const { prefixes, models, addresses } = maker.restrictions ?? {};
  const wider = (allowed: readonly string[] | undefined, asked: readonly string[] | undefined, fits: Fits) =>
    allowed !== undefined && !asked?.every((each) => allowed.some((one) => fits(each, one)));
  if (wider(prefixes, grant.restrictions?.prefixes, (each, one) => each.startsWith(one))) return 'more prefixes';
  if (wider(models, grant.restrictions?.models, (each, one) => each === one)) return 'more models';
  if (wider(addresses, grant.restrictions?.addresses, isNarrower)) return 'more addresses';
  return undefined;
}

type Fits = (asked: string, allowed: string) => boolean;

const isNarrower: Fits = (asked, allowed) => {
  const [inner, outer] = [parseRange(asked), parseRange(allowed)];
  return inner !== undefined && outer !== undefined && isWithin(inner, outer);
};

/** Read once for each list. */
const ranges = new WeakMap<readonly string[], readonly Range[]>();

function rangesOf(texts: readonly string[]): readonly Range[] {
  const read = ranges.get(texts) ?? texts.flatMap((text) => parseRange(text) ?? []);
  ranges.set(texts, read);
  return read;
}

/** Refuses a key that is used from where it may not be; an address that is not known is not one of a list. */
export function assertAt(
  { keyid, restrictions }: Grant & { readonly keyid: string },
  address: Address | undefined,
): void {
  const { addresses } = restrictions ?? {};
  if (addresses === undefined || (address && rangesOf(addresses).some((range) => contains(range, address)))) return;
  throw problem('address_refused', `The key ${keyid} is used from an address that it is not made for.`);
}
