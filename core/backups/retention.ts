// Which backups are kept, and when something is due. Pure: told what there is, these say what is to be done.
import type { Backup } from './catalogue.ts';

const HOUR_MS = 3_600_000;
/** After a failure. */
const RETRY_MS = 900_000;

export interface Retention {
  /** So many, the newest. */
  readonly count: number;
  readonly days: number;
}

/** Those that go: beyond the count, or too old; never the newest that is whole. */
export function surplus(backups: readonly Backup[], { count, days }: Retention, nowMs: number): string[] {
  const newestFirst = backups.filter(({ state }) => state !== 'unfinished').sort((a, b) => b.atMs - a.atMs);
  const newest = newestFirst.find(({ state }) => state === 'whole');
  const oldestMs = nowMs - days * 24 * HOUR_MS;
  return newestFirst.filter((one, i) => one !== newest && (i >= count || one.atMs < oldestMs)).map(({ id }) => id);
}

export interface Schedule {
  /** 0: never. */
  readonly everyHours: number;
  readonly drillEveryHours: number;
}

/** When each was last tried, in vain or not, since the start. */
export interface Tried {
  readonly backupMs?: number | undefined;
  readonly drillMs?: number | undefined;
}

/** What is to be done now, if anything: a backup comes before the drill of an older one. */
export function due(
  newest: Pick<Backup, 'atMs' | 'drilled'> | undefined,
  tried: Tried,
  { everyHours, drillEveryHours }: Schedule,
  nowMs: number,
): 'backup' | 'drill' | undefined {
  const isDue = (hours: number, doneMs = Number.NEGATIVE_INFINITY, triedMs = Number.NEGATIVE_INFINITY) =>
    hours > 0 && nowMs - doneMs >= hours * HOUR_MS && nowMs - triedMs >= RETRY_MS;
  if (isDue(everyHours, newest?.atMs, tried.backupMs)) return 'backup';
  return newest && isDue(drillEveryHours, newest.drilled?.atMs, tried.drillMs) ? 'drill' : undefined;
}
