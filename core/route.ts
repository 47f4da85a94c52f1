// What routes share: who calls and what they may, the body they send, and the answer that streams back.
import type { HttpBindings } from '@hono/node-server';
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import type { Context } from 'hono';
import { leaving, requestBody, sendPieces } from './bodies.ts';
import type { Drained } from './cache/drain.ts';
import type { Body, SignedDigest } from './cache/pour.ts';
import type { Handover } from './contract/internal.ts';
import { mayName } from './contract/keys.ts';
import { SAFETENSORS } from './contract/messages.ts';
import { problem } from './contract/problems.ts';
import type { Caller } from './contract/signatures.ts';
import { readWholeBody, type WholeBody } from './whole-body.ts';

export interface CoreEnv {
  Bindings: HttpBindings & { handover?: Handover };
  Variables: {
    requestId: string;
    traceId: string;
    caller: Caller;
    digest: Uint8Array | undefined;
    route: string;
    act: string | undefined;
  };
}
export type C = Context<CoreEnv>;

/** The caller, if it has the scope; names the route for the metrics, and an administrative act for the audit log. */
export function allow(c: C, scope: string, route: string): Caller {
  c.set('route', route);
  const caller = c.get('caller');
  if (caller.scopes.includes(scope)) {
    if (scope.endsWith(':admin') && c.req.method !== 'GET') c.set('act', route);
    return caller;
  }
  throw problem('scope_missing', `This needs the scope ${scope}; the key ${caller.keyid} does not have it.`, { scope });
}

/** Whether figures of all tenants are for this caller; else he is told his own tenant's. */
export const seesAll = ({ scopes }: Caller): boolean =>
  scopes.includes('metrics:read') || scopes.includes('cache:admin');

/** A tensor's key, or the beginning of some, if the caller is not restricted to others. */
export function allowName(c: C, name: string): void {
  const { keyid, restrictions } = c.get('caller');
  if (mayName(restrictions, name)) return;
  const { prefixes = [] } = restrictions ?? {};
  throw problem('key_restricted', `The key ${keyid} is restricted to what begins with ${prefixes.join(', ')}.`, {
    prefixes,
  });
}

/** KV of this model, or of any where none is named. */
export function allowModel(c: C, model: string | undefined): void {
  const { keyid, restrictions } = c.get('caller');
  const { models } = restrictions ?? {};
  if (models === undefined || (model !== undefined && models.includes(model))) return;
  throw problem('key_restricted', `The key ${keyid} is restricted to the models ${models.join(', ')}; name one.`, {
    models,
  });
}

/** What a caller sends, with the sha-256 that was signed; `proven` if the edge has compared them already. */
export interface SignedBody {
  readonly body: Body;
  readonly digest: SignedDigest | undefined;
  /** Aborts when the caller leaves. */
  readonly signal: AbortSignal;
}

export function signedBody(c: C): SignedBody {
  const { incoming, outgoing, handover } = c.env;
  const digest = c.get('digest');
  return {
    body: requestBody(incoming, handover?.body),
    digest: digest && { bytes: digest, proven: handover?.body !== undefined },
    signal: leaving(outgoing),
  };
}

export const jsonBody = (c: C, bytesMax?: number): Promise<Uint8Array> =>
  wholeBody(c, 'application/json', { bytesMax });

type Bounds = Pick<WholeBody, 'bytesMax' | 'isCounted'>;

export function wholeBody(c: C, wanted: string, bounds: Bounds): Promise<Uint8Array> {
  const { incoming, handover } = c.env;
  const { chunks } = requestBody(incoming, handover?.body);
  const digest = handover?.body ? undefined : c.get('digest');
  return readWholeBody({ type: c.req.header('content-type'), wanted, chunks, digest, ...bounds });
}

export function refuseOtherMedia(c: C): void {
  const type = c.req.header('content-type')?.split(';')[0]?.trim().toLowerCase();
  if (type !== undefined && type !== SAFETENSORS && type !== 'application/octet-stream')
    throw problem('media_type_unsupported', `Tensors come as ${SAFETENSORS}, not as ${type.slice(0, 100)}.`);
  const encoding = c.req.header('content-encoding');
  if (encoding !== undefined && encoding !== 'identity')
    throw problem(
      'media_type_unsupported',
      `Content-Encoding ${encoding.slice(0, 50)} is not supported; send it plain.`,
    );
}

/** An answer in pieces, under way before it is whole. */
export async function sendBody(
  c: C,
  headers: Readonly<Record<string, string>>,
  pieces: AsyncGenerator<Drained, void, void>,
): Promise<Response> {
  await sendPieces(c.env.outgoing, { ...headers, 'x-request-id': c.get('requestId') }, pieces);
  return RESPONSE_ALREADY_SENT;
}
