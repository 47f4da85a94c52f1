// `npx blatam backup restore ID --data DIR`: the process that restores into a data folder whose server does not run. The command line
// starts it, as it may not load the core. Exit codes are the command line's: 0 done, 1 refused or failed, 2 used wrongly.
import { existsSync, mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { lockFolder } from '../../db/folder-lock.ts';
import type { Progress } from '../store/backup.ts';
import { timeOf } from './names.ts';
import { restoreOffline } from './offline.ts';

/** On a terminal: how far it is, on one line. */
function show({ files, of }: Progress): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${files < of ? `copying, ${files} of ${of} files` : ''}`);
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({ options: { data: { type: 'string' } }, allowPositionals: true });
  const [given = ''] = positionals;
  const dataDir = resolve(values.data ?? './data');
  const at = resolve(given);
  // A name in the folder of backups, or a path of one that lies elsewhere.
  const isPath = timeOf(given) === undefined && existsSync(join(at, 'manifest.json'));
  const folder = isPath ? resolve(at, '..') : resolve(process.env.BACKUP_DIR || join(dataDir, 'backups'));
  const id = isPath ? (at.split('/').at(-1) ?? '') : given;
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  const lock = await lockFolder(dataDir, 'core');
  try {
    const log = (line: string) => void process.stderr.write(`${line}\n`);
    const by = 'blatam backup restore, the server not running';
    const { entries, replaced } = await restoreOffline({ dataDir, folder, id, by, now: Date.now, told: show, log });
    const before = replaced ? `; what was there is in ${replaced}: remove it when you do not need it` : '';
    process.stdout.write(
      `${id} is restored into ${dataDir}: ${entries} tensors${before}. Start the server: npm start\n`,
    );
  } finally {
    await lock.release();
  }
}

await main().catch((error: unknown) => {
  const { message, code = '' } = error as NodeJS.ErrnoException;
  process.stderr.write(`blatam: backup restore: ${message}\n`);
  process.exitCode = code.startsWith('ERR_PARSE_ARGS') ? 2 : 1;
});
