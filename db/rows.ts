// The rows of all tables as they are at one moment, for backups, and their way back. Whatever columns a table has go along.
//
// Invariant: a restore adds what is missing and changes nothing that is there: a key keeps the state that it has now, and one that
// the audit log knows as revoked or deleted does not come back. The audit log itself is not written: it tells what was, here.
import { and, asc, getTableColumns, gt, inArray } from 'drizzle-orm';
import type { PgColumn, PgTable } from 'drizzle-orm/pg-core';
import { databaseCause, type Query } from './query.ts';
import { audit, keys, tenants } from './schema.ts';

/** A row as JSON has it. */
export type SavedRow = Record<string, unknown>;
export const SAVED_TABLES = ['tenants', 'keys', 'audit'] as const;
export type SavedTable = (typeof SAVED_TABLES)[number];

const TABLES: Readonly<Record<SavedTable, { table: PgTable; id: PgColumn; name: string }>> = {
  tenants: { table: tenants, id: tenants.id, name: 'id' },
  keys: { table: keys, id: keys.keyid, name: 'keyid' },
  audit: { table: audit, id: audit.id, name: 'id' },
};
const ROWS_AT_ONCE = 1000;
const ENDED = ['key.revoked', 'key.deleted'];

/** Table by table, a thousand rows at a time, all of them as they are when the first is read. */
export async function readRows(
  query: Query,
  take: (table: SavedTable, rows: readonly SavedRow[]) => Promise<void>,
): Promise<void> {
  const snapshot = { isolationLevel: 'repeatable read', accessMode: 'read only' } as const;
  await query.transaction(async (transaction) => {
    for (const name of SAVED_TABLES) {
      const { table, id, name: idName } = TABLES[name];
      let rows: SavedRow[] = [];
      do {
        const after = rows.at(-1)?.[idName];
        const page = transaction.select().from(table).orderBy(asc(id)).limit(ROWS_AT_ONCE);
        rows = await (after === undefined ? page : page.where(gt(id, after)));
        await take(name, rows.map(savedRow));
      } while (rows.length === ROWS_AT_ONCE);
    }
  }, snapshot);
}

/** Tenants before their keys; gives how many were added. */
export async function addRows(query: Query, name: 'tenants' | 'keys', saved: readonly SavedRow[]): Promise<number> {
  const { table, id, name: idName } = TABLES[name];
  let added = 0;
  try {
    for (let from = 0; from < saved.length; from += ROWS_AT_ONCE) {
      const rows = saved.slice(from, from + ROWS_AT_ONCE).map((row) => rowOf(table, row));
      const ended =
        name === 'keys'
          ? await endedKeys(
              query,
              rows.map((row) => String(row[idName])),
            )
          : new Set<string>();
      const wanted = rows.filter((row) => !ended.has(String(row[idName])));
      if (wanted.length === 0) continue;
      const made = await query.insert(table).values(wanted).onConflictDoNothing().returning({ id });
      added += made.length;
    }
  } catch (error) {
    throw databaseCause(error);
  }
  return added;
}

async function endedKeys(query: Query, keyids: string[]): Promise<Set<string>> {
  const named = and(inArray(audit.action, ENDED), inArray(audit.subject, keyids));
  const found = await query.select({ subject: audit.subject }).from(audit).where(named);
  return new Set(found.map(({ subject }) => subject));
}

const savedRow = (row: SavedRow): SavedRow =>
  Object.fromEntries(
    Object.entries(row).map(([name, value]) => {
      if (value instanceof Uint8Array) return [name, { $bytes: Buffer.from(value).toString('base64') }];
      return [name, value instanceof Date ? { $time: value.toISOString() } : value];
    }),
  );

/** Columns that this version does not have are left out. */
function rowOf(table: PgTable, saved: SavedRow): SavedRow {
  const known = Object.entries(saved).filter(([name]) => Object.hasOwn(getTableColumns(table), name));
  return Object.fromEntries(known.map(([name, value]) => [name, decoded(value)]));
}

function decoded(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if ('$bytes' in value) return Buffer.from(String(value.$bytes), 'base64');
  return '$time' in value ? new Date(String(value.$time)) : value;
}
