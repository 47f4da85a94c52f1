// Plans of attention as numbers: that steps fit into scratch and never read what they write, that work is cut as it has to
// be, and that results merge as if all tokens had been there at once. What the steps compute is tried in attention-suite.ts.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  type Attention,
  type AttentionRun,
  emptyResult,
  type KvPage,
  mergeResults,
  NOTHING,
  PAGE_TOKENS,
  placeResult,
  planAttention,
  rowsOf,
  SCRATCH_BYTES,
  SCRATCH_PAGES_AT,
} from '../../shaders/attention.ts';
import { attend, type Sequence } from '../../shaders/attention-references.ts';
import { seeded } from '../support/seeded.ts';
import { errorOf, normal } from './attention-sequences.ts';

const pagesOf = (tokens: number, bytes = 256 << 10): KvPage[] =>
  Array.from({ length: Math.ceil(tokens / PAGE_TOKENS) }, (_, i) => {
    // an arena binding holds 128 MiB of them
    const perBinding = Math.floor((128 << 20) / bytes);
    return {
      at: { binding: Math.floor(i / perBinding) },
      offset: (i % perBinding) * bytes,
      position: i * PAGE_TOKENS,
    };
  });

function attentionOver(tokens: number, queries: number, more: Partial<Attention> = {}): Attention {
  return {
    ...{ heads: 32, kvHeads: 8, dim: 128, keys: 'f16', values: 'f16', pages: pagesOf(tokens), queries },
    ...{
      position: tokens - queries,
      begin: 0,
      end: tokens,
      causal: true,
      window: 0,
      scale: 0.1,
      biased: true,
      gpu: false,
    },
    ...more,
  };
}

const SHAPES: readonly Attention[] = [
  ...[1, 1000, 65_536, 1 << 20].flatMap((tokens) => [
    attentionOver(tokens, 1),
    attentionOver(tokens, 1, { gpu: true }),
  ]),
  attentionOver(65_536, 16),
  attentionOver(2048, 2048),
  attentionOver(2048, 2048, { gpu: true }),
  attentionOver(65_536, 512),
  attentionOver(5000, 300, { heads: 96, kvHeads: 96, dim: 256 }),
  attentionOver(5000, 300, { heads: 7, kvHeads: 1, dim: 80, gpu: true }),
];
const what = ({ heads, dim, queries, end, gpu }: Attention) => JSON.stringify({ heads, dim, queries, end, gpu });

type Ranges = readonly { readonly at: object; readonly offset: number; readonly size: number }[];
const scratchOf = (run: AttentionRun) =>
  run.steps.map(({ kernel, bindings }) => {
    const all = Object.entries(bindings);
    const written = all.slice(-1).map(([, range]) => range);
    return { kernel, read: all.slice(0, -1).map(([, range]) => range), written };
  });

describe('planAttention()', () => {
  test('keeps to scratch, at offsets that every adapter takes, and never reads the buffer it writes', () => {
    for (const attention of SHAPES)
      for (const run of planAttention(attention))
        for (const { kernel, read, written } of scratchOf(run)) {
          const isScratch = ({ at }: Ranges[number]) => 'scratch' in at;
          for (const range of [...read, ...written].filter(isScratch)) {
            assert.ok(range.offset + range.size <= SCRATCH_BYTES, `${kernel} of ${what(attention)}`);
            assert.equal(range.offset % 256, 0);
          }
          const names = (ranges: Ranges) => ranges.map(({ at }) => JSON.stringify(at));
          assert.ok(names(written).every((name) => name.includes('scratch')));
          assert.ok(!names(read).some((name) => names(written).includes(name)), `${kernel} reads what it writes`);
        }
  });

  test('covers every query once', () => {
    for (const attention of SHAPES) {
      const seen = planAttention(attention).flatMap(({ first, count }) =>
        Array.from({ length: count }, (_, i) => first + i),
      );
      assert.deepEqual(
        seen,
        Array.from({ length: attention.queries }, (_, i) => i),
        what(attention),
      );
    }
  });

  test('brings 16 MiB to a run at most, and takes 4 MiB away', () => {
    for (const attention of SHAPES)
      for (const { queries, table, bias, result } of planAttention(attention)) {
        assert.ok(queries.size + table.size + (bias?.size ?? 0) <= 16 << 20, what(attention));
        assert.ok(result.size <= 4 << 20, what(attention));
      }
  });

  test('bounds the work of a dispatch', () => {
    for (const attention of SHAPES)
      for (const { steps } of planAttention(attention))
        for (const { parameters } of steps)
          if ('extent' in parameters) {
            const { kv_heads, rows, pages } = parameters;
            const products = kv_heads * (Math.ceil(rows / 4) * 4) * pages * PAGE_TOKENS * attention.dim;
            assert.ok(products <= 2 ** 30 || pages === 1, `${products} in ${what(attention)}`);
          }
  });

  test('leaves out pages that no query of a block sees', () => {
    const tableOf = (more: Partial<Attention>, queries = 1) =>
      planAttention(attentionOver(1000, queries, more)).map(({ tableWords }) =>
        tableWords.filter((_, i) => i % 2 === 1),
      );
    assert.deepEqual([...(tableOf({ window: 70 })[0] ?? [])], [896, 960]);
    assert.deepEqual([...(tableOf({ begin: 500, end: 600 })[0] ?? [])], [448, 512, 576]);
    assert.equal(tableOf({ position: 64 })[0]?.length, 2);
    assert.deepEqual(planAttention(attentionOver(1000, 1, { pages: [] })), []);
    assert.deepEqual(planAttention(attentionOver(1000, 1, { begin: 500, end: 500 })), []);
    const [first, second] = planAttention(attentionOver(256, 256, { heads: 8, kvHeads: 8 }));
    assert.deepEqual([first?.tableWords.length, second?.tableWords.length], [4, 8]);
  });

  test('leaves scratch 3 alone where decoded pages lie', () => {
    const decoded: KvPage = { at: { scratch: 3 }, offset: SCRATCH_PAGES_AT, position: 1 << 16 };
    const runs = planAttention(
      attentionOver(1 << 16, 16, { pages: [...pagesOf(1 << 16), decoded], end: (1 << 16) + 64 }),
    );
    const kept = runs
      .flatMap(scratchOf)
      .flatMap(({ written }) => written.filter(({ at }) => 'scratch' in at && at.scratch === 3));
    assert.ok(kept.length > 0 && kept.every(({ offset, size }) => offset + size <= SCRATCH_PAGES_AT));
  });

  test('says what is wrong', () => {
    const refuses = (more: Partial<Attention>, message: RegExp) =>
      assert.throws(() => planAttention(attentionOver(100, 1, more)), { message });
    refuses({ kvHeads: 5 }, /32 heads cannot share 5 kv heads evenly/);
    refuses({ dim: 100 }, /f16 has records of 64, 80, 96, 128, 256 values, not of 100/);
    refuses({ queries: 0 }, /queries has to be a whole number, not 0/);
    refuses({ position: 2 ** 31 }, /positions have to be below 2\^31/);
    refuses({ pages: [{ at: { binding: 0 }, offset: 2, position: 0 }] }, /begins at byte 2/);
  });
});

describe('results', () => {
  test('mergeResults() gives what all tokens at once give, to f32', () => {
    const seed = seeded();
    const draw = normal(seed);
    const [kvHeads, dim, tokens, queries, heads] = [2, 64, 700, 3, 6];
    const some = (n: number) => Float32Array.from({ length: n }, draw);
    const sequence: Sequence = {
      kvHeads,
      dim,
      tokens,
      keys: some(kvHeads * tokens * dim),
      values: some(kvHeads * tokens * dim),
    };
    const query = some(heads * queries * dim);
    const sight = { heads, queries, position: tokens - queries, causal: true, window: 0, scale: 1 };
    const cuts = [0, 1, 400, 401, 699, 700];
    const results = cuts
      .slice(1)
      .map((end, i) => Float32Array.from(attend(query, sequence, { ...sight, begin: cuts[i] ?? 0, end })));
    const { outputs, exponents } = errorOf(
      mergeResults(results, dim),
      attend(query, sequence, { ...sight, begin: 0, end: tokens }),
      dim,
    );
    assert.ok(outputs < 1.5e-6 && exponents < 1e-5, `${outputs} ${exponents}, SEED=${seed.seed}`);
  });

  test('mergeResults() takes a result that saw nothing for none, and refuses what is not alike', () => {
    const one = Float32Array.of(1, 2, 3, 4, 0.5);
    const none = Float32Array.of(0, 0, 0, 0, NOTHING);
    assert.deepEqual(mergeResults([none, one, none], 4), one);
    assert.deepEqual(mergeResults([none, none], 4), none);
    const odd = Float32Array.of(1, 2, 3, 4, Number.NaN);
    assert.ok(mergeResults([none, odd, one], 4).every(Number.isNaN), 'what is not a number has not seen nothing');
    assert.throws(() => mergeResults([], 4), { message: /no results/ });
    assert.throws(() => mergeResults([one, new Float32Array(10)], 4), { message: /not of the same rows/ });
  });

  test('rowsOf() and placeResult() take apart and put together what runs see of all queries', () => {
    const attention = attentionOver(640, 300, { heads: 4, kvHeads: 2, dim: 64 });
    const all = Float32Array.from({ length: 4 * 300 * 64 }, (_, i) => i);
    const exponents = Float32Array.from({ length: 4 * 300 }, (_, i) => i);
    const result = emptyResult(attention);
    assert.equal(result.at(-1), NOTHING);
    for (const run of planAttention(attention)) {
      const own = new Float32Array(4 * run.count * 65);
      own.set(rowsOf(all, attention, run));
      own.set(rowsOf(exponents, attention, run), 4 * run.count * 64);
      placeResult(result, attention, run, own);
    }
    assert.deepEqual(result, Float32Array.of(...all, ...exponents));
  });
});
