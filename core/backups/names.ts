// Names of backups: `cache_20261120T193000Z`, the second in which one began, in UTC. Pure.

const NAME = /^cache_(\d{4})(\d{2})(\d{2})T(\d{2})(\d{2})(\d{2})Z$/;

export const nameAt = (ms: number): string =>
  `cache_${new Date(ms).toISOString().slice(0, 19).replaceAll(/[-:]/g, '')}Z`;

/** In ms; undefined if it is no name of a backup. */
export function timeOf(name: string): number | undefined {
  const [, year, month, day, hour, minute, second] = NAME.exec(name) ?? [];
  const ms = Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
  return Number.isNaN(ms) || nameAt(ms) !== name ? undefined : ms;
}
