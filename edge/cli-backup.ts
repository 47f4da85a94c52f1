// The commands for backups: `blatam backup create | list | verify | drill | restore`. On a terminal a bar says how far it is, elsewhere a
// line for each step. An interrupt ends the watching; what was begun goes on. A restore needs --yes, as all tensors of all tenants
// change by it; of a data folder whose server does not run (--data), it is a process of its own (core/backups/main.ts).
import { type Call, EXIT, type Io, json, usage } from './cli-call.ts';
import { Failure } from './cli-files.ts';
import { runOffline } from './cli-offline.ts';
import { columns, counted, plain, size } from './cli-words.ts';
import type { BackupAnswer, BackupJob } from './client.ts';

const BAR_CHARS = 24;

export async function backupCreate({ connect, options, io }: Call): Promise<void> {
  const { backups } = await connect();
  const made = await watched(io, (told) => backups.create({ told, signal: io.signal }));
  const { id, entries, bytes, copied, seconds } = made;
  const how = `${size(copied?.bytes ?? bytes)} of ${size(bytes)} copied in ${(seconds ?? 0).toFixed(1)} s`;
  io.stdout.write(options.json ? json(made) : `${id}: ${counted(entries, 'tensor')}, ${how}\n`);
}

export async function backupList({ connect, options, io }: Call): Promise<void> {
  const { backups } = await connect();
  const all = await backups.list();
  if (options.json) io.stdout.write(json({ backups: all }));
  else if (all.length > 0) io.stdout.write(rowsOf(all));
  else io.stderr.write('there are no backups. Make one: npx blatam backup create\n');
}

export async function backupVerify({ connect, words: [id = ''], options, io }: Call): Promise<void> {
  const { backups } = await connect();
  const looked = await watched(io, (told) => backups.verify(id, { told, signal: io.signal }));
  if (options.json) io.stdout.write(json(looked));
  else if (looked.job?.result?.ok === true)
    io.stdout.write(`${looked.id} is as it was made: ${counted(looked.files, 'file')}, ${size(looked.bytes)}\n`);
  if (looked.job?.result?.ok !== true) throw new Failure(`it is damaged: ${plain(looked.faults.join('; '))}`);
}

export async function backupDrill({ connect, words, options, io }: Call): Promise<void> {
  const { backups } = await connect();
  const id = words[0] ?? (await backups.list()).find(({ state }) => state === 'whole')?.id;
  if (id === undefined)
    throw new Failure('there is no backup that is whole. Make one: npx blatam backup create', EXIT.missing);
  const drilled = await watched(io, (told) => backups.drill(id, { told, signal: io.signal }));
  const { entries } = drilled.job?.result ?? {};
  io.stdout.write(
    options.json
      ? json(drilled)
      : `${id} was restored on trial: ${counted(Number(entries), 'tensor')} read, all right\n`,
  );
}

export async function backupRestore({ connect, words: [id = ''], options, io }: Call): Promise<void> {
  const { data, yes = false } = options;
  const safety = !options['no-safety'];
  if (!yes)
    throw usage(
      `By a restore all tensors of all tenants become those of ${plain(id)}, and what was written since is gone` +
        `${safety ? ', but for the backup that is made of it first' : ''}: say --yes.`,
    );
  if (data !== undefined) {
    const code = await runOffline('backup', [id, '--data', data], io.env);
    if (code !== EXIT.done) throw new Failure('nothing was restored.', code);
    return;
  }
  const { backups } = await connect();
  const restored = await watched(io, (told) => backups.restore(id, { safety, told, signal: io.signal }));
  const { entries, safety: saved } = restored.job?.result ?? {};
  const before = saved ? `; what was there is ${saved}` : '';
  io.stdout.write(
    options.json ? json(restored) : `${id} is restored: ${counted(Number(entries), 'tensor')}${plain(before)}\n`,
  );
}

/** With a bar, or a line a step. */
async function watched<T>({ stderr }: Io, work: (told: (job: BackupJob) => void) => Promise<T>): Promise<T> {
  let step = '';
  try {
    return await work(({ progress, state }) => {
      if (state !== 'running') return;
      if (stderr.isTTY) stderr.write(`\r\x1b[K${barOf(progress)}`);
      else if (progress.step !== step) stderr.write(`${plain(progress.step)}\n`);
      ({ step } = progress);
    });
  } finally {
    if (stderr.isTTY) stderr.write('\r\x1b[K');
  }
}

export function barOf({ step, files, of, bytes }: BackupJob['progress']): string {
  const share = of > 0 ? files / of : 0;
  const filled = Math.round(share * BAR_CHARS);
  const bar = `[${'#'.repeat(filled)}${'.'.repeat(BAR_CHARS - filled)}]`;
  return `${plain(step)} ${bar} ${Math.floor(100 * share)} %, ${files} of ${of}, ${size(bytes)}`;
}

function rowsOf(all: readonly BackupAnswer[]): string {
  const rows = all.map(({ id, state, entries, bytes, copied, reason, verifiedAt, drilledAt }) => [
    ...[id, state, `${entries}`, size(bytes), copied ? size(copied.bytes) : '-', reason],
    ...[verifiedAt ?? 'never', drilledAt ?? 'never'],
  ]);
  return columns([['ID', 'STATE', 'TENSORS', 'SIZE', 'COPIED', 'REASON', 'VERIFIED', 'DRILLED'], ...rows], [2, 3, 4]);
}
