// The rate algorithm beside its definition: a request passes if in no stretch of time that ends with it, more than the quota and what
// came back in that stretch has passed. Tried by brute force over all stretches, in exact arithmetic, for odd rates and costs.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { charged, type Debt, NOTHING_OWED, paid, type Rule, standingOf } from '../../edge/gcra.ts';
import { seeded } from '../support/seeded.ts';

const ROUNDS = 300;
const REQUESTS = 60;
const random = seeded();

interface Passed {
  readonly at: number;
  readonly cost: number;
}

/** From each that passed on: what has passed since, with this one, within the quota and what came back. */
function fits({ quota, windowMs }: Rule, passed: readonly Passed[], at: number, cost: number): boolean {
  const [q, w] = [BigInt(quota), BigInt(windowMs)];
  let sum = BigInt(cost);
  if (sum > q) return false;
  for (const each of passed.toReversed()) {
    sum += BigInt(each.cost);
    if (sum * w > q * w + BigInt(at - each.at) * q) return false;
  }
  return true;
}

function ask(rule: Rule, debt: Debt, at: number, cost: number) {
  const now = paid(rule, debt, at);
  const standing = standingOf(rule, now, cost);
  return { standing, passes: standing.waitMs === 0, next: standing.waitMs === 0 ? charged(rule, now, cost) : now };
}

test('what passes is what the definition lets pass, and what is told is so', (t) => {
  t.diagnostic(`SEED=${random.seed}`);
  let [passes, refusals] = [0, 0];
  for (let round = 0; round < ROUNDS; round++) {
    const rule = { quota: 1 + random.below(12), windowMs: random.pick([1, 7, 100, 1000, 3000, 86_400_000]) };
    const passed: Passed[] = [];
    let debt = NOTHING_OWED;
    let at = 1_800_000_000_000 + random.below(1e9);
    for (let i = 0; i < REQUESTS; i++) {
      at +=
        random.below(4) === 0
          ? random.below(1 + rule.windowMs)
          : random.below(1 + Math.ceil(rule.windowMs / rule.quota));
      const cost = 1 + random.below(Math.min(3, rule.quota));
      const asked = ask(rule, debt, at, cost);
      assert.equal(asked.passes, fits(rule, passed, at, cost), `${JSON.stringify(rule)} at ${at}, ${cost}`);
      assert.equal(fits(rule, passed, at, asked.standing.left), true, 'left is to be had');
      assert.equal(fits(rule, passed, at, asked.standing.left + 1), false, 'and no more');
      if (asked.standing.nextMs > 0) {
        assert.ok(fits(rule, passed, at + asked.standing.nextMs, asked.standing.left + 1), 'one more then');
        assert.ok(!fits(rule, passed, at + asked.standing.nextMs - 1, asked.standing.left + 1), 'and not before');
      }
      if (asked.passes) passed.push({ at, cost });
      else {
        const { waitMs } = asked.standing;
        assert.ok(fits(rule, passed, at + waitMs, cost), 'it passes then');
        assert.ok(!fits(rule, passed, at + waitMs - 1, cost), 'and not before');
      }
      debt = asked.next;
      if (asked.passes) passes += 1;
      else refusals += 1;
    }
    const free = standingOf(rule, paid(rule, debt, at), 1).freeMs;
    assert.equal(paid(rule, debt, at + free).owed, 0);
    assert.ok(free === 0 || paid(rule, debt, at + free - 1).owed > 0);
  }
  assert.ok(passes > 1000 && refusals > 1000, `${passes} ${refusals}`);
});

test('no fraction is lost in a year of an odd rate', () => {
  const rule = { quota: 7, windowMs: 3000 };
  let debt = NOTHING_OWED;
  let passed = 0;
  let at = 0;
  while (passed < 100_000) {
    const asked = ask(rule, debt, at, 1);
    debt = asked.next;
    if (asked.passes) passed += 1;
    else at += asked.standing.waitMs;
  }
  // Whoever asks as soon as they may, gets the quota and what came back to the millisecond.
  assert.equal(passed, rule.quota + Math.floor((at * rule.quota) / rule.windowMs));
});

test('a clock that goes back neither gives nor takes', () => {
  const rule = { quota: 10, windowMs: 1000 };
  const owing = charged(rule, paid(rule, NOTHING_OWED, 5000), 10);
  const back = paid(rule, owing, 1000);
  assert.equal(back.owed, owing.owed);
  assert.equal(standingOf(rule, paid(rule, back, 1100), 1).left, 1, 'and goes on from there');
});

test('a cost beyond the quota needs all of it, and is owed beyond it', () => {
  const rule = { quota: 10, windowMs: 1000 };
  const first = ask(rule, NOTHING_OWED, 0, 25);
  assert.ok(first.passes);
  assert.deepEqual(standingOf(rule, paid(rule, first.next, 0), 1), {
    left: 0,
    waitMs: 1600,
    nextMs: 1600,
    freeMs: 2500,
  });
  assert.ok(!ask(rule, first.next, 2499, 25).passes);
  assert.ok(ask(rule, first.next, 2500, 25).passes);
  const most = charged(rule, NOTHING_OWED, Number.MAX_SAFE_INTEGER);
  assert.equal(most.owed, Number.MAX_SAFE_INTEGER);
});
