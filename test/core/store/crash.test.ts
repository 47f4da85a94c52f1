// SIGKILL at every named point of the store and at random moments: what was answered is there, bit by bit, what was not is old
// or new, and every start succeeds. CRASH_ROUNDS sets how often, SEED which moments.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { openStore } from '../../../core/store/store.ts';
import { bytesOf, SMALL_STORE } from '../../support/crash.ts';
import { folder } from '../../support/folders.ts';
import { seeded } from '../../support/seeded.ts';
import { bytesUnder } from '../../support/store.ts';

const CHILD = fileURLToPath(new URL('crash-child.ts', import.meta.url));
const FIXTURE = fileURLToPath(new URL('../../fixtures/store-format-1', import.meta.url));
const POINTS = [
  'group written',
  'group synced',
  'payload renamed',
  'checkpoint written',
  'compaction written',
  'compaction renamed',
  'compaction known',
  'compaction removed',
] as const;
const ROUNDS = Number(process.env.CRASH_ROUNDS ?? 2 * POINTS.length);
const LIFE_MS_MAX = 8000;

/** What a key may hold, as `version size`; '' for nothing. */
type Expected = Map<string, Set<string>>;

test('every answered write survives SIGKILL at any point', async (t) => {
  const random = seeded();
  t.diagnostic(`SEED=${random.seed} CRASH_ROUNDS=${ROUNDS}`);
  const path = join(folder(t), 'cache');
  const expected: Expected = new Map();
  const reached = new Map<string, number>();
  let version = 0;
  let answered = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const point = round % (POINTS.length + 1) === POINTS.length ? '' : POINTS[round % (POINTS.length + 1)];
    const passes = 1 + random.below(point?.startsWith('group') ? 40 : 3);
    const life = await live(
      path,
      [point ?? '', String(passes), String(version)],
      point ? LIFE_MS_MAX : random.below(1500),
      expected,
    );
    if (life.byItself) reached.set(point ?? '', (reached.get(point ?? '') ?? 0) + 1);
    version = Math.max(version, life.version);
    answered += life.answered;
    await verify(path, expected, `round ${round}, ${point || 'some time'}`);
  }
  t.diagnostic(`${answered} writes were answered in ${ROUNDS} lives; ended at ${JSON.stringify([...reached])}`);
  assert.ok(answered > ROUNDS, 'the writers got something done');
});

for (const point of ['migration kept', 'migration packed', 'migration done'])
  test(`a migration that is killed at "${point}" goes on with the next start`, async (t) => {
    const path = join(folder(t), 'cache');
    cpSync(FIXTURE, path, { recursive: true });
    const life = await live(path, [point, '1', '0'], LIFE_MS_MAX, new Map());
    assert.ok(life.byItself);
    const store = await openStore(path, () => {});
    assert.deepEqual([store.found.length, store.lost], [7, []]);
    await store.close();
  });

/** One process, from its start to its end. */
async function live(path: string, words: string[], killAfterMs: number, expected: Expected) {
  const environment = { ...process.env, SEED: String(seededFor(words)) };
  const child = spawn(process.execPath, [CHILD, path, ...words], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: environment,
  });
  const ended = once(child, 'exit');
  let byItself = true;
  let timer: NodeJS.Timeout | undefined;
  const kill = () => {
    byItself = false;
    child.kill('SIGKILL');
  };
  const late = setTimeout(kill, 60_000);
  let version = 0;
  let answered = 0;
  for await (const line of createInterface({ input: child.stdout })) {
    const [word, key = '', mine = '', size = ''] = line.split(' ');
    const held = expected.get(key) ?? new Set(['']);
    if (word === 'open') timer = setTimeout(kill, killAfterMs);
    if (word === 'log' && / (lost|cannot) /.test(line)) assert.fail(line);
    if (word === 'put') expected.set(key, new Set([...held, `${mine} ${size}`]));
    if (word === 'remove') expected.set(key, new Set([...held, '']));
    if (word === 'done') expected.set(key, new Set([`${mine} ${size}`]));
    if (word === 'removed') expected.set(key, new Set(['']));
    if (word === 'done' || word === 'removed') answered++;
    if (word === 'put') version = Math.max(version, Number(mine));
  }
  const [, signal] = await ended;
  clearTimeout(timer);
  clearTimeout(late);
  assert.equal(signal, 'SIGKILL', 'it ended in another way');
  return { byItself, version, answered };
}

const seededFor = (words: string[]): number => seeded().seed + Number(words[2]);

async function verify(path: string, expected: Expected, when: string): Promise<void> {
  const lines: string[] = [];
  const store = await openStore(path, (line) => lines.push(line), SMALL_STORE);
  assert.deepEqual(store.lost, [], when);
  const found = new Map(store.found.map((record) => [record.key, record]));
  for (const [key, allowed] of expected) {
    const record = found.get(key);
    const bytes = record && (await bytesUnder(store, record));
    const matching = [...allowed].find((one) => {
      if (one === '' || !bytes) return one === '' && !bytes;
      const [version, size] = one.split(' ').map(Number);
      return Buffer.compare(bytesOf(version ?? 0, size ?? 0), bytes) === 0;
    });
    assert.ok(matching !== undefined, `${when}: ${key} has ${bytes?.length} bytes, not ${[...allowed]}; ${lines}`);
    expected.set(key, new Set([matching]));
  }
  assert.ok(found.size <= expected.size, `${when}: what nobody wrote`);
  await store.close();
}
