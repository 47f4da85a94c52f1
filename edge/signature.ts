// The link that asks who is calling: every request below it is signed by RFC 9421, fresh, and new, or where tokens are taken carries
// one; and it comes from where its key may be used. A request with both is judged by its signature alone.
import type { MiddlewareHandler } from 'hono';
import { parseContentDigest } from '../core/contract/content-digest.ts';
import { assertAt } from '../core/contract/keys.ts';
import { hasBody, type Verifier } from '../core/contract/signatures.ts';
import type { EdgeEnv } from './app.ts';
import { bearerOf, type TokenVerifier } from './token.ts';

/** `tokens` is undefined where none are taken. */
export const verifyCaller =
  (verify: Verifier, tokens: TokenVerifier | undefined): MiddlewareHandler<EdgeEnv> =>
  async (c, next) => {
    const { method, url, headers } = c.req.raw;
    const token = headers.has('signature-input') ? undefined : bearerOf(headers.get('authorization'));
    if (tokens && token !== undefined) {
      c.set('caller', await tokens(token));
      const digest = headers.get('content-digest');
      c.set('digest', digest === null ? undefined : parseContentDigest(digest));
      return next();
    }
    const { caller, digest } = await verify({ method, url, headers, hasBody: hasBody(headers) });
    c.set('caller', caller);
    assertAt(caller, c.get('address'));
    c.set('digest', digest);
    await next();
  };
