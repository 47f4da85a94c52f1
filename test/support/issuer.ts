// An issuer of bearer tokens: a real key pair, its public half on a real server, and the settings of an edge that takes its tokens.
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { exportJWK, generateKeyPair, SignJWT } from 'jose';

export interface Issuer {
  readonly jwks: string;
  readonly settings: Readonly<Record<string, string>>;
  tokenOf(tenant: string, scope: string, seconds?: number): Promise<string>;
  close(): void;
}

const ISSUER = 'https://issuer.example';
const AUDIENCE = 'blatam';
const ALG = 'ES256';

export async function startIssuer(): Promise<Issuer> {
  const { privateKey, publicKey } = await generateKeyPair(ALG, { extractable: true });
  const jwks = JSON.stringify({ keys: [{ ...(await exportJWK(publicKey)), alg: ALG, kid: 'one' }] });
  const publisher = createServer((_request, answer) => answer.end(jwks));
  publisher.listen(0, '127.0.0.1');
  await once(publisher, 'listening');
  return {
    jwks,
    settings: {
      EDGE_JWT_JWKS: `http://127.0.0.1:${(publisher.address() as AddressInfo).port}/jwks.json`,
      ...{ EDGE_JWT_ISSUER: ISSUER, EDGE_JWT_AUDIENCE: AUDIENCE, EDGE_JWT_ALGORITHMS: ALG },
    },
    tokenOf: (tenant, scope, seconds = 600) =>
      new SignJWT({ tenant, scope })
        .setProtectedHeader({ alg: ALG, kid: 'one' })
        .setIssuer(ISSUER)
        .setAudience(AUDIENCE)
        .setSubject('somebody')
        .setExpirationTime(Math.floor(Date.now() / 1000) + seconds)
        .sign(privateKey),
    close: () => publisher.close(),
  };
}
