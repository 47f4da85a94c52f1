// Waiting for a fact about real processes: looked at again and again, with an end.
import { setTimeout as sleep } from 'node:timers/promises';

const PAUSE_MS = 10;

export async function until(fact: () => boolean | Promise<boolean>, what: string, waitMsMax = 30_000): Promise<void> {
  for (const end = performance.now() + waitMsMax; !(await fact()); await sleep(PAUSE_MS))
    if (performance.now() > end) throw new Error(`it did not come true in ${waitMsMax} ms that ${what}`);
}
