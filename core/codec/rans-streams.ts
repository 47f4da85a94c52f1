// Many streams in one container, in blocks of as many streams each: where they lie, so that every lane of a kernel finds
// its own without reading the others'. In u32 words:
//   directory   for each block: the word of its first stream, counted from the first of all streams, then the length of each
//               of its streams in words, 16 bits each, low half first
//   streams     one after the other; a stream of length 0 is one that is not used
// Whatever a directory holds, `rangesOf` gives ranges that lie in the container, follow on one another and fill it, or throws.
import { CorruptContainer } from './block-codec.ts';

export const STREAM_WORDS_MAX = 0xffff;

export const directoryWords = (perBlock: number): number => 1 + Math.ceil(perBlock / 2);

/** Fills in directory and streams; gives the word after the last. */
export function layStreams(
  words: Uint32Array,
  directory: number,
  perBlock: number,
  streams: readonly Uint32Array[],
): number {
  const blocks = streams.length / perBlock;
  const first = directory + blocks * directoryWords(perBlock);
  let at = first;
  for (const [i, stream] of streams.entries()) {
    const own = directory + Math.floor(i / perBlock) * directoryWords(perBlock);
    const lane = i % perBlock;
    if (lane === 0) words[own] = at - first;
    if (stream.length > STREAM_WORDS_MAX)
      throw new Error(`a stream of ${stream.length} words has no place in a directory`);
    const length = own + 1 + (lane >> 1);
    words[length] = (words[length] ?? 0) | (stream.length << (16 * (lane & 1)));
    words.set(stream, at);
    at += stream.length;
  }
  return at;
}

/** Where each stream begins, and, last, where they end. */
export function rangesOf(words: Uint32Array, directory: number, perBlock: number, blocks: number): Uint32Array {
  const entry = directoryWords(perBlock);
  const first = directory + blocks * entry;
  if (first > words.length) throw new CorruptContainer('its directory does not fit into it');
  const begins = new Uint32Array(blocks * perBlock + 1);
  let at = first;
  for (let block = 0; block < blocks; block++) {
    const own = directory + block * entry;
    if (words[own] !== at - first) throw new CorruptContainer(`block ${block} is not where the one before it ends`);
    for (let lane = 0; lane < perBlock; lane++) {
      begins[block * perBlock + lane] = at;
      at += ((words[own + 1 + (lane >> 1)] ?? 0) >>> (16 * (lane & 1))) & 0xffff;
    }
  }
  if (at !== words.length) throw new CorruptContainer(`its streams end at word ${at}, and it has ${words.length}`);
  begins[blocks * perBlock] = at;
  return begins;
}
