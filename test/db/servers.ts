// What the tests want to know of a server's processes, and waiting until something is so.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isAlive, readPidFile } from '../../db/bundled-leftover.ts';

/** The process of the running server below a data folder. */
export function serverPid(dataDir: string): number {
  const pid = readPidFile(join(dataDir, 'postgres'))?.pid;
  assert(pid !== undefined, `a server runs below ${dataDir}`);
  return pid;
}

export function hasServer(dataDir: string): boolean {
  const pid = readPidFile(join(dataDir, 'postgres'))?.pid;
  return pid !== undefined && isAlive(pid);
}

/** The number of a process's parent or of its user. */
export function field(pid: number, name: 'PPid' | 'Uid'): number {
  if (process.platform === 'linux') {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    return Number(new RegExp(`^${name}:\\s*(\\d+)`, 'm').exec(status)?.[1]);
  }
  return Number(execFileSync('/bin/ps', ['-o', `${name.toLowerCase()}=`, '-p', `${pid}`], { encoding: 'utf8' }));
}

export async function until(what: string, msMax: number, isSo: () => boolean | Promise<boolean>): Promise<number> {
  const start = performance.now();
  while (!(await isSo())) {
    assert(performance.now() - start < msMax, `${what} within ${msMax} ms`);
    await sleep(5);
  }
  return Math.round(performance.now() - start);
}

export function untilEnded(pid: number, msMax: number): Promise<number> {
  return until(`process ${pid} ends`, msMax, () => !isAlive(pid));
}
