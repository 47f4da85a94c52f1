// What a run waits for before it begins; runs that begin are in device-link.test.ts.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type RunContext, runWork } from '../../../core/gpu/device-run.ts';
import type { Plan } from '../../../core/gpu/kernels.ts';
import { encodeWork } from '../../../core/gpu/work.ts';

/** Of a device whose pipelines come when the test says so. */
function waiting(planned: Promise<Plan>): { run: Promise<unknown>; callOff: AbortController } {
  const callOff = new AbortController();
  const context = {
    kernels: { plan: () => planned },
    beforeBegin: (wait: (signal: AbortSignal) => Promise<unknown>) => wait(callOff.signal),
  } as unknown as RunContext;
  return { run: runWork(Buffer.concat(encodeWork({}, false, () => false).parts), context), callOff };
}

test('a run whose pipelines never come is refused after a while', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const { run } = waiting(new Promise(() => {}));
  t.mock.timers.tick(300_000);
  await assert.rejects(run, { message: 'its kernels were not compiled in 300 s' });
});

test('a run that waits for its pipelines can be called off', async () => {
  const { run, callOff } = waiting(new Promise(() => {}));
  const reason = new Error('called off');
  callOff.abort(reason);
  await assert.rejects(run, reason);
});

test('a run whose pipelines cannot be made says so', async () => {
  const reason = new Error('no such pipeline');
  const { run } = waiting(Promise.reject(reason));
  await assert.rejects(run, reason);
});
