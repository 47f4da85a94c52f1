// SIGKILL while a store is written and backed up, and while a backup is restored: lives.ts. What is there is whole, store or backup.

import assert from 'node:assert/strict';
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { restoreBackup, verifyBackup } from '../../../core/store/backup.ts';
import { openStore } from '../../../core/store/store.ts';
import { SMALL_STORE } from '../../support/crash.ts';
import { folder } from '../../support/folders.ts';
import { contents, deathOf, type Expected, live, named, rounds } from '../../support/lives.ts';
import { seeded } from '../../support/seeded.ts';
import { putBytes } from '../../support/store.ts';

test('SIGKILL during a backup: the store loses nothing, and a backup with a manifest is a whole one', async (t) => {
  const path = join(folder(t), 'cache');
  const backups = folder(t);
  const expected: Expected = new Map();
  let version = 0;
  let done = 0;
  await rounds(t, { share: 0.12 }, async (round, random) => {
    const death = deathOf(random, round, ['backup copied'], 400);
    const lived = await live({ work: 'backup', path, death, seed: random.below(2 ** 31), version, backups }, expected);
    version = lived.version + 1;
    for (const [to, isDone] of lived.backups) {
      if (isDone || existsSync(join(to, 'manifest.json'))) await verifyBackup(to);
      if (isDone) done++;
    }
    const last = [...lived.backups].findLast(([, isDone]) => isDone)?.[0];
    if (last && round % 4 === 0) await assertRestores(last, join(folder(t), 'restored'));
    for (const name of readdirSync(backups)) rmSync(join(backups, name), { recursive: true });
    return named(death, lived);
  });
  t.diagnostic(`${done} backups were done`);
  assert.ok(done > 0);
});

/** Whatever it holds is there, and reads. */
async function assertRestores(from: string, to: string): Promise<void> {
  const { entries } = await restoreBackup(from, to);
  const store = await openStore(to, () => {}, SMALL_STORE);
  assert.deepEqual([store.lost, store.found.length], [[], entries]);
  await contents(store);
  await store.close();
}

test('SIGKILL during a restore: there is a whole store or none, and the next restore makes one', async (t) => {
  const path = join(folder(t), 'cache');
  const backup = join(folder(t), 'backup');
  const store = await openStore(path, () => {}, SMALL_STORE);
  const random = seeded();
  for (let i = 0; i < 30; i++) await putBytes(store, `k${i}`, random.bytes(random.pick([0, 500, 20_000, 100_000])));
  await store.backUp({ to: backup, now: 0 });
  await store.close();
  const { entries } = await verifyBackup(backup);
  await rounds(t, { share: 0.09 }, async (round, random) => {
    const to = join(folder(t), 'restored');
    const death = deathOf(random, round, ['restore copied'], 120);
    const lived = await live({ work: 'restore', path: to, death, seed: 1, version: 0, backups: backup }, new Map());
    const parent = join(to, '..');
    for (const name of readdirSync(parent)) {
      if (name.endsWith('.restoring')) continue;
      const restored = await openStore(join(parent, name), () => {}, SMALL_STORE);
      assert.deepEqual([restored.lost, restored.found.length], [[], entries], name);
      await restored.close();
    }
    const last = readdirSync(parent).find((name) => name.endsWith('.restoring'));
    if (last) await assertRestores(backup, join(parent, last.replace('.restoring', '')));
    rmSync(parent, { recursive: true });
    return named(death, lived);
  });
});
