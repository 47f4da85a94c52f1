// Lives of processes that work on a store until they are killed (crash-child.ts), and what their next ones must find. Processes are
// real ones, from a bundle that is made once for a file of tests, so that a life costs little more than its start.
// CRASH_ROUNDS sets how many lives there are in all, SEED which deaths.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { restoreBackup } from '../../core/store/backup.ts';
import { openStore, type Store } from '../../core/store/store.ts';
import { bytesOf, type Death, type Life, SMALL_STORE } from './crash.ts';
import { folder } from './folders.ts';
import { type Seeded, seeded } from './seeded.ts';
import { bytesUnder } from './store.ts';

/** Moments of a call to the disk. */
const MOMENTS = ['before', 'half', 'after'] as const;
const ROUNDS = Number(process.env.CRASH_ROUNDS ?? 100);
/** Where a point is not come to, the process is killed all the same. */
const LIFE_MS_MAX = 4000;
/** By one file of tests. */
const DRAWS_MAX = 10_000;

const modules = folder();
const CHILD = join(modules, 'child.mjs');
await build({
  ...{ entryPoints: [fileURLToPath(new URL('crash-child.ts', import.meta.url))], outfile: CHILD, logLevel: 'error' },
  ...{ bundle: true, platform: 'node', format: 'esm' },
});

/** Each life has its own. */
const { SEED: _, ...environment } = process.env;
const withoutSeed = { ...environment, NODE_COMPILE_CACHE: modules };

/** What a key may hold, as `version size`; '' for nothing. */
export type Expected = Map<string, Set<string>>;

export interface Lived {
  /** It came to where it was to die. */
  readonly byItself: boolean;
  readonly opened: boolean;
  readonly version: number;
  readonly answered: number;
  /** Backups that were begun, and whether they were done. */
  readonly backups: Map<string, boolean>;
}

/** One process, from its start to its end. What it finds must be what is expected. */
export async function live(life: Life, expected: Expected): Promise<Lived> {
  const child = spawn(process.execPath, [CHILD, JSON.stringify(life)], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: withoutSeed,
  });
  const ended = once(child, 'exit');
  let byItself = true;
  let opened = false;
  let version = life.version;
  let answered = 0;
  const backups = new Map<string, boolean>();
  const found = new Map<string, string>();
  const lines: string[] = [];
  const kill = () => {
    byItself = false;
    child.kill('SIGKILL');
  };
  let timer = setTimeout(kill, 60_000);
  for await (const line of createInterface({ input: child.stdout })) {
    lines.push(line);
    const [word, key = '', mine = '', size = ''] = line.split(' ');
    const may = expected.get(key) ?? new Set(['']);
    if (word === 'log' && / (lost|cannot|does not read|not compacted)/.test(line))
      assert.fail(`${JSON.stringify(life)}: ${line}`);
    if (word === 'held') found.set(key, `${mine} ${size}`);
    if (word === 'open') {
      opened = true;
      if (life.work === 'write' || life.work === 'backup') settleExpected(expected, found, JSON.stringify(life));
      clearTimeout(timer);
      timer = setTimeout(kill, life.death.at === '' ? life.death.times : LIFE_MS_MAX);
    }
    if (word === 'put') {
      expected.set(key, new Set([...may, `${mine} ${size}`]));
      version = Math.max(version, Number(mine));
    }
    if (word === 'remove') expected.set(key, new Set([...may, '']));
    if (word === 'done') expected.set(key, new Set([`${mine} ${size}`]));
    if (word === 'removed') expected.set(key, new Set(['']));
    if (word === 'done' || word === 'removed') answered++;
    if (word === 'backup' || word === 'backed') backups.set(key, word === 'backed');
  }
  const [, signal] = await ended;
  clearTimeout(timer);
  assert.equal(
    signal,
    'SIGKILL',
    `${JSON.stringify(life)} ended in another way, having said:\n${lines.slice(-30).join('\n')}`,
  );
  return { byItself, opened, version, answered, backups };
}

/** What was found is one of what may be there; from now on it is that. */
export function settleExpected(expected: Expected, found: ReadonlyMap<string, string>, when: string): void {
  for (const [key, may] of expected) {
    const is = found.get(key);
    const matching = [...may].find((one) => {
      if (one === '' || is === undefined) return one === '' && is === undefined;
      const [version = 0, size = 0] = one.split(' ').map(Number);
      return is === `${size} ${createHash('sha256').update(bytesOf(version, size)).digest('hex')}`;
    });
    assert.ok(matching !== undefined, `${when}: ${key} is ${is}, not one of ${[...may]}`);
    expected.set(key, new Set([matching]));
  }
  for (const key of found.keys()) assert.ok(expected.has(key), `${when}: nobody wrote ${key}`);
}

/** How it is to end: by turns at each point, at moments of calls, and from outside. */
export function deathOf(random: Seeded, round: number, points: readonly string[], callsMax: number): Death {
  const turn = round % (points.length + MOMENTS.length + 1);
  const point = points[turn];
  if (point) return { at: point, times: 1 + random.below(point.startsWith('group') ? 20 : 3) };
  const moment = MOMENTS[turn - points.length];
  return moment ? { at: moment, times: 1 + random.below(callsMax) } : { at: '', times: random.below(150) };
}

/** A share of all rounds; `part` tells files with the same tests apart. */
export async function rounds(
  t: TestContext,
  { share, part = 0 }: { share: number; part?: number },
  one: (round: number, random: Seeded) => Promise<string>,
): Promise<void> {
  const random = seeded();
  for (let i = 0; i < part * DRAWS_MAX; i++) random.next();
  const all = Math.ceil(ROUNDS * share);
  t.diagnostic(`SEED=${random.seed} CRASH_ROUNDS=${ROUNDS}, of these ${all}`);
  const counts = new Map<string, number>();
  const begun = process.cpuUsage();
  for (let round = 0; round < all; round++) {
    const name = await one(part * all + round, random);
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  const { user, system } = process.cpuUsage(begun);
  t.diagnostic(
    `ended at ${JSON.stringify(Object.fromEntries(counts))}; ${Math.round((user + system) / 1000)} ms of this process`,
  );
}

/** Where it ended, and how far it had come. */
export const named = ({ at }: Death, { byItself, opened }: Lived): string =>
  `${byItself ? at : 'outside'}${opened ? '' : ', in the start'}`;

/** What lies under each key, as `settleExpected` wants it. */
export async function contents(store: Store): Promise<Map<string, string>> {
  const all = new Map<string, string>();
  for (const record of store.found) {
    const bytes = await bytesUnder(store, record);
    all.set(record.key, `${bytes.length} ${createHash('sha256').update(bytes).digest('hex')}`);
  }
  return all;
}

/** Whatever it holds is there, and reads. */
export async function assertRestores(from: string, to: string): Promise<void> {
  const { entries } = await restoreBackup(from, to);
  const store = await openStore(to, () => {}, SMALL_STORE);
  assert.deepEqual([store.lost, store.found.length], [[], entries]);
  await contents(store);
  await store.close();
}
