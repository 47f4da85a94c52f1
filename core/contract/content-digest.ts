// The digest of a body as it travels (RFC 9530): the field Content-Digest with its sha-256 member. Pure: runs on every
// runtime.
import { toBase64 } from './crypto.ts';
import { problem } from './problems.ts';
import { bytesOf, parseDictionary } from './structured-fields.ts';

const SHA256_BYTES = 32;

/** The field for a body with this sha-256. */
export function contentDigest(digest: Uint8Array): string {
  if (digest.length !== SHA256_BYTES) throw new RangeError(`A sha-256 has 32 bytes, not ${digest.length}.`);
  return `sha-256=:${toBase64(digest)}:`;
}

/** The sha-256 of a Content-Digest field; other algorithms beside it are not looked at. */
export function parseContentDigest(field: string): Uint8Array {
  const member = parseDictionary('content-digest', field, 'digest_malformed').get('sha-256');
  if (member === undefined) throw problem('digest_malformed', 'content-digest has no sha-256 member.');
  const digest = bytesOf(member);
  if (digest?.length !== SHA256_BYTES)
    throw problem('digest_malformed', 'The sha-256 of content-digest is not 32 bytes of base64 between colons.');
  return digest;
}
