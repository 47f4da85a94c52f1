// Range coding with asymmetric numeral systems (rANS), in integers that every adapter has: the same bytes from this file and
// from the kernels in shaders/rans-*.wgsl, which this is the reference of.
//
// Frequencies of the 256 symbols add up to 2^11. A state lies in [2^15, 2^31); before a symbol is put in, and after one is
// taken out, it is brought back there by one unit of 16 bits, at most once. A symbol costs at most 11 bits.
// A stream is written backwards, from its last symbol to its first, and read forwards. In u32 words:
//   word 0    the state to begin with (31 bits); bit 31 is set if the number of units is odd
//   words 1…  the units, low half first; an odd number leaves the low half of word 1 empty, and zero
// After the last symbol the state is 2^15, where the writer began: a check that costs nothing. What follows the last unit
// up to the end of the stream is the owner's (`rest`).
import { CorruptContainer } from './block-codec.ts';

export const TABLE_BITS = 11;
export const TABLE_SIZE = 1 << TABLE_BITS;
export const SYMBOLS = 256;
export const STATE_MIN = 1 << 15;

/** What both directions look up; the kernels read the same words. */
export interface RansTable {
  readonly frequencies: Uint16Array;
  /** By symbol: frequency | what all symbols before it add up to << 16. A symbol of frequency 0 cannot be coded. */
  readonly encode: Uint32Array;
  /** By the lowest 11 bits of a state: symbol | frequency << 8 | place among the symbol's own << 20. */
  readonly decode: Uint32Array;
}

/** Frequencies that add up to 2^11, 1 at least for each symbol that occurs, as near to the counts as costs least. */
export function frequenciesOf(counts: ArrayLike<number>): Uint16Array {
  let total = 0;
  for (let symbol = 0; symbol < SYMBOLS; symbol++) total += counts[symbol] ?? 0;
  if (total === 0) throw new Error('frequenciesOf() was given no symbols; count at least one');
  const frequencies = Uint16Array.from({ length: SYMBOLS }, (_, symbol) => {
    const count = counts[symbol] ?? 0;
    return count === 0 ? 0 : Math.max(1, Math.round((count / total) * TABLE_SIZE));
  });
  for (let sum = frequencies.reduce((a, b) => a + b, 0); sum !== TABLE_SIZE; ) {
    const change = sum > TABLE_SIZE ? -1 : 1;
    const symbol = cheapestChange(counts, frequencies, change);
    frequencies[symbol] = (frequencies[symbol] ?? 0) + change;
    sum += change;
  }
  return frequencies;
}

/** The symbol whose frequency can change at the least cost in bits. */
function cheapestChange(counts: ArrayLike<number>, frequencies: Uint16Array, change: number): number {
  let best = 0;
  let least = Number.POSITIVE_INFINITY;
  for (let symbol = 0; symbol < SYMBOLS; symbol++) {
    const frequency = frequencies[symbol] ?? 0;
    if (frequency === 0 || frequency + change < 1) continue;
    const cost = (counts[symbol] ?? 0) * Math.log2(frequency / (frequency + change));
    if (cost < least) [best, least] = [symbol, cost];
  }
  return best;
}

/** Throws CorruptContainer unless the frequencies add up: they may come from a container. */
export function ransTable(frequencies: Uint16Array): RansTable {
  const encode = new Uint32Array(SYMBOLS);
  const decode = new Uint32Array(TABLE_SIZE);
  let before = 0;
  for (let symbol = 0; symbol < SYMBOLS; symbol++) {
    const frequency = frequencies[symbol] ?? 0;
    if (before + frequency > TABLE_SIZE) break;
    encode[symbol] = frequency | (before << 16);
    for (let place = 0; place < frequency; place++) decode[before + place] = symbol | (frequency << 8) | (place << 20);
    before += frequency;
  }
  const sum = frequencies.reduce((a, b) => a + b, 0);
  if (sum !== TABLE_SIZE) throw new CorruptContainer(`its frequencies add up to ${sum}, not to ${TABLE_SIZE}`);
  return { frequencies, encode, decode };
}

export interface StreamWriter {
  /** Symbols from the last to the first. */
  put(symbol: number, table: RansTable): void;
  /** The stream's words; the writer is done with. */
  finish(): Uint32Array;
}

export function streamWriter(): StreamWriter {
  const units: number[] = []; // as they come, which is backwards
  let state = STATE_MIN;
  return {
    put(symbol, { encode }) {
      const entry = encode[symbol] ?? 0;
      const frequency = entry & 0xffff;
      if (frequency === 0) throw new Error(`symbol ${symbol} has no place in its table`);
      if (state >= frequency * 2 ** (31 - TABLE_BITS)) {
        units.push(state & 0xffff);
        state >>>= 16;
      }
      const quotient = Math.floor(state / frequency);
      state = quotient * TABLE_SIZE + (state - quotient * frequency) + (entry >>> 16);
    },
    finish() {
      const odd = units.length & 1;
      const words = new Uint32Array(1 + (units.length + odd) / 2);
      words[0] = state | (odd << 31);
      for (let i = 0; i < units.length; i++) {
        const half = 2 * words.length - 1 - i; // the first to come stands last
        words[half >> 1] = (words[half >> 1] ?? 0) | ((units[i] ?? 0) << (16 * (half & 1)));
      }
      return words;
    },
  };
}

export interface StreamReader {
  next(table: RansTable): number;
  /** Throws unless the state is as it was before the first symbol; gives the place of the first word after the units. */
  finish(): number;
}

/** Reads words[begin] up to words[end - 1] and never beyond, whatever they hold: what is wrong throws CorruptContainer. */
export function streamReader(words: Uint32Array, begin: number, end: number): StreamReader {
  if (begin >= end || end > words.length) throw new CorruptContainer('a stream has no words');
  let state = (words[begin] ?? 0) & 0x7fff_ffff;
  let half = 2 * (begin + 1) + ((words[begin] ?? 0) >>> 31);
  return {
    next({ decode }) {
      const entry = decode[state & (TABLE_SIZE - 1)] ?? 0;
      state = ((entry >>> 8) & 0xfff) * (state >>> TABLE_BITS) + (entry >>> 20);
      if (state < STATE_MIN) {
        if (half >= 2 * end) throw new CorruptContainer('a stream ends before its last symbol');
        state = ((state << 16) | (((words[half >> 1] ?? 0) >>> (16 * (half & 1))) & 0xffff)) >>> 0;
        half++;
      }
      return entry & 0xff;
    },
    finish() {
      if (state !== STATE_MIN || half & 1) throw new CorruptContainer('a stream does not end as it must');
      return half >> 1;
    },
  };
}
