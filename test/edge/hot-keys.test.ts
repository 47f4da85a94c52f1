// Hot keys, on a core that a test plays and a clock that it moves: what is answered from memory, how long, and never after a change.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Hono } from 'hono';
import { namesTag } from '../../core/contract/etag.ts';
import { asProblem, problem, problemResponse } from '../../core/contract/problems.ts';
import type { EdgeEnv } from '../../edge/app.ts';
import { type Brought, createHotKeys, type HotSource } from '../../edge/hot-keys.ts';
import { createHotStore, type HotAnswer } from '../../edge/hot-store.ts';
import { seeded } from '../support/seeded.ts';

const tensor = (text: string, more: Record<string, string> = {}) => ({
  bytes: new TextEncoder().encode(text),
  headers: { etag: `"${text}"`, 'content-length': String(text.length), 'x-cache': 'hot', ...more },
});

/** An edge before a core that has `held`; what was asked of it and what passed it is counted. */
function open(options: Partial<HotSource> = {}) {
  const held = new Map<string, string>();
  const asked: { key: string; etag: string | undefined }[] = [];
  const clock = { now: 1_800_000_000_000 };
  const state = { passed: 0, hold: Promise.resolve(), fault: undefined as Error | undefined, expires: '' };
  const store = createHotStore(1 << 20);
  const hot = createHotKeys(store, {
    async bring(c, key, etag): Promise<Brought> {
      asked.push({ key, etag });
      const text = held.get(`${c.get('caller').tenant}/${key}`);
      await state.hold;
      if (state.fault) throw state.fault;
      if (text === undefined) return undefined;
      if (etag === `"${text}"`) return 'unchanged';
      return tensor(text, state.expires ? { expires: state.expires } : {});
    },
    ...{ freshMs: () => 1000, staleMs: 0, errorMs: 30_000, shared: true, toldAtOnce: false, now: () => clock.now },
    ...options,
  });
  const app = new Hono<EdgeEnv>();
  app.onError((thrown) => problemResponse(asProblem(thrown), 'request'));
  app.use(async (c, next) => {
    const [tenant = 'a', scopes = 'tensors:read tensors:write', prefix] = (c.req.header('x-as') ?? '')
      .split(';')
      .filter(Boolean);
    c.set('caller', {
      keyid: 'k',
      tenant,
      scopes: scopes.split(' '),
      restrictions: prefix ? { prefixes: [prefix] } : {},
    });
    await next();
  });
  app.use(hot.link);
  app.all('*', async (c) => {
    state.passed++;
    const name = `${c.get('caller').tenant}/${c.req.path.slice('/v1/tensors/'.length)}`;
    if (c.req.method === 'PUT') held.set(name, await c.req.text());
    if (c.req.method === 'DELETE') held.delete(name);
    const text = held.get(name);
    return text === undefined ? c.text('none', 404) : c.body(text, 200, tensor(text).headers);
  });
  const call = async (method: string, key: string, headers: Record<string, string> = {}, body?: string) => {
    const answer = await app.request(`http://edge/v1/tensors/${key}`, { method, headers, ...(body ? { body } : {}) });
    return {
      status: answer.status,
      said: answer.headers.get('cache-status'),
      text: await answer.text(),
      headers: answer.headers,
    };
  };
  return { held, asked, clock, state, store, hot, call };
}

/** Asked for twice, so that it is worth keeping. */
async function warmed(options: Partial<HotSource> = {}) {
  const edge = open(options);
  edge.held.set('a/k', 'one');
  assert.equal((await edge.call('GET', 'k')).said, null);
  assert.equal((await edge.call('GET', 'k')).said, 'blatam; fwd=miss; stored');
  return edge;
}

test('who is asked for once passes; from the second time on it is answered here, with its age, its etag and without a body for HEAD', async () => {
  const { call, clock, state, asked } = await warmed();
  clock.now += 900;
  const hit = await call('GET', 'k');
  assert.deepEqual([hit.status, hit.text, hit.said, hit.headers.get('age')], [200, 'one', 'blatam; hit', '0']);
  const head = await call('HEAD', 'k');
  assert.deepEqual([head.status, head.text, head.headers.get('content-length')], [200, '', '3']);
  for (const tag of ['"one"', 'W/"one"', '"x", "one"', '*']) {
    const known = await call('GET', 'k', { 'if-none-match': tag });
    assert.deepEqual([known.status, known.text, known.headers.get('etag')], [304, '', '"one"']);
  }
  assert.equal((await call('GET', 'k', { 'if-none-match': '"two"' })).status, 200);
  assert.deepEqual([state.passed, asked.length], [1, 1]);
});

test('what is no longer fresh is asked for by its etag, and fresh again if it is still it', async () => {
  const { call, clock, asked, held } = await warmed();
  clock.now += 1000;
  assert.equal((await call('GET', 'k')).text, 'one');
  assert.deepEqual(asked.at(-1), { key: 'k', etag: '"one"' });
  assert.equal((await call('GET', 'k')).said, 'blatam; hit');
  held.set('a/k', 'two');
  clock.now += 1000;
  assert.equal((await call('GET', 'k')).text, 'two');
  held.delete('a/k');
  clock.now += 1000;
  assert.equal((await call('GET', 'k')).status, 404);
});

test('what is stale is answered while the core is asked, and what is too stale is not', async () => {
  const { call, clock, held, hot } = await warmed({ staleMs: 500 });
  held.set('a/k', 'two');
  clock.now += 1400;
  assert.deepEqual(await call('GET', 'k').then(({ text, said }) => [text, said]), ['one', 'blatam; hit; detail=stale']);
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal((await call('GET', 'k')).text, 'two');
  held.set('a/k', 'three');
  clock.now += 1500;
  assert.equal((await call('GET', 'k')).text, 'three');
  assert.equal(hot.stats().answered.stale, 1);
});

test('while the core is away it is answered as long as is said, and never once it is known to be changed', async () => {
  const { call, clock, state, hot } = await warmed();
  state.fault = problem('core_unreachable', 'away');
  clock.now += 29_000;
  assert.deepEqual(await call('GET', 'k').then(({ text, said }) => [text, said]), [
    'one',
    'blatam; fwd=stale; detail=error',
  ]);
  clock.now += 1000;
  assert.equal((await call('GET', 'k')).status, 502);
  state.fault = undefined;
  assert.equal((await call('GET', 'k')).text, 'one');
  state.fault = problem('core_unreachable', 'away');
  clock.now += 1000;
  hot.changed('a', 'k');
  assert.equal((await call('GET', 'k')).status, 502);
});

test('what expires is not answered after its time, to the millisecond', async () => {
  const edge = open({ freshMs: () => Number.POSITIVE_INFINITY });
  edge.held.set('a/k', 'one');
  edge.state.expires = new Date(edge.clock.now + 5000).toUTCString();
  for (let i = 0; i < 3; i++) await edge.call('GET', 'k');
  edge.clock.now += 4999;
  assert.equal((await edge.call('GET', 'k')).said, 'blatam; hit');
  edge.clock.now += 1;
  edge.held.delete('a/k');
  assert.equal((await edge.call('GET', 'k')).status, 404);
});

test('however many ask at once, the core is asked once; an error is theirs together, and is not kept', async () => {
  const { call, held, asked, state } = open();
  held.set('a/k', 'one');
  await call('GET', 'k');
  const { promise, resolve } = Promise.withResolvers<void>();
  state.hold = promise;
  state.fault = problem('core_unreachable', 'away');
  const failing = Array.from({ length: 50 }, () => call('GET', 'k'));
  await new Promise((next) => setImmediate(next));
  resolve();
  assert.ok((await Promise.all(failing)).every(({ status }) => status === 502));
  assert.equal(asked.length, 1);
  state.fault = undefined;
  assert.equal((await call('GET', 'k')).text, 'one');
});

test('what is on its way when it is changed is for those who asked before, and is not kept', async () => {
  for (const change of ['key', 'tenant', 'all', 'put'] as const) {
    const { call, held, asked, state, hot, store } = open({ freshMs: () => Number.POSITIVE_INFINITY });
    held.set('a/k', 'one');
    await call('GET', 'k');
    const { promise, resolve } = Promise.withResolvers<void>();
    state.hold = promise;
    const before = call('GET', 'k');
    await new Promise((next) => setImmediate(next));
    if (change === 'put') await call('PUT', 'k', {}, 'two');
    else {
      held.set('a/k', 'two');
      hot.changed(...(change === 'all' ? [] : change === 'tenant' ? ['a'] : ['a', 'k']));
    }
    const after = call('GET', 'k');
    await new Promise((next) => setImmediate(next));
    resolve();
    assert.deepEqual([(await before).text, (await after).text], ['one', 'two'], change);
    assert.equal(asked.length, 2);
    assert.equal((await call('GET', 'k')).text, 'two', change);
    assert.equal(store.count, 1);
  }
});

test('who writes through this edge reads what he wrote, however fresh the old was', async () => {
  const { call, held } = await warmed({ freshMs: () => 1e9 });
  await call('PUT', 'k', {}, 'two');
  assert.equal((await call('GET', 'k')).text, 'two');
  await call('DELETE', 'k');
  assert.equal((await call('GET', 'k')).status, 404);
  await call('PUT', 'k', {}, 'three');
  for (let i = 0; i < 3; i++) assert.equal((await call('GET', 'k')).text, 'three');
  held.set('a/k', 'by a batch');
  await call('POST', '../tensors:batch', {}, 'x');
  assert.equal((await call('GET', 'k')).text, 'by a batch');
});

test('a write is known by its key, whatever query it has and however it is encoded', async () => {
  for (const written of ['k?ttl=60', '%6B', '%6b?priority=1']) {
    const { call } = await warmed({ freshMs: () => Number.POSITIVE_INFINITY });
    await call('PUT', written, {}, 'two');
    assert.equal((await call('GET', 'k')).text, 'two', written);
  }
});

test('an erasure by an operator may be of any tenant, by others of their own: nobody else clears what all have', async () => {
  for (const [as, isKept] of [
    ['b', true],
    ['b;tensors:read operator', false],
    ['a', false],
  ] as const) {
    const { call, held } = await warmed({ freshMs: () => Number.POSITIVE_INFINITY });
    held.set('a/k', 'two');
    await call('POST', '../erasures?wait=true', { 'x-as': as }, '{}');
    assert.equal((await call('GET', 'k')).text, isKept ? 'one' : 'two', as);
  }
});

test('where each asks for itself, none of those who asked before a change leaves what it brings', async () => {
  const { call, held, state, store, hot } = open({ shared: false, freshMs: () => Number.POSITIVE_INFINITY });
  held.set('a/k', 'one');
  await call('GET', 'k');
  const { promise, resolve } = Promise.withResolvers<void>();
  state.hold = promise;
  const before = [call('GET', 'k'), call('GET', 'k')];
  await new Promise((next) => setImmediate(next));
  hot.changed('a', 'k');
  resolve();
  await Promise.all(before);
  assert.equal(store.count, 0);
});

test('answers are small, and so many are brought at once: what is beyond goes on to the core', async () => {
  assert.equal(createHotStore(64 << 20).answerBytesMax, 128 << 10);
  const { call, held, state, asked } = open();
  const keys = Array.from({ length: 300 }, (_, i) => `k${i}`);
  for (const key of keys) {
    held.set(`a/${key}`, 'one');
    await call('GET', key);
  }
  const { promise, resolve } = Promise.withResolvers<void>();
  state.hold = promise;
  const passed = state.passed;
  const answers = keys.map((key) => call('GET', key));
  await Promise.all(answers.slice(256));
  assert.deepEqual([asked.length, state.passed - passed], [256, 300 - 256]);
  resolve();
  assert.ok((await Promise.all(answers)).every(({ text }) => text === 'one'));
});

test('who says how long he waits, waits for nobody else: what is not here goes on to the core with its deadline', async () => {
  const { call, asked, state, clock } = await warmed();
  clock.now += 1000;
  const before = [asked.length, state.passed];
  assert.equal((await call('GET', 'k', { 'x-deadline-ms': '500' })).text, 'one');
  assert.deepEqual([asked.length, state.passed - (before[1] ?? 0)], [before[0], 1]);
  await call('GET', 'k');
  assert.equal((await call('GET', 'k', { 'x-deadline-ms': '500' })).said, 'blatam; hit');
});

test('what has no etag is named by no request', () => {
  for (const field of [undefined, null, '']) assert.equal(namesTag(field, ''), false);
});

test('another tenant, and a caller without the scope or restricted to other keys, are not answered from here', async () => {
  const { call, held, state } = await warmed();
  held.set('b/k', 'other');
  for (let i = 0; i < 3; i++) assert.equal((await call('GET', 'k', { 'x-as': 'b' })).text, 'other');
  assert.equal((await call('GET', 'k')).text, 'one');
  const before = state.passed;
  await call('GET', 'k', { 'x-as': 'a;kv:read' });
  await call('GET', 'k', { 'x-as': 'a;tensors:read;other/' });
  assert.equal(state.passed, before + 2);
  await call('GET', 'k', { 'x-as': 'a;tensors:read;k' });
  assert.equal(state.passed, before + 2);
});

test('what the core only passes on goes to one of those who asked, and each other asks by itself', async () => {
  const edge = open({ bring: async () => ({ passed: new Response('large') }) });
  edge.held.set('a/k', 'own');
  await edge.call('GET', 'k');
  const texts = (await Promise.all(Array.from({ length: 5 }, () => edge.call('GET', 'k')))).map(({ text }) => text);
  assert.deepEqual(texts.sort(), ['large', 'own', 'own', 'own', 'own']);
  assert.equal(edge.store.count, 0);
});

const answer = (bytes: number): HotAnswer => ({
  ...{ bytes: new Uint8Array(bytes), headers: {}, since: 0, expiresAt: Number.POSITIVE_INFINITY },
});

test('the store keeps within its bytes at every step, and counts what is there', () => {
  const random = seeded();
  const bytesMax = 256 << 10;
  const store = createHotStore(bytesMax);
  const model = new Map<string, HotAnswer>();
  for (let step = 0; step < 20_000; step++) {
    const [tenant, key] = [`t${random.below(5)}`, `k${random.below(200)}`];
    const name = `${tenant}/${key}`;
    const dice = random.below(100);
    if (dice < 55) {
      const found = store.find(tenant, key);
      if (found) assert.equal(found, model.get(name), `step ${step}, SEED=${random.seed}`);
    } else if (dice < 90) {
      const own = answer(random.below(20_000));
      model.set(name, own);
      assert.equal(store.put(tenant, key, own), own.bytes.length <= store.answerBytesMax);
      if (own.bytes.length > store.answerBytesMax) assert.equal(store.find(tenant, key), undefined);
    } else if (dice < 98) {
      store.drop(tenant, key);
      assert.equal(store.find(tenant, key), undefined);
    } else store.dropTenant(tenant);
    assert.ok(store.bytes <= bytesMax && store.bytes >= 0 && store.count >= 0);
    assert.equal(store.count === 0, store.bytes === 0);
  }
  store.clear();
  assert.deepEqual([store.bytes, store.count], [0, 0]);
});

test('a tenant that floods pushes out its own, once it has more than another', () => {
  const store = createHotStore(1 << 20);
  for (let i = 0; i < 20; i++) store.put('small', `k${i}`, answer(10_000));
  for (let i = 0; i < 1000; i++) store.put('flood', `k${i}`, answer(10_000));
  for (let i = 0; i < 20; i++) assert.ok(store.find('small', `k${i}`), `k${i}`);
});

test('a scan is wanted by nobody', () => {
  const store = createHotStore(1 << 20);
  const wanted = Array.from({ length: 10_000 }, (_, i) => store.isWanted('t', `scan/${i}`)).filter(Boolean).length;
  assert.ok(wanted < 10, `${wanted} of 10,000 were taken for known`);
  assert.ok(!store.isWanted('t', 'again') && store.isWanted('t', 'again'));
});
