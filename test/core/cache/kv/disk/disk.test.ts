// KV on disk below memory, on a real adapter: what memory has no room for comes back bit for bit, within all three budgets; a restart
// finds what was on disk and what the end put there; a kill, only the former; a damaged record costs its block and what follows.
import assert from 'node:assert/strict';
import { cpSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { type Engine, patience, startEngine } from '../../../../support/engine.ts';
import { attendKv, loadKv, OWNER, type Sequence, sequence, storeKv } from '../../../../support/kv.ts';
import { type Seeded, seeded } from '../../../../support/seeded.ts';

const EXACT = { firstBlocks: 0, lastBlocks: 0 };
const BLOCK_BYTES = 32 << 10;
/** Room for 20 blocks on the adapter, and about as many in memory. */
const SHARE = (20 * 32) / (128 << 10);
const COLD_BYTES = 20 * BLOCK_BYTES;
const DISK_BYTES = 8 << 20;
const SHAPE = [2, 1, 64 * 2, 64] as const;

const start = (t: TestContext, kvDiskBytes = DISK_BYTES) =>
  startEngine(t, { kvDiskBytes, kv: { window: EXACT, share: SHARE, coldBytesMax: COLD_BYTES } });

const folderOf = (engine: Engine): string => join(engine.path, 'kv');

async function assertSettled(engine: Engine): Promise<void> {
  await engine.kv.settled();
  const { bytesMost, memory, disk } = engine.kv.stats();
  assert.ok(bytesMost <= SHARE * engine.pool.capacityBytes, `${bytesMost} bytes of pages`);
  assert.ok(memory.bytesMost <= memory.bytesMax && disk.bytesMost <= disk.bytesMax);
  const files = readdirSync(folderOf(engine)).reduce(
    (sum, name) => sum + statSync(join(folderOf(engine), name)).size,
    0,
  );
  assert.ok(files <= disk.bytes, `${files} bytes of files, ${disk.bytes} are counted`);
  await engine.assertIdle();
}

async function fill(engine: Engine, random: Seeded, count: number, more = {}): Promise<Sequence[]> {
  const given: Sequence[] = [];
  for (let i = 0; i < count; i++) {
    const own = sequence(random, SHAPE);
    given.push(own);
    await storeKv(engine, own, more);
    await assertSettled(engine);
  }
  return given;
}

async function assertBack(engine: Engine, { tokens, dtype, k, v }: Sequence): Promise<void> {
  const found = await loadKv(engine, tokens, dtype);
  assert.equal(found.matchedTokens, tokens.length);
  assert.ok(Buffer.compare(found.k, k) === 0 && Buffer.compare(found.v, v) === 0);
}

const tiersOf = (engine: Engine, { tokens }: Sequence, more = {}) =>
  engine.kv
    .lookup({ ...OWNER, tokens, explain: false, use: false, layout: {}, ...more })
    .blocks.map(({ tier }) => tier);

test('what memory has no room for is on disk, comes back bit for bit, and is there again after a restart', async (t) => {
  const random = seeded();
  const engine = await start(t);
  const given = await fill(engine, random, 40);
  const { blocks, tiers, disk, evictions } = engine.kv.stats();
  assert.deepEqual([blocks, evictions], [80, 0]);
  assert.ok(tiers.disk.blocks >= 30 && disk.records >= 30, `${tiers.disk.blocks} on disk`);
  const [first, second] = given;
  assert.ok(first && second);
  assert.deepEqual(tiersOf(engine, first), ['disk', 'disk']);
  await Promise.all([first, first, second].map((own) => assertBack(engine, own)));
  assert.equal(engine.kv.stats().disk.returned, 4, 'each block once, however many wait');
  assert.deepEqual(tiersOf(engine, first), ['hot', 'hot']);
  await assertSettled(engine);
  assert.deepEqual((await engine.kv.verify(patience())).faults, []);

  // as a kill leaves it
  const image = `${folderOf(engine)}-killed`;
  cpSync(folderOf(engine), image, { recursive: true });
  const written = engine.kv.stats().disk.records;
  await engine.reopen();
  assert.equal(engine.kv.stats().blocks, 80, 'the end has written all of it');
  for (const own of given) {
    assert.deepEqual(tiersOf(engine, own), ['disk', 'disk']);
    await assertBack(engine, own);
  }
  await assertSettled(engine);

  const path = folderOf(engine);
  const { reopen } = engine;
  await engine.kv.close();
  rmSync(path, { recursive: true });
  cpSync(image, path, { recursive: true });
  await reopen();
  const again = engine.kv.stats().blocks;
  assert.ok(again > 0 && again <= written, `${again} of ${written}`);
  let found = 0;
  for (const own of given) {
    const held = tiersOf(engine, own).length;
    found += held;
    if (held === 2) await assertBack(engine, own);
  }
  assert.equal(found, again);
});

test('a sequence on disk goes on after a restart as it would have before: same means, same attention', async (t) => {
  const random = seeded();
  const engine = await start(t);
  const codecs = { codecK: 'tq4', codecV: 'tq4' };
  const long = sequence(random, [2, 1, 64 * 3, 64]);
  const part = { ...long, tokens: long.tokens.slice(0, 64), shape: [2, 1, 64, 64] as const };
  const cut = (bytes: Uint8Array) =>
    Buffer.concat([0, 1].map((layer) => bytes.subarray(layer * 192 * 128, layer * 192 * 128 + 64 * 128)));
  const beginning = { ...part, k: Uint8Array.from(cut(long.k)), v: Uint8Array.from(cut(long.v)) };
  await storeKv(engine, long, codecs);
  const whole = await loadKv(engine, long.tokens, 'F32');
  const attended = await attendKv(engine, long, 1);
  await engine.kv.clear({ tenant: OWNER.tenant });
  await storeKv(engine, beginning, codecs);
  await engine.reopen();
  assert.deepEqual(tiersOf(engine, beginning), ['disk']);
  const { deduplicatedTokens } = await storeKv(engine, long, codecs);
  assert.equal(deduplicatedTokens, 64);
  assert.deepEqual(await loadKv(engine, long.tokens, 'F32'), whole);
  assert.deepEqual(await attendKv(engine, long, 1), attended);
  await assertSettled(engine);

  // by hand, from tier to tier
  const move = (tier: 'hot' | 'cold' | 'disk') =>
    engine.kv.move({ ...OWNER, tokens: long.tokens, to: { tier }, signal: patience() });
  for (const tier of ['disk', 'hot', 'cold', 'disk', 'cold', 'hot'] as const) {
    const { moved, left } = await move(tier);
    assert.deepEqual([moved, left], [3, { noRoom: 0, others: 0, gone: 0 }], tier);
    assert.deepEqual(tiersOf(engine, long), Array(3).fill(tier === 'hot' ? 'warm' : tier));
    assert.equal((await move(tier)).already, 3);
    await assertSettled(engine);
  }
  assert.deepEqual(await loadKv(engine, long.tokens, 'F32'), whole);
  await engine.kv.clear({ tenant: OWNER.tenant, model: OWNER.model, prefix: long.tokens.subarray(0, 65) });
  await engine.reopen();
  assert.deepEqual(tiersOf(engine, long), ['disk'], 'what was cleared stays so');
});

test('a damaged record costs its block and what follows it; whoever asks finds what comes before', async (t) => {
  const random = seeded();
  const engine = await start(t);
  const own = sequence(random, [2, 1, 64 * 4, 64]);
  await storeKv(engine, own);
  await engine.reopen();
  const [, , third] = engine.kv.lookup({ ...OWNER, tokens: own.tokens, explain: false, use: false, layout: {} }).blocks;
  assert.equal(third?.tier, 'disk');
  for (const name of readdirSync(folderOf(engine)).filter((each) => each.endsWith('.data'))) {
    const path = join(folderOf(engine), name);
    const bytes = readFileSync(path);
    const at = bytes.indexOf(third?.hash ?? '') + random.below(third?.storedBytes ?? 1) - 40;
    bytes[at] = (bytes[at] ?? 0) ^ (1 << random.below(8));
    writeFileSync(path, bytes);
  }
  const { matchedTokens } = await loadKv(engine, own.tokens, 'F16');
  assert.equal(matchedTokens, 128, `SEED=${random.seed}`);
  const { disk, damaged } = engine.kv.stats();
  assert.deepEqual([disk.damaged, damaged], [1, 2]);
  await assertSettled(engine);
  await storeKv(engine, own);
  await assertBack(engine, own);
});
