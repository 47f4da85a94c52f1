// Rates as text and as JSON: what is read, and what cannot be counted exactly or means nothing is refused.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { limitsSchema, ratesText } from '../../../core/contract/rates.ts';

test('ratesText reads rates, and none', () => {
  assert.deepEqual(ratesText.parse('100/1s,5000/1m, 2GiB/1h'), [
    { quota: 100, seconds: 1 },
    { quota: 5000, seconds: 60 },
    { quota: 2 ** 31, seconds: 3600 },
  ]);
  assert.deepEqual(ratesText.parse('none'), []);
  for (const text of [
    '',
    '100',
    '100/s',
    '0/1s',
    '1/0s',
    '1.5/1s',
    '-1/1s',
    '1/1w',
    '1KB/1s',
    '1/1s,',
    '9TiB/1d',
    '1/32d',
  ])
    assert.ok(!ratesText.safeParse(text).success, text);
  assert.ok(!ratesText.safeParse('1/1s,1/2s,1/3s,1/4s,1/5s').success);
});

test('limitsSchema refuses what means nothing', () => {
  const rate = { quota: 1, seconds: 1 };
  assert.ok(limitsSchema.safeParse({ requests: [rate], bytes: [rate], concurrent: 1 }).success);
  for (const limits of [
    ...[{ requests: [] }, { requests: [{ quota: 1 }] }, { requests: [{ ...rate, more: 1 }] }, { concurrent: 0 }],
    ...[{ bytes: [{ quota: 2 ** 50, seconds: 3600 }] }, { requests: Array(5).fill(rate) }, { others: 1 }],
  ])
    assert.ok(!limitsSchema.safeParse(limits).success, JSON.stringify(limits));
});
