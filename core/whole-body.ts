// A body that is taken whole into memory: of the kind that is asked for, not too long, and the one that was signed.
import { createHash } from 'node:crypto';
import { problem } from './contract/problems.ts';

/** Unless a route has longer ones. */
const BYTES_MAX = 64 << 10;

/** Of all bodies that are read at a time and are counted. */
const ALL_BYTES_MAX = 64 << 20;
let allBytes = 0;

export interface WholeBody {
  readonly type: string | undefined;
  /** What `type` must be. */
  readonly wanted: string;
  readonly chunks: AsyncIterable<Uint8Array>;
  /** The sha-256 that the caller signed; undefined where the body was compared with it already. */
  readonly digest: Uint8Array | undefined;
  readonly bytesMax?: number | undefined;
  /** False where the route bounds by itself how many are read at a time: then they take nothing from others. */
  readonly isCounted?: boolean | undefined;
}

export async function readWholeBody(body: WholeBody): Promise<Uint8Array> {
  const { type, wanted, chunks, digest, bytesMax = BYTES_MAX, isCounted = true } = body;
  if (type?.split(';')[0]?.trim().toLowerCase() !== wanted)
    throw problem('media_type_unsupported', `The body is ${wanted}, not ${type?.slice(0, 100) ?? 'untyped'}.`);
  const parts: Uint8Array[] = [];
  const hash = createHash('sha256');
  let length = 0;
  try {
    for await (const chunk of chunks) {
      length += chunk.length;
      if (isCounted) allBytes += chunk.length;
      if (length > bytesMax) throw problem('body_too_large', `The body has more than ${bytesMax} bytes.`, { bytesMax });
      if (isCounted && allBytes > ALL_BYTES_MAX)
        throw problem('pieces_exhausted', 'Too many bodies are on their way. Send it again.');
      if (digest) hash.update(chunk);
      parts.push(Uint8Array.from(chunk)); // whoever reads the socket takes a chunk's memory back
    }
  } finally {
    if (isCounted) allBytes -= length;
  }
  if (digest && !hash.digest().equals(digest))
    throw problem(
      'digest_mismatch',
      'The body is not the one that was signed: its sha-256 differs from content-digest.',
    );
  return Buffer.concat(parts);
}
