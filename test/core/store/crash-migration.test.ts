// SIGKILL while a store of format 1 is migrated (lives.ts): the next start goes on, and finds everything.

import assert from 'node:assert/strict';
import { cpSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { openStore } from '../../../core/store/store.ts';
import { type Death, SMALL_STORE } from '../../support/crash.ts';
import { folder } from '../../support/folders.ts';
import { contents, deathOf, live, named, rounds } from '../../support/lives.ts';

const FIXTURE = fileURLToPath(new URL('../../fixtures/store-format-1', import.meta.url));
const POINTS = ['migration kept', 'migration packed', 'migration done'] as const;

test('SIGKILL during a migration: the next start goes on with it', async (t) => {
  await rounds(t, { share: 0.09 }, async (round, random) => {
    const path = join(folder(t), 'cache');
    cpSync(FIXTURE, path, { recursive: true });
    const death = deathOf(random, round, POINTS, 60);
    const once: Death = POINTS.some((point) => point === death.at) ? { ...death, times: 1 } : death;
    const lived = await live({ work: 'migrate', path, death: once, seed: 1, version: 0, backups: '' }, new Map());
    const store = await openStore(path, () => {}, SMALL_STORE);
    assert.deepEqual([store.found.length, store.lost], [7, []]);
    await contents(store);
    await store.close();
    rmSync(path, { recursive: true });
    return named(once, lived);
  });
});
