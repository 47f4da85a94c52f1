// Long work leaves room for what comes meanwhile, and goes to its end.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inSlices } from '../../../core/cache/slices.ts';

test('inSlices() does the first steps at once, lets others have their turn, and returns what the last step does', async () => {
  let steps = 0;
  let stepsAtTurn: number | undefined;
  function* work(): Generator<undefined, string, void> {
    for (; stepsAtTurn === undefined; steps++) yield; // for ever, if nobody else had a turn
    return 'done';
  }
  const done = inSlices(work());
  assert.ok(steps > 0);
  setImmediate(() => {
    stepsAtTurn = steps;
  });
  assert.equal(await done, 'done');
});

test('inSlices() throws what a step throws', async () => {
  const fault = new Error('a step failed');
  await assert.rejects(
    inSlices(
      (function* (): Generator<undefined, void, void> {
        yield;
        throw fault;
      })(),
    ),
    fault,
  );
});
