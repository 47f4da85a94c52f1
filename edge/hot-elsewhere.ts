// Hot keys before cores elsewhere: a tensor is asked for with its etag, and kept until its core tells of a change. Where nothing
// is heard of a core (on Workers always), it is asked again after `EDGE_HOT_FRESH_MS`.
import { CALLER_HEADER, encodeCaller } from '../core/contract/internal.ts';
import { traceFields } from '../core/contract/trace.ts';
import type { EdgeParts } from './app.ts';
import type { EdgeConfig } from './config.ts';
import { type CoreChanges, createCoreChanges } from './core-changes.ts';
import { type Brought, createHotKeys, type HotKeys, type HotSource } from './hot-keys.ts';
import { createHotStore } from './hot-store.ts';
import { type CoreElsewhere, checkHealth, reach } from './reach.ts';

const BRING_MS_MAX = 30_000;
/** Fields of an answer that are its tensor's. */
const KEPT = ['content-type', 'content-length', 'content-digest', 'etag', 'expires'];

export interface HotElsewhere {
  readonly hotKeys: HotKeys | undefined;
  /** Listens to the cores, until the signal aborts; on runtimes where a process lasts. */
  follow(signal: AbortSignal): void;
}

export function hotElsewhere(
  core: CoreElsewhere,
  config: EdgeConfig,
  shared: boolean,
  goOn: EdgeParts['goOn'] = () => {},
): HotElsewhere {
  if (config.EDGE_HOT_MIB === 0) return { hotKeys: undefined, follow: () => {} };
  const store = createHotStore(config.EDGE_HOT_MIB * 2 ** 20);
  const hotKeys = createHotKeys(store, {
    bring: bringFrom(core, store.answerBytesMax, goOn),
    freshMs: () => (changes.live() ? Number.POSITIVE_INFINITY : config.EDGE_HOT_FRESH_MS),
    staleMs: config.EDGE_HOT_STALE_MS,
    errorMs: config.EDGE_HOT_ERROR_SECONDS * 1000,
    ...{ shared, toldAtOnce: false, now: core.now },
  });
  const changes: CoreChanges = createCoreChanges(core, hotKeys.changed);
  return { hotKeys, follow: changes.follow };
}

function bringFrom(core: CoreElsewhere, bytesMax: number, goOn: EdgeParts['goOn']): HotSource['bring'] {
  return async (c, key, etag): Promise<Brought> => {
    const { tenant } = c.get('caller');
    goOn(c, checkHealth(core));
    // For what is not kept the caller's own question counts.
    const known = etag ?? c.req.header('if-none-match');
    const answer = await reach(core, {
      ...{ method: 'GET', path: `/v1/tensors/${key}`, tenant },
      headers: {
        ...{ 'x-request-id': c.get('requestId'), ...traceFields(c.get('trace')) },
        ...(known === undefined ? {} : { 'if-none-match': known }),
      },
      said: { [CALLER_HEADER]: encodeCaller(c.get('caller')) },
      signal: AbortSignal.timeout(BRING_MS_MAX), // others may wait for it when this caller has left
    });
    if (answer.status === 304 && etag !== undefined) return 'unchanged';
    const length = Number(answer.headers.get('content-length') ?? Number.POSITIVE_INFINITY);
    // Without an etag it is no tensor.
    if (answer.status !== 200 || length > bytesMax || !answer.headers.has('etag'))
      return { passed: new Response(answer.body, { status: answer.status, headers: new Headers(answer.headers) }) };
    const bytes = new Uint8Array(await answer.arrayBuffer());
    const fields = KEPT.flatMap((name) => {
      const value = answer.headers.get(name);
      return value === null ? [] : [[name, value] as const];
    });
    return { bytes, headers: { ...Object.fromEntries(fields), 'x-cache': 'hot' } };
  };
}
