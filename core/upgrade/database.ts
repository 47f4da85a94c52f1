// The database's share of an upgrade. The bundled one is a folder, copied and migrated like any other part. An outside one is
// not ours to copy: its tables are migrated in one transaction, which is done or not, and there is no way back from it but the
// backup that its keeper has.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { stopLeftover } from '../../db/bundled-leftover.ts';
import { openDatabase } from '../../db/client.ts';
import { connectOutside } from '../../db/connect.ts';
import { countKeys } from '../../db/keys.ts';
import { pendingMigrations } from '../../db/migrate.ts';

/** Nothing of an earlier life serves the folder when it resolves. */
export const endLeftover = (dataDir: string): Promise<void> => stopLeftover(join(dataDir, 'postgres'));

/** The version of PostgreSQL that wrote the folder; undefined if there is none. */
export function clusterVersion(dataDir: string): string | undefined {
  const path = join(dataDir, 'postgres', 'PG_VERSION');
  return existsSync(path) ? readFileSync(path, 'utf8').trim() : undefined;
}

/** Opens it, which migrates its tables, and asks it for something. */
export async function migrateDatabase(
  o: { readonly dataDir: string; readonly url?: string | undefined },
  log: (line: string) => void,
): Promise<{ keys: number }> {
  const database = await openDatabase({ ...o, log, poolMax: 2 });
  try {
    return { keys: await countKeys(database.query) };
  } finally {
    await database.close();
  }
}

/** How many migrations an outside database has not seen; throws where it is newer than this program. */
export async function pendingOutside(url: string): Promise<number> {
  const { client, where } = connectOutside(url, 1);
  try {
    return await pendingMigrations(client);
  } catch (cause) {
    throw new Error(`the database at ${where} cannot be asked: ${(cause as Error).message}`, { cause });
  } finally {
    await client.end({ timeout: 3 });
  }
}
