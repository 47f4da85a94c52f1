// Brings the tables to what this version of the program expects, before anything else uses them.
//
// Every node does this when it starts; an advisory lock lets the first one work and the others find it done. Lock and
// migrations are one transaction: a node that dies half-way leaves no lock and no half-made tables, a lost connection
// cannot lose the lock alone, and poolers that hand out a connection per transaction are no trouble. So a migration
// cannot hold what refuses transactions (CREATE INDEX CONCURRENTLY). Tables that a newer version has migrated are refused.
// Not here: going back to an older version.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { drizzle } from 'drizzle-orm/postgres-js';
import { migrate } from 'drizzle-orm/postgres-js/migrator';
import type { Sql, TransactionSql } from 'postgres';
import { databaseCause } from './query.ts';

/** Any number, as long as no other program takes the same one in the same database. */
const LOCK = 4_208_117_261;
const LOCK_WAIT_MS_MAX = 60_000;
const LOCK_NOT_AVAILABLE = '55P03';
const FOLDER = fileURLToPath(new URL('./migrations', import.meta.url));

export async function migrateTables(client: Sql, lockWaitMsMax = LOCK_WAIT_MS_MAX): Promise<void> {
  let locked = false;
  try {
    await client.begin(async (transaction) => {
      await transaction`select set_config('lock_timeout', ${`${lockWaitMsMax}ms`}, true),
        set_config('statement_timeout', '0', true)`;
      await transaction`select pg_advisory_xact_lock(${LOCK})`;
      locked = true;
      await pendingMigrations(transaction);
      await migrate(drizzle({ client: nestable(client, transaction) }), { migrationsFolder: FOLDER });
    });
  } catch (error) {
    const cause = databaseCause(error);
    if (!locked && 'code' in cause && cause.code === LOCK_NOT_AVAILABLE) {
      throw new Error(
        `another node has been migrating this database for more than ${lockWaitMsMax / 1000} s. Wait for it and start ` +
          'again; if none is running, end the session that pg_locks shows with locktype advisory',
        { cause },
      );
    }
    throw cause;
  }
}

/** How many this database has not seen. Throws if it has seen one that this program does not know. */
export async function pendingMigrations(client: Sql | TransactionSql): Promise<number> {
  const known = knownMigrations();
  const newest = known.at(-1) ?? 0;
  const [table] = await client`select to_regclass('drizzle.__drizzle_migrations') as name`;
  if (!table?.name) return known.length;
  const [applied] = await client`select coalesce(max(created_at), 0) as last from drizzle.__drizzle_migrations`;
  const last = Number(applied?.last);
  if (last > newest)
    throw new Error(
      `its tables were migrated by a newer Blatam (${new Date(last).toISOString()}; this one knows up to ${new Date(newest).toISOString()}). Use the version that wrote it`,
    );
  return known.filter((when) => when > last).length;
}

/** The moments they were made at, in order. */
function knownMigrations(): number[] {
  const journal = JSON.parse(readFileSync(join(FOLDER, 'meta', '_journal.json'), 'utf8')) as {
    entries: { when: number }[];
  };
  return journal.entries.map(({ when }) => when);
}

/** Drizzle's migrator begins a transaction of its own; inside ours that is a savepoint. */
function nestable(client: Sql, transaction: TransactionSql): Sql {
  const { options } = client;
  return Object.assign(transaction, { options, begin: transaction.savepoint }) as unknown as Sql;
}
