// The range coder alone: what it costs, that it comes back, that it never reads beyond a stream.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { CorruptContainer } from '../../../core/codec/block-codec.ts';
import { checksumOf } from '../../../core/codec/checksum.ts';
import { frequenciesOf, ransTable, streamReader, streamWriter, TABLE_SIZE } from '../../../core/codec/rans.ts';
import { directoryWords, layStreams, rangesOf } from '../../../core/codec/rans-streams.ts';
import { checksum } from '../../../shaders/references.ts';
import { seeded } from '../../support/seeded.ts';

const random = seeded();
const where = `SEED=${random.seed}`;

const COUNTS: Readonly<Record<string, (symbol: number) => number>> = {
  'one symbol': (symbol) => (symbol === 77 ? 5 : 0),
  'two symbols, one of them rare': (symbol) => (symbol === 0 ? 1e9 : symbol === 255 ? 1 : 0),
  'all alike': () => 3,
  'all, falling fast': (symbol) => Math.ceil(1e6 * 0.8 ** symbol),
  'some at random': () => (random.below(3) === 0 ? random.below(1000) : 0),
};

const tableOf = (counts: ArrayLike<number>) => ransTable(frequenciesOf(counts));

function encode(symbols: readonly number[], table: ReturnType<typeof ransTable>): Uint32Array {
  const writer = streamWriter();
  for (const symbol of symbols.toReversed()) writer.put(symbol, table);
  return writer.finish();
}

/** Symbols as often as the table has them. */
function draw(table: ReturnType<typeof ransTable>, length: number): number[] {
  return Array.from({ length }, () => (table.decode[random.below(TABLE_SIZE)] ?? 0) & 0xff);
}

describe('frequenciesOf()', () => {
  for (const [name, count] of Object.entries(COUNTS))
    test(`adds up to 2^11 and leaves no symbol out: ${name}`, () => {
      const counts = Array.from({ length: 256 }, (_, symbol) => count(symbol));
      const frequencies = frequenciesOf(counts);
      assert.equal(
        frequencies.reduce((a, b) => a + b, 0),
        TABLE_SIZE,
      );
      assert.deepEqual([...frequencies].map(Boolean), counts.map(Boolean), where);
    });

  test('refuses to make something of nothing', () => {
    assert.throws(() => frequenciesOf(new Uint32Array(256)), { message: /no symbols; count/ });
  });
});

describe('a stream', () => {
  for (const [name, count] of Object.entries(COUNTS))
    test(`comes back, at the cost of its entropy: ${name}`, () => {
      const table = tableOf(Array.from({ length: 256 }, (_, symbol) => count(symbol)));
      for (const length of [0, 1, 2, 3, 100, 5000]) {
        const symbols = draw(table, length);
        const words = encode(symbols, table);
        const bits = symbols.reduce((sum, symbol) => sum - Math.log2((table.frequencies[symbol] ?? 0) / TABLE_SIZE), 0);
        assert.ok(words.length * 32 <= bits * 1.005 + 64, `${words.length} words for ${bits} bits, ${where}`);
        const reader = streamReader(words, 0, words.length);
        assert.deepEqual(
          symbols.map(() => reader.next(table)),
          symbols,
          where,
        );
        assert.equal(reader.finish(), words.length);
      }
    });

  test('costs nothing but its state where there is only one symbol', () => {
    const table = tableOf(Array.from({ length: 256 }, (_, symbol) => (symbol === 9 ? 1 : 0)));
    assert.deepEqual([...encode(new Array(1000).fill(9), table)], [2 ** 15]);
  });

  test('has these words for ever', () => {
    const table = tableOf(Array.from({ length: 256 }, (_, symbol) => (symbol < 4 ? 4 - symbol : 0)));
    const words = encode(
      Array.from({ length: 40 }, (_, i) => (i * i) % 4),
      table,
    );
    assert.deepEqual([...words], KNOWN);
  });

  test('is never read beyond its end, whatever it holds', () => {
    const table = tableOf(Array.from({ length: 256 }, () => 1));
    for (let round = 0; round < 500; round++) {
      const words = new Uint32Array(random.bytes(64).buffer);
      const reader = streamReader(words, 4, 8);
      assert.throws(() => {
        for (let i = 0; i < 64; i++) reader.next(table);
      }, CorruptContainer);
    }
    assert.throws(() => streamReader(new Uint32Array(4), 2, 2), CorruptContainer);
    assert.throws(() => streamReader(new Uint32Array(4), 2, 5), CorruptContainer);
  });

  test('with a bit changed does not end as it must, eight times of ten: a checksum has to find the rest', () => {
    const table = tableOf(Array.from({ length: 256 }, (_, symbol) => 1000 / (1 + symbol)));
    const symbols = draw(table, 300);
    const words = encode(symbols, table);
    let found = 0;
    for (let bit = 0; bit < words.length * 32; bit++) {
      const changed = words.slice();
      changed[bit >> 5] = (changed[bit >> 5] ?? 0) ^ (1 << (bit & 31));
      try {
        const reader = streamReader(changed, 0, changed.length);
        for (let i = 0; i < symbols.length; i++) reader.next(table);
        if (reader.finish() !== changed.length) found++;
      } catch (error) {
        assert.ok(error instanceof CorruptContainer);
        found++;
      }
    }
    assert.ok(found > 0.8 * words.length * 32, `${found} of ${words.length * 32}`);
  });
});

test("the kernels' quotient is right or one too small, however their divisions and products round", () => {
  // 1 + 2.5 units of a division, a conversion and a product, each as far off as it may be
  for (const off of [1 - 7 * 2 ** -24, 1, 1 + 7 * 2 ** -24])
    for (let frequency = 1; frequency <= TABLE_SIZE; frequency++)
      for (let k = 0; k < 40; k++) {
        const multiple = frequency * (k < 20 ? 2 ** 20 - k : 1 + random.below(2 ** 20));
        for (const state of [multiple - 1, multiple, Math.min(multiple + frequency - 1, frequency * 2 ** 20 - 1)]) {
          if (state >= frequency * 2 ** 20) continue;
          const quotient = Math.floor(state * ((Math.fround(0.99999952) / frequency) * off));
          const short = Math.floor(state / frequency) - quotient;
          assert.ok(short === 0 || short === 1, `${state} / ${frequency}: ${short} too small, ${where}`);
        }
      }
});

describe('ransTable()', () => {
  test('refuses frequencies that do not add up', () => {
    assert.throws(() => ransTable(new Uint16Array(256)), { message: /add up to 0, not to 2048; take the data from/ });
    assert.throws(() => ransTable(new Uint16Array(256).fill(65_535)), CorruptContainer);
  });
});

describe('a directory', () => {
  const streams = [3, 0, 5, 1, 65_535, 2].map((length) => new Uint32Array(length).fill(length));

  test('gives back where each stream lies', () => {
    const words = new Uint32Array(2 + 2 * directoryWords(3) + 65_546);
    assert.equal(layStreams(words, 2, 3, streams), words.length);
    const begins = rangesOf(words, 2, 3, 2);
    for (const [i, stream] of streams.entries())
      assert.deepEqual(words.subarray(begins[i], begins[i + 1]), stream, `stream ${i}`);
  });

  test('that leads anywhere else is refused', () => {
    const words = new Uint32Array(2 + 2 * directoryWords(3) + 65_546);
    layStreams(words, 2, 3, streams);
    for (let at = 2; at < 8; at++)
      for (let bit = 0; bit < 32; bit++) {
        if (bit >= 16 && (at === 4 || at === 7)) continue; // the half of a word that no stream has
        const changed = words.slice();
        changed[at] = (changed[at] ?? 0) ^ (1 << bit);
        assert.throws(() => rangesOf(changed, 2, 3, 2), CorruptContainer, `word ${at}, bit ${bit}`);
      }
    assert.throws(() => rangesOf(words.subarray(0, 5), 2, 3, 2), { message: /directory does not fit/ });
  });

  test('takes no stream of more words than it can tell', () => {
    assert.throws(() => layStreams(new Uint32Array(70_000), 0, 1, [new Uint32Array(65_536)]), {
      message: /65536 words has no place/,
    });
  });
});

test('checksumOf() gives the bits of the kernel', () => {
  for (const words of [0, 1, 3, 4, 5, 128, 129, 1000, 16_384, 70_001]) {
    const bytes = random.bytes(words * 4);
    assert.deepEqual([...checksumOf(new Uint32Array(bytes.buffer))], [...checksum(bytes)], `${words} words, ${where}`);
  }
});

const KNOWN = [2_457_659_651, 2_894_856_192, 2_437_861_851];
