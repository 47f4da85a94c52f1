// What is due, against a plain look at all.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createExpiry } from '../../../../core/cache/kv/expiry.ts';
import { seeded } from '../../../support/seeded.ts';

test('due() gives all whose time has come, whatever was prolonged, taken out or left for later', (t) => {
  const random = seeded();
  t.diagnostic(`SEED=${random.seed}`);
  const expiry = createExpiry<number>();
  const times = new Map<number, number>();
  let now = 0;
  for (let step = 0; step < 3000; step++) {
    const one = random.below(200);
    const before = times.get(one) ?? Number.POSITIVE_INFINITY;
    const at = random.below(4) === 0 ? Number.POSITIVE_INFINITY : now + random.below(60_000);
    expiry.set(one, before, at);
    if (at === Number.POSITIVE_INFINITY) times.delete(one);
    else times.set(one, at);
    now += random.below(500);
    if (step % 10 > 0) continue;
    const due = new Set(expiry.due(now));
    for (const [some, time] of times) if (time <= now) assert.ok(due.has(some), `step ${step}`);
    for (const some of due) assert.ok((times.get(some) ?? Number.POSITIVE_INFINITY) <= now + 5000, 'too early');
    for (const some of expiry.due(now)) {
      if (random.below(2) === 0) continue;
      expiry.set(some, times.get(some) ?? 0, Number.POSITIVE_INFINITY);
      times.delete(some);
    }
  }
});
