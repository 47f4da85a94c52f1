// The links that bound how often somebody may call. Three stand in the chain:
//   limitAddress  before anything is verified: all requests of an address, and those of it that failed to say who they are; who
//                 hides his address is one with all others who do
//   limitKey      behind the signature: requests by key, those to administrative routes once more, requests at once, bytes
// A key with limits of its own (POST /v1/keys) has them instead of those of the settings. Bytes are what a request announces,
// before it is let in; what it moved beyond that is charged after. A refusal is a 429 that names the policy and when to come again.
import type { Context, MiddlewareHandler } from 'hono';
import { subscriberOf } from '../core/contract/addresses.ts';
import { problem } from '../core/contract/problems.ts';
import type { LimitsOfKey, Rate } from '../core/contract/rates.ts';
import type { EdgeEnv } from './app.ts';
import { type Concurrency, createConcurrency } from './concurrency.ts';
import type { EdgeConfig } from './config.ts';
import { type Charge, fieldsOf, type Limits, type Policy, policiesOf, type Told } from './limits.ts';
import { memoryLimits } from './limits-memory.ts';

export interface LimitRules {
  /** Of keys without limits of their own. */
  readonly key: { readonly requests: readonly Rate[]; readonly bytes: readonly Rate[]; readonly concurrent: number };
  readonly admin: readonly Policy[];
  readonly address: readonly Policy[];
  readonly failed: readonly Policy[];
  readonly byKey: Limits;
  readonly byAddress: Limits;
  /** Bytes that the connection has moved so far, where the runtime tells. */
  readonly movedOf: (c: Context<EdgeEnv>) => number | undefined;
}

/** By the settings, over quotas of this process. */
export function limitsBy(
  config: EdgeConfig,
  { now, movedOf }: Pick<LimitRules, 'movedOf'> & { now: () => number },
): LimitRules {
  const policies = (name: string, rates: readonly Rate[]) => policiesOf(name, 'requests', rates);
  return {
    key: {
      requests: config.EDGE_LIMIT_KEY,
      bytes: config.EDGE_LIMIT_KEY_BYTES,
      concurrent: config.EDGE_LIMIT_KEY_AT_ONCE,
    },
    admin: policies('admin', config.EDGE_LIMIT_ADMIN),
    address: policies('address', config.EDGE_LIMIT_ADDRESS),
    failed: policies('failed', config.EDGE_LIMIT_FAILED),
    byKey: memoryLimits({ max: config.EDGE_LIMIT_BUCKETS, now }),
    byAddress: memoryLimits({ max: config.EDGE_LIMIT_BUCKETS, now }),
    movedOf,
  };
}

/** Each of these that changes something leaves a line in the audit log, which is never cut. */
const ADMIN =
  /^\/v1\/(?:(?:keys|audit|backups|erasures)(?:\/|$)|adapters\/|cache\/(?:policy|check)$|tensors:move$|kv\/move$)/;
/** Of addresses that are not known, as a proxy's field was made unreadable. */
const HIDDEN = 'hidden';
/** Of a refusal that ends when another request does. */
const CONCURRENT_RETRY_S = 1;

export const limitAddress = ({ address, failed, byAddress }: LimitRules): MiddlewareHandler<EdgeEnv> => {
  return async (c, next) => {
    const from = c.get('address');
    const whose = from === undefined ? HIDDEN : subscriberOf(from);
    // Failures are charged when they have happened.
    const told = await byAddress.take([...charges(address, whose, 1, 1), ...charges(failed, whose, 1, 0)]);
    c.set('fields', fieldsOf(told));
    refuseBeyond(told, 'this address');
    await next();
    if (c.res.status === 401) await byAddress.take(charges(failed, whose, 0, 1));
  };
};

export const limitKey = (rules: LimitRules): MiddlewareHandler<EdgeEnv> => {
  const concurrency: Concurrency = createConcurrency();
  const own = policiesByKey(rules);

  return async (c, next) => {
    const { keyid, limits } = c.get('caller');
    const { requests, bytes, concurrent } = own(limits);
    const announced = Number(c.req.header('content-length') ?? 0);
    const before = bytes.length > 0 ? rules.movedOf(c) : undefined;
    const entered = concurrency.enter(keyid, concurrent);
    if (!entered) {
      c.set('fields', fieldsOf([], { max: concurrent, left: 0 }));
      throw tooMany(`The key ${keyid} has ${concurrent} requests under way, as many as it may.`, CONCURRENT_RETRY_S, [
        'concurrent',
      ]);
    }
    try {
      const told = await rules.byKey.take([
        ...charges(requests, keyid, 1, 1),
        ...(ADMIN.test(c.req.path) ? charges(rules.admin, keyid, 1, 1) : []),
        ...charges(bytes, keyid, Math.max(1, announced), announced),
      ]);
      c.set('fields', fieldsOf(told, { max: concurrent, left: entered.left }));
      refuseBeyond(told, `the key ${keyid}`);
      await next();
    } finally {
      entered.leave();
      const more = bytes.length > 0 ? movedSince(c, before, announced) : 0;
      if (more > 0) await rules.byKey.take(charges(bytes, keyid, 0, more));
    }
  };

  /** What is answered from here, or passed on, has yet to be written: there, what its head says. */
  function movedSince(c: Context<EdgeEnv>, before: number | undefined, announced: number): number {
    const moved = before === undefined ? 0 : (rules.movedOf(c) ?? 0) - before - announced;
    return Math.max(moved, Number(c.res.headers.get('content-length') ?? 0));
  }
};

const charges = (policies: readonly Policy[], whose: string, wanted: number, cost: number): Charge[] =>
  policies.map((policy) => ({ policy, whose, wanted, cost }));

function refuseBeyond(told: readonly Told[], who: string): void {
  const violated = told.filter(({ waitMs }) => waitMs > 0);
  if (violated.length === 0) return;
  const waitMs = Math.max(...violated.map((each) => each.waitMs));
  const names = violated.map(({ policy }) => policy.name);
  const [first] = violated;
  const said = first && `${first.policy.quota} ${first.policy.unit} in ${first.policy.windowMs / 1000} s`;
  const retryAfter = Math.ceil(waitMs / 1000);
  throw tooMany(`That is more than ${who} may: ${said}. Come again in ${retryAfter} s.`, retryAfter, names);
}

const tooMany = (detail: string, retryAfterSeconds: number, violated: readonly string[]) =>
  problem('rate_limited', detail, { retryAfterSeconds, 'violated-policies': violated });

interface Policies {
  readonly requests: readonly Policy[];
  readonly bytes: readonly Policy[];
  readonly concurrent: number;
}

/** Made once for the settings, and once for each key's own as long as it is kept. */
function policiesByKey({ key }: LimitRules): (limits: LimitsOfKey | undefined) => Policies {
  const made = new WeakMap<LimitsOfKey, Policies>();
  return (limits = key) => {
    const { requests = key.requests, bytes = key.bytes, concurrent = key.concurrent } = limits;
    const policies = made.get(limits) ?? {
      requests: policiesOf('key', 'requests', requests),
      bytes: policiesOf('bytes', 'content-bytes', bytes),
      concurrent,
    };
    made.set(limits, policies);
    return policies;
  };
}
