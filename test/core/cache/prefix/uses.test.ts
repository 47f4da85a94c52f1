// Weights of uses against the sum that they are the logarithm of.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { costOf, expertNamed, rankOf } from '../../../../core/cache/prefix/experts.ts';
import { countUse, firstUse, HALF_LIVES, PAUSE, WEIGHTS, weightOf } from '../../../../core/cache/prefix/uses.ts';
import { seeded } from '../../../support/seeded.ts';

test('countUse() keeps the logarithm of a sum that halves each half-life', () => {
  const random = seeded();
  const weights = new Uint16Array(2 * WEIGHTS);
  const sums = HALF_LIVES.map(() => 1);
  firstUse(weights, WEIGHTS);
  for (let use = 0; use < 200; use++) {
    const turnovers = PAUSE + 4 * random.next() ** 4;
    assert.ok(countUse(weights, WEIGHTS, turnovers));
    HALF_LIVES.forEach((halfLife, i) => {
      sums[i] = 1 + (sums[i] ?? 0) * 2 ** (-turnovers / halfLife);
      const error = weightOf(weights, WEIGHTS + i) - Math.log2(sums[i] ?? 0);
      assert.ok(Math.abs(error) < 0.02, `${error} at use ${use} (SEED=${random.seed})`);
    });
  }
  assert.deepEqual(
    [...weights.subarray(0, WEIGHTS)],
    HALF_LIVES.map(() => 0),
  );
});

test('countUse() counts a use that goes on once, from its end on', () => {
  const weights = new Uint16Array(WEIGHTS);
  firstUse(weights, 0);
  for (let i = 0; i < 1000; i++) assert.equal(countUse(weights, 0, PAUSE / 2), false);
  assert.equal(weightOf(weights, 0), 0);
});

test('rankOf() never falls with a use, and prefers what was used more, and costs more', () => {
  const random = seeded();
  const lru = expertNamed('lru');
  const slow = expertNamed('lrfu-8c');
  const costly = expertNamed('lrfu-8c-cost');
  assert.ok(lru && slow && costly);
  const [often, once] = [new Uint16Array(WEIGHTS), new Uint16Array(WEIGHTS)];
  let time = 0;
  for (let use = 0; use < 50; use++) {
    const before = rankOf(slow, 100, time, use, often, 0, 0);
    const passed = 200 * random.next();
    time += passed;
    countUse(often, 0, passed / 100);
    assert.ok(rankOf(slow, 100, time, use + 1, often, 0, 0) >= before - 0.001, `SEED=${random.seed}`);
  }
  assert.ok(rankOf(lru, 100, time, 9, often, 0, 0) < rankOf(lru, 100, time + 1, 1, once, 0, 0));
  assert.ok(rankOf(slow, 100, time, 9, often, 0, 0) > rankOf(slow, 100, time + 1, 1, once, 0, 0));
  assert.equal(rankOf(costly, 100, time, 9, often, 0, 0), rankOf(slow, 100, time, 9, often, 0, 0));
  assert.ok(rankOf(costly, 100, time, 9, often, 0, 100_000) > rankOf(costly, 100, time, 9, often, 0, 0));
  assert.ok(costOf(30_500) === 2 * costOf(0));
});
