// How it stands with backups, in a few words for /readyz. Pure.
import type { BackupsStatus } from './backups.ts';

const HOUR_MS = 3_600_000;

export function wordsOf({ alarm, newest, count }: BackupsStatus, nowMs: number): string {
  if (alarm) return `ALARM: a drill failed, ${alarm.slice(0, 200)}`;
  if (!newest) return count === 0 ? 'none yet' : 'none of them is whole';
  return `${count}, the newest ${((nowMs - newest.atMs) / HOUR_MS).toFixed(1)} h old`;
}
