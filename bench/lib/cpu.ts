// CPU time of another process, user and system, all threads that it has, from /proc. The scheduler's own count where the
// kernel gives it, in nanoseconds; else the process's, in steps of 10 ms, which is too coarse for small bodies.
import { readdirSync, readFileSync } from 'node:fs';

/** USER_HZ is 100 on every Linux that Node runs on. */
const TICK_MS = 10;
/** utime, counted from the field behind the command's closing parenthesis (proc(5): fields 14 and 15). */
const UTIME = 11;

/** Null where there is no /proc, or no such process. */
export function cpuMsOf(pid: number): number | null {
  for (const read of [fromScheduler, fromTicks])
    try {
      return read(`/proc/${pid}`);
    } catch {
      // The next one may know.
    }
  return null;
}

function fromScheduler(process: string): number {
  const runtimes = readdirSync(`${process}/task`).map((thread) =>
    Number(readFileSync(`${process}/task/${thread}/schedstat`, 'utf8').split(' ')[0]),
  );
  return runtimes.reduce((sum, nanoseconds) => sum + nanoseconds, 0) / 1e6;
}

function fromTicks(process: string): number {
  const stat = readFileSync(`${process}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[UTIME]) + Number(fields[UTIME + 1])) * TICK_MS;
}
