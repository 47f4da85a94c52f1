// Long work on many things, some milliseconds at a time: what has to be answered meanwhile is. Each step leaves all as it has to be.
import { setImmediate as turn } from 'node:timers/promises';

const SLICE_MS = 4;

/** The steps to the end, the first ones at once. */
export async function inSlices<R>(steps: Iterator<unknown, R, void>): Promise<R> {
  for (let begun = performance.now(); ; ) {
    const step = steps.next();
    if (step.done) return step.value;
    if (performance.now() - begun < SLICE_MS) continue;
    await turn();
    begun = performance.now();
  }
}
