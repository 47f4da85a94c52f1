// How long a caller waits for an answer, in milliseconds from the request on: said in a field, passed on by an edge under its own
// signature, respected by the core. Pure.
import { problem } from './problems.ts';

export const DEADLINE_HEADER = 'x-deadline-ms';
const DEADLINE_MS_MAX = 3_600_000;

export function parseDeadline(field: string | null | undefined): number | undefined {
  if (field === null || field === undefined) return undefined;
  const ms = /^[1-9]\d{0,6}$/.test(field) ? Number(field) : Number.NaN;
  if (ms <= DEADLINE_MS_MAX) return ms;
  throw problem('query_malformed', `${DEADLINE_HEADER} is a whole number from 1 to ${DEADLINE_MS_MAX}.`);
}
