// The server's own note of itself, `postmaster.pid`, and what to do if an earlier life left a server behind.
//
// Invariant: a process is signalled only while its command line says that it serves exactly our folder.
// The note of a dead server stays: PostgreSQL removes it itself, after it has made sure that none of the dead server's
// processes still uses the shared memory, which is what protects the data.
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** Fast shutdown, immediate shutdown, the end. */
const ESCALATION = [
  ['SIGINT', 5000],
  ['SIGQUIT', 2000],
  ['SIGKILL', 500],
] as const;
/** Greater than any number a system gives to a process. */
const NO_PROCESS = 2_147_483_647;

export interface PidFile {
  readonly pid: number;
  /** 'starting', 'ready', 'standby' or 'stopping'; empty before the server has said. */
  readonly status: string;
}

export function readPidFile(cluster: string): PidFile | undefined {
  try {
    const lines = readFileSync(join(cluster, 'postmaster.pid'), 'utf8').split('\n');
    const pid = Number(lines[0]);
    return Number.isInteger(pid) && pid !== 0 ? { pid: Math.abs(pid), status: (lines[7] ?? '').trim() } : undefined;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Ends a server of this folder that should not be there any more. */
export async function stopLeftover(cluster: string): Promise<void> {
  const pid = readPidFile(cluster)?.pid;
  if (pid === undefined || !isAlive(pid)) return;
  if (!serves(pid, cluster)) return disown(cluster);
  for (const [signal, waitMsMax] of ESCALATION) {
    try {
      process.kill(pid, signal);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
    for (const end = performance.now() + waitMsMax; performance.now() < end; await sleep(10)) {
      if (!serves(pid, cluster)) return;
    }
  }
  throw new Error(`a PostgreSQL of an earlier start (process ${pid}) serves ${cluster} and cannot be stopped; end it.`);
}

/**
 * The number in the note now belongs to a stranger, for which PostgreSQL would refuse to start. Only the number is
 * replaced: the shared memory's key in the same note must stay.
 */
function disown(cluster: string): void {
  const path = join(cluster, 'postmaster.pid');
  const [, ...rest] = readFileSync(path, 'utf8').split('\n');
  writeFileSync(path, [NO_PROCESS, ...rest].join('\n'));
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** Is this process a server on that folder? One that has ended and was not collected yet has no command line. */
export function serves(pid: number, cluster: string): boolean {
  try {
    if (process.platform === 'linux') {
      const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
      return words.some((word, i) => word === '-D' && words[i + 1] === cluster);
    }
    const line = execFileSync('/bin/ps', ['-ww', '-o', 'command=', '-p', `${pid}`], { encoding: 'utf8' });
    return `${line.trim()} `.includes(` -D ${cluster} `);
  } catch {
    return false;
  }
}
