// When a process counts as hanging: by timers that the test turns. Real processes that hang are in device-link.test.ts and
// pool.test.ts.
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { createWatch } from '../../../core/gpu/watch.ts';
import { until } from '../../support/until.ts';

const DEADLINE = 1000;

function start(t: TestContext) {
  t.mock.timers.enable({ apis: ['setInterval'] });
  let isBusy = false;
  const seen: string[] = [];
  const watch = createWatch({
    deadlineMs: DEADLINE,
    isBusy: () => isBusy,
    sendCanary: () => seen.push('canary'),
    hangs: (why) => seen.push(why),
  });
  return {
    watch,
    seen,
    pass: (ms: number): void => t.mock.timers.tick(ms),
    send(): void {
      isBusy = true;
      watch.sent();
    },
    answer(proof: boolean): void {
      isBusy = false;
      watch.answered(proof);
    },
  };
}

test('nothing is done while nothing is under way', (t) => {
  const { seen, pass, send, answer, watch } = start(t);
  pass(10 * DEADLINE);
  assert.deepEqual(seen, []);
  send();
  answer(false);
  pass(DEADLINE / 2);
  assert.deepEqual(seen, ['canary'], 'one for what was sent');
  watch.sang();
  pass(10 * DEADLINE);
  assert.deepEqual(seen, ['canary']);
});

test('one canary is under way at a time, and a later one covers what was sent since', (t) => {
  const { seen, pass, send, answer, watch } = start(t);
  for (let i = 0; i < 20; i++) {
    send();
    answer(false);
    pass(20);
  }
  assert.deepEqual(seen, ['canary']);
  watch.sang();
  pass(DEADLINE / 2);
  assert.deepEqual(seen, ['canary', 'canary']);
});

test('a canary that is not answered tells of the GPU, also while writes are answered', (t) => {
  const { seen, pass, send, answer } = start(t);
  for (let i = 0; i < 70; i++) {
    send();
    answer(false);
    pass(20);
  }
  assert.deepEqual(seen, ['canary', 'has a GPU that finished nothing in 1000 ms']);
});

test('a long queue is no hang, as long as the GPU finishes something', (t) => {
  const { seen, pass, send, answer } = start(t);
  for (let i = 0; i < 20; i++) {
    send();
    pass(DEADLINE * 0.9);
    answer(true);
  }
  assert.deepEqual(seen, ['canary']);
});

test('a canary without any answer tells of the process', (t) => {
  const { seen, pass, send, answer } = start(t);
  send();
  answer(true);
  send();
  pass(2 * DEADLINE);
  assert.deepEqual(seen, ['canary', 'has not answered in 1000 ms']);
});

test('a request that waits in the process is no hang while canaries come back, and is one when they do not', (t) => {
  const { seen, pass, send, watch } = start(t);
  send();
  for (let i = 1; i <= 20; i++) {
    pass(DEADLINE / 2);
    assert.deepEqual(seen.splice(0), ['canary'], 'one after the other');
    watch.sang();
  }
  pass(2 * DEADLINE);
  assert.deepEqual(seen, ['canary', 'has not answered in 1000 ms']);
});

test('time in which this process stood still is not held against the adapter', async () => {
  const seen: string[] = [];
  const watch = createWatch({
    deadlineMs: 100,
    isBusy: () => true,
    sendCanary: () => seen.push('canary'),
    hangs: (why) => seen.push(why),
  });
  const awake = setInterval(() => {}, 1000); // the watch keeps no process alive
  watch.sent();
  await until(() => seen.length > 0, 'the canary is sent');
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 500);
  await new Promise<void>((resolve) => setImmediate(resolve));
  watch.stop();
  clearInterval(awake);
  assert.deepEqual(seen, ['canary']);
});
