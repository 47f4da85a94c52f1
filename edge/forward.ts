// The last link: hand the checked request to a core. Two ways, one type:
//   here:      the core of the same process; it reads the socket itself (node.ts)
//   elsewhere: over HTTP, signed with the internal secret, the caller named in a covered header. The caller's own digest
//              goes along under the new signature, so a body is still the one that the caller signed.
import type { Handler } from 'hono';
import { DEADLINE_HEADER, parseDeadline } from '../core/contract/deadline.ts';
import { CALLER_HEADER, encodeCaller, unsealKey } from '../core/contract/internal.ts';
import { problem } from '../core/contract/problems.ts';
import type { RefusalLine } from '../core/contract/refusals.ts';
import { hasBody, type Key } from '../core/contract/signatures.ts';
import { traceFields } from '../core/contract/trace.ts';
import type { EdgeEnv, EdgeParts } from './app.ts';
import { withCutTold } from './event-cut.ts';
import { type CoreElsewhere, checkHealth, reach } from './reach.ts';

export type Forward = Handler<EdgeEnv>;

/** Request fields that the core looks at; all others stay at the edge. */
const PASSED_ON = ['content-type', 'content-length', 'content-encoding', 'if-none-match', 'accept', 'last-event-id'];
const KEYS_KEPT_MAX = 10_000;
const KEY_UNKNOWN_MS = 5_000;
const KEY_MS_MAX = 5_000;

/** `goOn` lets work end after its request was answered. */
export function forwardElsewhere(core: CoreElsewhere, goOn: EdgeParts['goOn'] = () => {}): Forward {
  return async (c) => {
    const { method, url, headers } = c.req.raw;
    const { pathname, search } = new URL(url);
    const deadline = deadlineOf(headers);
    const passed = PASSED_ON.flatMap((name) => {
      const value = headers.get(name);
      return value === null ? [] : [[name, value] as const];
    });
    goOn(c, checkHealth(core));
    const answer = await reach(core, {
      ...{ method, path: pathname + search, tenant: c.get('caller').tenant },
      headers: { ...Object.fromEntries(passed), 'x-request-id': c.get('requestId'), ...traceFields(c.get('trace')) },
      said: { [CALLER_HEADER]: encodeCaller(c.get('caller')), ...deadline?.said },
      body: c.get('body') ?? (hasBody(headers) ? c.req.raw.body : null),
      digest: c.get('digest'),
      signal: deadline ? AbortSignal.any([c.req.raw.signal, deadline.signal]) : c.req.raw.signal,
    }).finally(deadline?.met);
    const isEvents = answer.headers.get('content-type') === 'text/event-stream';
    const body = isEvents && answer.body ? withCutTold(answer.body, c.get('requestId')) : answer.body;
    // A copy: those of an answer to fetch cannot be added to.
    return new Response(body, { status: answer.status, headers: new Headers(answer.headers) });
  };
}

/** For the head of the answer; the core, which is told of it, cuts a body that takes longer. */
function deadlineOf(headers: Headers) {
  const ms = parseDeadline(headers.get(DEADLINE_HEADER));
  if (ms === undefined) return undefined;
  const over = new AbortController();
  const timer = setTimeout(() => over.abort(problem('deadline_exceeded', `There was no answer within ${ms} ms.`)), ms);
  return { signal: over.signal, said: { [DEADLINE_HEADER]: String(ms) }, met: () => clearTimeout(timer) };
}

/**
 * The keys of a core elsewhere, each kept for `keepMs`; one that is revoked there is refused here after that. What is kept
 * is the key, never its promise: on Workers that dies with the request that asked, and whoever else waits for it hangs.
 * That a key does not exist is kept too, but apart: whoever tries names at random pushes out no key that is in use.
 */
export function keysElsewhere(core: CoreElsewhere, keepMs: number): (keyid: string) => Promise<Key | undefined> {
  const kept = new Map<string, { key: Key; until: number }>();
  const unknown = new Map<string, { key: undefined; until: number }>();

  async function ask(keyid: string): Promise<Key | undefined> {
    const path = `/v1/internal/keys/${encodeURIComponent(keyid)}`;
    const answer = await reach(core, { method: 'GET', path, signal: AbortSignal.timeout(KEY_MS_MAX) });
    if (answer.status === 404) {
      await answer.body?.cancel();
      return undefined;
    }
    if (!answer.ok)
      throw problem('core_unreachable', `The core answered ${answer.status} when it was asked for a key.`);
    const { sealed } = (await answer.json()) as { sealed: string };
    return unsealKey(core.internalSecret, keyid, sealed);
  }

  return async (keyid) => {
    const known = kept.get(keyid) ?? unknown.get(keyid);
    const now = core.now();
    if (known && known.until > now) return known.key;
    const key = await ask(keyid);
    kept.delete(keyid);
    unknown.delete(keyid);
    if (key) keep(kept, keyid, { key, until: now + keepMs });
    else keep(unknown, keyid, { key, until: now + Math.min(keepMs, KEY_UNKNOWN_MS) });
    return key;
  };
}

/** Last in line; the first goes when there are too many. */
function keep<K>(map: Map<string, K>, keyid: string, entry: K): void {
  map.set(keyid, entry);
  const [oldest] = map.keys();
  if (map.size > KEYS_KEPT_MAX && oldest !== undefined) map.delete(oldest);
}

/** A place in the audit log for refusals of an edge elsewhere. */
export function refusalsElsewhere(core: CoreElsewhere): (lines: RefusalLine[]) => Promise<void> {
  return async (lines) => {
    const body = new TextEncoder().encode(JSON.stringify(lines));
    const answer = await reach(core, {
      ...{ method: 'POST', path: '/v1/internal/refusals', headers: { 'content-type': 'application/json' } },
      ...{ body, digest: await core.crypto.sha256(body), signal: AbortSignal.timeout(KEY_MS_MAX) },
    });
    await answer.body?.cancel();
    if (!answer.ok)
      throw problem('core_unreachable', `The core answered ${answer.status} when it was told of refusals.`);
  };
}
