// The port to what has been used of quotas, and what is said of them: which policies a request falls under, where each stands, and the
// fields that tell it (RateLimit-Policy and RateLimit, draft-ietf-httpapi-ratelimit-headers-11). Pure.
import type { MaybePromise } from '../core/contract/crypto.ts';
import type { Rate } from '../core/contract/rates.ts';
import type { Rule, Standing } from './gcra.ts';

/** A quota by name; each who is limited has one of their own. */
export interface Policy extends Rule {
  readonly name: string;
  readonly unit: 'requests' | 'content-bytes';
}

export interface Charge {
  readonly policy: Policy;
  /** Whose quota: with the policy's name, the bucket. */
  readonly whose: string;
  /** What must be left of it for the request to pass; 0: it is charged in any case. */
  readonly wanted: number;
  readonly cost: number;
}

export interface Told extends Standing {
  readonly policy: Policy;
}

export interface Limits {
  /** Charges all of them, or none if what is wanted of one is not left; where they stand then, in order. */
  take(charges: readonly Charge[]): MaybePromise<readonly Told[]>;
}

/** `burst` is the shortest window, so that names stay while numbers change. */
export function policiesOf(name: string, unit: Policy['unit'], rates: readonly Rate[]): Policy[] {
  return rates.map(({ quota, seconds }) => ({ name: `${name}-${seconds}s`, unit, quota, windowMs: 1000 * seconds }));
}

/** The fields of an answer; none where no policy holds. */
export function fieldsOf(told: readonly Told[], concurrent?: { readonly max: number; readonly left: number }) {
  const policies = told.map(({ policy }) => textOf(policy));
  const standings = told.map(({ policy, left, nextMs }) => {
    const window = nextMs > 0 ? `;t=${Math.ceil(nextMs / 1000)}` : '';
    return `"${policy.name}";r=${left}${window}`;
  });
  if (concurrent !== undefined) {
    policies.push(`"concurrent";q=${concurrent.max};qu="concurrent-requests"`);
    standings.push(`"concurrent";r=${concurrent.left}`);
  }
  if (policies.length === 0) return [];
  return [
    ['RateLimit-Policy', policies.join(', ')],
    ['RateLimit', standings.join(', ')],
  ] as const;
}

const texts = new WeakMap<Policy, string>();

function textOf(policy: Policy): string {
  const { name, quota, windowMs, unit } = policy;
  const text =
    texts.get(policy) ?? `"${name}";q=${quota};w=${windowMs / 1000}${unit === 'requests' ? '' : `;qu="${unit}"`}`;
  texts.set(policy, text);
  return text;
}
