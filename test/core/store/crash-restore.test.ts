// SIGKILL while a backup is restored (lives.ts): there is a whole store or none.

import assert from 'node:assert/strict';
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { verifyBackup } from '../../../core/store/backup.ts';
import { openStore } from '../../../core/store/store.ts';
import { SMALL_STORE } from '../../support/crash.ts';
import { folder } from '../../support/folders.ts';
import { assertRestores, deathOf, live, named, rounds } from '../../support/lives.ts';
import { seeded } from '../../support/seeded.ts';
import { putBytes } from '../../support/store.ts';

test('SIGKILL during a restore: there is a whole store or none, and the next restore makes one', async (t) => {
  const path = join(folder(t), 'cache');
  const backup = join(folder(t), 'backup');
  const store = await openStore(path, () => {}, SMALL_STORE);
  const random = seeded();
  for (let i = 0; i < 12; i++) await putBytes(store, `k${i}`, random.bytes(random.pick([0, 500, 20_000, 100_000])));
  await store.backUp({ to: backup, now: 0 });
  await store.close();
  const { entries } = await verifyBackup(backup);
  await rounds(t, { share: 0.09 }, async (round, random) => {
    const to = join(folder(t), 'restored');
    const death = deathOf(random, round, ['restore copied'], 60);
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
