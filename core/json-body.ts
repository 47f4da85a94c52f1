// A small JSON body, whole, and the one that was signed.
import { createHash } from 'node:crypto';
import { problem } from './contract/problems.ts';

/** Unless a route has longer ones. */
const BYTES_MAX = 64 << 10;

/** Of all bodies that are read at a time. */
const ALL_BYTES_MAX = 64 << 20;
let allBytes = 0;

export interface JsonBody {
  readonly type: string | undefined;
  readonly chunks: AsyncIterable<Uint8Array>;
  /** The sha-256 that the caller signed; undefined where the body was compared with it already. */
  readonly digest: Uint8Array | undefined;
  readonly bytesMax?: number | undefined;
}

export async function readJsonBody({ type, chunks, digest, bytesMax = BYTES_MAX }: JsonBody): Promise<Uint8Array> {
  if (type?.split(';')[0]?.trim().toLowerCase() !== 'application/json')
    throw problem('media_type_unsupported', `The body is application/json, not ${type?.slice(0, 100) ?? 'untyped'}.`);
  const parts: Uint8Array[] = [];
  let length = 0;
  try {
    for await (const chunk of chunks) {
      length += chunk.length;
      allBytes += chunk.length;
      if (length > bytesMax) throw problem('body_too_large', `The body has more than ${bytesMax} bytes.`, { bytesMax });
      if (allBytes > ALL_BYTES_MAX)
        throw problem('pieces_exhausted', 'Too many bodies are on their way. Send it again.');
      parts.push(Uint8Array.from(chunk)); // whoever reads the socket takes a chunk's memory back
    }
  } finally {
    allBytes -= length;
  }
  const body = Buffer.concat(parts);
  if (digest && !createHash('sha256').update(body).digest().equals(digest))
    throw problem(
      'digest_mismatch',
      'The body is not the one that was signed: its sha-256 differs from content-digest.',
    );
  return body;
}
