// A damaged page of KV on a real adapter: whatever bit is turned over, of whatever codec, load, attention, moves and recodings
// refuse it, its block is forgotten with all that follows, and a new store heals it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Problem } from '../../../../core/contract/problems.ts';
import { RECORD_NAMES } from '../../../../shaders/records.ts';
import { SOURCE } from '../../../support/adapters.ts';
import { patience, startEngine } from '../../../support/engine.ts';
import { attendKv, flipBit, leasesOf, loadKv, OWNER, sequence, storeKv } from '../../../support/kv.ts';
import { seeded } from '../../../support/seeded.ts';

const EXACT = { firstBlocks: 0, lastBlocks: 0 };
const always = { window: EXACT, verifyMs: 0 };

const damaged = (matchedTokens?: number) => (error: unknown) =>
  error instanceof Problem &&
  error.code === 'kv_damaged' &&
  (matchedTokens === undefined || error.extra.matchedTokens === matchedTokens);

test('load() and attention() refuse a page with any bit turned over, in every codec, and a store heals it', async (t) => {
  const random = seeded();
  t.diagnostic(`SEED=${random.seed}`);
  const engine = await startEngine(t, { kv: always });
  for (const [index, codec] of RECORD_NAMES.entries()) {
    const leases = leasesOf(t, engine);
    const given = sequence(random, [2, 1, 64 * 3, 64]);
    const asked = { codecK: codec, codecV: codec };
    await storeKv(engine, given, asked);
    const whole = await loadKv(engine, given.tokens, 'F32');
    const attended = await attendKv(engine, given, 1);
    const lease = leases.at(-2); // of the second of three blocks
    assert.ok(lease);
    const bit = random.below(lease.pageBytes * 8);
    await flipBit(engine, lease, 1, bit);
    const before = engine.kv.stats().damaged;
    const refused = index % 2 ? loadKv(engine, given.tokens, 'F16') : attendKv(engine, given, 1);
    await assert.rejects(refused, damaged(64), `${codec}, bit ${bit}`);
    assert.equal(engine.kv.stats().damaged, before + 2);
    assert.equal((await loadKv(engine, given.tokens, 'F16')).matchedTokens, 64);
    const { deduplicatedTokens, storedTokens } = await storeKv(engine, given, asked);
    assert.deepEqual([deduplicatedTokens, storedTokens], [64, 64 * 3]);
    assert.deepEqual(await loadKv(engine, given.tokens, 'F32'), whole);
    assert.deepEqual(await attendKv(engine, given, 1), attended);
    t.mock.restoreAll();
  }
  await engine.assertIdle();
});

test('attention() looks at the layer and the tokens that it reads, and again after so long only', async (t) => {
  const random = seeded();
  const engine = await startEngine(t, { kv: { window: EXACT, verifyMs: 3_600_000 } });
  const leases = leasesOf(t, engine);
  const given = sequence(random, [2, 1, 64 * 4, 64]);
  await storeKv(engine, given);
  const whole = await attendKv(engine, given, 1, 64);
  assert.ok(leases[0]);
  await flipBit(engine, leases[0], 1, 5); // found whole a moment ago: nobody looks
  assert.ok(await attendKv(engine, given, 1));

  const strict = await startEngine(t, { kv: always });
  const others = leasesOf(t, strict);
  await storeKv(strict, given);
  assert.ok(others[0]);
  await flipBit(strict, others[0], 0, 5);
  assert.ok(await attendKv(strict, given, 1), 'another layer');
  assert.deepEqual(await attendKv(strict, given, 1, 64), whole, 'a window that ends before it');
  await assert.rejects(attendKv(strict, given, 0), damaged(0));
  assert.equal(strict.kv.stats().blocks, 0);
});

test('verify() looks at all that is held, and says which block is damaged', async (t) => {
  const random = seeded();
  const engine = await startEngine(t, { kv: { window: EXACT } });
  const leases = leasesOf(t, engine);
  const [first, second] = [sequence(random, [3, 2, 64 * 70, 64]), sequence(random, [2, 1, 64 * 2, 128])];
  await storeKv(engine, first, { codecK: 'tq4', codecV: 'q8r' });
  const { blocks } = await storeKv(engine, second);
  assert.deepEqual(await engine.kv.verify(patience()), { pages: 3 * 70 + 2 * 2, packages: 0, records: 0, faults: [] });
  const lease = leases.at(-1);
  assert.ok(lease);
  await flipBit(engine, lease, 0, random.below(lease.pageBytes * 8));
  const { faults } = await engine.kv.verify(patience());
  assert.equal(faults.length, 1);
  assert.match(faults[0] ?? '', new RegExp(`block ${blocks[1]?.hash} .* layer 0`));
  assert.equal(engine.kv.stats().blocks, 71);
  assert.equal((await loadKv(engine, second.tokens, 'F16')).matchedTokens, 64);
  await engine.assertIdle();
});

test('what is recoded is looked at first: nothing is made of a damaged page', async (t) => {
  const random = seeded();
  const engine = await startEngine(t, { kv: { window: { firstBlocks: 1, lastBlocks: 2 } } });
  const leases = leasesOf(t, engine);
  const given = sequence(random, [2, 1, 64 * 6, 64]);
  const asked = { codecK: 'tq4', codecV: 'tq4' };
  const beginning = { ...given, tokens: given.tokens.slice(0, 64 * 3), shape: [2, 1, 64 * 3, 64] as const };
  const of = (bytes: Uint8Array) => bytes.subarray(0, bytes.length / 2); // other values for some: not compared
  await storeKv(engine, { ...beginning, k: of(given.k), v: of(given.v) }, asked);
  assert.ok(leases[1]);
  await flipBit(engine, leases[1], 0, 77);
  await assert.rejects(storeKv(engine, given, asked), damaged(64));
  assert.equal((await loadKv(engine, given.tokens, 'F16')).matchedTokens, 64);
  const { storedTokens } = await storeKv(engine, given, asked);
  assert.equal(storedTokens, 64 * 6);
  assert.deepEqual((await engine.kv.verify(patience())).faults, [], 'recoded pages have seals of their own');
  await engine.assertIdle();
});

test('a drain moves what is whole, and forgets what is not', async (t) => {
  const random = seeded();
  const engine = await startEngine(t, { pool: { adapters: [SOURCE, SOURCE] }, kv: always });
  const leases = leasesOf(t, engine);
  const given = sequence(random, [2, 1, 64 * 4, 64]);
  const [first] = (await storeKv(engine, given)).blocks;
  assert.ok(leases[2] && first?.adapter);
  await flipBit(engine, leases[2], 1, 1);
  engine.pool.drain(first.adapter);
  assert.deepEqual(await engine.kv.drain(first.adapter, patience()), {
    moved: 2,
    bytes: 2 * first.storedBytes,
    cooled: 0,
    left: 0,
  });
  assert.equal(engine.kv.stats().damaged, 2);
  const { matchedTokens, k } = await loadKv(engine, given.tokens, 'F16');
  assert.equal(matchedTokens, 128);
  assert.deepEqual(Buffer.from(k.subarray(0, 128 * 128)), Buffer.from(given.k.subarray(0, 128 * 128)));
  await engine.assertIdle();
});

test('readers of a damaged block are refused too, and its pages go with the last of them', async (t) => {
  const random = seeded();
  const engine = await startEngine(t, { kv: always });
  const leases = leasesOf(t, engine);
  const given = sequence(random, [1, 2, 64 * 2, 64]);
  await storeKv(engine, given);
  assert.ok(leases[1]);
  await flipBit(engine, leases[1], 0, 9);
  const reads = Array.from({ length: 6 }, (_, i) =>
    i % 2 ? attendKv(engine, given, 0) : loadKv(engine, given.tokens, 'F16').then(({ k }) => k),
  );
  for (const read of await Promise.allSettled(reads)) {
    assert.equal(read.status, 'rejected');
    assert.ok(['kv_damaged', 'kv_unknown'].includes((read.reason as Problem).code)); // of all tokens, for attention
  }
  assert.equal(engine.kv.stats().damaged, 1);
  await assert.rejects(engine.kv.load({ ...OWNER, tokens: Int32Array.of(1), dtype: 'F16', signal: patience() }));
  await engine.assertIdle();
});
