// Who calls the core: a key that signed the request itself, or an edge elsewhere that checked a caller and says so under
// the internal secret. Without INTERNAL_SECRET there is no such edge.
import { parseAddress } from './contract/addresses.ts';
import type { Crypto } from './contract/crypto.ts';
import {
  CALLER_HEADER,
  decodeCaller,
  edgeItself,
  INTERNAL_KEYID,
  INTERNAL_SCOPE,
  sealKey,
} from './contract/internal.ts';
import { assertAt } from './contract/keys.ts';
import { problem } from './contract/problems.ts';
import { type Caller, createVerifier, hasBody, type Nonces } from './contract/signatures.ts';
import type { Keyring } from './keys.ts';

/** `address` is that of the connection. */
export type Authenticate = (
  request: Request,
  address: string | undefined,
) => Promise<{ caller: Caller; digest: Uint8Array | undefined }>;
export type SealKey = (keyid: string) => Promise<string>;

export interface CallersOptions {
  readonly crypto: Crypto;
  readonly keyring: Keyring;
  readonly nonces: Nonces;
  readonly now: () => number;
  readonly internalSecret: Uint8Array | undefined;
}

export function createAuthenticate({ crypto, keyring, nonces, now, internalSecret }: CallersOptions): Authenticate {
  const verify = createVerifier({
    crypto,
    nonces,
    now,
    keyOf: (keyid) => {
      if (keyid !== INTERNAL_KEYID) return keyring.keyOf(keyid);
      return internalSecret && { ...edgeItself, secret: internalSecret };
    },
  });
  return async (request, address) => {
    const { method, url, headers } = request;
    const { caller, digest, covered } = await verify({ method, url, headers, hasBody: hasBody(headers) });
    if (caller.keyid !== INTERNAL_KEYID) {
      assertAt(caller, parseAddress(address ?? ''));
      // A scope that only the internal secret gives.
      return { caller: { ...caller, scopes: caller.scopes.filter((scope) => scope !== INTERNAL_SCOPE) }, digest };
    }
    const said = headers.get(CALLER_HEADER);
    if (said === null) return { caller, digest };
    if (!covered.includes(CALLER_HEADER))
      throw problem('signature_incomplete', `The signature does not cover ${CALLER_HEADER}.`, {
        missing: [CALLER_HEADER],
      });
    return { caller: decodeCaller(said), digest };
  };
}

export function createSealKey(keyring: Keyring, internalSecret: Uint8Array | undefined): SealKey {
  return async (keyid) => {
    const key = await keyring.keyOf(keyid);
    if (!key || !internalSecret) throw problem('route_unknown', 'There is no such key.');
    return sealKey(internalSecret, key);
  };
}
