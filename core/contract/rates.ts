// How much in how long: a quota of requests or bytes, given back evenly over a window. As JSON in keys, as text in settings
// (100/1s, 1GiB/1m; several with commas hold together: bursts by one, the long run by another). Pure.
import { z } from 'zod';

export interface Rate {
  readonly quota: number;
  readonly seconds: number;
}

export interface LimitsOfKey {
  readonly requests?: readonly Rate[] | undefined;
  /** Of bodies and answers. */
  readonly bytes?: readonly Rate[] | undefined;
  /** Requests at once. */
  readonly concurrent?: number | undefined;
}

const RATES_MAX = 4;
const SECONDS_MAX = 31 * 86_400;
const CONCURRENT_MAX = 100_000;
/** Quota times milliseconds is counted exactly. */
const PRODUCT_MAX = Number.MAX_SAFE_INTEGER;
const UNITS: Readonly<Record<string, number>> = { '': 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40 };
const SECONDS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400 };

const rateSchema = z
  .strictObject({ quota: z.int().min(1), seconds: z.int().min(1).max(SECONDS_MAX) })
  .refine(({ quota, seconds }) => quota * seconds * 1000 <= PRODUCT_MAX, 'the quota is too large for so long a time');
const ratesSchema = z.array(rateSchema).min(1).max(RATES_MAX).optional();

export const limitsSchema = z.strictObject({
  requests: ratesSchema,
  bytes: ratesSchema,
  concurrent: z.int().min(1).max(CONCURRENT_MAX).optional(),
});

const SAID = /^(\d{1,15})([KMGT]iB)?\/(\d{1,7})([smhd])$/;

/** `none`, or rates with commas. */
export const ratesText = z.string().transform((text, context): Rate[] => {
  if (text === 'none') return [];
  const rates = text.split(',').map((each) => {
    const [, quota, unit = '', time, of = 's'] = SAID.exec(each.trim()) ?? [];
    return { quota: Number(quota) * (UNITS[unit] ?? 1), seconds: Number(time) * (SECONDS[of] ?? 1) };
  });
  if (ratesSchema.safeParse(rates).success) return rates;
  context.addIssue({ code: 'custom', message: 'must be none, or up to four rates as 100/1s,5000/1m or 1GiB/1m' });
  return z.NEVER;
});
