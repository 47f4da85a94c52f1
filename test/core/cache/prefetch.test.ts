// Prefetch and warm start over a real engine: what is likely to come next is hot before it is read, nobody leaves for it, and it
// is given up where others need room or pieces; after a restart what was hot is hot again without a request.

import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { isAbsent } from '../../../core/cache/bring.ts';
import { type Entry, isHot, newEntry } from '../../../core/cache/entry.ts';
import { startHeat } from '../../../core/cache/heat.ts';
import { createPredictor } from '../../../core/cache/predict.ts';
import { createPrefetch } from '../../../core/cache/prefetch.ts';
import { joinParts, tensorParts } from '../../../core/contract/tensors.ts';
import { PAGE_BYTES } from '../../../core/gpu/arena.ts';
import { takeAll } from '../../support/adapters.ts';
import { assertSameBytes } from '../../support/bytes.ts';
import { type Engine, startEngine, TENANT } from '../../support/engine.ts';
import { folder } from '../../support/folders.ts';
import { seeded } from '../../support/seeded.ts';
import { until } from '../../support/until.ts';

const MiB = 1 << 20;
const ROUNDS = Number(process.env.CACHE_ROUNDS ?? 150);
const random = seeded();
const fileOf = (bytes: number): Uint8Array =>
  joinParts(tensorParts([{ name: 'x', dtype: 'U8', shape: [bytes], data: random.bytes(bytes) }]));

/** An engine that holds these on disk alone. */
async function cold(t: TestContext, files: ReadonlyMap<string, Uint8Array>, prefetch = 4): Promise<Engine> {
  t.diagnostic(`SEED=${random.seed}`);
  const engine = await startEngine(t, { cache: { prefetch } });
  for (const [key, file] of files) await engine.put(key, file);
  await engine.reopen();
  assert.ok(engine.all().every(({ tier }) => tier === 'cold'));
  return engine;
}
const run = (name: string, count: number, bytes = 3000): Map<string, Uint8Array> =>
  new Map(Array.from({ length: count }, (_, i) => [`${name}/${i}`, fileOf(bytes)]));
const tiers = (engine: Engine, keys: Iterable<string>) => [...keys].map((key) => engine.peek(key)?.tier);
const prefetched = (engine: Engine) => engine.cache.stats().prefetch;

async function read(engine: Engine, key: string, file: Uint8Array | undefined): Promise<void> {
  const found = await engine.get(key);
  assert.ok(found && file, key);
  assertSameBytes(found, file, key);
}

test('the next of a run are hot before they are read, and count as hits gained', async (t) => {
  const files = run('layer', 12, 100_000);
  const engine = await cold(t, files);
  for (const [key, file] of files) {
    await read(engine, key, file);
    await until(() => engine.pool.report().every(({ queue }) => queue === 0), 'nothing is on its way');
    await until(() => prefetchIdle(engine), 'what was guessed is there');
  }
  const { hits } = engine.cache.stats();
  const { used, wrong, precision, recall } = prefetched(engine);
  assert.deepEqual(hits, { hot: 10, cold: 2 });
  assert.equal(used, 10);
  assert.equal(wrong, 0);
  assert.equal(precision, 1);
  assert.equal(recall, 10 / 12);
  await engine.assertIdle();
});

/** Whatever was guessed has come. */
function prefetchIdle(engine: Engine): boolean {
  return engine.pieces.free === engine.pieces.count && prefetched(engine).coming === 0;
}

test('what has followed a key before is brought after it', async (t) => {
  const names = ['start', 'middle', 'end'];
  const files = new Map(names.map((name) => [name, fileOf(2000)]));
  const engine = await cold(t, files);
  for (let i = 0; i < 3; i++) for (const [key, file] of files) await read(engine, key, file);
  await pushOut(engine, 512);
  assert.deepEqual(tiers(engine, ['middle', 'end']), ['cold', 'cold']);
  await read(engine, 'start', files.get('start'));
  await until(() => tiers(engine, ['middle', 'end']).every((tier) => tier === 'hot'), 'they follow');
  await engine.assertIdle();
});

test('0 brings nothing', async (t) => {
  const files = run('layer', 4);
  const engine = await cold(t, files, 0);
  for (const [key, file] of [...files].slice(0, 3)) await read(engine, key, file);
  assert.deepEqual(tiers(engine, ['layer/3']), ['cold']);
  assert.deepEqual(prefetched(engine), {
    ...{ coming: 0, used: 0, late: 0, wrong: 0, cancelled: 0 },
    ...{ precision: 0, recall: 0 },
  });
});

test('nobody leaves for a guess, and none is begun while others wait for pieces', async (t) => {
  const files = run('large', 6, MiB);
  const engine = await cold(t, files);
  engine.leavePages(36); // two, and not a third
  for (const i of [0, 1]) await read(engine, `large/${i}`, files.get(`large/${i}`));
  await until(() => prefetchIdle(engine), 'it has given up');
  assert.deepEqual(tiers(engine, files.keys()), ['hot', 'hot', 'cold', 'cold', 'cold', 'cold']);
  assert.equal(prefetched(engine).cancelled, 1);
  engine.leavePages(512);
  const held = await takeAll(engine.pieces);
  assert.equal(engine.cache.get(TENANT, 'large/2')?.source, 'cold');
  await until(() => prefetched(engine).coming === 0, 'it has given up');
  assert.deepEqual(tiers(engine, ['large/3', 'large/4']), ['cold', 'cold']);
  for (const piece of held) piece.release();
  await engine.assertIdle();
});

test('guesses: late ones, wrong ones, those that others need the room of, each counted once', async () => {
  const clock = { now: 0 };
  const facts = { codec: 'raw', dtype: null, shape: null, tensors: 1, priority: 50, createdAt: 0, expiresAt: null };
  const entries = new Map<string, Entry>();
  const entry = (key: string): Entry => {
    const made = entries.get(key) ?? newEntry({ tenant: 't', key, digest: '', bytes: 1, ...facts }, undefined, true);
    entries.set(key, made);
    return made;
  };
  const ways: { key: string; signal: AbortSignal; end: (how: 'brought' | 'gone') => void }[] = [];
  const prefetch = createPrefetch({
    entriesMax: 2,
    ...{ idOf: ({ id }: Entry) => id, isHot, isAbsent, now: () => clock.now },
    bring: ({ record: { key } }, signal) =>
      new Promise<boolean>((resolve, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason), { once: true });
        ways.push({ key, signal, end: (how) => resolve(how === 'brought') });
      }),
  });
  const predictor = createPredictor();
  const ask = (key: string) => {
    prefetch.asked(entry(key).id, entry(key));
    prefetch.begin(predictor.next('t', key).map(entry));
  };
  const settled = () => new Promise(setImmediate);
  for (const i of [1, 2, 3, 4]) ask(`k${i}`);
  assert.deepEqual(
    ways.map(({ key }) => key),
    ['k3', 'k4'],
    'two at once',
  );
  assert.equal(prefetch.stats().late, 2, 'both were read before they had come');
  for (const { end } of ways) end('brought');
  await settled();
  ask('k5');
  assert.deepEqual(
    ways.slice(2).map(({ key }) => key),
    ['k6', 'k7'],
  );
  ways[2]?.end('brought');
  await settled();
  prefetch.yieldRoom();
  assert.equal(ways[3]?.signal.aborted, true);
  await settled();
  assert.equal(prefetch.stats().cancelled, 1);
  clock.now += 60_000;
  ask('other');
  assert.equal(prefetch.stats().wrong, 1);
  const { coming, used, late, wrong, cancelled, precision } = prefetch.stats();
  assert.deepEqual(
    { coming, used, late, wrong, cancelled, precision },
    { coming: 0, used: 0, late: 2, wrong: 1, cancelled: 1, precision: 0 },
  );
  await prefetch.close();
});

test('a random walk with guesses on their way keeps every byte, and every page is accounted for', async (t) => {
  t.diagnostic(`SEED=${random.seed}`);
  const engine = await startEngine(t, { cache: { prefetch: 4 } });
  const files = new Map<string, Uint8Array>();
  const free = [30, 60, 200];
  let at = 0;
  for (let step = 0; step < ROUNDS; step++) {
    const key = `k/${random.below(12)}`;
    const what = random.below(20);
    if (what < 12) {
      at = random.below(6) === 0 ? random.below(12) : (at + 1) % 12; // runs, with leaps
      const found = await engine.get(`k/${at}`);
      const wanted = files.get(`k/${at}`);
      assert.equal(found === undefined, wanted === undefined, `k/${at}`);
      if (found && wanted) assertSameBytes(found, wanted, `k/${at}`);
    } else if (what < 16) {
      const file = fileOf(random.below(2) === 0 ? random.below(5000) : random.below(600_000));
      await engine.put(key, file);
      files.set(key, file);
    } else if (what === 16) assert.equal(await engine.cache.delete(TENANT, key), files.delete(key));
    else if (what === 17) {
      const pages = random.pick([0, 1, 2]);
      await pushOut(engine, free[pages] ?? 0);
    } else if (what === 18 && random.below(8) === 0) await engine.killAdapter();
    assert.deepEqual(engine.cache.check(), []);
  }
  await until(() => prefetchIdle(engine), 'nothing is on its way');
  await engine.assertIdle();
  const { used, late, wrong, cancelled } = prefetched(engine);
  assert.ok(used > 0, `${used} used, ${late} late, ${wrong} wrong, ${cancelled} cancelled`);
});

/** All leave the adapter, and so many pages are free then. */
async function pushOut(engine: Engine, pages: number): Promise<void> {
  await until(() => prefetchIdle(engine), 'nothing is on its way');
  engine.leavePages(0);
  await engine.put('pusher', fileOf(5 * PAGE_BYTES), { durability: 'none' }).catch(() => {});
  await engine.cache.delete(TENANT, 'pusher');
  engine.leavePages(pages);
}

// ---- warm start

async function warm(t: TestContext, percent = 50): Promise<{ engine: Engine; path: string }> {
  t.diagnostic(`SEED=${random.seed}`);
  const path = join(folder(t), 'heat.json');
  return { engine: await startEngine(t, { cache: { heat: { path, share: percent / 100 } } }), path };
}

test('after a restart the hottest are hot again, without a request', async (t) => {
  const { engine, path } = await warm(t);
  const files = run('k', 40, 200_000);
  for (const [key, file] of files) await engine.put(key, file);
  await engine.put('memory', fileOf(10), { durability: 'none' });
  for (const key of ['k/3', 'k/7']) await read(engine, key, files.get(key));
  await engine.reopen();
  assert.deepEqual(JSON.parse(readFileSync(path, 'utf8')).latest.slice(0, 3), [
    [TENANT, 'k/7'],
    [TENANT, 'k/3'],
    [TENANT, 'memory'],
  ]);
  await engine.cache.warmed;
  assert.ok(tiers(engine, files.keys()).every((tier) => tier === 'hot'));
  assert.deepEqual(engine.cache.stats().hits, { hot: 0, cold: 0 });
  for (const [key, file] of files) await read(engine, key, file);
  assert.deepEqual(engine.cache.stats().hits, { hot: 40, cold: 0 });
  await engine.assertIdle();
});

test('what has come back leaves in the order in which it was used before', async (t) => {
  const { engine } = await warm(t, 100);
  const files = run('k', 12, 2 * MiB);
  for (const [key, file] of files) await engine.put(key, file);
  for (const key of ['k/0', 'k/1', 'k/2']) await read(engine, key, files.get(key));
  for (let restart = 0; restart < 2; restart++) await engine.reopen().then(() => engine.cache.warmed);
  engine.cache.setPolicy({ strategy: 'lru' });
  engine.leavePages(0);
  for (const [key, file] of run('n', 6, 2 * MiB)) await engine.put(key, file);
  const left = [...files.keys()].filter((key) => engine.peek(key)?.tier === 'cold');
  assert.deepEqual(left, ['k/3', 'k/4', 'k/5', 'k/6', 'k/7', 'k/8']);
  await engine.assertIdle();
});

test('what comes back takes no more than its share, the latest first', async (t) => {
  const { engine } = await warm(t, 10);
  const files = run('k', 20, 2 * MiB);
  for (const [key, file] of files) await engine.put(key, file);
  await engine.reopen();
  await engine.cache.warmed;
  const { capacityBytes } = engine.pool;
  const back = [...files.keys()].filter((key) => engine.peek(key)?.tier === 'hot');
  const taken = engine.pool.report().reduce((sum, { memory }) => sum + memory.used, 0);
  assert.ok(back.length > 0 && taken <= capacityBytes / 10, `${back.length} take ${taken} of ${capacityBytes}`);
  assert.deepEqual(back, [...files.keys()].slice(-back.length));
  await engine.assertIdle();
});

test('renew() removes what cannot be written anew, or says that it could not', async (t) => {
  const path = join(folder(t), 'heat.json');
  writeFileSync(path, '{"format":1,"latest":[["t","erased"]]}');
  writeFileSync(`${path}.new`, '{"format":1,"latest":[["t","erased"]]}');
  const lines: string[] = [];
  const log = (line: string) => lines.push(line);
  const heat = startHeat({
    ...{ path, bytesMax: MiB, find: () => undefined, log, recall() {}, bring: async () => 'brought' },
    hot() {
      throw new Error('the disk is full');
    },
  });
  await heat.warmed;
  await heat.renew();
  assert.deepEqual([existsSync(path), existsSync(`${path}.new`)], [false, false]);
  assert.match(lines.join(), /cannot be written: .*the disk is full/);
  mkdirSync(path);
  await assert.rejects(heat.renew());
  await heat.close();
});

test('a file that is none, and names that are none any more, are no harm', async (t) => {
  const path = join(folder(t), 'heat.json');
  const lines: string[] = [];
  const asked: string[] = [];
  const facts = { codec: 'raw', dtype: null, shape: null, tensors: 1, priority: 50, createdAt: 0, expiresAt: null };
  const held = newEntry({ tenant: 't', key: 'k', digest: '', bytes: 1, ...facts }, undefined, true);
  const start = () =>
    startHeat({
      ...{ path, bytesMax: MiB, hot: () => [held], log: (line) => lines.push(line), recall() {} },
      find: (tenant, key) => (tenant === 't' && key === 'k' ? held : undefined),
      async bring({ record: { key } }) {
        asked.push(key);
        return 'brought';
      },
    });
  const faulty = ['', '{', '[]', '{"format":2,"latest":[["t","k"]]}', '{"format":1,"latest":[["t"]]}', undefined];
  for (const text of faulty) {
    if (text === undefined) rmSync(path);
    else writeFileSync(path, text);
    const heat = start();
    assert.equal(await heat.warmed, 0);
    await heat.close();
    assert.deepEqual(JSON.parse(readFileSync(path, 'utf8')), { format: 1, latest: [['t', 'k']] });
    assert.equal(statSync(path).mode & 0o777, 0o600);
  }
  writeFileSync(
    path,
    JSON.stringify({
      format: 1,
      latest: [
        ['t', 'none'],
        ['nobody', 'k'],
        ['t', 'k'],
      ],
    }),
  );
  assert.equal(await start().warmed, 1);
  assert.deepEqual(asked, ['k']);
  assert.deepEqual(lines, []);
  rmSync(path);
  mkdirSync(path);
  const heat = start();
  await heat.warmed;
  await heat.close();
  assert.match(lines.join(), /cannot be written/);
});
