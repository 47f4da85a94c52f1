// SIGKILL while a store is written and backed up (lives.ts): what is there is whole, store and backup.

import assert from 'node:assert/strict';
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { verifyBackup } from '../../../core/store/backup.ts';
import { folder } from '../../support/folders.ts';
import { assertRestores, deathOf, type Expected, live, named, rounds } from '../../support/lives.ts';

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
