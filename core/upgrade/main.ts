// `npx blatam upgrade`: the process that upgrades a data folder. The command line starts it, as it may not load the core.
// Exit codes are the command line's: 0 done, 1 refused or failed, 2 used wrongly.
import { existsSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { lockFolder } from '../../db/folder-lock.ts';
import { withPresets } from '../presets.ts';
import { readSettingsFile, withNewNames } from './configuration.ts';
import { goBack, plan, type UpgradeOptions, upgrade } from './upgrade.ts';

const HELP = `Usage: npx blatam upgrade [--data DIR] [options]

Brings the data of an instance that is not running to what this version reads, or leaves it as it was.

  --data DIR             the data folder; or DATA_DIR (./data)
  --settings FILE        a file of NAME=value lines that goes with it: names that have changed are rewritten
  --dry-run              only says what it would do
  --quick                verifies a thousand payloads, not all
  --without-damaged      goes on without entries that were damaged before
  --database-backed-up   the tables at DATABASE_URL may be migrated: you have a backup of them
  --back                 returns to what was there before the last upgrade
`;

const OPTIONS = {
  data: { type: 'string' },
  settings: { type: 'string' },
  'dry-run': { type: 'boolean' },
  quick: { type: 'boolean' },
  'without-damaged': { type: 'boolean' },
  'database-backed-up': { type: 'boolean' },
  back: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
} as const;

const say = (line: string): void => void process.stdout.write(`${line}\n`);

function optionsOf(values: ReturnType<typeof read>): UpgradeOptions {
  const { settings } = values;
  const file = settings === undefined ? {} : readSettingsFile(readFileSync(settings, 'utf8'));
  const environment = { ...file, ...process.env };
  const known = withNewNames(environment);
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };
  return {
    ...{ dataDir: resolve(values.data ?? (known.DATA_DIR || './data')), program: version, say },
    ...{ environment: withPresets(environment), databaseUrl: known.DATABASE_URL || undefined },
    settingsFile: settings === undefined ? undefined : resolve(settings),
    ...{ isQuick: values.quick === true, isWithoutDamaged: values['without-damaged'] === true },
    isOutsideBackedUp: values['database-backed-up'] === true,
    passed: bar(),
  };
}

/** On a terminal: how far the step is, on one line. */
function bar(): NonNullable<UpgradeOptions['passed']> {
  let shown = '';
  return (step, percent) => {
    const line = `${step} ${Math.floor(percent)} %`;
    if (!process.stderr.isTTY || line === shown) return;
    shown = line;
    process.stderr.write(`\r\x1b[K${percent < 100 ? line : ''}`);
  };
}

const read = () => parseArgs({ options: OPTIONS }).values;

async function main(): Promise<void> {
  const values = read();
  if (values.help) return void process.stdout.write(HELP);
  const options = optionsOf(values);
  if (!existsSync(options.dataDir))
    throw new Error(`there is no folder ${options.dataDir}. Name the data folder: --data.`);
  const lock = await lockFolder(options.dataDir, 'core');
  try {
    if (values['dry-run']) for (const line of await plan(options)) say(`would ${line}`);
    else await (values.back ? goBack(options) : upgrade(options));
  } finally {
    await lock.release();
  }
}

await main().catch((error: unknown) => {
  const { message, code = '' } = error as NodeJS.ErrnoException;
  process.stderr.write(`blatam: upgrade: ${message}\n`);
  process.exitCode = code.startsWith('ERR_PARSE_ARGS') ? 2 : 1;
});
