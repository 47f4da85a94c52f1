// Quotas in memory: several at once or none, and memory that is bounded whoever comes.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fieldsOf, type Policy, policiesOf } from '../../edge/limits.ts';
import { memoryLimits } from '../../edge/limits-memory.ts';
import { seeded } from '../support/seeded.ts';

const random = seeded();
const policies = policiesOf('key', 'requests', [
  { quota: 5, seconds: 1 },
  { quota: 8, seconds: 60 },
]);
const all = (whose: string, more: readonly Policy[] = policies) =>
  more.map((policy) => ({ policy, whose, wanted: 1, cost: 1 }));

function setup(max = 1000) {
  const state = { now: 1_000_000 };
  const limits = memoryLimits({ max, now: () => state.now });
  const passes = (whose: string) => limits.take(all(whose)).every(({ waitMs }) => waitMs === 0);
  return { state, limits, passes };
}

test('a burst and the long run hold together, and what is refused by one is charged to none', () => {
  const { state, passes, limits } = setup();
  assert.deepEqual(
    Array.from({ length: 7 }, () => passes('a')),
    [true, true, true, true, true, false, false],
  );
  state.now += 1000;
  assert.deepEqual(
    Array.from({ length: 5 }, () => passes('a')),
    [true, true, true, false, false],
    'eight in a minute',
  );
  assert.equal(limits.take(all('a'))[0]?.left, 2, 'of the burst, nothing was taken');
  assert.ok(passes('b'), 'others have their own');
  state.now += 7500;
  assert.ok(passes('a'));
  assert.ok(!passes('a'));
});

test('asking without a cost takes nothing; a cost in any case is owed', () => {
  const { limits } = setup();
  const [policy] = policies;
  assert.ok(policy);
  for (let i = 0; i < 20; i++) assert.equal(limits.take([{ policy, whose: 'a', wanted: 1, cost: 0 }])[0]?.waitMs, 0);
  assert.equal(limits.size, 0, 'nothing is kept of who owes nothing');
  for (let i = 0; i < 5; i++) limits.take([{ policy, whose: 'a', wanted: 0, cost: 1 }]);
  assert.equal(limits.take([{ policy, whose: 'a', wanted: 1, cost: 0 }])[0]?.waitMs, 200);
  for (let i = 0; i < 5; i++) limits.take([{ policy, whose: 'a', wanted: 0, cost: 1 }]);
  assert.equal(limits.take([{ policy, whose: 'a', wanted: 1, cost: 0 }])[0]?.waitMs, 1200, 'beyond the quota too');
});

test('there are never more buckets than may be, and who owes most is forgotten last', (t) => {
  t.diagnostic(`SEED=${random.seed}`);
  const { state, limits, passes } = setup(100);
  for (let i = 0; i < 8; i++, state.now += 200) passes('owes');
  for (let i = 0; i < 20_000; i++) {
    state.now += random.below(3);
    passes(`stranger ${random.below(1_000_000)}`);
    assert.ok(limits.size <= 100);
    if (i % 50 === 0 && i < 2000) assert.ok(!passes('owes'), `${i}`);
  }
});

test('buckets that owe nothing any more make room', () => {
  const { state, limits, passes } = setup(10);
  for (let i = 0; i < 10; i++) passes(`${i}`);
  state.now += 3_600_000;
  for (let i = 0; i < 10; i++) passes(`later ${i}`);
  assert.ok(limits.size <= 10);
});

test('fieldsOf() writes what the draft says', () => {
  const { limits } = setup();
  const bytes = policiesOf('bytes', 'content-bytes', [{ quota: 1000, seconds: 10 }]);
  const told = limits.take([...all('a'), ...bytes.map((policy) => ({ policy, whose: 'a', wanted: 900, cost: 900 }))]);
  assert.deepEqual(fieldsOf(told, { max: 4, left: 3 }), [
    [
      'RateLimit-Policy',
      '"key-1s";q=5;w=1, "key-60s";q=8;w=60, "bytes-10s";q=1000;w=10;qu="content-bytes", "concurrent";q=4;qu="concurrent-requests"',
    ],
    ['RateLimit', '"key-1s";r=4;t=1, "key-60s";r=7;t=8, "bytes-10s";r=100;t=1, "concurrent";r=3'],
  ]);
  assert.deepEqual(fieldsOf([]), []);
});
