// The log of a tenant's events: its numbers, how much of it is kept, who may follow, and how that ends.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { rootOf, scopeOf } from '../../../../core/cache/kv/blocks.ts';
import { createEvents, type KvEvents } from '../../../../core/cache/kv/events.ts';
import { createHistory } from '../../../../core/cache/kv/history.ts';
import { createStakes } from '../../../../core/cache/kv/stakes.ts';
import type { KvNumberedEvent } from '../../../../core/contract/kv-calls.ts';
import { Problem } from '../../../../core/contract/problems.ts';
import { patience } from '../../../support/engine.ts';

const NOW = 1_800_000_000_000;
const BASE = NOW * 1000;
const ROOT = rootOf(scopeOf('a', 's'), 'model', { layers: 1, kvHeads: 1, dim: 64 }, 64);

function tell(events: KvEvents, tenant: string, count: number, from = 0): void {
  for (let i = from; i < from + count; i++)
    events.tell(tenant, { type: 'BlockRemoved', hash: `${i}`, cause: 'evicted' });
}

/** What is told until nothing is left to tell. */
async function read(events: KvEvents, tenant: string, after?: number): Promise<KvNumberedEvent[]> {
  const found: KvNumberedEvent[] = [];
  const follow = events.follow(tenant, after, 1, patience());
  assert.equal(typeof (await follow.next()).value, 'number');
  for await (const event of follow) {
    if (typeof event === 'number') break;
    found.push(event);
  }
  return found;
}

const hashes = (found: KvNumberedEvent[]) => found.map((event) => (event.type === 'BlockRemoved' ? event.hash : event));

test('follow() tells what comes after a number, each tenant its own', async () => {
  const events = createEvents(() => NOW);
  tell(events, 'a', 3);
  tell(events, 'b', 2, 10);
  assert.deepEqual(hashes(await read(events, 'a', 0)), ['0', '1', '2']);
  assert.deepEqual(
    (await read(events, 'b', 0)).map(({ id }) => id),
    [BASE + 1, BASE + 2],
  );
  assert.deepEqual(hashes(await read(events, 'a', BASE + 1)), ['1', '2']);
  assert.deepEqual(await read(events, 'a', BASE + 3), []);
  assert.deepEqual(await read(events, 'a'), [], 'from now on');
  assert.deepEqual(await read(events, 'c', 0), []);
});

test('follow() keeps the last 10,000, and says first what it does not', async () => {
  const events = createEvents(() => NOW);
  tell(events, 'a', 10_000);
  assert.equal((await read(events, 'a', 0)).length, 10_000);
  tell(events, 'a', 5, 10_000);
  const [gap, first, ...rest] = await read(events, 'a', 0);
  assert.deepEqual(gap, { id: BASE + 5, type: 'gap', after: 0, next: BASE + 6 });
  assert.deepEqual(first, { id: BASE + 6, type: 'BlockRemoved', hash: '5', cause: 'evicted' });
  assert.equal(rest.length, 9_999);
  assert.ok(rest.every(({ id }, i) => id === BASE + 7 + i));
  assert.equal((await read(events, 'a', BASE + 5))[0]?.type, 'BlockRemoved', 'just not too late');
  const [late] = await read(events, 'a', BASE + 4);
  assert.deepEqual(late, { id: BASE + 5, type: 'gap', after: BASE + 4, next: BASE + 6 });
  for (const unknown of [7, BASE - 1, BASE + 10_006]) {
    const [told] = await read(events, 'a', unknown);
    assert.deepEqual(told, { id: BASE + 5, type: 'gap', after: unknown, next: BASE + 6 });
  }
});

test('a follower that falls behind what is kept is told of the gap, and goes on', async () => {
  const events = createEvents(() => NOW);
  tell(events, 'a', 2);
  const follow = events.follow('a', 0, 1, patience());
  assert.equal((await follow.next()).value, 0);
  assert.deepEqual(hashes([(await follow.next()).value as KvNumberedEvent]), ['0']);
  tell(events, 'a', 10_010, 2);
  const next = [(await follow.next()).value, (await follow.next()).value] as KvNumberedEvent[];
  assert.deepEqual(hashes(next), [{ id: BASE + 12, type: 'gap', after: BASE + 1, next: BASE + 13 }, '12']);
  await follow.return();
});

test('follow() waits for what comes, says where it is when nothing does, and ends when it is told to', async () => {
  const events = createEvents(() => NOW);
  const leaving = new AbortController();
  const [slow, gone] = [events.follow('a', undefined, 60_000, patience()), events.follow('a', 0, 5, leaving.signal)];
  assert.equal((await slow.next()).value, BASE);
  assert.equal((await gone.next()).value, 0);
  assert.equal((await gone.next()).value, BASE);
  const waiting = slow.next();
  tell(events, 'a', 1);
  assert.deepEqual(hashes([(await waiting).value as KvNumberedEvent]), ['0']);
  leaving.abort();
  assert.equal((await gone.next()).done, true);
  const last = slow.next();
  events.close();
  assert.equal((await last).done, true);
  const none = events.follow('a', 0, 5, patience());
  await none.next();
  assert.equal((await none.next()).done, true, 'nor does another begin');
});

test('32 follow a tenant, 256 all tenants, and who leaves makes room', async () => {
  const events = createEvents(() => NOW);
  const open = async (tenant: string) => {
    const follow = events.follow(tenant, undefined, 60_000, patience());
    await follow.next();
    return follow;
  };
  const full = (error: unknown) => error instanceof Problem && error.code === 'followers_full';
  const first = await open('a');
  for (let i = 1; i < 32; i++) await open('a');
  await assert.rejects(open('a'), full);
  await first.return();
  await open('a');
  for (let i = 32; i < 256; i++) await open(`t${i % 20}`);
  await assert.rejects(open('b'), full);
});

test('64 tenants have logs and histories: the one longest without is dropped, and its followers come again', async () => {
  let now = NOW;
  const events = createEvents(() => now);
  const history = createHistory();
  tell(events, 'a', 3);
  history.note('a', { hash: 'x', root: ROOT }, { when: NOW, cause: 'lost' });
  const follow = events.follow('a', 0, 60_000, patience());
  for (let i = 0; i < 4; i++) await follow.next();
  const waiting = follow.next();
  for (let i = 0; i < 64; i++) {
    tell(events, `t${i}`, 1);
    history.note(`t${i}`, { hash: 'x', root: ROOT }, { when: NOW, cause: 'lost' });
  }
  assert.equal((await waiting).done, true);
  assert.equal(history.find('a', 'x'), undefined);
  assert.ok(history.find('t0', 'x'));
  now += 10;
  const [gap] = await read(events, 'a', BASE + 3);
  assert.equal(gap?.type, 'gap', 'a number from before is none of now');
});

test('a history has 4,096 blocks of a tenant, the last ones', () => {
  const history = createHistory();
  const left = { when: NOW, cause: 'evicted' } as const;
  for (let i = 0; i < 4097; i++) history.note('a', { hash: `${i}`, root: ROOT }, left);
  assert.deepEqual([history.find('a', '0'), history.find('a', '1')], [undefined, left]);
  assert.equal(history.find('b', '1'), undefined);
  history.forget('a', '1');
  assert.equal(history.find('a', '1'), undefined);
  assert.deepEqual(history.roots('a'), [ROOT]);
});

test('31 tenants have a stake under one salt; who comes after them has none, until all is gone', () => {
  const stakes = createStakes();
  const block = { root: ROOT, stakes: 0 };
  for (let i = 0; i < 31; i++) assert.deepEqual(stakes.take([block], `t${i}`), [block]);
  assert.deepEqual(stakes.take([block], 't0'), []);
  assert.deepEqual(stakes.take([block], 'late'), []);
  assert.deepEqual([stakes.has(block, 't30'), stakes.has(block, 'late')], [true, false]);
  assert.equal(stakes.leave(block, 't30'), true);
  assert.equal(stakes.tenantsOf(block).length, 30);
  stakes.drop(block);
  assert.deepEqual(stakes.rootsOf('t1'), []);
  assert.deepEqual(stakes.take([block], 'late'), [block]);
});
