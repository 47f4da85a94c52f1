// The link of hot keys: a tensor that is asked for often is answered from here, and its core hears nothing of it.
//   fresh      as long as its core says it is; where the core tells of changes (`changed`), that is until one is told
//   stale      answered still, for `staleMs`, while it is asked for anew in the background
//   in need    answered still, for `errorMs`, where the core cannot be asked
// However many ask for what is not here, one question is on its way; whoever asks after a change never gets what was brought before it.
// What is written through this edge is known to be written, one by one or many at once. What the core refuses, and what is too large,
// is not kept. So many questions are under way at most, each for one small answer; beyond those all goes on to the core.
import type { Context, MiddlewareHandler } from 'hono';
import { hashOf } from '../core/cache/policy/hash.ts';
import { DEADLINE_HEADER } from '../core/contract/deadline.ts';
import { namesTag } from '../core/contract/etag.ts';
import { isOperator, mayName } from '../core/contract/keys.ts';
import { asProblem } from '../core/contract/problems.ts';
import type { WholeTensor } from '../core/contract/whole-tensor.ts';
import type { EdgeEnv } from './app.ts';
import type { HotAnswer, HotStore } from './hot-store.ts';

type C = Context<EdgeEnv>;

/** What a core has under a key: all of it, the word that what has this etag is still it, or what is only to be passed on. */
export type Brought = WholeTensor | 'unchanged' | { readonly passed: Response } | undefined;

export interface HotSource {
  readonly bring: (c: C, key: string, etag: string | undefined) => Promise<Brought>;
  /** Without having been told of a change; Infinity where every change is told. */
  readonly freshMs: () => number;
  readonly staleMs: number;
  readonly errorMs: number;
  /** Whether one request's question may be waited for by another; on Workers it dies with the request that asked. */
  readonly shared: boolean;
  /** Whether each change is told before whoever changed it is answered. */
  readonly toldAtOnce: boolean;
  readonly now: () => number;
}

export interface HotKeys {
  readonly link: MiddlewareHandler<EdgeEnv>;
  /** What is under the key is not what it was, or nothing; of a whole tenant, or of all, where that is not known more closely. */
  changed(tenant?: string, key?: string): void;
  stats(): HotStats;
}

export interface HotStats {
  readonly bytes: number;
  readonly count: number;
  readonly evictions: number;
  readonly answered: Readonly<Record<'fresh' | 'stale' | 'in_need', number>>;
  readonly brought: number;
}

interface Flight {
  readonly done: Promise<HotAnswer | { readonly passed: Response } | undefined>;
}

const TENSORS = '/v1/tensors/';
const KEY = /^[\w.:/-]{1,512}$/;
/** Calls that change tensors they do not name in their path. */
const OF_MANY = /^\/v1\/(?:tensors:batch|erasures|backups\/[^/]+\/restore)$/;
const FLIGHTS_MAX = 256;
/** Changes are counted by a hash of what they are of. */
const MARKS = 1 << 12;

export function createHotKeys(store: HotStore, source: HotSource): HotKeys {
  const { now, freshMs, staleMs, errorMs } = source;
  const flights = new Map<string, Flight>();
  const given = new WeakSet<Response>();
  const answered = { fresh: 0, stale: 0, in_need: 0 };
  const marks = new Uint32Array(MARKS);
  let changes = 0;
  let underWay = 0;
  let brought = 0;

  function changed(tenant?: string, key?: string): void {
    if (tenant === undefined) {
      store.clear();
      changes++;
      flights.clear();
    } else if (key === undefined) {
      store.dropTenant(tenant);
      mark(tenant);
      for (const id of flights.keys()) if (id.startsWith(`${tenant}\0`)) flights.delete(id);
    } else {
      store.drop(tenant, key);
      mark(idOf(tenant, key));
      flights.delete(idOf(tenant, key));
    }
  }

  function mark(name: string): void {
    const at = hashOf(name) & (MARKS - 1);
    marks[at] = countOf(name) + 1;
  }

  const countOf = (name: string): number => marks[hashOf(name) & (MARKS - 1)] ?? 0;
  /** Another one after any change of this key, however many ask for it at once. */
  const stamp = (tenant: string, id: string): number => changes + countOf(tenant) + countOf(id);

  /** Asks the core, or waits for who does; undefined where as many are asking as may, and for who does not wait as long as others. */
  function ask(c: C, tenant: string, key: string, held: HotAnswer | undefined): Flight | undefined {
    const id = idOf(tenant, key);
    if (c.req.header(DEADLINE_HEADER) !== undefined) return undefined;
    const known = flights.get(id);
    if (known) return known;
    if (source.shared && underWay >= FLIGHTS_MAX) return undefined;
    const since = now();
    const before = stamp(tenant, id);
    brought++;
    underWay++;
    const flight: Flight = { done: source.bring(c, key, held?.headers.etag).then(keep).finally(land) };
    if (source.shared) flights.set(id, flight);
    return flight;

    function keep(found: Brought) {
      const answer = found === 'unchanged' ? held && { ...held, since } : dated(found, since);
      // changed since: what it brings is for those who asked before
      if (stamp(tenant, id) !== before) return answer;
      if (answer && 'bytes' in answer) store.put(tenant, key, answer);
      else store.drop(tenant, key);
      return answer;
    }
    function land(): void {
      underWay--;
      if (flights.get(id) === flight) flights.delete(id);
    }
  }

  async function read(c: C, tenant: string, key: string): Promise<Response | undefined> {
    const held = store.find(tenant, key);
    if (held && held.expiresAt > now()) return again(c, tenant, key, held);
    if (held) store.drop(tenant, key);
    if (c.req.method === 'HEAD' || !store.isWanted(tenant, key)) return undefined;
    return first(c, ask(c, tenant, key, undefined));
  }

  /** What the core refuses, it refuses to each by itself; and what is only passed on, one can have. */
  async function first(c: C, flight: Flight | undefined): Promise<Response | undefined> {
    const found = await flight?.done;
    if (!found) return undefined;
    if ('bytes' in found) return respond(c, found, 'fwd=miss; stored');
    if (given.has(found.passed)) return undefined;
    given.add(found.passed);
    return found.passed;
  }

  async function again(c: C, tenant: string, key: string, held: HotAnswer): Promise<Response | undefined> {
    const age = now() - held.since;
    const freshFor = freshMs();
    if (age < freshFor) return count('fresh', c, held);
    if (source.shared && age < freshFor + staleMs) {
      ask(c, tenant, key, held)?.done.catch(() => {}); // whoever asks when it is no longer stale is told
      return count('stale', c, held);
    }
    try {
      return await first(c, ask(c, tenant, key, held));
    } catch (thrown) {
      const isInNeed = asProblem(thrown).status >= 500 && age < errorMs && store.find(tenant, key) === held;
      if (!isInNeed) throw thrown;
      return count('in_need', c, held);
    }
  }

  function count(how: keyof typeof answered, c: C, held: HotAnswer): Response {
    answered[how]++;
    return respond(
      c,
      held,
      how === 'fresh' ? 'hit' : how === 'stale' ? 'hit; detail=stale' : 'fwd=stale; detail=error',
    );
  }

  function respond(c: C, { bytes, headers, since }: HotAnswer, status: string): Response {
    const age = String(Math.max(0, Math.floor((now() - since) / 1000)));
    const said = { ...headers, age, 'cache-status': `blatam; ${status}` };
    const { etag = '' } = headers;
    if (namesTag(c.req.header('if-none-match'), etag))
      return c.body(null, 304, { etag, age, 'cache-status': said['cache-status'] });
    return c.req.method === 'HEAD' ? c.body(null, 200, said) : c.body(bytes as Uint8Array<ArrayBuffer>, 200, said);
  }

  return {
    changed,
    stats: () => ({ bytes: store.bytes, count: store.count, evictions: store.evictions, answered, brought }),
    async link(c, next) {
      const { method, url } = c.req;
      const { tenant, scopes, restrictions } = c.get('caller');
      if (method === 'GET' || method === 'HEAD') {
        const key = keyOf(pathOf(url));
        const mayRead = key !== undefined && scopes.includes('tensors:read') && mayName(restrictions, key);
        return (mayRead ? await read(c, tenant, key) : undefined) ?? next();
      }
      const change = source.toldAtOnce ? undefined : changeOf(c);
      const told = () => change && changed(...change);
      told();
      try {
        await next();
      } finally {
        told();
      }
    },
  };
}

function dated(found: Exclude<Brought, 'unchanged'>, since: number) {
  if (!found || 'passed' in found) return found;
  const { expires } = found.headers;
  return { ...found, since, expiresAt: expires === undefined ? Number.POSITIVE_INFINITY : Date.parse(expires) };
}

const idOf = (tenant: string, key: string): string => `${tenant}\0${key}`;

/** With its query. */
const pathOf = (url: string): string => url.slice(url.indexOf('/', url.indexOf('://') + 3));

/** As it was sent, where it could be a key; what is none the core says. */
function keyOf(path: string): string | undefined {
  if (!path.startsWith(TENSORS)) return undefined;
  const key = path.slice(TENSORS.length);
  return KEY.test(key) ? key : undefined;
}

/** What a call that is no read may change. Beyond a caller's own tenant that is an operator's affair; which tensors, only the core knows. */
function changeOf(c: C): [tenant?: string, key?: string] | undefined {
  const caller = c.get('caller');
  const path = decodeURIComponent(pathOf(c.req.url).split('?', 1)[0] ?? ''); // which was judged before (sanitize.ts)
  const key = keyOf(path);
  if (key !== undefined) return [caller.tenant, key];
  if (!OF_MANY.test(path)) return undefined;
  return isOperator(caller) && !path.startsWith('/v1/tensors') ? [] : [caller.tenant];
}
