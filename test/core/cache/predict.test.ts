// Predictions by name and by what has followed: right ones for runs and loops, none for what was never seen, and bounds.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createPredictor } from '../../../core/cache/predict.ts';
import { seeded } from '../../support/seeded.ts';

const walk = (keys: readonly string[], predictor = createPredictor(), tenant = 't'): string[][] =>
  keys.map((key) => predictor.next(tenant, key));

test('a run of numbers goes on, the further the longer it has', () => {
  assert.deepEqual(walk(['m/1/k', 'm/2/k', 'm/3/k', 'm/3/k', 'm/9/k', 'm/10/k']), [
    [],
    ['m/3/k'],
    ['m/4/k', 'm/5/k'],
    ['m/4/k', 'm/5/k'],
    [],
    ['m/11/k'],
  ]);
  assert.deepEqual(walk(['p-08', 'p-09'])[1], ['p-10']);
  assert.deepEqual(walk(['p-008', 'p-009'])[1], ['p-010']);
  assert.deepEqual(walk(['a', 'b', 'a', '123456789012345']).flat(), []);
  const long = walk(Array.from({ length: 20 }, (_, i) => `r${i}`));
  assert.equal(long.at(-1)?.length, 4);
});

test('runs that come in turns do not disturb each other', () => {
  const keys = Array.from({ length: 10 }, (_, i) => [`a/${i}`, `b/${100 + i}`]).flat();
  assert.ok(
    walk(keys)
      .slice(4)
      .every((found, i) => found[0] === keys[i + 6] || i + 6 >= keys.length),
  );
});

test('what has followed a key twice is expected again, and what follows that; another teaches otherwise', () => {
  const predictor = createPredictor();
  const loop = ['x', 'y', 'z'];
  walk(loop, predictor);
  assert.deepEqual(predictor.next('t', 'x'), [], 'once may be chance');
  walk(['y', 'z'], predictor);
  assert.deepEqual(predictor.next('t', 'x'), ['y', 'z']);
  walk(['w', 'x', 'w', 'x', 'w', 'x', 'w', 'x', 'w', 'x', 'w'], predictor);
  assert.equal(predictor.next('t', 'x')[0], 'w');
});

test('tenants teach each other nothing', () => {
  const predictor = createPredictor();
  walk(['x', 'y', 'x', 'y', 'x', 'y', 'n1'], predictor);
  assert.deepEqual(walk(['x', 'n2'], predictor, 'other'), [[], []]);
});

test('what it remembers is bounded: the oldest is forgotten', () => {
  const predictor = createPredictor({ tenantsMax: 2, runsMax: 2, successorsMax: 3 });
  walk(['a1', 'b1', 'c1'], predictor);
  assert.deepEqual(predictor.next('t', 'a2'), [], 'its run was forgotten');
  assert.deepEqual(predictor.next('t', 'c2'), ['c3']);
  walk(['x', 'y', 'x', 'y', 'x'], predictor);
  walk(['p', 'q', 'r', 's'], predictor);
  assert.deepEqual(predictor.next('t', 'x'), []);
  for (const other of ['u', 'v']) predictor.next(other, 'k');
  walk(['c3'], predictor);
  assert.deepEqual(predictor.next('t', 'c4'), ['c5']);
});

test('keys at random are never expected as what they are not: each prediction is a successor that was seen, or a next number', (t) => {
  const random = seeded();
  t.diagnostic(`SEED=${random.seed}`);
  const predictor = createPredictor();
  const seen = new Set<string>();
  let predicted = 0;
  for (let i = 0; i < 20_000; i++) {
    const key = `k${random.below(1 << 20)}x`;
    for (const next of predictor.next('t', key)) {
      predicted++;
      assert.ok(seen.has(next) || next === `k${Number(/\d+/.exec(key)) + 1}x`);
    }
    seen.add(key);
  }
  assert.ok(predicted < 100, `${predicted}`);
});
