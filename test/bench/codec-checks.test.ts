// Verdicts of the codec benchmark: what is met, missed or not measured, and how numbers small and large are written.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { attentionChecks, fixedRateChecks, ofCopy, timeChecks } from '../../bench/lib/codec-checks.ts';
import type { Figure } from '../../bench/lib/codec-figures.ts';
import { atLeast, atMost, formatReport } from '../../bench/lib/report.ts';

const figure = (name: string, bits: number, error: number): Figure => ({
  ...{ name, codec: name, isOurs: true, isUsual: true, bits, error },
  ...{ centredError: error, worst: error, angle: error / 2, overLimit: error * 4 ** bits },
});

describe('checks', () => {
  test('atMost() and atLeast() judge in their own directions; nothing measured is neither met nor missed', () => {
    assert.deepEqual(
      [atMost('a', 2, 2, ''), atMost('a', 2, 3, ''), atMost('a', 2, null, '')].map(({ met }) => met),
      [true, false, null],
    );
    assert.deepEqual(
      [atLeast('a', 2, 2, ''), atLeast('a', 2, 1, '')].map(({ met }) => met),
      [true, false],
    );
    assert.equal(atMost('a', 2, Number.NaN, '').met, false);
  });

  test('fixedRateChecks() has two verdicts for each codec, by its name', () => {
    const checks = fixedRateChecks([figure('tcq4', 4.25, 0.0042), figure('tq4', 4.5, 0.02)]);
    const met = (name: string) => checks.filter((check) => check.name.startsWith(`${name} `)).map((check) => check.met);
    assert.deepEqual(
      [met('tcq4'), met('tq4'), met('q8r')],
      [
        [true, true],
        [false, false],
        [null, null],
      ],
    );
  });

  test('attentionChecks() take the error at logits of deviation 2', () => {
    const errors = [0.01, 0.2, 0.01].map((error) => ({ error, angle: 0 }));
    const figures = [{ name: 'tcq4', isOurs: true, bitsK: 4.25, bitsV: 4.25, errors }];
    const found = attentionChecks([{ name: 'gauss', figures }]).filter(({ name }) =>
      name.startsWith('tcq4, attention of gauss'),
    );
    assert.deepEqual(
      found.map(({ got, met }) => [got, met]),
      [
        [8.5 / 32, true],
        [0.2, false],
      ],
    );
  });

  test("ofCopy() is the copy's time for the same plain bytes by the codec's", () => {
    const times = [
      { name: 'copy', variant: '', plainBytes: 1000, ms: [3, 1, 2] },
      { name: 'tcq4 decode', variant: '', plainBytes: 500, ms: [4, 4, 4] },
    ];
    const [, decode] = times;
    assert.equal(decode && ofCopy(times, decode), 0.25);
    const checks = timeChecks([{ adapter: 'llvmpipe-x', description: '', times }]);
    const verdict = (name: string) => checks.find((check) => check.name === name)?.met;
    assert.equal(verdict('lavapipe, tcq4 decode, of copy'), false);
    assert.equal(verdict('SwiftShader, tcq4 decode, of copy'), null);
  });

  test('formatReport() keeps three digits of what is small', () => {
    const row = (value: number | null) => ({ name: 'x', values: [value] });
    const rows = [0, 4.02e-5, 0.00415, 0.0265, 0.144, 4.25, 46.26, 11_939, null].map(row);
    const checks = [atMost('the error', 0.0043, 0.00415, '')];
    const text = formatReport({
      tables: [{ title: 't', columns: [{ name: 'c', unit: '' }], rows }],
      checks,
      notes: [],
    });
    const cells = text
      .split('\n')
      .slice(1, 10)
      .map((line) => line.trim().split(/\s+/)[1]);
    assert.deepEqual(cells, ['0', '4.02e-5', '0.00415', '0.0265', '0.144', '4.25', '46.3', '11939', '–']);
    assert.ok(text.includes('met           the error: asked at most 0.0043, got 0.00415'));
  });
});
