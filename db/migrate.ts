// Brings the tables to what this version of the program expects, before anything else uses them.
//
// Every node does this when it starts; an advisory lock lets the first one work and the others find it done. Lock and
// migrations are one transaction: a node that dies half-way leaves no lock and no half-made tables, a lost connection
// cannot lose the lock alone, and poolers that hand out a connection per transaction are no trouble. So a migration
// cannot hold what refuses transactions (CREATE INDEX CONCURRENTLY). Not here: going back to an older version.
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

/** Drizzle's migrator begins a transaction of its own; inside ours that is a savepoint. */
function nestable(client: Sql, transaction: TransactionSql): Sql {
  const { options } = client;
  return Object.assign(transaction, { options, begin: transaction.savepoint }) as unknown as Sql;
}
