// The links that judge a body. Its length is judged before its bytes are: what announces too much is refused unread.
// A body of up to `smallBytes` is read and compared with the signed digest here, so that a changed one never reaches the
// core. A larger one is not held back: it streams on, under the digest that the caller signed, and the core, which keeps
// nothing before the last byte matched, refuses it (docs/adr/0003).
import type { MiddlewareHandler } from 'hono';
import type { Crypto } from '../core/contract/crypto.ts';
import { problem } from '../core/contract/problems.ts';
import { hasBody } from '../core/contract/signatures.ts';
import type { EdgeEnv } from './app.ts';

export interface BodyRules {
  readonly bytesMax: number;
  readonly smallBytes: number;
  readonly crypto: Crypto;
}

/** What is read before it is forwarded. */
export const SMALL_BODY_BYTES = 1 << 20;

export const limitBody =
  ({ bytesMax }: BodyRules): MiddlewareHandler<EdgeEnv> =>
  async (c, next) => {
    const announced = Number(c.req.header('content-length') ?? 0);
    if (!Number.isSafeInteger(announced) || announced < 0) throw problem('body_cut', 'Content-Length is no number.');
    if (announced > bytesMax)
      throw problem('body_too_large', `The body has ${announced} bytes, the limit is ${bytesMax} (BODY_BYTES_MAX).`, {
        bytesMax,
      });
    await next();
  };

/** Small bodies that are being read, in all; beyond it they stream on like large ones. */
const READING_BYTES_MAX = 64 << 20;

export const readSmallBody = ({ smallBytes, crypto }: BodyRules): MiddlewareHandler<EdgeEnv> => {
  let reading = 0;

  async function read(request: Request, bytes: number): Promise<Uint8Array> {
    reading += bytes;
    try {
      return new Uint8Array(await request.arrayBuffer());
    } catch (cause) {
      throw problem('body_cut', 'The connection ended before the body did.', {}, { cause });
    } finally {
      reading -= bytes;
    }
  }

  return async (c, next) => {
    const announced = Number(c.req.header('content-length') ?? 0);
    const digest = c.get('digest');
    const isSmall = announced > 0 && announced <= smallBytes && reading + announced <= READING_BYTES_MAX;
    if (digest === undefined && !isSmall && hasBody(c.req.raw.headers))
      throw problem(
        'digest_missing',
        `A body that comes with a token and has more than ${smallBytes} bytes, or does not say how many, needs a content-digest.`,
      );
    if (!isSmall) return next();
    const body = await read(c.req.raw, announced);
    const found = await crypto.sha256(body);
    if (digest && !crypto.equal(found, digest))
      throw problem('digest_mismatch', 'The body is not what was sent: its sha-256 differs from content-digest.');
    c.set('digest', found);
    c.set('body', body);
    await next();
  };
};
