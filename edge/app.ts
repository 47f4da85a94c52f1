// The edge: who may call, with what. Read `createEdge` from top to bottom; that is the order in which a request is judged,
// and nothing reaches the core before it has passed all of it. The same file runs on every runtime: what differs between
// them (cryptography, the way to the core, the metrics' store) is handed in.
import { type Context, Hono } from 'hono';
import { type Address, textOf } from '../core/contract/addresses.ts';
import { asProblem, problem, problemResponse } from '../core/contract/problems.ts';
import { isNoted, type Refusals } from '../core/contract/refusals.ts';
import type { Caller, Verifier } from '../core/contract/signatures.ts';
import { type Trace, traceOf } from '../core/contract/trace.ts';
import type { AccessLog } from './access-log.ts';
import { allowOrigins, type Fields, SAFE_FIELDS } from './answer-fields.ts';
import { type BodyRules, limitBody, readSmallBody } from './body.ts';
import { type AddressRules, assertAllowed, clientAddress } from './client-address.ts';
import type { Forward } from './forward.ts';
import type { HotKeys } from './hot-keys.ts';
import { type LimitRules, limitAddress, limitKey } from './limit.ts';
import { routeClass } from './route-class.ts';
import { sanitize } from './sanitize.ts';
import { verifyCaller } from './signature.ts';
import type { TokenVerifier } from './token.ts';

export interface EdgeEnv {
  Bindings: Record<string, unknown>;
  Variables: {
    requestId: string;
    trace: Trace;
    /** Of who called; undefined where the runtime does not know it. */
    address: Address | undefined;
    /** Once that is known. */
    caller: Caller;
    /** That tell how often it may call. */
    fields: readonly (readonly [name: string, value: string])[];
    /** The sha-256 that the caller signed; of a caller with a token, that it said, or that the body has. */
    digest: Uint8Array | undefined;
    /** Fields of every answer. */
    safe: Fields;
    /** The body, where it is small enough to be checked before anything is forwarded. */
    body: Uint8Array | undefined;
    /** The head of an answer that the core beside has written itself. */
    sent: { readonly status: number; readonly bytes: number | undefined } | undefined;
  };
}

/** Fields of an answer that has its request's id already: the core's own, or one whose bytes are out. */
const SENT = 'x-hono-already-sent';
const ALREADY_SENT = ['x-request-id', SENT];

export interface EdgeMetrics {
  readonly contentType: string;
  /** A request has ended. */
  ended(request: {
    readonly method: string;
    readonly route: string;
    readonly status: number;
    readonly ms: number;
  }): void;
  refused(code: string): void;
  text(): Promise<string>;
}

export interface EdgeParts {
  readonly verify: Verifier;
  /** Undefined: bearer tokens are not taken. */
  readonly tokens: TokenVerifier | undefined;
  readonly body: BodyRules;
  /** Of pages that may read answers. */
  readonly origins: readonly string[];
  /** Undefined: every request goes to the core. */
  readonly hotKeys: HotKeys | undefined;
  readonly forward: Forward;
  /** Whether the core behind answers, and why not. */
  readonly coreReady: () => Promise<{ ok: boolean; detail: string }>;
  readonly metrics: EdgeMetrics;
  /** Told of everybody who is not let in. */
  readonly refusals: Refusals;
  readonly addresses: AddressRules;
  readonly limits: LimitRules;
  /** The address of the connection. */
  readonly addressOf: (c: Context<EdgeEnv>) => string | undefined;
  readonly mayReadMetrics: (authorization: string | undefined) => boolean;
  /** Lets work end after its request was answered. */
  readonly goOn: (c: Context<EdgeEnv>, work: Promise<void>) => void;
  readonly log: (line: string) => void;
  /** Undefined: none is kept. */
  readonly accessLog: AccessLog | undefined;
}

export function createEdge(parts: EdgeParts): Hono<EdgeEnv> {
  const app = new Hono<EdgeEnv>();

  app.use(async (c, next) => {
    const requestId = crypto.randomUUID();
    c.set('requestId', requestId);
    c.set('trace', traceOf(c.req.raw.headers, requestId));
    c.set('address', clientAddress(parts.addresses, parts.addressOf(c), c.req.raw.headers));
    c.set('safe', SAFE_FIELDS);
    const began = performance.now();
    await next();
    if (!ALREADY_SENT.some((name) => c.res.headers.has(name))) c.res.headers.set('x-request-id', c.get('requestId'));
    if (!c.res.headers.has(SENT))
      for (const [name, value] of [...c.get('safe'), ...(c.get('fields') ?? [])]) c.res.headers.set(name, value);
    noteEnd(c, performance.now() - began);
  });
  app.onError((thrown, c) => {
    const fault = asProblem(thrown);
    parts.metrics.refused(fault.code);
    if (isNoted(fault.status)) noteRefusal(c, fault.status, fault.code);
    if (fault.status >= 500)
      parts.log(
        `${c.get('requestId')} trace ${c.get('trace').traceId} ${c.req.method} ${encodeURI(c.req.path)}: ${fault.message} ${fault.cause ?? ''}`,
      );
    const answer = problemResponse(fault, c.get('requestId'));
    if (parts.tokens && fault.code === 'signature_missing')
      answer.headers.append('www-authenticate', 'Bearer realm="blatam"');
    return answer;
  });
  app.notFound((c) => {
    throw problem('route_unknown', `There is no ${c.req.method} ${c.req.path.slice(0, 200)}.`);
  });

  app.use(allowOrigins(parts.origins));

  const perAddress = limitAddress(parts.limits);
  app.use('/metrics', perAddress); // its token is not to be guessed
  app.get('/healthz', (c) => c.json({ alive: true }));
  app.get('/readyz', async (c) => {
    const core = await parts.coreReady();
    return c.json({ ready: core.ok, checks: { core } }, core.ok ? 200 : 503);
  });
  app.get('/metrics', async (c) => {
    assertAllowed(parts.addresses, c.get('address'));
    if (!parts.mayReadMetrics(c.req.header('authorization')))
      throw problem('metrics_closed', 'This listener is not on loopback: send Authorization: Bearer METRICS_TOKEN.');
    return c.body(await parts.metrics.text(), 200, { 'content-type': parts.metrics.contentType });
  });

  app.use('/v1/*', (c, next) => {
    assertAllowed(parts.addresses, c.get('address'));
    return next();
  });
  app.use('/v1/*', perAddress);
  app.use('/v1/internal/*', () => {
    throw problem('route_unknown', 'There is no such route.');
  });
  app.use('/v1/*', limitBody(parts.body));
  app.use('/v1/*', verifyCaller(parts.verify, parts.tokens));
  app.use('/v1/*', limitKey(parts.limits));
  app.use('/v1/*', sanitize);
  app.use('/v1/*', readSmallBody(parts.body));
  if (parts.hotKeys) app.use('/v1/*', parts.hotKeys.link);
  app.all('/v1/*', parts.forward);
  return app;

  function noteEnd(c: Context<EdgeEnv>, ms: number): void {
    const { method, path } = c.req;
    const { status, bytes } = c.get('sent') ?? { status: c.res.status, bytes: lengthOf(c.res) };
    parts.metrics.ended({ method, route: routeClass(path), status, ms });
    if (!parts.accessLog) return;
    const { keyid, tenant } = (c.get('caller') as Caller | undefined) ?? {};
    const address = c.get('address');
    parts.accessLog.note({
      ...{ method, url: c.req.url, status, ms, bytes, keyid, tenant, address: address && textOf(address) },
      ...{ requestId: c.get('requestId'), traceId: c.get('trace').traceId },
    });
  }

  function noteRefusal(c: Context<EdgeEnv>, status: number, code: string): void {
    const { method, path } = c.req;
    const [address, caller, requestId] = [c.get('address'), c.get('caller'), c.get('requestId')];
    const written = parts.refusals.note({
      status,
      code,
      method,
      path,
      address: address && textOf(address),
      caller,
      requestId,
    });
    if (written) parts.goOn(c, written);
  }
}

function lengthOf({ headers }: Response): number | undefined {
  const length = headers.get('content-length');
  return length === null ? undefined : Number(length);
}
