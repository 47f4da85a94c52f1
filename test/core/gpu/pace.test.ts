// How often a wait is polled. What that costs a real process is in pool.test.ts (idle) and device-link.test.ts (waiting).
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pollAfter } from '../../../core/gpu/pace.ts';

test('pollAfter() is at once at first, then a millisecond, and a small share of a long wait, with an end', () => {
  assert.deepEqual(
    [1, 40, 41].map((polls) => pollAfter(polls, 3)),
    [0, 0, 1],
  );
  for (const waited of [32, 64, 100, 200]) assert.equal(pollAfter(100, waited), waited / 32);
  assert.equal(pollAfter(1000, 60_000), 16);
});
