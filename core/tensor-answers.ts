// What is said of a tensor beside its bytes, and a small one as a whole, for an edge that keeps what is asked for often.
import type { Cache } from './cache/cache.ts';
import { contentDigest } from './contract/content-digest.ts';
import { SAFETENSORS, type TensorEntry } from './contract/messages.ts';
import type { WholeTensor } from './contract/whole-tensor.ts';

export const headersOf = (entry: TensorEntry, source: string) => ({
  'content-type': SAFETENSORS,
  'content-length': String(entry.bytes),
  'content-digest': contentDigest(Buffer.from(entry.digest, 'hex')),
  etag: `"${entry.digest}"`,
  'x-cache': source,
  ...(entry.expiresAt === null ? {} : { expires: new Date(entry.expiresAt).toUTCString() }),
});

/** Undefined where nothing is held, or more than so much. */
export async function wholeTensor(
  cache: Pick<Cache, 'peek' | 'get'>,
  named: { readonly tenant: string; readonly key: string },
  bytesMax: number,
  signal: AbortSignal,
): Promise<WholeTensor | undefined> {
  const held = cache.peek(named.tenant, named.key);
  if (!held || held.bytes > bytesMax) return undefined;
  const found = cache.get(named.tenant, named.key);
  if (!found) return undefined;
  const { entry } = found;
  const bytes = new Uint8Array(entry.bytes);
  let at = 0;
  for await (const { piece, length } of found.read(signal)) {
    bytes.set(piece.bytes.subarray(0, length), at);
    at += length;
    piece.release();
  }
  return { bytes, headers: headersOf(entry, 'hot') };
}
