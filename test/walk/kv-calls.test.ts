// What is asked of held KV over HTTP, by the client and by the command line, through an edge beside its core and one elsewhere:
// lookups, pins, clearing, recoding, moving; and events, which are told as they happen, go on where they were cut, and keep no
// server from stopping.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import { main } from '../../edge/cli.ts';
import { BlatamError, type Client, createClient, type KvNumberedEvent } from '../../edge/client.ts';
import { adminKey, type Blatam, call, codeOf, type KeyFile, startBlatam } from '../support/blatam.ts';
import { commandIo } from '../support/command-io.ts';
import { seeded } from '../support/seeded.ts';

const INTERNAL_SECRET = randomBytes(32).toString('base64');
const random = seeded();
const SHAPE = { layers: 1, kvHeads: 1, dim: 64 };
const STOP_MS_MAX = 10_000;

let core: Blatam;
let edge: Blatam;
let key: KeyFile;
let client: Client;
before(async () => {
  core = await startBlatam({ environment: { INTERNAL_SECRET } });
  edge = await startBlatam({ environment: { INTERNAL_SECRET, CORE_URLS: core.core } });
  key = adminKey(core.dataDir);
  client = createClient({ url: core.edge, ...key });
});
after(async () => {
  for (const started of [edge, core]) await started?.stop();
});

const tokensOf = (n: number) => Int32Array.from({ length: n }, () => random.below(30_000));

function store({ kv }: Client, tokens: Int32Array, more: { model?: string; ttl?: number; priority?: number } = {}) {
  const numbers = () => Float32Array.from({ length: tokens.length * SHAPE.dim }, () => random.next());
  return kv.store({ model: 'm', shape: SHAPE, dtype: 'F32', tokens, k: numbers(), v: numbers(), ...more });
}

/** The next events, so many. */
async function take(events: AsyncGenerator<KvNumberedEvent>, count: number): Promise<KvNumberedEvent[]> {
  const found: KvNumberedEvent[] = [];
  while (found.length < count) {
    const { value, done } = await events.next();
    if (done) break;
    found.push(value);
  }
  return found;
}

test('lookup, pin, recode and clear answer what they did, in counts', async () => {
  const { kv } = client;
  const tokens = tokensOf(200);
  const { blocks } = await store(client, tokens, { ttl: 600, priority: 60 });
  assert.deepEqual(await kv.lookup({ model: 'm', tokens }), { matchedTokens: 192, blocks });
  const { explain } = await kv.lookup({ model: 'm', tokens, explain: true, use: true });
  assert.deepEqual(explain, { reason: 'shorter_than_block', at: 192, tokens: 8 });
  assert.equal((await kv.lookup({ model: 'm', tokens: tokens.subarray(0, 64), explain: true })).explain, null);

  const pinned = await kv.pin({ model: 'm', tokens, ttl: 60 });
  assert.deepEqual([pinned.matchedTokens, pinned.pinnedBlocks], [192, 3]);
  assert.ok(Math.abs(Date.parse(pinned.expiresAt) - Date.now() - 60_000) < 30_000);
  await kv.pin({ model: 'm', tokens, ttl: 30 });
  assert.deepEqual(await kv.unpin({ model: 'm', tokens }), { pins: 1 });

  const recoded = await kv.recode({ model: 'm', tokens, codecK: 'q8r', codecV: 'tq4' });
  const left = { coded: 0, noRoom: 0, others: 0, gone: 0 };
  assert.deepEqual(recoded, { matchedTokens: 192, recoded: 3, already: 0, left });
  assert.equal((await kv.lookup({ model: 'm', tokens })).blocks[0]?.codecK, 'q8r');

  const moved = await kv.move({ model: 'm', tokens, adapter: blocks[0]?.adapter ?? '' });
  assert.deepEqual([moved.moved, moved.already], [0, 3]);

  assert.equal((await kv.move({ model: 'm', tokens, tier: 'cold' })).moved, 3);
  assert.deepEqual(
    (await kv.lookup({ model: 'm', tokens })).blocks.map(({ tier, adapter }) => [tier, adapter]),
    Array.from({ length: 3 }, () => ['cold', null]),
  );
  const { returned, already } = await kv.prefetch({ model: 'm', tokens });
  assert.deepEqual([returned, already], [3, 0]);

  const { bytes, ...cleared } = await kv.clear({ model: 'm', prefix: tokens.subarray(0, 70) });
  assert.deepEqual(cleared, { blocks: 2, pinned: 2, shared: 0 });
  assert.ok(bytes > 0);
  const why = (await kv.lookup({ model: 'm', tokens, explain: true })).explain;
  assert.deepEqual([why?.reason, why?.at], ['cleared', 64]);
  assert.deepEqual(await kv.unpin({ pin: pinned.pin }), { pins: 0 });
  await assert.rejects(kv.unpin({ pin: pinned.pin }), { code: 'pin_unknown', status: 404 });
  await assert.rejects(kv.pin({ model: 'none', tokens, ttl: 60 }), { code: 'kv_unknown' });
  const check = await call(key, 'POST', `${core.edge}/v1/cache/check`);
  assert.deepEqual(await check.json(), { ok: true, faults: [] });
});

test('what is wrong is said with the path of each fault, by the server and before it by the client', async () => {
  const json = (path: string, body: unknown) =>
    call(key, 'POST', `${core.edge}/v1/kv/${path}`, {
      body: new TextEncoder().encode(JSON.stringify(body)),
      headers: { 'content-type': 'application/json' },
    });
  const asked = { model: 'm', tokens: [1, 2] };
  for (const [path, body, words] of [
    ['lookup', { model: 'm' }, /tokens/],
    ['lookup', { ...asked, layout: { dim: -1 } }, /layout\.dim/],
    ['pin', asked, /ttl/],
    ['pin', { ...asked, ttl: 86_401 }, /ttl/],
    ['unpin', {}, /must name a pin, or model and tokens/],
    ['clear', { prefix: [1] }, /model: is needed with prefix/],
    ['clear', { tokens: [1] }, /tokens/],
    ['recode', { ...asked, codecK: 1 }, /codecK/],
    ['move', asked, /must name either an adapter or a tier/],
    ['move', { ...asked, adapter: 'a', tier: 'hot' }, /must name either/],
    ['move', { ...asked, tier: 'warm' }, /tier/],
    ['prefetch', { ...asked, tier: 'cold' }, /tier/],
  ] as const) {
    const answer = await json(path, body);
    const text = await answer.clone().text();
    assert.equal(answer.status, 422, text);
    assert.equal(await codeOf(answer), 'body_malformed', text);
    assert.match(text, words);
  }
  for (const query of ['after=-1', 'after=x', 'before=1']) {
    const answer = await call(key, 'GET', `${core.edge}/v1/kv/events?${query}`);
    assert.equal(await codeOf(answer), 'query_malformed');
  }
  assert.equal((await call(key, 'HEAD', `${core.edge}/v1/kv/events`)).status, 405);
  await assert.rejects(client.kv.pin({ model: 'm', tokens: tokensOf(1), ttl: 0 }), RangeError);
  await assert.rejects(client.kv.clear({ prefix: tokensOf(1) }), RangeError);
  await assert.rejects(client.kv.events({ after: -1 }).next(), BlatamError);
});

for (const [name, url] of [
  ['beside its core', () => core.edge],
  ['elsewhere', () => edge.edge],
] as const)
  test(`events come as they happen through an edge ${name}, and again from any number`, async () => {
    const there = createClient({ url: url(), ...key });
    const signal = new AbortController();
    const known = await take(there.kv.events({ after: 0, signal: signal.signal }), 1);
    assert.equal(known[0]?.type, 'BlockStored');
    const live = there.kv.events({ signal: signal.signal });
    const coming = take(live, 3);
    // the answer's head tells where it begins; what is stored before that is none of its events
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const tokens = tokensOf(128);
    const { blocks } = await store(there, tokens, { model: name });
    await there.kv.clear({ model: name });
    const [stored, ...removed] = await coming;
    const hashes = blocks.map(({ hash }) => hash);
    assert.deepEqual(stored, {
      ...{ id: stored?.id, type: 'BlockStored', hashes, parentHash: null, tokens: 128 },
      ...{ model: name, tier: 'hot', adapter: 'adapter-0' },
    });
    assert.deepEqual(
      removed.map((event) => event.type === 'BlockRemoved' && [event.hash, event.cause]),
      hashes.toReversed().map((hash) => [hash, 'cleared']),
    );
    const ids = [stored, ...removed].map((event) => event?.id ?? 0);
    assert.deepEqual(
      ids,
      [0, 1, 2].map((i) => (ids[0] ?? 0) + i),
    );
    assert.deepEqual(await take(there.kv.events({ after: ids[0], signal: signal.signal }), 2), removed);
    const [gap] = await take(there.kv.events({ after: 5, signal: signal.signal }), 1);
    assert.deepEqual([gap?.type, gap?.type === 'gap' && gap.after], ['gap', 5]);

    const answer = await call(key, 'GET', `${url()}/v1/kv/events?after=0`, {
      headers: { 'last-event-id': `${ids[1]}` },
    });
    assert.equal(answer.headers.get('content-type'), 'text/event-stream');
    const reader = answer.body?.pipeThrough(new TextDecoderStream()).getReader();
    let text = '';
    while (!text.includes('data:')) text += (await reader?.read())?.value ?? '';
    assert.match(
      text,
      new RegExp(`^retry: 2000\nid: ${ids[1]}\n\nid: ${ids[2]}\nevent: BlockRemoved\ndata: \\{"type":`),
    );
    await reader?.cancel();
    signal.abort();
    assert.equal((await live.next()).done, true);
  });

test('the command line looks up, pins, clears and follows', async () => {
  const tokens = tokensOf(128);
  const list = tokens.join(',');
  await store(client, tokens, { model: 'line' });
  const run = async (...args: string[]) => {
    const io = commandIo(core);
    assert.equal(await main(['kv', ...args], io), 0, io.err());
    return io.out();
  };
  const lookup = await run('lookup', `${list},7`, '--model', 'line', '--explain');
  assert.equal(
    lookup,
    '128 of 129 tokens are held for line: 64.0 KiB in 2 blocks (2 f32)\nit ends there: the last token fills no block\n',
  );
  const pinned = await run('pin', list, '--model', 'line', '--ttl', '60');
  const [, pin = ''] =
    /^pinned 128 of 128 tokens for line: 2 blocks until \S+Z, by the pin (\S+)\n$/.exec(pinned) ?? [];
  await run('pin', list, '--model', 'line', '--ttl', '60');
  assert.equal(await run('unpin', '--pin', pin), 'unpinned; your tenant has 1 pin left\n');
  assert.equal(await run('unpin', list, '--model', 'line'), 'unpinned; your tenant has 0 pins left\n');
  assert.equal(await run('clear', '--model', 'line'), 'cleared 2 blocks, 64.0 KiB\n');

  for (const [args, words] of [
    [['clear'], /needs --model, --salt or --prefix, or --all/],
    [['clear', '--prefix', '1'], /--model: is needed with prefix/],
    [['unpin'], /needs either --pin or TOKENS/],
    [['unpin', '1,2'], /needs --model with TOKENS/],
    [['pin', '1,2', '--model', 'm', '--ttl', '0'], /--ttl: /],
    [['events', '--after', 'x'], /--after: x is no number of an event/],
  ] as const) {
    const io = commandIo(core);
    assert.equal(await main(['kv', ...args], io), 2);
    assert.match(io.err(), words);
  }
  const leaving = new AbortController();
  const io = { ...commandIo(core), signal: leaving.signal };
  const following = main(['kv', 'events', '--after', '0'], io);
  let told = '';
  while (!told.includes('cleared')) {
    told += io.out();
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  assert.match(told, /^\d+ BlockStored 192 tokens of m, hot on adapter-0: [0-9a-f]{32} /);
  leaving.abort();
  assert.equal(await following, 1);
});

test('a server stops while events are followed, and who follows goes on where he was', async () => {
  const own = await startBlatam({ environment: { INTERNAL_SECRET } });
  const relay = await startBlatam({ environment: { INTERNAL_SECRET, CORE_URLS: own.core } });
  const ownKey = adminKey(own.dataDir);
  const leaving = new AbortController();
  const behind = createClient({ url: relay.edge, ...ownKey }).kv.events({ after: 0, signal: leaving.signal });
  await store(createClient({ url: own.edge, ...ownKey }), tokensOf(64));
  const [first] = await take(behind, 1);
  const stopping = performance.now();
  await relay.kill('SIGTERM');
  assert.ok(performance.now() - stopping < STOP_MS_MAX);
  const next = take(behind, 1);
  await store(createClient({ url: own.edge, ...ownKey }), tokensOf(64));
  const port = new URL(relay.edge).port;
  const again = await startBlatam({ environment: { INTERNAL_SECRET, CORE_URLS: own.core, EDGE_PORT: port } });
  const [second] = await next;
  assert.equal(second?.id, (first?.id ?? 0) + 1);

  const followed = [own.edge, again.edge].map((url) =>
    createClient({ url, ...ownKey }).kv.events({ signal: leaving.signal }),
  );
  const waiting = followed.map((events) => events.next());
  await new Promise((resolve) => setTimeout(resolve, 1000));
  for (const each of [own, again]) {
    const begun = performance.now();
    await each.kill('SIGTERM');
    assert.ok(performance.now() - begun < STOP_MS_MAX);
    assert.equal((await each.exited).code, 0, each.output());
  }
  leaving.abort();
  assert.ok((await Promise.all(waiting)).every(({ done }) => done));
});
