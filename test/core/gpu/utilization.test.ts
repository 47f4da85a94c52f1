// How busy something was lately, by a clock of the test's own.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createUtilization } from '../../../core/gpu/utilization.ts';

test('share() is busy time over the window that slides, and not over all time', () => {
  const utilization = createUtilization(11, 1000);
  assert.equal(utilization.share(1000, 0), 0);
  assert.equal(utilization.share(1100, 50), 0.5);
  let busy = 0;
  let at = 1000;
  const pass = (seconds: number, share: number) => {
    for (let i = 0; i < seconds * 2; i++) {
      at += 500;
      busy += 500 * share;
      utilization.sample(at, busy);
    }
  };
  pass(60, 1);
  assert.equal(utilization.share(at, busy), 1);
  pass(2.5, 0);
  assert.equal(utilization.share(at, busy), 0.5);
  pass(2.5, 0);
  assert.equal(utilization.share(at, busy), 0);
});

test('share() stays from 0 to 1 where clocks are coarse', () => {
  const utilization = createUtilization(2, 0);
  assert.equal(utilization.share(10, 11), 1);
  assert.equal(utilization.share(0, 5), 0);
  utilization.sample(20, 30);
  utilization.sample(30, 40);
  assert.equal(utilization.share(40, 20), 0);
});
