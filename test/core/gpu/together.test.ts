// Several promises at once: their values in order, and a failure that waits until all the others are over.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { together } from '../../../core/gpu/together.ts';

test('together() gives all in order, and a failure only once all are over', async () => {
  assert.deepEqual(await together([Promise.resolve('a'), Promise.resolve('b')]), ['a', 'b']);
  let over = false;
  const slow = new Promise<void>((resolve) => setTimeout(resolve, 20)).then(() => {
    over = true;
  });
  await assert.rejects(together([Promise.reject(new Error('first')), slow]), /first/);
  assert.equal(over, true);
});
