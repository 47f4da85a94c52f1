// Brings a data folder, of an instance that is not running, to what this version of the program reads, or leaves it as it was.
// All work is done on a copy beside it (upgrade/next): the store's format, the database's tables, the file of settings. Only when
// that copy has been read through and found whole does it take the place of the original, by renames; the original is kept in
// upgrade/before. So whatever fails before leaves the original untouched, byte for byte, and what fails during the renames
// is undone by renames. A run that was killed is followed by one that begins anew, or, where renames had begun, goes on.
import { existsSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { check } from './check.ts';
import { outdatedNames } from './configuration.ts';
import { clusterVersion, endLeftover, migrateDatabase } from './database.ts';
import { exchange, undo } from './exchange.ts';
import {
  foldersOf,
  isExchanging,
  readJournal,
  STEPS,
  type StepName,
  type UpgradeJournal,
  writeJournal,
} from './journal.ts';
import { clearNext, lineOf, mebibytes, type Run, SHARED_MODE, type UpgradeOptions } from './run.ts';
import { installSettings, keepSettings, settingsOf } from './settings-file.ts';
import { WORK } from './work.ts';

export type { UpgradeOptions } from './run.ts';

/** Throws with one line that says what failed; the folder is as it was then. */
export async function upgrade(options: UpgradeOptions): Promise<void> {
  const { dataDir, say } = options;
  const run: Run = { reached: () => {}, passed: () => {}, ...options };
  const earlier = await readJournal(dataDir);
  if (earlier && isExchanging(earlier)) {
    if (earlier.state === 'going back') return goBack(run);
    say('an earlier run had begun to put the new store in its place: going on');
    return finish(run, earlier);
  }
  if (earlier?.state === 'upgrading') {
    say('an earlier run was ended before it had changed anything: beginning anew');
    await clearNext(dataDir);
  }
  const journal: UpgradeJournal = {
    ...{ version: 1, state: 'upgrading', program: run.program, steps: [] },
    ...{ settingsFile: run.settingsFile ?? null, failure: null },
  };
  let now: UpgradeJournal = { ...journal };
  try {
    for (const name of STEPS) {
      if (name === 'exchange') break;
      now = await step(run, now, name, () => WORK[name](run));
    }
  } catch (error) {
    await clearNext(dataDir);
    await writeJournal(dataDir, { ...now, state: 'rolled back', failure: lineOf(error) });
    throw new Error(`${lineOf(error)} Nothing was changed.`, { cause: error });
  }
  await finish(run, now);
}

/** What `upgrade` would do, in lines. */
export async function plan(options: UpgradeOptions): Promise<string[]> {
  const run: Run = { reached: () => {}, passed: () => {}, ...options };
  const { dataDir } = options;
  const { format, bytes } = await check(run);
  const { all, before } = foldersOf(dataDir);
  return [
    `check: the store has format ${format}, the bundled database is ${clusterVersion(dataDir) ?? 'not there'}`,
    `copy: ${mebibytes(bytes)} MiB into ${all}; payloads are linked, not copied`,
    `configure: ${[...outdatedNames(options.environment, options.renamed), ...(await settingsOf(run)).changes].join('; ') || 'no setting has another name now'}`,
    `migrate: ${format === 1 ? 'the store to format 2' : 'the store is as it should be'}; tables as they need it`,
    `verify: every byte${options.isQuick ? ' of a thousand payloads' : ''}`,
    `exchange: what is there now is kept in ${before}`,
  ];
}

/** To what was there before the last upgrade; what has been written since is kept in upgrade/after. */
export async function goBack(options: UpgradeOptions): Promise<void> {
  const { dataDir, say, reached = () => {} } = options;
  const { before, after } = foldersOf(dataDir);
  const journal = await readJournal(dataDir);
  if (!journal || !['done', 'going back'].includes(journal.state) || !existsSync(before))
    throw new Error(
      `there is no upgrade of ${dataDir} to go back from: ${before} does not hold what was there before.`,
    );
  await endLeftover(dataDir);
  if (journal.state === 'done') {
    await rm(after, { recursive: true, force: true });
    await writeJournal(dataDir, { ...journal, state: 'going back' });
  }
  reached('back begun');
  await mkdir(after, { recursive: true, mode: SHARED_MODE });
  await keepSettings(journal.settingsFile, join(after, 'settings'));
  await exchange({ dataDir, coming: before, going: after, reached });
  await installSettings(journal.settingsFile, join(before, 'settings'));
  await writeJournal(dataDir, { ...journal, state: 'back' });
  await rm(before, { recursive: true, force: true });
  say(`back to what was there before; what there was since is kept in ${after}`);
}

async function step(run: Run, journal: UpgradeJournal, name: StepName, work: () => Promise<unknown>) {
  const now = () => new Date().toISOString();
  const steps = [...journal.steps, { name, begun: now(), ended: null }];
  await writeJournal(run.dataDir, { ...journal, steps });
  run.reached(`${name} begun`);
  await work();
  run.reached(`${name} done`);
  const ended = { ...journal, steps: steps.map((one) => (one.name === name ? { ...one, ended: now() } : one)) };
  await writeJournal(run.dataDir, ended);
  return ended;
}

/** Also what a second run does that finds the renames begun. */
async function finish(run: Run, journal: UpgradeJournal): Promise<void> {
  const { dataDir, say } = run;
  const { next, before } = foldersOf(dataDir);
  const isSecond = journal.steps.some(({ name }) => name === 'exchange');
  const begun = isSecond ? { ...journal, steps: journal.steps.filter(({ name }) => name !== 'exchange') } : journal;
  try {
    const done = await step(run, begun, 'exchange', async () => {
      if (run.databaseUrl) await migrateDatabase({ dataDir: next, url: run.databaseUrl }, say);
      await mkdir(before, { recursive: true, mode: SHARED_MODE });
      await keepSettings(journal.settingsFile, join(before, 'settings'));
      await exchange({ dataDir, coming: next, going: before, reached: run.reached });
      await installSettings(journal.settingsFile, join(next, 'settings'));
    });
    await writeJournal(dataDir, { ...done, state: 'done' });
  } catch (error) {
    await undo({ dataDir, coming: next, going: before });
    await installSettings(journal.settingsFile, join(before, 'settings'));
    await clearNext(dataDir);
    await rm(before, { recursive: true, force: true });
    await writeJournal(dataDir, { ...begun, state: 'rolled back', failure: lineOf(error) });
    throw new Error(`${lineOf(error)} Everything is as it was.`, { cause: error });
  }
  await clearNext(dataDir);
  say(
    `done. What was there before is kept in ${before}: npx blatam upgrade --back returns to it; remove it when you need no way back`,
  );
}
