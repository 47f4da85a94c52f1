// The name of a block: 128 bits of sha-256 over the name before it and its own tokens, so that a block's name tells all that came
// before it. A chain begins at a root's hash, which is the salt: chains of two roots have no name in common. Names lie in words, four
// to a block, a block's at 4 x its number; nothing is allocated for each but a short string on the way.
import { hash } from 'node:crypto';
import { HASH_WORDS } from './records.ts';

const HASH_BYTES = 4 * HASH_WORDS;

/** Writes the name of the block with these tokens at `block`; `before` is the root's hash, or the bytes of the name before. */
export type NextHash = (before: Uint8Array, tokens: Int32Array, hashes: Uint32Array, block: number) => void;

/** With room of its own for what is hashed, so that none is taken for each block. */
export function createNextHash(): NextHash {
  let room = new Uint8Array(0);
  return (before, tokens, hashes, block) => {
    const length = before.length + tokens.byteLength;
    if (room.length !== length) room = new Uint8Array(length);
    room.set(before);
    room.set(new Uint8Array(tokens.buffer, tokens.byteOffset, tokens.byteLength), before.length);
    const name = hash('sha256', room, 'binary'); // a string is the quickest to get out of it
    for (let word = 0; word < HASH_WORDS; word++) hashes[HASH_WORDS * block + word] = wordAt(name, 4 * word);
  };
}

const wordAt = (text: string, at: number): number =>
  (text.charCodeAt(at) |
    (text.charCodeAt(at + 1) << 8) |
    (text.charCodeAt(at + 2) << 16) |
    (text.charCodeAt(at + 3) << 24)) >>>
  0;

/** Of all whole blocks. */
export function chainHashes(root: Uint8Array, tokens: Int32Array, blockTokens: number): Uint32Array {
  const count = Math.floor(tokens.length / blockTokens);
  const hashes = new Uint32Array(HASH_WORDS * count);
  const next = createNextHash();
  for (let block = 0; block < count; block++) {
    const before = block === 0 ? root : bytesOfHash(hashes, block - 1);
    next(before, tokens.subarray(block * blockTokens, (block + 1) * blockTokens), hashes, block);
  }
  return hashes;
}

/** A view, no copy; the words of a little-endian machine, as all that run this are. */
export const bytesOfHash = (hashes: Uint32Array, block: number): Uint8Array =>
  new Uint8Array(hashes.buffer, hashes.byteOffset + HASH_BYTES * block, HASH_BYTES);

export const hexOfHash = (hashes: Uint32Array, block: number): string =>
  Buffer.from(hashes.buffer, hashes.byteOffset + HASH_BYTES * block, HASH_BYTES).toString('hex');
