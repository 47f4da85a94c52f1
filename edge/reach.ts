// The way to cores elsewhere: one request, signed with the internal secret, to one of them. It is sent again where that is safe:
// it only reads, or the connection was refused before a byte was sent; and the body is still here; and few others are. How it went
// is told to `cores.ts`. Health is asked on the way, when a request comes: there is no timer, which Workers would not have.
import type { Crypto } from '../core/contract/crypto.ts';
import { INTERNAL_KEYID } from '../core/contract/internal.ts';
import { Problem, problem } from '../core/contract/problems.ts';
import { SettingsError } from '../core/contract/settings.ts';
import { signRequest } from '../core/contract/signatures.ts';
import type { EdgeConfig } from './config.ts';
import { type Cores, createCores } from './cores.ts';

export interface CoreElsewhere {
  readonly cores: Cores;
  readonly internalSecret: Uint8Array;
  readonly crypto: Crypto;
  readonly fetch: typeof fetch;
  readonly now: () => number;
}

export function coreElsewhere(config: EdgeConfig, crypto: Crypto): CoreElsewhere {
  const { CORE_URLS: urls, CORE_AWAY: away, INTERNAL_SECRET: internalSecret } = config;
  if (urls.length === 0 || !internalSecret)
    throw new SettingsError(
      'an edge without a core beside it needs CORE_URLS and INTERNAL_SECRET, the same as the core has',
    );
  const cores = createCores({ urls, away, now: Date.now, random: Math.random });
  return { cores, internalSecret, crypto, fetch: (...request) => fetch(...request), now: Date.now };
}

export interface CoreCall {
  /** Undefined for what any core answers. */
  readonly tenant?: string | undefined;
  readonly method: string;
  /** With its query. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Headers that the signature covers. */
  readonly said?: Readonly<Record<string, string>>;
  readonly body?: ReadableStream | Uint8Array | null | undefined;
  readonly digest?: Uint8Array | undefined;
  readonly signal?: AbortSignal | undefined;
}

const TRIES_MAX = 3;
const READY_MS_MAX = 2_000;

export async function reach(core: CoreElsewhere, call: CoreCall): Promise<Response> {
  const tried: string[] = [];
  for (;;) {
    const taken = core.cores.take(call.tenant, tried);
    if (!taken)
      throw problem('core_unreachable', 'The core does not answer, and is left alone a while. Send it again.');
    try {
      const answer = await send(core, taken.url, call);
      taken.done('answered');
      return answer;
    } catch (cause) {
      const left = leftFor(call.signal);
      taken.done(left ? 'left' : 'failed');
      if (left) throw left;
      const isAgain = tried.includes(taken.url);
      tried.push(taken.url);
      if (isAgain || tried.length === TRIES_MAX || !isSafe(call, cause) || !core.cores.mayRetry())
        throw problem('core_unreachable', 'The core does not answer. Send the request again.', {}, { cause });
    }
  }
}

/** Why nobody waits any more, where that is not the core's fault. */
function leftFor(signal: AbortSignal | undefined): Problem | undefined {
  if (!signal?.aborted || (signal.reason as Error | undefined)?.name === 'TimeoutError') return undefined;
  return signal.reason instanceof Problem ? signal.reason : problem('body_cut', 'The caller left.');
}

/** To this core, once. */
export async function send(core: CoreElsewhere, url: string, call: CoreCall): Promise<Response> {
  const { method, path, headers, said, body = null, digest, signal } = call;
  const target = new URL(path, url).href;
  const signed = await signRequest(
    {
      ...{ method, url: target, headers: said ?? {}, keyid: INTERNAL_KEYID, secret: core.internalSecret },
      ...(digest && { digest }),
    },
    core.crypto,
  );
  return core.fetch(target, {
    method,
    headers: { ...headers, ...said, ...signed },
    body: body as ReadableStream | Uint8Array<ArrayBuffer> | null,
    redirect: 'manual',
    ...(signal && { signal }),
    // What fetch asks for where a body is a stream.
    ...({ duplex: 'half' } as object),
  });
}

function isSafe({ method, body, signal }: CoreCall, cause: unknown): boolean {
  if (body instanceof ReadableStream || signal?.aborted) return false;
  return method === 'GET' || method === 'HEAD' || isRefusal(cause);
}

/** Each runtime says in its own way that nobody listened: Node and Bun by a code, Deno in words. */
function isRefusal(cause: unknown): boolean {
  if (!(cause instanceof Error)) return false;
  const { code, message } = cause as Error & { code?: unknown };
  return (
    code === 'ECONNREFUSED' ||
    code === 'ConnectionRefused' ||
    /connection refused/i.test(message) ||
    isRefusal(cause.cause)
  );
}

/** Asks the health of those cores of which nothing was heard for a while. */
export async function checkHealth(core: CoreElsewhere): Promise<void> {
  await Promise.all(core.cores.due().map((url) => healthOf(core, url)));
}

/** Ready as long as one core is. */
export async function readyElsewhere(core: CoreElsewhere): Promise<{ ok: boolean; detail: string }> {
  const all = await Promise.all(core.cores.urls.map((url) => healthOf(core, url)));
  const detail = all.map((each, i) => (all.length === 1 ? each.detail : `core ${i + 1} ${each.detail}`)).join('; ');
  return { ok: all.some(({ ok }) => ok), detail };
}

async function healthOf(core: CoreElsewhere, url: string): Promise<{ ok: boolean; detail: string }> {
  try {
    const answer = await core.fetch(new URL('/readyz', url).href, { signal: AbortSignal.timeout(READY_MS_MAX) });
    await answer.body?.cancel();
    core.cores.told(url, answer.ok ? 'answered' : 'unready');
    return { ok: answer.ok, detail: answer.ok ? 'answers' : `answers ${answer.status}` };
  } catch {
    core.cores.told(url, 'failed');
    return { ok: false, detail: 'does not answer' }; // whoever asks is told no more: errors of fetch name the core's address
  }
}
