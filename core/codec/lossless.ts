// The codec `lossless`: every bit pattern of f16, bf16 and f32 comes back, NaN payloads, -0 and denormals among them; bytes
// of any other kind are kept as they are. What is like from value to value, sign and exponent, is coded by rANS (rans.ts)
// with frequencies of its own; what is not, the rest of the bits, stands apart and plain. Not for lossy use, nor for
// finding equal bytes further apart. The kernels lossless-*.wgsl write and read the same bytes.
//
// A symbol is of f16 the upper byte (sign, exponent, 2 bits of mantissa), of bf16 and f32 the exponent. In u32 words:
//   0  'BLL1'    1  kind: 0 plain, 1 f16, 2 bf16, 3 f32    2  bytes of the content    3  words of the container
//   plain: the bytes, filled up with zeros to whole words
//   coded: table      8 words, a bit for each symbol that occurs, then their frequencies in 16 bits, in order
//          rest       for each four values: 1 word (f16, bf16: a byte of each), or 3 (f32: 24 bits of each), low first;
//                     of bf16 and f32 the sign stands above the mantissa
//          tail       the 0 to 3 last values that make no four, as they came, in whole words
//          directory  and streams as in rans-streams.ts, 32 to a block of 8,192 fours
//   the checksum of all before it, 4 words (checksum.ts): a container with any bit changed is refused
// Stream l of a block codes its fours l, l + lanes, l + 2 lanes, …; a block uses all 32 streams but the last, which uses one
// for each 256 fours. A container is at most 32 bytes larger than its content in whole words: what would not
// become smaller is kept plain.
import {
  LOSSLESS_LANE_FOURS as LANE_FOURS,
  LOSSLESS_LANES as LANES,
  LOSSLESS_FORMAT,
} from '../../shaders/entropy-kernels.ts';
import { CorruptContainer } from './block-codec.ts';
import { SEAL_WORDS, sealed, unsealed } from './checksum.ts';
import { frequenciesOf, type RansTable, ransTable, SYMBOLS, streamReader, streamWriter } from './rans.ts';
import { directoryWords, layStreams, rangesOf } from './rans-streams.ts';

export type LosslessKind = 'plain' | 'f16' | 'bf16' | 'f32';
const KINDS = { plain: 0, ...LOSSLESS_FORMAT } as const;
const MAGIC = 0x314c_4c42;
const HEADER_WORDS = 4;
const BITMAP_WORDS = SYMBOLS / 32;
const BLOCK_FOURS = LANES * LANE_FOURS;
/** Sizes are kept in 32 bits, and places within a container in words of as many. */
export const CONTENT_BYTES_MAX = 2 ** 31;

/** How many words four values have, and how many of those the rest takes. */
const WORDS: Readonly<Record<Exclude<LosslessKind, 'plain'>, { readonly four: number; readonly rest: number }>> = {
  f16: { four: 2, rest: 1 },
  bf16: { four: 2, rest: 1 },
  f32: { four: 4, rest: 3 },
};
/** What there is something to code in. */
export type LosslessCoded = keyof typeof WORDS;

/** Streams that a block of so many fours uses. */
const lanesOf = (fours: number): number => Math.min(LANES, Math.ceil(fours / LANE_FOURS));

/** Where the parts of a coded container lie, in words; from its kind, size and table alone. */
export interface LosslessLayout {
  readonly kind: LosslessCoded;
  readonly fours: number;
  readonly blocks: number;
  readonly rest: number;
  readonly tail: number;
  readonly tailWords: number;
  readonly directory: number;
  readonly streams: number;
}

export function losslessLayout(kind: LosslessCoded, contentBytes: number, frequencies: Uint16Array): LosslessLayout {
  const symbols = frequencies.filter((frequency) => frequency > 0).length;
  const { four, rest: restWords } = WORDS[kind];
  const fours = Math.floor(contentBytes / (four * 4));
  const rest = HEADER_WORDS + BITMAP_WORDS + Math.ceil(symbols / 2);
  const tail = rest + fours * restWords;
  const tailWords = Math.ceil((contentBytes - fours * four * 4) / 4);
  const directory = tail + tailWords;
  const blocks = Math.ceil(fours / BLOCK_FOURS);
  const streams = directory + blocks * directoryWords(LANES);
  return { kind, fours, blocks, rest, tail, tailWords, directory, streams };
}

// ---- encoding

export function encodeLossless(content: Uint8Array, kind: LosslessKind): Uint8Array<ArrayBuffer> {
  if (content.length > CONTENT_BYTES_MAX)
    throw new Error(`lossless takes ${CONTENT_BYTES_MAX} bytes at most, not ${content.length}; encode it in parts`);
  const words = new Uint32Array(Math.ceil(content.length / 4));
  new Uint8Array(words.buffer).set(content);
  const coded = kind === 'plain' ? undefined : encodeCoded(words, content.length, kind);
  return coded ?? encodePlain(words, content.length);
}

const headerOf = (kind: LosslessKind, bytes: number, words: number) => [MAGIC, KINDS[kind], bytes, words];

function encodePlain(content: Uint32Array, bytes: number): Uint8Array<ArrayBuffer> {
  const words = new Uint32Array(HEADER_WORDS + content.length + SEAL_WORDS);
  words.set(headerOf('plain', bytes, words.length));
  words.set(content, HEADER_WORDS);
  return sealed(words);
}

/** Undefined where that would not be smaller. */
function encodeCoded(content: Uint32Array, bytes: number, kind: LosslessCoded): Uint8Array<ArrayBuffer> | undefined {
  const valueBytes = WORDS[kind].four;
  const fours = Math.floor(bytes / (valueBytes * 4));
  if (fours === 0 || bytes % valueBytes !== 0) return undefined;
  const { table, rest, streams } = losslessParts(content, fours, kind);
  const layout = losslessLayout(kind, bytes, table.frequencies);
  const total = layout.streams + streams.reduce((sum, { length }) => sum + length, 0) + SEAL_WORDS;
  if (total >= HEADER_WORDS + content.length + SEAL_WORDS) return undefined;
  const words = new Uint32Array(total);
  words.set(losslessHead(kind, bytes, total, table.frequencies));
  words.set(rest, layout.rest);
  words.set(content.subarray(fours * WORDS[kind].four), layout.tail);
  layStreams(words, layout.directory, LANES, streams);
  return sealed(words);
}

/** What is coded and what is not, before it is put together: what each kernel has to give. */
export function losslessParts(content: Uint32Array, fours: number, kind: LosslessCoded) {
  const { symbols, rest } = split(content, fours, kind);
  const table = ransTable(frequenciesOf(countsOf(symbols)));
  return { table, rest, streams: encodeStreams(symbols, Math.ceil(fours / BLOCK_FOURS), table) };
}

/** A coded container up to its rest: header and table. */
export function losslessHead(kind: LosslessCoded, bytes: number, total: number, frequencies: Uint16Array): Uint32Array {
  return Uint32Array.from([...headerOf(kind, bytes, total), ...packTable(frequencies)]);
}

function packTable(frequencies: Uint16Array): Uint32Array {
  const present = [...frequencies.keys()].filter((symbol) => frequencies[symbol]);
  const head = new Uint32Array(BITMAP_WORDS + Math.ceil(present.length / 2));
  for (const [i, symbol] of present.entries()) {
    head[symbol >> 5] = (head[symbol >> 5] ?? 0) | (1 << (symbol & 31));
    const at = BITMAP_WORDS + (i >> 1);
    head[at] = (head[at] ?? 0) | ((frequencies[symbol] ?? 0) << (16 * (i & 1)));
  }
  return head;
}

function countsOf(symbols: Uint8Array): Uint32Array {
  const counts = new Uint32Array(SYMBOLS);
  for (let i = 0; i < symbols.length; i++) {
    const symbol = symbols[i] ?? 0;
    counts[symbol] = (counts[symbol] ?? 0) + 1;
  }
  return counts;
}

/** The fours of a stream: where its first is, how far apart, how many. */
function* walks(fours: number, blocks: number) {
  for (let block = 0; block < blocks; block++) {
    const own = Math.min(BLOCK_FOURS, fours - block * BLOCK_FOURS);
    const lanes = lanesOf(own);
    for (let lane = 0; lane < LANES; lane++) {
      const count = lane < lanes ? Math.ceil((own - lane) / lanes) : 0;
      yield { first: block * BLOCK_FOURS + lane, apart: lanes, count };
    }
  }
}

function encodeStreams(symbols: Uint8Array, blocks: number, table: RansTable): Uint32Array[] {
  const streams: Uint32Array[] = [];
  for (const { first, apart, count } of walks(symbols.length / 4, blocks)) {
    const writer = streamWriter();
    for (let four = first + (count - 1) * apart; four >= first; four -= apart)
      for (let i = 3; i >= 0; i--) writer.put(symbols[four * 4 + i] ?? 0, table);
    streams.push(count > 0 ? writer.finish() : new Uint32Array(0));
  }
  return streams;
}

// ---- decoding

export function decodeLossless(container: Uint8Array): Uint8Array<ArrayBuffer> {
  const words = unsealed(container);
  const [magic, code, bytes = 0, total] = words;
  const kind = (Object.keys(KINDS) as LosslessKind[]).find((each) => KINDS[each] === code);
  if (magic !== MAGIC || kind === undefined || total !== words.length + SEAL_WORDS || bytes > CONTENT_BYTES_MAX)
    throw new CorruptContainer('its header is not one of lossless');
  if (kind !== 'plain') return decodeCoded(words, kind, bytes);
  if (words.length !== HEADER_WORDS + Math.ceil(bytes / 4)) throw new CorruptContainer('it is not as long as it says');
  return bytesOf(words.slice(HEADER_WORDS), bytes);
}

const bytesOf = (words: Uint32Array<ArrayBuffer>, bytes: number) => new Uint8Array(words.buffer, 0, bytes);

function decodeCoded(words: Uint32Array, kind: LosslessCoded, bytes: number): Uint8Array<ArrayBuffer> {
  const frequencies = frequenciesIn(words);
  const table = ransTable(frequencies);
  const layout = losslessLayout(kind, bytes, frequencies);
  const { fours, blocks } = layout;
  const begins = rangesOf(words, layout.directory, LANES, blocks);
  const symbols = new Uint8Array(fours * 4);
  let stream = 0;
  for (const { first, apart, count } of walks(fours, blocks)) {
    const [begin = 0, end = 0] = begins.subarray(stream++);
    if (count > 0) decodeStream(words, begin, end, { first, apart, count }, table, symbols);
    else if (begin !== end) throw new CorruptContainer('a stream that is not used has words');
  }
  const content = new Uint32Array(fours * WORDS[kind].four + layout.tailWords);
  join(content, symbols, words.subarray(layout.rest, layout.tail), kind);
  content.set(words.subarray(layout.tail, layout.directory), fours * WORDS[kind].four);
  return bytesOf(content, bytes);
}

interface Walk {
  readonly first: number;
  readonly apart: number;
  readonly count: number;
}

function decodeStream(
  words: Uint32Array,
  begin: number,
  end: number,
  { first, apart, count }: Walk,
  table: RansTable,
  symbols: Uint8Array,
): void {
  const reader = streamReader(words, begin, end);
  for (let k = 0, at = first * 4; k < count; k++, at += apart * 4)
    for (let i = 0; i < 4; i++) symbols[at + i] = reader.next(table);
  if (reader.finish() !== end) throw new CorruptContainer('a stream is longer than its symbols');
}

/** The table that a coded container holds. */
export function frequenciesIn(words: Uint32Array): Uint16Array {
  const frequencies = new Uint16Array(SYMBOLS);
  let i = 0;
  for (let symbol = 0; symbol < SYMBOLS; symbol++) {
    if (!(((words[HEADER_WORDS + (symbol >> 5)] ?? 0) >>> (symbol & 31)) & 1)) continue;
    frequencies[symbol] = (words[HEADER_WORDS + BITMAP_WORDS + (i >> 1)] ?? 0) >>> (16 * (i & 1));
    i++;
  }
  return frequencies;
}

// ---- symbols and the rest: plain loops, as iterators take several times as long

function split(content: Uint32Array, fours: number, kind: LosslessCoded) {
  const symbols = new Uint8Array(fours * 4);
  const rest = new Uint32Array(fours * WORDS[kind].rest);
  if (kind === 'f32') splitF32(content, symbols, rest);
  else splitHalves(new Uint16Array(content.buffer, 0, fours * 4), symbols, new Uint8Array(rest.buffer), kind);
  return { symbols, rest };
}

function join(content: Uint32Array<ArrayBuffer>, symbols: Uint8Array, rest: Uint32Array, kind: LosslessCoded): void {
  if (kind === 'f32') joinF32(content, symbols, rest);
  else {
    const bytes = new Uint8Array(rest.buffer, rest.byteOffset, rest.byteLength);
    joinHalves(new Uint16Array(content.buffer), symbols, bytes, kind);
  }
}

function splitHalves(values: Uint16Array, symbols: Uint8Array, rest: Uint8Array, kind: LosslessCoded): void {
  for (let i = 0; i < values.length; i++) {
    const value = values[i] ?? 0;
    symbols[i] = kind === 'f16' ? value >> 8 : value >> 7;
    rest[i] = kind === 'f16' ? value : (value & 0x7f) | ((value >> 8) & 0x80);
  }
}

function joinHalves(values: Uint16Array, symbols: Uint8Array, rest: Uint8Array, kind: LosslessCoded): void {
  for (let i = 0; i < symbols.length; i++) {
    const symbol = symbols[i] ?? 0;
    const other = rest[i] ?? 0;
    values[i] = kind === 'f16' ? (symbol << 8) | other : (symbol << 7) | (other & 0x7f) | ((other & 0x80) << 8);
  }
}

function splitF32(values: Uint32Array, symbols: Uint8Array, rest: Uint32Array): void {
  const apart = (value: number) => (value & 0x7f_ffff) | ((value >>> 8) & 0x80_0000);
  for (let i = 0; i < symbols.length; i++) symbols[i] = (values[i] ?? 0) >>> 23;
  for (let four = 0; four < symbols.length / 4; four++) {
    const at = four * 4;
    const b = apart(values[at + 1] ?? 0);
    const c = apart(values[at + 2] ?? 0);
    rest[four * 3] = apart(values[at] ?? 0) | (b << 24);
    rest[four * 3 + 1] = (b >>> 8) | (c << 16);
    rest[four * 3 + 2] = (c >>> 16) | (apart(values[at + 3] ?? 0) << 8);
  }
}

function joinF32(values: Uint32Array, symbols: Uint8Array, rest: Uint32Array): void {
  const whole = (symbol = 0, other: number) => (symbol << 23) | (other & 0x7f_ffff) | ((other & 0x80_0000) << 8);
  for (let four = 0; four < symbols.length / 4; four++) {
    const x = rest[four * 3] ?? 0;
    const y = rest[four * 3 + 1] ?? 0;
    const z = rest[four * 3 + 2] ?? 0;
    const at = four * 4;
    values[at] = whole(symbols[at], x);
    values[at + 1] = whole(symbols[at + 1], (x >>> 24) | (y << 8));
    values[at + 2] = whole(symbols[at + 2], (y >>> 16) | (z << 16));
    values[at + 3] = whole(symbols[at + 3], z >>> 8);
  }
}
