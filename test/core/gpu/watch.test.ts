// When a process counts as hanging: by a clock that the test turns. Real processes that hang are in device-link.test.ts and
// pool.test.ts.
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { createWatch } from '../../../core/gpu/watch.ts';

const DEADLINE = 1000;

function start(t: TestContext) {
  t.mock.timers.enable({ apis: ['setInterval'] });
  let time = 0;
  let oldest: number | undefined;
  const seen: string[] = [];
  const watch = createWatch({
    deadlineMs: DEADLINE,
    now: () => time,
    oldest: () => oldest,
    sendCanary: () => seen.push('canary'),
    hangs: (why) => seen.push(why),
  });
  return {
    watch,
    seen,
    pass(ms: number): void {
      for (const end = time + ms; time < end; ) {
        time += 10;
        t.mock.timers.tick(10);
      }
    },
    send(): void {
      oldest ??= time;
      watch.sent();
    },
    answer(proof: boolean): void {
      oldest = undefined;
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

test('requests without any answer tell of the process', (t) => {
  const { seen, pass, send, watch } = start(t);
  send();
  pass(DEADLINE / 2);
  watch.sang();
  pass(DEADLINE);
  assert.deepEqual(seen, ['canary', 'has not answered in 1000 ms']);
});
