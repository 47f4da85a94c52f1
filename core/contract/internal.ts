// How an edge on another machine speaks to a core: signed with the secret that both were given, as the key `internal`.
// For a caller that the edge has checked, a header (covered by the signature) says who that is; without it the edge speaks
// for itself and may only ask for keys, which travel sealed. Pure: runs on every runtime.
import { z } from 'zod';
import { fromBase64, toBase64 } from './crypto.ts';
import { parseJson } from './json.ts';
import { restrictionsSchema } from './keys.ts';
import { problem } from './problems.ts';
import { limitsSchema } from './rates.ts';
import { seal, unseal } from './seal.ts';
import { type Caller, callerOf, type Key } from './signatures.ts';

export const INTERNAL_KEYID = 'internal';
export const INTERNAL_SCOPE = 'internal';
export const CALLER_HEADER = 'x-blatam-caller';

/** What an edge in the core's own process hands over with a request. */
export interface Handover {
  readonly requestId: string;
  readonly traceId: string;
  readonly caller: Caller;
  /** The sha-256 that the caller signed. */
  readonly digest: Uint8Array | undefined;
  /** The body, if the edge has read it and found its digest right. */
  readonly body: Uint8Array | undefined;
}

const callerSchema = z.object({
  keyid: z.string(),
  tenant: z.string(),
  scopes: z.array(z.string()),
  restrictions: restrictionsSchema.optional(),
  limits: limitsSchema.optional(),
  expiresAt: z.number().optional(),
});
const secretSchema = z.base64().transform((text) => fromBase64(text) ?? new Uint8Array(0));
const keySchema = callerSchema.extend({
  secret: secretSchema,
  previous: z.object({ secret: secretSchema, until: z.number() }).optional(),
});

export const edgeItself: Caller = { keyid: INTERNAL_KEYID, tenant: '', scopes: [INTERNAL_SCOPE] };

const encode = (value: unknown): string => toBase64(new TextEncoder().encode(JSON.stringify(value)));

/** Whatever else it carries stays here. */
export const encodeCaller = (caller: Caller): string => encode(callerSchema.parse(caller));

export function decodeCaller(field: string): Caller {
  const parsed = callerSchema.safeParse(parse(fromBase64(field)));
  if (!parsed.success) throw problem('signature_malformed', `${CALLER_HEADER} cannot be read.`);
  // Whatever a key was given: only the edge itself speaks as the edge.
  return { ...parsed.data, scopes: parsed.data.scopes.filter((scope) => scope !== INTERNAL_SCOPE) };
}

export async function sealKey(internalSecret: Uint8Array, key: Key): Promise<string> {
  const { secret, previous } = key;
  const text = JSON.stringify({
    ...callerOf(key),
    secret: toBase64(secret),
    ...(previous && { previous: { ...previous, secret: toBase64(previous.secret) } }),
  });
  return toBase64(await seal(internalSecret, new TextEncoder().encode(text), `key ${key.keyid}`));
}

/** Throws if it was not sealed with this secret for this keyid. */
export async function unsealKey(internalSecret: Uint8Array, keyid: string, sealed: string): Promise<Key> {
  const bytes = await unseal(internalSecret, fromBase64(sealed) ?? new Uint8Array(0), `key ${keyid}`);
  return keySchema.parse(parse(bytes));
}

const parse = (bytes: Uint8Array | undefined): unknown => parseJson(new TextDecoder().decode(bytes));
