// What is asked of held blocks beside reading them, on real adapters: lookups that say why they end, times and priorities, pins,
// clearing, recoding, moving, and the events of it all. Whoever shares a salt learns nothing of what another tenant stored.
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { KvLookupOptions } from '../../../../core/cache/kv/calls.ts';
import type { KvOptions } from '../../../../core/cache/kv/kv.ts';
import type { KvStoreOptions } from '../../../../core/cache/kv/store.ts';
import type { KvNumberedEvent } from '../../../../core/contract/kv-calls.ts';
import { Problem } from '../../../../core/contract/problems.ts';
import { joinParts, type TensorData, tensorParts } from '../../../../core/contract/tensors.ts';
import { SOURCE } from '../../../support/adapters.ts';
import { bodyOf, type Engine, patience, startEngine } from '../../../support/engine.ts';
import { seeded } from '../../../support/seeded.ts';

const random = seeded();
const [LAYERS, HEADS, DIM] = [1, 2, 128];
/** Of a block, as F16. */
const BLOCK_BYTES = 2 * LAYERS * HEADS * DIM * 64 * 2;
const MEMORY = 128 * 2 ** 20;
const MINE = { tenant: 'mine', model: 'model' };
const EXACT = { firstBlocks: 0, lastBlocks: 0 };

const tokensOf = (n: number): Int32Array => Int32Array.from({ length: n }, () => random.below(30_000));
const joined = (...parts: Int32Array[]): Int32Array => Int32Array.from(parts.flatMap((part) => [...part]));

function start(t: TestContext, kv: Partial<KvOptions> = {}, adapters = [SOURCE]): Promise<Engine> {
  return startEngine(t, { pool: { adapters }, kv: { window: EXACT, ...kv } });
}

interface StoreMore extends Partial<KvStoreOptions> {
  readonly layers?: number;
}

function store({ kv }: Engine, tokens: Int32Array, { layers = LAYERS, ...more }: StoreMore = {}) {
  const n = tokens.length;
  const part = (name: string): TensorData => {
    const values = Float16Array.from({ length: layers * HEADS * n * DIM }, () => random.next() - 0.5);
    return { name, dtype: 'F16', shape: [layers, HEADS, n, DIM], data: new Uint8Array(values.buffer) };
  };
  const ids = new Uint8Array(tokens.buffer, tokens.byteOffset, tokens.byteLength);
  const file = joinParts(tensorParts([{ name: 'tokens', dtype: 'I32', shape: [n], data: ids }, part('k'), part('v')]));
  const body = { chunks: bodyOf(file), length: file.length };
  const asked = { codecK: 'raw', codecV: 'raw', digest: undefined, signal: patience() };
  return kv.store({ ...MINE, ...asked, body, ...more });
}

const lookup = ({ kv }: Engine, tokens: Int32Array, more: Partial<KvLookupOptions> = {}) =>
  kv.lookup({ ...MINE, tokens, explain: true, use: false, layout: {}, ...more });
const matched = (engine: Engine, tokens: Int32Array, more?: Partial<KvLookupOptions>): number =>
  lookup(engine, tokens, more).matchedTokens;
const why = (engine: Engine, tokens: Int32Array, more?: Partial<KvLookupOptions>) =>
  lookup(engine, tokens, more).explain;

const code =
  (wanted: string, words = /./) =>
  (error: unknown) => {
    assert.ok(error instanceof Problem, String(error));
    assert.equal(error.code, wanted);
    assert.match(error.message, words);
    return true;
  };

/** What is told of a tenant's blocks, from the first event that is kept. */
async function told({ kv }: Engine, tenant: string, after = 0): Promise<KvNumberedEvent[]> {
  const events: KvNumberedEvent[] = [];
  const follow = kv.follow(tenant, after, 1, patience());
  await follow.next();
  for await (const event of follow) {
    if (typeof event === 'number') break;
    events.push(event);
  }
  return events;
}

test('lookup() answers the blocks that store did, and is no use of them unless it is asked to be', async (t) => {
  const engine = await start(t, { share: (8 * BLOCK_BYTES) / MEMORY });
  const [a, b, c] = [tokensOf(256), tokensOf(256), tokensOf(64)];
  const { blocks } = await store(engine, a);
  await store(engine, b);
  assert.deepEqual(lookup(engine, a, { explain: false }), { matchedTokens: 256, blocks });
  assert.equal(matched(engine, a.subarray(0, 100)), 100, 'the beginning of a block');
  assert.equal(why(engine, a), null);
  await store(engine, c);
  assert.deepEqual([matched(engine, a), matched(engine, b)], [192, 256]);
  lookup(engine, a, { use: true });
  await store(engine, tokensOf(64));
  assert.deepEqual([matched(engine, a), matched(engine, b)], [192, 192]);
  assert.equal(engine.kv.stats().tokens.asked, 0, 'nobody has read anything');
  await engine.assertIdle();
});

test('lookup() explains where a sequence parts from what is held, and what fills no block', async (t) => {
  const engine = await start(t);
  const held = tokensOf(192);
  await store(engine, held);
  const other = held.slice();
  other[70] = -1;
  assert.deepEqual(why(engine, other), { reason: 'diverges', at: 70, agreeing: 6 });
  assert.deepEqual(why(engine, other.subarray(0, 80)), { reason: 'diverges', at: 70, agreeing: 6 });
  const early = held.slice();
  early[3] = -1;
  assert.deepEqual(why(engine, early), { reason: 'diverges', at: 3, agreeing: 3 });
  assert.deepEqual(why(engine, joined(held, tokensOf(10))), { reason: 'shorter_than_block', at: 192, tokens: 10 });
  assert.deepEqual(why(engine, joined(held, tokensOf(64))), { reason: 'unknown', at: 192 });
  assert.deepEqual(why(engine, tokensOf(64)), { reason: 'unknown', at: 0 });
  assert.deepEqual(why(engine, tokensOf(5)), { reason: 'shorter_than_block', at: 0, tokens: 5 });
  assert.deepEqual(why(engine, held, { model: 'none' }), { reason: 'unknown', at: 0 });
});

test('lookup() explains when and why blocks left', async (t) => {
  const engine = await start(t, { share: (4 * BLOCK_BYTES) / MEMORY });
  const iso = () => new Date(engine.clock.now).toISOString();
  const first = tokensOf(128);
  await store(engine, first);
  engine.clock.now += 5000;
  const evictedAt = iso();
  await store(engine, tokensOf(192));
  engine.clock.now += 5000;
  assert.deepEqual(why(engine, first), { reason: 'evicted', at: 64, when: evictedAt, policy: 'lru' });
  await store(engine, tokensOf(256));
  assert.deepEqual(why(engine, first), { reason: 'evicted', at: 0, when: iso(), policy: 'lru' });
  await store(engine, first);
  assert.equal(why(engine, first), null, 'it is there again');
  await engine.kv.clear({ tenant: 'mine', model: 'model', prefix: first });
  assert.deepEqual(why(engine, first), { reason: 'cleared', at: 64, when: iso() });
  await store(engine, first);
  engine.clock.now += 5000;
  await engine.killAdapter();
  assert.deepEqual(why(engine, first), { reason: 'lost', at: 0, when: iso() });
  assert.deepEqual(why(engine, first, { tenant: 'other' }), { reason: 'unknown', at: 0 });
  await engine.assertIdle();
});

test('lookup() tells of other salts and layouts, as far as the tenant has stored there itself', async (t) => {
  const engine = await start(t);
  const held = tokensOf(192);
  await store(engine, held, { salt: 's' });
  await store(engine, held.slice(0, 64));
  assert.deepEqual(why(engine, held), { reason: 'other_salt', at: 64, matchedTokens: 192 });
  assert.deepEqual(why(engine, held, { salt: 'none' }), { reason: 'other_salt', at: 0, matchedTokens: 192 });
  assert.deepEqual(why(engine, held, { tenant: 'other' }), { reason: 'unknown', at: 0 });
  assert.deepEqual(why(engine, held, { tenant: 'other', salt: 'none' }), { reason: 'unknown', at: 0 });
  const tall = tokensOf(128);
  await store(engine, tall, { layers: 2 });
  assert.deepEqual(why(engine, tall, { layout: { layers: 1 } }), { reason: 'other_layout', at: 0, matchedTokens: 128 });
  assert.equal(why(engine, tall, { layout: { layers: 2, kvHeads: HEADS, dim: DIM } }), null);
});

test('who shares a salt finds what lies there, and is told nothing of what does not, nor of whose it was', async (t) => {
  const engine = await start(t);
  const held = tokensOf(192);
  await store(engine, held, { salt: 's', ttl: 60 });
  const theirs = { tenant: 'other', salt: 's' };
  const near = held.slice();
  near[130] = -1;
  assert.equal(matched(engine, held, theirs), 192);
  assert.deepEqual(why(engine, near, theirs), { reason: 'unknown', at: 128 });
  assert.deepEqual(why(engine, near, { salt: 's' }), { reason: 'diverges', at: 130, agreeing: 2 });
  assert.deepEqual(why(engine, near, { ...theirs, salt: 't' }), { reason: 'unknown', at: 0 });
  engine.clock.now += 60_000;
  assert.equal(why(engine, held, { salt: 's' })?.reason, 'expired');
  assert.deepEqual(why(engine, held, theirs), { reason: 'unknown', at: 0 });
  await engine.kv.sweep();
  assert.equal(why(engine, held, { salt: 's' })?.reason, 'expired');
  assert.deepEqual(why(engine, held, theirs), { reason: 'unknown', at: 0 });
  assert.deepEqual(await told(engine, 'other'), []);
  await store(engine, held.slice(0, 64), theirs);
  assert.deepEqual((await told(engine, 'other')).length, 1);
  assert.equal((await engine.kv.clear({ tenant: 'mine' })).blocks, 0);
  assert.equal(matched(engine, held, theirs), 64);
  await engine.assertIdle();
});

test('a block is found as long as the longest of its stores wants it, then leaves, or is used anew', async (t) => {
  const engine = await start(t);
  const held = tokensOf(192);
  await store(engine, held, { ttl: 10 });
  await store(engine, held.slice(0, 64), { ttl: 20 });
  await store(engine, held.slice(0, 64), { ttl: 5 });
  engine.clock.now += 9_999;
  assert.equal(matched(engine, held), 192);
  engine.clock.now += 1;
  assert.equal(matched(engine, held), 64);
  assert.equal(matched(engine, held.subarray(0, 70)), 64);
  assert.deepEqual(why(engine, held), { reason: 'expired', at: 64, when: new Date(engine.clock.now).toISOString() });
  await assert.rejects(
    engine.kv.load({ ...MINE, tokens: held.subarray(64), dtype: 'F16', signal: patience() }),
    code('kv_unknown'),
    'nothing begins there',
  );
  const again = await store(engine, held.slice(0, 128), { ttl: 10 });
  assert.equal(again.deduplicatedTokens, 128, 'it was still there');
  engine.clock.now += 10_000;
  await engine.kv.sweep();
  assert.equal(engine.kv.stats().blocks, 0);
  assert.deepEqual([engine.kv.stats().bytes, engine.kv.stats().expired], [0, 3]);
  await engine.assertIdle();
});

test('no block leaves before all of a lower priority have that can', async (t) => {
  const engine = await start(t, { share: (6 * BLOCK_BYTES) / MEMORY });
  const [high, low, usual] = [tokensOf(128), tokensOf(128), tokensOf(128)];
  await store(engine, high, { priority: 90 });
  await store(engine, low, { priority: 10 });
  await store(engine, usual);
  await store(engine, tokensOf(64));
  assert.deepEqual(
    [high, low, usual].map((each) => matched(engine, each)),
    [128, 64, 128],
  );
  await store(engine, low.slice(0, 64), { priority: 91 });
  await store(engine, tokensOf(192));
  assert.deepEqual(
    [high, low, usual].map((each) => matched(engine, each)),
    [128, 64, 0],
  );
  await engine.assertIdle();
});

test('pin() keeps blocks and all before them until it ends or is taken away, whatever comes', async (t) => {
  const engine = await start(t, { share: (16 * BLOCK_BYTES) / MEMORY });
  const held = tokensOf(192);
  const many = async () => {
    for (let i = 0; i < 8; i++) await store(engine, tokensOf(256));
  };
  await store(engine, held, { ttl: 60, priority: 0 });
  const pin = engine.kv.pin({ ...MINE, tokens: held, ttl: 600 });
  assert.deepEqual([pin.matchedTokens, pin.pinnedBlocks], [192, 3]);
  assert.equal(pin.expiresAt, new Date(engine.clock.now + 600_000).toISOString());
  const second = engine.kv.pin({ ...MINE, tokens: held.subarray(0, 100), ttl: 300 });
  assert.equal(second.pinnedBlocks, 2);
  await many();
  engine.clock.now += 299_000;
  await engine.kv.sweep();
  assert.equal(matched(engine, held), 192, 'it does not expire either');
  assert.deepEqual(engine.kv.stats().pinned, { pins: 2, blocks: 3, bytes: 3 * BLOCK_BYTES });
  assert.deepEqual(engine.kv.unpin({ tenant: 'mine', pin: pin.pin }), { pins: 1 });
  await many();
  assert.equal(matched(engine, held), 128, 'the shorter one is still pinned');
  engine.clock.now += 1000;
  await engine.kv.sweep();
  assert.deepEqual(engine.kv.stats().pinned, { pins: 0, blocks: 0, bytes: 0 });
  await many();
  assert.equal(matched(engine, held), 0);
  assert.throws(() => engine.kv.unpin({ tenant: 'mine', pin: second.pin }), code('pin_unknown', /ended/));
  await engine.assertIdle();
});

test('what is pinned stays on its adapter while others go to memory', async (t) => {
  const engine = await start(t, { share: (16 * BLOCK_BYTES) / MEMORY, coldBytesMax: 8 << 20 });
  const [pinned, other] = [tokensOf(192), tokensOf(192)];
  await store(engine, pinned);
  await store(engine, other);
  engine.kv.pin({ ...MINE, tokens: pinned, ttl: 600 });
  for (let i = 0; i < 20; i++) {
    await store(engine, tokensOf(64));
    await engine.kv.settled(); // who has to go before it is packed is forgotten
  }
  const tiers = (tokens: Int32Array) => lookup(engine, tokens).blocks.map(({ tier }) => tier);
  assert.deepEqual([tiers(pinned), tiers(other)], [Array(3).fill('hot'), Array(3).fill('cold')]);
  await engine.assertIdle();
});

test('unpin() takes pins one by one by their tokens, and nobody else may', async (t) => {
  const engine = await start(t);
  const held = tokensOf(128);
  await store(engine, held, { salt: 's' });
  const asked = { ...MINE, salt: 's', tokens: held };
  const { pin } = engine.kv.pin({ ...asked, ttl: 100 });
  engine.kv.pin({ ...asked, ttl: 50 });
  assert.throws(() => engine.kv.unpin({ tenant: 'other', pin }), code('pin_unknown'));
  assert.throws(() => engine.kv.unpin({ ...asked, tenant: 'other' }), code('pin_unknown'));
  assert.throws(() => engine.kv.unpin({ ...asked, tokens: held.subarray(0, 64) }), code('pin_unknown'));
  engine.kv.pin({ ...asked, tenant: 'other', ttl: 100 });
  assert.deepEqual(engine.kv.unpin(asked), { pins: 1 });
  assert.deepEqual(engine.kv.unpin({ tenant: 'mine', pin }), { pins: 0 }, 'the one that ended first went first');
  assert.throws(() => engine.kv.unpin(asked), code('pin_unknown'));
  assert.deepEqual(engine.kv.stats().pinned.pins, 1);
  assert.throws(() => engine.kv.pin({ ...MINE, tokens: held, ttl: 9 }), code('kv_unknown', /none are held/));
  await engine.assertIdle();
});

test('pins hold a quarter of the memory for KV at most, those of all a half, and 1,000 a tenant', async (t) => {
  const engine = await start(t, { share: (16 * BLOCK_BYTES) / MEMORY });
  const all = [tokensOf(256), tokensOf(256), tokensOf(64)] as const;
  for (const each of all) await store(engine, each, { salt: 's' });
  const pin = (tenant: string, tokens: Int32Array) => engine.kv.pin({ ...MINE, tenant, salt: 's', tokens, ttl: 60 });
  pin('mine', all[0]);
  pin('mine', all[0].subarray(0, 64));
  assert.throws(() => pin('mine', all[2]), code('pins_full', /your tenant's pins hold/));
  pin('other', all[1]);
  assert.throws(() => pin('third', all[2]), code('pins_full', /all tenants' pins hold/));
  await store(engine, tokensOf(256));
  engine.kv.unpin({ ...MINE, tenant: 'other', salt: 's', tokens: all[1] });
  pin('third', all[2]);
  for (let i = 1; i < 1000; i++) pin('third', all[2]);
  assert.throws(() => pin('third', all[2]), code('pins_full', /1000 pins/));
  assert.equal(engine.kv.stats().pinned.blocks, 5);
  await engine.assertIdle();
});

test('what is pinned goes when it is cleared or lost, and the pin with it', async (t) => {
  const engine = await start(t);
  const [cleared, lost] = [tokensOf(128), tokensOf(128)];
  for (const tokens of [cleared, lost]) {
    await store(engine, tokens);
    engine.kv.pin({ ...MINE, tokens, ttl: 600 });
  }
  const done = await engine.kv.clear({ ...MINE, prefix: cleared.subarray(0, 10) });
  assert.deepEqual(done, { blocks: 2, bytes: 2 * BLOCK_BYTES, pinned: 2, shared: 0 });
  await engine.assertIdle();
  await engine.killAdapter();
  assert.deepEqual(engine.kv.stats().pinned, { pins: 2, blocks: 0, bytes: 0 });
  await engine.assertIdle();
  assert.deepEqual(engine.kv.unpin({ ...MINE, tokens: lost }), { pins: 1 });
});

test('clear() forgets by model, salt and beginning what the tenant has stored, and no more', async (t) => {
  const engine = await start(t);
  const held = tokensOf(192);
  const branch = joined(held.subarray(0, 64), tokensOf(64));
  const stored = async () => {
    await store(engine, held);
    await store(engine, branch);
    await store(engine, held, { model: 'b' });
    await store(engine, held, { salt: 's' });
    await store(engine, held.slice(0, 64), { salt: 's', tenant: 'other' });
  };
  const left = () => [
    ...[held, branch].map((each) => matched(engine, each)),
    ...[{ model: 'b' }, { salt: 's' }].map((more) => matched(engine, held, more)),
  ];
  const clear = async (more: object) => {
    const { blocks, shared } = await engine.kv.clear({ tenant: 'mine', ...more });
    return [blocks, shared, ...left()];
  };
  await stored();
  assert.deepEqual(left(), [192, 128, 192, 192]);
  assert.deepEqual(await clear({ model: 'model', prefix: held.subarray(0, 65) }), [2 + 2, 0, 64, 128, 192, 64]);
  await stored();
  assert.deepEqual(await clear({ model: 'model', prefix: held.subarray(0, 64) }), [4 + 2, 1, 0, 0, 192, 64]);
  await stored();
  assert.deepEqual(await clear({ model: 'b' }), [3, 0, 192, 128, 0, 192]);
  await stored();
  assert.deepEqual(await clear({ salt: 's' }), [2, 1, 192, 128, 192, 64]);
  await stored();
  assert.deepEqual(await clear({ salt: 'none' }), [0, 0, 192, 128, 192, 192]);
  assert.deepEqual(await clear({ tenant: 'third' }), [0, 0, 192, 128, 192, 192]);
  assert.deepEqual(await clear({}), [4 + 3 + 2, 1, 0, 0, 0, 64]);
  assert.equal(engine.kv.stats().blocks, 1);
  await engine.assertIdle();
});

test('clear() leaves readers what they read', async (t) => {
  const engine = await start(t);
  const held = tokensOf(64 * 40);
  await store(engine, held, { layers: 8 });
  const { bytes, read } = await engine.kv.load({ ...MINE, tokens: held, dtype: 'F16', signal: patience() });
  const reading = read(patience());
  let received = 0;
  for (let next = await reading.next(); !next.done; next = await reading.next()) {
    if (received === 0) assert.equal((await engine.kv.clear({ tenant: 'mine' })).blocks, 40);
    received += next.value.length;
    next.value.piece.release();
  }
  assert.equal(received, bytes);
  await engine.assertIdle();
});

test('recode() codes what is exact, once, and says what it leaves', async (t) => {
  const engine = await start(t);
  const held = tokensOf(192);
  await store(engine, held.slice(0, 64), { codecK: 'q8r', codecV: 'q8r', salt: 's' });
  await store(engine, held.slice(0, 128), { salt: 's' });
  await store(engine, held, { salt: 's', tenant: 'other' });
  const recode = (codecK: string, codecV: string) =>
    engine.kv.recode({ ...MINE, salt: 's', tokens: held, codecK, codecV, signal: patience() });
  const nothing = { coded: 0, noRoom: 0, others: 0, gone: 0 };
  assert.deepEqual(await recode('q8r', 'raw'), {
    ...{ matchedTokens: 192, recoded: 1, already: 1 },
    left: { ...nothing, others: 1 },
  });
  const { blocks } = lookup(engine, held, { salt: 's' });
  assert.deepEqual(
    blocks.map(({ codecK, codecV }) => `${codecK} ${codecV}`),
    ['q8r q8r', 'q8r f16', 'f16 f16'],
  );
  assert.deepEqual((await recode('tq4', 'tq4')).left, { ...nothing, coded: 2, others: 1 });
  await assert.rejects(recode('mp3', 'raw'), code('codec_unknown', /tcq4/));
  await store(engine, joined(held, tokensOf(64)), { salt: 's', codecK: 'tq4', codecV: 'tq4' }); // seals what is not coded yet
  await engine.assertIdle();
});

test('what was stored by a grade and is coded later is told as what it is coded as', async (t) => {
  const engine = await start(t);
  const held = tokensOf(64);
  const { blocks } = await store(engine, held, { codecK: 'ec', codecV: 'ec' });
  await engine.kv.recode({ ...MINE, tokens: held, codecK: 'q8r', codecV: 'raw', signal: patience() });
  const names = [...blocks, ...lookup(engine, held).blocks].map(({ codecK, codecV }) => `${codecK} ${codecV}`);
  assert.deepEqual(names, ['ec:0.0031 ec:0.0094', 'q8r ec:0.0094']);
});

test('move() brings blocks to the adapter that is named, and says so to those who stored them', async (t) => {
  const engine = await start(t, {}, [SOURCE, SOURCE]);
  const held = tokensOf(192);
  const { blocks } = await store(engine, held);
  const from = blocks[0]?.adapter;
  const to = from === 'adapter-0' ? 'adapter-1' : 'adapter-0';
  const move = (adapter: string) => engine.kv.move({ ...MINE, tokens: held, to: { adapter }, signal: patience() });
  const left = { noRoom: 0, others: 0, gone: 0 };
  assert.deepEqual(await move(to), { matchedTokens: 192, moved: 3, bytes: 3 * BLOCK_BYTES, already: 0, left });
  assert.deepEqual(await move(to), { matchedTokens: 192, moved: 0, bytes: 0, already: 3, left });
  assert.ok(lookup(engine, held).blocks.every(({ adapter }) => adapter === to));
  const [stored, ...moved] = await told(engine, 'mine');
  assert.equal(stored?.type, 'BlockStored');
  assert.deepEqual(
    moved.map(({ id: _, ...event }) => event),
    blocks.map(({ hash }) => ({ type: 'BlockMoved', hash, tier: 'hot', adapter: to })),
  );
  await assert.rejects(move('adapter-9'), code('adapter_unknown'));
  await engine.assertIdle();
});

test('move() puts blocks into memory and brings them back, as prefetch() does, bit for bit', async (t) => {
  const engine = await start(t, { coldBytesMax: 1 << 20 });
  const { kv } = engine;
  const held = tokensOf(192);
  await store(engine, held, { salt: 's' });
  await store(engine, joined(held, tokensOf(64)), { salt: 's', tenant: 'other' });
  const asked = { ...MINE, salt: 's', tokens: held, signal: patience() };
  const read = async () => {
    const parts: Uint8Array[] = [];
    const loaded = await kv.load({ ...MINE, salt: 's', tokens: held, dtype: 'F16', signal: patience() });
    for await (const { piece, length } of loaded.read(patience())) {
      parts.push(Uint8Array.from(piece.bytes.subarray(0, length)));
      piece.release();
    }
    return Buffer.concat(parts);
  };
  const before = await read();
  const tiers = () => lookup(engine, held, { salt: 's' }).blocks.map(({ tier }) => tier);
  const left = { noRoom: 0, others: 0, gone: 0 };
  const away = await kv.move({ ...asked, to: { tier: 'cold' } });
  assert.deepEqual({ ...away, bytes: 0 }, { matchedTokens: 192, moved: 3, bytes: 0, already: 0, left });
  assert.ok(away.bytes > 0 && away.bytes < 3 * BLOCK_BYTES, `${away.bytes} bytes in memory`);
  assert.deepEqual(tiers(), ['cold', 'cold', 'cold']);
  assert.equal((await kv.move({ ...asked, to: { tier: 'cold' } })).already, 3);
  await engine.assertIdle();

  const back = { matchedTokens: 192, returned: 3, bytes: 3 * BLOCK_BYTES, already: 0, left: 0 };
  assert.deepEqual(await kv.prefetch({ ...asked, tenant: 'third' }), back);
  assert.deepEqual(await kv.prefetch(asked), { ...back, returned: 0, bytes: 0, already: 3 });
  assert.deepEqual(tiers(), ['hot', 'hot', 'hot']);
  await kv.move({ ...asked, tokens: held.subarray(0, 64), to: { tier: 'cold' } });
  assert.deepEqual(tiers(), ['cold', 'hot', 'hot']);
  const hot = await kv.move({ ...asked, to: { tier: 'hot' } });
  assert.deepEqual(hot, { matchedTokens: 192, moved: 1, bytes: BLOCK_BYTES, already: 2, left });
  assert.deepEqual((await kv.move({ ...asked, tenant: 'third', to: { tier: 'cold' } })).left, { ...left, others: 3 });
  assert.ok(before.equals(await read()), 'no bit is another');
  const moved = (await told(engine, 'mine')).flatMap((event) => (event.type === 'BlockMoved' ? [event] : []));
  assert.deepEqual(
    moved.map(({ tier, adapter }) => `${tier} ${adapter}`),
    [...Array(3).fill('cold null'), ...Array(3).fill('hot adapter-0'), 'cold null', 'hot adapter-0'],
  );
  await engine.assertIdle();
});

test('move() leaves blocks where they are when there is no room in memory', async (t) => {
  const engine = await start(t, { coldBytesMax: 0 });
  const held = tokensOf(128);
  await store(engine, held);
  const done = await engine.kv.move({ ...MINE, tokens: held, to: { tier: 'cold' }, signal: patience() });
  assert.deepEqual([done.moved, done.left.noRoom], [0, 2]);
  assert.equal(matched(engine, held), 128);
  await engine.assertIdle();
});

test('follow() tells each tenant of its own blocks, in numbers without gaps', async (t) => {
  const engine = await start(t, { share: (4 * BLOCK_BYTES) / MEMORY });
  const held = tokensOf(128);
  const { blocks } = await store(engine, held, { salt: 's' });
  const [first = '', second = ''] = blocks.map(({ hash }) => hash);
  await store(engine, held.slice(0, 64), { salt: 's', tenant: 'other' });
  await store(engine, held.slice(0, 64), { salt: 's', tenant: 'other' });
  await store(engine, tokensOf(256), { model: 'flood' });
  await engine.kv.clear({ tenant: 'mine', model: 'flood' });
  const others = { type: 'BlockStored', tokens: 64, model: 'model', tier: 'hot', adapter: 'adapter-0' };
  const strip = (events: KvNumberedEvent[]) => events.map(({ id: _, ...event }) => event);
  const mine = await told(engine, 'mine');
  assert.deepEqual(strip(mine.slice(0, 3)), [
    { ...others, hashes: [first, second], parentHash: null, tokens: 128 },
    { type: 'BlockRemoved', hash: second, cause: 'evicted' },
    { type: 'BlockRemoved', hash: first, cause: 'evicted' },
  ]);
  assert.deepEqual(strip(await told(engine, 'other')), [
    { ...others, hashes: [first], parentHash: null },
    { type: 'BlockRemoved', hash: first, cause: 'evicted' },
  ]);
  const [begin = 0] = mine.map(({ id }) => id);
  assert.deepEqual(
    mine.map(({ id }) => id),
    mine.map((_, i) => begin + i),
  );
  assert.deepEqual(await told(engine, 'mine', begin), mine.slice(1));

  await store(engine, held);
  await store(engine, joined(held, tokensOf(64)));
  const last = begin + mine.length - 1;
  const kept = await told(engine, 'mine', last);
  assert.deepEqual(
    kept.map((event) => event.type === 'BlockStored' && [event.hashes.length, event.parentHash !== null]),
    [
      [2, false],
      [1, true],
    ],
  );
  await engine.kv.clear({ tenant: 'mine' });
  assert.deepEqual(strip(await told(engine, 'mine', last + 2)), [{ type: 'AllBlocksCleared' }]);
  await engine.assertIdle();
});
