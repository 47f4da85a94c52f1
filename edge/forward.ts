// The last link: hand the checked request to a core. Two ways, one type:
//   here:      the core of the same process; it reads the socket itself (node.ts)
//   elsewhere: over HTTP, signed with the internal secret, the caller named in a covered header. The caller's own digest
//              goes along under the new signature, so a body is still the one that the caller signed.
import type { Handler } from 'hono';
import type { Crypto } from '../core/contract/crypto.ts';
import { CALLER_HEADER, encodeCaller, INTERNAL_KEYID, unsealKey } from '../core/contract/internal.ts';
import { problem } from '../core/contract/problems.ts';
import type { RefusalLine } from '../core/contract/refusals.ts';
import { SettingsError } from '../core/contract/settings.ts';
import { hasBody, type Key, signRequest } from '../core/contract/signatures.ts';
import type { EdgeEnv } from './app.ts';
import type { EdgeConfig } from './config.ts';

export type Forward = Handler<EdgeEnv>;

export interface CoreElsewhere {
  readonly url: string;
  readonly internalSecret: Uint8Array;
  readonly crypto: Crypto;
  readonly fetch: typeof fetch;
  readonly now: () => number;
}

export function coreElsewhere(config: EdgeConfig, crypto: Crypto): CoreElsewhere {
  const [url] = config.CORE_URLS;
  const internalSecret = config.INTERNAL_SECRET;
  if (!url || !internalSecret)
    throw new SettingsError(
      'an edge without a core beside it needs CORE_URLS and INTERNAL_SECRET, the same as the core has',
    );
  return { url, internalSecret, crypto, fetch: (...request) => fetch(...request), now: Date.now };
}

/** Request fields that the core looks at; all others stay at the edge. */
const PASSED_ON = ['content-type', 'content-length', 'content-encoding', 'if-none-match', 'accept', 'last-event-id'];
const KEYS_KEPT_MAX = 10_000;
const KEY_UNKNOWN_MS = 5_000;
const KEY_MS_MAX = 5_000;

export function forwardElsewhere(core: CoreElsewhere): Forward {
  return async (c) => {
    const { method, url, headers, signal } = c.req.raw;
    const { pathname, search } = new URL(url);
    const target = new URL(pathname + search, core.url).href;
    const digest = c.get('digest');
    const said = { [CALLER_HEADER]: encodeCaller(c.get('caller')) };
    const signed = await signRequest(
      {
        method,
        url: target,
        headers: said,
        keyid: INTERNAL_KEYID,
        secret: core.internalSecret,
        ...(digest ? { digest } : {}),
      },
      core.crypto,
    );
    const passed = PASSED_ON.flatMap((name) => {
      const value = headers.get(name);
      return value === null ? [] : [[name, value] as const];
    });
    const body = c.get('body') ?? (hasBody(headers) ? c.req.raw.body : null);
    const answer = await reach(core, target, {
      method,
      headers: { ...Object.fromEntries(passed), ...said, ...signed, 'x-request-id': c.get('requestId') },
      body: body as ReadableStream | Uint8Array<ArrayBuffer> | null,
      signal,
      // What fetch asks for where a body is a stream.
      ...({ duplex: 'half' } as object),
    });
    // Of our own: those of an answer that was fetched cannot be added to.
    return new Response(answer.body, { status: answer.status, headers: new Headers(answer.headers) });
  };
}

/**
 * The keys of a core elsewhere, each kept for `keepMs`; one that is revoked there is refused here after that. What is kept
 * is the key, never its promise: on Workers that dies with the request that asked, and whoever else waits for it hangs.
 */
export function keysElsewhere(core: CoreElsewhere, keepMs: number): (keyid: string) => Promise<Key | undefined> {
  const kept = new Map<string, { key: Key | undefined; until: number }>();

  async function ask(keyid: string): Promise<Key | undefined> {
    const target = new URL(`/v1/internal/keys/${encodeURIComponent(keyid)}`, core.url).href;
    const signed = await signRequest(
      { method: 'GET', url: target, keyid: INTERNAL_KEYID, secret: core.internalSecret },
      core.crypto,
    );
    const answer = await reach(core, target, { headers: signed, signal: AbortSignal.timeout(KEY_MS_MAX) });
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
    const known = kept.get(keyid);
    const now = core.now();
    if (known && known.until > now) return known.key;
    const key = await ask(keyid);
    kept.delete(keyid);
    kept.set(keyid, { key, until: now + (key ? keepMs : Math.min(keepMs, KEY_UNKNOWN_MS)) });
    const [oldest] = kept.keys();
    if (kept.size > KEYS_KEPT_MAX && oldest !== undefined) kept.delete(oldest);
    return key;
  };
}

/** A place in the audit log for refusals of an edge elsewhere. */
export function refusalsElsewhere(core: CoreElsewhere): (lines: RefusalLine[]) => Promise<void> {
  return async (lines) => {
    const url = new URL('/v1/internal/refusals', core.url).href;
    const body = new TextEncoder().encode(JSON.stringify(lines));
    const signed = await signRequest(
      {
        ...{ method: 'POST', url, keyid: INTERNAL_KEYID, secret: core.internalSecret },
        digest: await core.crypto.sha256(body),
      },
      core.crypto,
    );
    const headers = { ...signed, 'content-type': 'application/json' };
    const answer = await reach(core, url, { method: 'POST', headers, body, signal: AbortSignal.timeout(KEY_MS_MAX) });
    await answer.body?.cancel();
    if (!answer.ok)
      throw problem('core_unreachable', `The core answered ${answer.status} when it was told of refusals.`);
  };
}

export async function readyElsewhere(core: CoreElsewhere): Promise<{ ok: boolean; detail: string }> {
  try {
    const answer = await core.fetch(new URL('/readyz', core.url).href, { signal: AbortSignal.timeout(2000) });
    await answer.body?.cancel();
    return { ok: answer.ok, detail: answer.ok ? 'answers' : `answers ${answer.status}` };
  } catch (error) {
    return { ok: false, detail: `does not answer: ${error instanceof Error ? error.message : String(error)}` };
  }
}

async function reach(core: CoreElsewhere, target: string, init: RequestInit): Promise<Response> {
  try {
    return await core.fetch(target, init);
  } catch (cause) {
    throw problem('core_unreachable', 'The core does not answer. Send the request again.', {}, { cause });
  }
}
