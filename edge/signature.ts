// The link that asks who is calling: every request below it is signed by RFC 9421, fresh, and new, and comes from where its key
// may be used.
import type { MiddlewareHandler } from 'hono';
import { assertAt } from '../core/contract/keys.ts';
import { hasBody, type Verifier } from '../core/contract/signatures.ts';
import type { EdgeEnv } from './app.ts';

export const verifySignature =
  (verify: Verifier): MiddlewareHandler<EdgeEnv> =>
  async (c, next) => {
    const { method, url, headers } = c.req.raw;
    const { caller, digest } = await verify({ method, url, headers, hasBody: hasBody(headers) });
    c.set('caller', caller);
    assertAt(caller, c.get('address'));
    c.set('digest', digest);
    await next();
  };
