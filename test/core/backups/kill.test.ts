// SIGKILL at every named point of a backup and of a restore, and at random moments: the next start has the state before or the
// state of the backup, never a mix, and every backup that is there reads as it was made. CRASH_ROUNDS sets how often, SEED which.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { verifyBackup } from '../../../core/store/backup.ts';
import { realDisk } from '../../../core/store/disk.ts';
import { openWorld } from '../../support/backups.ts';
import { bytesOf, KEYS } from '../../support/crash.ts';
import { folder } from '../../support/folders.ts';
import { seeded } from '../../support/seeded.ts';
import { bytesUnder } from '../../support/store.ts';

const CHILD = fileURLToPath(new URL('kill-child.ts', import.meta.url));
const POINTS = [
  'backup copied',
  'restore copied',
  'restore marked',
  'restore ready',
  'restore aside',
  'restore placed',
] as const;
const MOMENTS = [...POINTS, ''];
const ROUNDS = Math.ceil(Number(process.env.CRASH_ROUNDS ?? MOMENTS.length) / MOMENTS.length);

interface Known {
  /** Versions that the store may be at; two while a restore is on its way, or a mix of both while somebody writes. */
  states: number[];
  isMixed: boolean;
  readonly backups: Map<string, number>;
  version: number;
}

const random = seeded();
const dataDir = folder();
const known: Known = { states: [-1], isMixed: true, backups: new Map(), version: 0 };

for (const point of MOMENTS)
  test(`a kill at ${point ? `"${point}"` : 'some time'} leaves old or new, and every backup whole`, async (t) => {
    t.diagnostic(`SEED=${random.seed}, ${ROUNDS} rounds`);
    for (let round = 0; round < ROUNDS; round++) {
      const words = [dataDir, point, String(1 + random.below(2)), String(known.version)];
      const byItself = await live(words, point ? 120_000 : random.below(2000), known, random.below(2 ** 31));
      assert.equal(byItself, point !== '', 'the point was reached');
      await look(dataDir, known, `round ${round}, ${point || 'some time'}`);
    }
  });

/** One process, from its start to its end. */
async function live(words: string[], killAfterMs: number, known: Known, seed: number): Promise<boolean> {
  const env = { ...process.env, SEED: String(seed) };
  const child = spawn(process.execPath, [CHILD, ...words], { stdio: ['ignore', 'pipe', 'inherit'], env });
  const ended = once(child, 'exit');
  let byItself = true;
  let timer: NodeJS.Timeout | undefined;
  for await (const line of createInterface({ input: child.stdout })) {
    const [word, first = '', second = ''] = line.split(' ');
    if (word === 'open')
      timer = setTimeout(() => {
        byItself = false;
        child.kill('SIGKILL');
      }, killAfterMs);
    const state = Number(first);
    const restored = known.backups.get(first) ?? -1;
    if (word === 'put') Object.assign(known, { states: [...known.states, state], isMixed: true, version: state });
    if (word === 'state') Object.assign(known, { states: [state], isMixed: false });
    if (word === 'backed') known.backups.set(first, Number(second));
    if (word === 'restore') known.states = [...known.states, restored];
    if (word === 'restored') known.states = [restored];
  }
  const [, signal] = await ended;
  clearTimeout(timer);
  assert.equal(signal, 'SIGKILL', 'it ended in another way');
  return byItself;
}

async function look(dataDir: string, known: Known, when: string): Promise<void> {
  const world = await openWorld(dataDir, { disk: realDisk, clock: { now: Date.now() } });
  assert.deepEqual(world.store.lost, [], when);
  const found = new Map<string, number>();
  for (const record of world.store.found) {
    const bytes = await bytesUnder(world.store, record);
    const version = known.states.find((one) => Buffer.compare(bytesOf(one, bytes.length), bytes) === 0);
    assert.ok(version !== undefined, `${when}: ${record.key} is of none of ${known.states}; ${world.lines}`);
    if (record.bytes > 0) found.set(record.key, version);
  }
  const versions = new Set(found.values());
  if (!known.isMixed) {
    assert.equal(world.store.found.length, KEYS, when);
    assert.equal(versions.size, 1, `${when}: a mix of ${[...versions]}; ${world.lines}`);
  }
  if (versions.size === 1) known.states = [...versions];
  for (const { id, state } of await world.backups.list())
    if (state !== 'unfinished') await verifyBackup(join(dataDir, 'backups', id));
  assert.deepEqual(
    readdirSync(dataDir)
      .sort()
      .filter((name) => name !== 'backups'),
    ['cache'],
    when,
  );
  await world.close();
}
