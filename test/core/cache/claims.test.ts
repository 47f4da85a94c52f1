// Claims by a clock that the test turns: who owns, who waits, who is told what, and that nothing stays behind. A random walk
// is compared with a model that keeps a plain list for each key.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { claim, renew } from '../../../core/cache/claiming.ts';
import { type Claims, type ClaimsOptions, createClaims, type End, type Owned } from '../../../core/cache/claims.ts';
import type { TensorEntry } from '../../../core/contract/messages.ts';
import { seeded } from '../../support/seeded.ts';

function opened(options: Partial<ClaimsOptions> = {}) {
  const clock = { now: 1_800_000_000_000 };
  return { clock, claims: createClaims({ now: () => clock.now, ...options }) };
}

interface Caller {
  readonly ends: End[];
  readonly owned: Owned | undefined;
  leave(): void;
}

function ask(claims: Claims, key: string, more: { tenant?: string; ttlMs?: number } = {}): Caller {
  const ends: End[] = [];
  const { tenant = 't', ttlMs = 1000 } = more;
  const standing = claims.ask({ tenant, key, ttlMs }, (end) => ends.push(end));
  const owned = 'claim' in standing ? standing : undefined;
  return { ends, owned, leave: () => ('leave' in standing ? standing.leave() : undefined) };
}
const claimOf = (caller: Caller | undefined): string => {
  const [end] = caller?.ends ?? [];
  const owned = caller?.owned ?? (end?.is === 'yours' ? end.owned : undefined);
  assert.ok(owned, 'it owns nothing');
  return owned.claim;
};
const named = (key: string, claim: string, tenant = 't') => ({ tenant, key, claim });
const nothingStays = ({ open, waiting }: Claims) => assert.deepEqual({ open, waiting }, { open: 0, waiting: 0 });

test('ask() gives the claim to the first, and fulfil() tells everybody else', () => {
  const { claims } = opened();
  const [first, ...others] = Array.from({ length: 5 }, () => ask(claims, 'k'));
  assert.ok(first?.owned);
  assert.deepEqual([claims.open, claims.waiting], [1, 4]);
  assert.deepEqual(claims.renew(named('k', claimOf(first)), 1000).waiting, 4);
  claims.fulfil({ tenant: 't', key: 'k' });
  for (const other of others) assert.deepEqual(other.ends, [{ is: 'held' }]);
  assert.deepEqual(first.ends, []);
  nothingStays(claims);
  assert.throws(() => claims.renew(named('k', claimOf(first)), 1000), { code: 'claim_lost', status: 409 });
});

test('release() with a reason tells everybody the same, and keeps nothing of it', () => {
  const { claims } = opened();
  const first = ask(claims, 'k');
  const others = [ask(claims, 'k'), ask(claims, 'k')];
  assert.equal(claims.release(named('k', claimOf(first)), 'out of tea'), 2);
  const [one, other] = others.map(({ ends }) => ends[0]);
  assert.ok(one?.is === 'failed' && other?.is === 'failed');
  assert.equal(one.why, other.why);
  assert.equal(one.why.code, 'computation_failed');
  assert.match(one.why.message, /out of tea$/);
  nothingStays(claims);
  assert.ok(ask(claims, 'k').owned, 'the next one begins anew');
});

test('release() without a reason passes the claim to exactly one of those who wait', () => {
  const { claims } = opened();
  const first = ask(claims, 'k');
  const others = [ask(claims, 'k'), ask(claims, 'k'), ask(claims, 'k')];
  others[0]?.leave();
  assert.equal(claims.release(named('k', claimOf(first))), 2);
  assert.deepEqual(
    others.map(({ ends }) => ends.map(({ is }) => is)),
    [[], ['yours'], []],
  );
  assert.equal(claims.renew(named('k', claimOf(others[1])), 1000).waiting, 1);
  claims.release(named('k', claimOf(others[1])));
  claims.release(named('k', claimOf(others[2])));
  nothingStays(claims);
});

test('a claim runs out by the clock to the millisecond, unless it is renewed or its value comes in', () => {
  const { claims, clock } = opened();
  const first = ask(claims, 'k', { ttlMs: 1000 });
  const second = ask(claims, 'k', { ttlMs: 500 });
  assert.equal(first.owned?.expiresAt, clock.now + 1000);
  clock.now += 999;
  claims.expire();
  assert.equal(claims.renew(named('k', claimOf(first)), 1000).expiresAt, clock.now + 1000);
  clock.now += 1000;
  const resume = claims.suspend(named('k', claimOf(first)));
  claims.expire();
  assert.equal(second.ends.length, 0);
  resume();
  claims.expire();
  assert.equal(second.ends[0]?.is, 'yours');
  assert.throws(() => claims.renew(named('k', claimOf(first)), 1000), { code: 'claim_lost' });
  claims.suspend(named('k', claimOf(first)))(); // of one that has ended: nothing
  clock.now += 500;
  claims.expire();
  nothingStays(claims);
});

test('watch() is told when the last of those who wait has left', () => {
  const { claims } = opened();
  const mine = named('k', claimOf(ask(claims, 'k')));
  const others = [ask(claims, 'k'), ask(claims, 'k')];
  let told = 0;
  const unwatch = claims.watch(mine, () => told++);
  others[0]?.leave();
  assert.equal(told, 0);
  others[1]?.leave();
  assert.equal(told, 1);
  unwatch();
  ask(claims, 'k').leave();
  assert.equal(told, 1);
});

test('watch() is told when the claim ends, however it does', () => {
  for (const end of ['fulfil', 'release', 'fail', 'expire', 'close'] as const) {
    const { claims, clock } = opened();
    const mine = named('k', claimOf(ask(claims, 'k')));
    let told = 0;
    claims.watch(mine, () => told++);
    const unwatch = claims.watch(mine, () => assert.fail('it does not watch any more'));
    unwatch();
    if (end === 'fulfil') claims.fulfil(mine);
    if (end === 'release') claims.release(mine);
    if (end === 'fail') claims.release(mine, 'no');
    if (end === 'close') claims.close();
    clock.now += 1000;
    claims.expire();
    assert.equal(told, 1, end);
  }
});

test('tenants never meet', () => {
  const { claims } = opened({ claimsMax: 1, waitingMax: 1 });
  const a = ask(claims, 'k', { tenant: 'a' });
  const b = ask(claims, 'k', { tenant: 'b' });
  assert.ok(a.owned && b.owned);
  const waits = ask(claims, 'k', { tenant: 'b' });
  claims.fulfil({ tenant: 'a', key: 'k' });
  assert.throws(() => claims.release(named('k', claimOf(b), 'a')), { code: 'claim_lost' });
  assert.deepEqual(waits.ends, []);
  claims.fulfil({ tenant: 'b', key: 'k' });
  nothingStays(claims);
});

test('claims and those who wait are bounded for each tenant', () => {
  const { claims } = opened({ claimsMax: 2, waitingMax: 2 });
  ask(claims, 'k0');
  ask(claims, 'k1');
  assert.throws(() => ask(claims, 'k2'), { code: 'claims_exhausted', status: 503 });
  ask(claims, 'k0');
  const second = ask(claims, 'k1');
  assert.throws(() => ask(claims, 'k1'), { code: 'claims_exhausted' });
  second.leave();
  second.leave(); // once is enough
  ask(claims, 'k1');
  assert.equal(claims.waiting, 2);
});

test('close() tells everybody who waits, and refuses who comes', () => {
  const { claims } = opened();
  ask(claims, 'k');
  const waits = ask(claims, 'k');
  claims.close();
  const [end] = waits.ends;
  assert.equal(end?.is === 'failed' && end.why.code, 'stopping');
  assert.throws(() => ask(claims, 'other'), { code: 'stopping', status: 503 });
  nothingStays(claims);
});

// ---- calls

const entry = { key: 'k' } as TensorEntry;
const calling = (claims: Claims, more: Partial<Parameters<typeof claim>[1]> = {}) =>
  claim(claims, {
    ...{ tenant: 't', key: 'k', ttlMs: 1000, waitMs: 60_000, signal: new AbortController().signal },
    peek: () => undefined,
    ...more,
  });

test('claim() says what is held, and looks again when it is told so', async () => {
  const { claims } = opened();
  assert.deepEqual(await calling(claims, { peek: () => entry }), { state: 'held', entry });
  nothingStays(claims);
  const first = ask(claims, 'k');
  const held: (TensorEntry | undefined)[] = [undefined, entry];
  const waits = calling(claims, { peek: () => held.shift() });
  const gone = calling(claims); // by the time it looks, it has been deleted
  claims.fulfil({ tenant: 't', key: 'k' });
  assert.equal((await waits).state, 'held');
  assert.equal((await gone).state, 'yours');
  assert.ok(first.owned);
});

test('claim() waits no longer than it said, and leaves with its caller', async () => {
  const { claims } = opened();
  const first = ask(claims, 'k');
  assert.deepEqual(await calling(claims, { waitMs: 5 }), { state: 'theirs' });
  const caller = new AbortController();
  const waits = calling(claims, { signal: caller.signal });
  assert.equal(claims.waiting, 1);
  caller.abort(new Error('left'));
  assert.equal(claims.waiting, 0);
  await assert.rejects(waits, /left/);
  // The claim is passed to one whose caller leaves at that moment: it goes on to the next.
  const leaves = new AbortController();
  const second = calling(claims, { signal: leaves.signal });
  const third = calling(claims);
  claims.release(named('k', claimOf(first)));
  leaves.abort(new Error('left'));
  await assert.rejects(second, /left/);
  assert.equal((await third).state, 'yours');
});

test('renew() that waits stands for its owner: cut, it gives the claim up; ended, it says so', async () => {
  const { claims } = opened();
  const mine = named('k', claimOf(ask(claims, 'k')));
  const signal = new AbortController().signal;
  const { waiting } = await renew(claims, { ...mine, ttlMs: 1000, waitMs: 5, signal });
  assert.equal(waiting, 0);
  const owner = new AbortController();
  const beat = renew(claims, { ...mine, ttlMs: 1000, waitMs: 60_000, signal: owner.signal });
  const next = ask(claims, 'k');
  const early = renew(claims, { ...mine, ttlMs: 1000, waitMs: 60_000, signal });
  next.leave();
  assert.equal((await early).waiting, 0, 'it says at once that nobody waits any more');
  await beat;
  const cut = renew(claims, { ...mine, ttlMs: 1000, waitMs: 60_000, signal: owner.signal });
  const follows = ask(claims, 'k');
  owner.abort(new Error('cut'));
  await assert.rejects(cut, /cut/);
  assert.equal(follows.ends[0]?.is, 'yours');
  const theirs = renew(claims, { ...named('k', claimOf(follows)), ttlMs: 1000, waitMs: 60_000, signal });
  claims.fulfil({ tenant: 't', key: 'k' });
  await assert.rejects(theirs, { code: 'claim_lost' });
  nothingStays(claims);
});

test('a random walk agrees with a plain list for each key', (t) => {
  const random = seeded();
  t.diagnostic(`SEED=${random.seed}`);
  const { claims, clock } = opened();
  /** Of each key: its owner first, then who waits. */
  const model = new Map<string, Caller[]>();
  const end = (key: string, is: End['is']): void => {
    for (const { ends } of (model.get(key) ?? []).slice(1)) assert.equal(ends.at(-1)?.is, is);
    model.delete(key);
  };
  const passOn = (key: string): void => {
    const [, next, ...rest] = model.get(key) ?? [];
    if (!next) return void model.delete(key);
    assert.equal(next.ends[0]?.is, 'yours');
    for (const { ends } of rest) assert.equal(ends.length, 0);
    model.set(key, [next, ...rest]);
  };
  for (let step = 0; step < 20_000; step++) {
    const key = `k${random.below(5)}`;
    const line = model.get(key) ?? [];
    const [owner] = line;
    const what = random.below(8);
    if (what < 4) {
      const caller = ask(claims, key, { ttlMs: 1 << 20 });
      assert.equal(caller.owned !== undefined, owner === undefined);
      model.set(key, [...line, caller]);
    } else if (what === 4 && line.length > 1) {
      const left = 1 + random.below(line.length - 1);
      line[left]?.leave();
      model.set(key, line.toSpliced(left, 1));
    } else if (what === 5) {
      claims.fulfil({ tenant: 't', key });
      end(key, 'held');
    } else if (what === 6 && owner) {
      const reason = random.below(2) === 0 ? 'no' : undefined;
      assert.equal(claims.release(named(key, claimOf(owner)), reason), line.length - 1);
      if (reason) end(key, 'failed');
      else passOn(key);
    } else if (what === 7 && random.below(50) === 0) {
      clock.now += 1 << 20;
      claims.expire();
      for (const each of [...model.keys()]) passOn(each);
    }
    assert.equal(claims.open, model.size);
    assert.equal(
      claims.waiting,
      [...model.values()].reduce((sum, { length }) => sum + length - 1, 0),
    );
  }
});
