// The steps of an upgrade up to where the copy is whole: each changes the copy only, and throws with one line where it cannot.
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { readCoreConfig } from '../config.ts';
import { realDisk, replaceWhole } from '../store/disk.ts';
import { openStore } from '../store/store.ts';
import { check } from './check.ts';
import { outdatedNames, withNewNames } from './configuration.ts';
import { copyFolder } from './copy.ts';
import { endLeftover, migrateDatabase } from './database.ts';
import { foldersOf, type StepName } from './journal.ts';
import { clearNext, mebibytes, partsOf, RULES, type Run, SHARED_MODE, sizeOf } from './run.ts';
import { settingsOf } from './settings-file.ts';
import { named, verifyStore } from './verify.ts';

export const WORK: Readonly<Record<Exclude<StepName, 'exchange'>, (run: Run) => Promise<void>>> = {
  async check(run) {
    const { format, bytes } = await check(run);
    run.say(`checked: the store has format ${format}; ${mebibytes(bytes)} MiB are to be copied, there is room for it`);
  },
  async copy(run) {
    const { dataDir, say } = run;
    const { all, next } = foldersOf(dataDir);
    await endLeftover(dataDir);
    await mkdir(all, { recursive: true, mode: SHARED_MODE });
    await clearNext(dataDir);
    await mkdir(next, { mode: SHARED_MODE });
    const total = await sizeOf(run);
    let copied = 0;
    for (const part of partsOf(run))
      await copyFolder(join(dataDir, part), join(next, part), RULES[part], (bytes) => {
        copied += bytes;
        run.passed('copy', (100 * copied) / total);
      });
    say(`copied: ${mebibytes(copied)} MiB; the original stays as it is`);
  },
  async configure(run) {
    const { text, changes } = await settingsOf(run);
    if (text !== undefined)
      await replaceWhole(realDisk, join(foldersOf(run.dataDir).next, 'settings'), Buffer.from(text));
    for (const line of [...outdatedNames(run.environment, run.renamed), ...changes]) run.say(`configured: ${line}`);
    readCoreConfig(withNewNames(run.environment, run.renamed)); // throws with one line
    if (changes.length === 0) run.say('configured: the settings are as this version reads them');
  },
  async migrate(run) {
    const { next } = foldersOf(run.dataDir);
    const parts = partsOf(run);
    if (parts.includes('cache')) {
      const store = await openStore(join(next, 'cache'), (line) => run.say(`migrating: ${line}`));
      run.entries = store.found.length;
      const gone = store.lost.map(({ name, reason }) => `${name} (${reason})`);
      await store.close();
      if (gone.length > 0 && !run.isWithoutDamaged)
        throw new Error(
          `${gone.length} entries were damaged before: ${named(gone)}. Go on without them: --without-damaged.`,
        );
    }
    if (parts.includes('postgres')) await migrateDatabase({ dataDir: next }, run.say);
    run.say('migrated');
  },
  async verify(run) {
    const { next, before, after } = foldersOf(run.dataDir);
    if (partsOf(run).includes('cache')) {
      const passed = (entry: number, of: number) => run.passed('verify', (100 * entry) / of);
      const { entries, read, wrong } = await verifyStore(join(next, 'cache'), {
        isQuick: run.isQuick === true,
        passed,
      });
      if (wrong.length > 0 && !run.isWithoutDamaged)
        throw new Error(`${wrong.length} entries are damaged: ${named(wrong)}. Go on without them: --without-damaged.`);
      const expected = run.entriesBefore ?? run.entries;
      if (entries !== expected && !run.isWithoutDamaged)
        throw new Error(`the store had ${expected} entries, the migrated one has ${entries}.`);
      run.say(
        `verified: ${entries} entries; ${read.entries} read, ${mebibytes(read.bytes)} MiB, all as their digests say`,
      );
    }
    // Of the upgrade before this one: from here on the way back leads to what is there now.
    for (const old of [before, after]) await rm(old, { recursive: true, force: true });
  },
};
