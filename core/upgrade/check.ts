// What is looked at before anything is made: that there is something to upgrade, that none of it is newer than this program, and
// that there is room for a copy. Changes nothing.
import { existsSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { realDisk } from '../store/disk.ts';
import { readMetadata } from '../store/metadata.ts';
import { countFormat1, hasFormat1 } from '../store/migration.ts';
import { clusterVersion, pendingOutside } from './database.ts';
import { mebibytes, partsOf, type Run, sizeOf } from './run.ts';

/** The bundled PostgreSQL's. */
const CLUSTER_VERSION = '18';
/** Free beyond what is copied: for what the migrations write. */
const SPARE_BYTES = 64 << 20;

export async function check(run: Run): Promise<{ format: number; bytes: number }> {
  const { dataDir, databaseUrl } = run;
  if (partsOf(run).length === 0)
    throw new Error(
      `${dataDir} holds nothing to upgrade: neither cache/ nor postgres/ is there. Name the folder: --data.`,
    );
  const cache = join(dataDir, 'cache');
  if (existsSync(`${cache}.restored`) && !existsSync(cache))
    throw new Error(`a restore of ${dataDir} was cut: start the instance once, which finishes it, then upgrade.`);
  const found = await readMetadata(realDisk, join(cache, 'metadata.json')); // a newer format throws
  const isOld = await hasFormat1(realDisk, cache);
  const format = typeof found === 'object' ? found.format : isOld ? 1 : 2;
  if (format === 1) run.entriesBefore = await countFormat1(realDisk, cache);
  const version = databaseUrl ? undefined : clusterVersion(dataDir);
  if (version !== undefined && version !== CLUSTER_VERSION)
    throw new Error(
      `${dataDir}/postgres was written by PostgreSQL ${version}, this Blatam brings ${CLUSTER_VERSION}. Dump it with the version that wrote it (pg_dumpall) and load it into a server of your own (DATABASE_URL).`,
    );
  if (databaseUrl && (await pendingOutside(databaseUrl)) > 0 && !run.isOutsideBackedUp)
    throw new Error(
      'the tables at DATABASE_URL are to be migrated, and there is no way back from that here. Make a backup of them (pg_dump), then say --database-backed-up.',
    );
  const bytes = await sizeOf(run);
  const { bavail, bsize } = await statfs(dataDir);
  if (bavail * bsize < bytes + SPARE_BYTES)
    throw new Error(
      `the copy takes ${mebibytes(bytes)} MiB, ${mebibytes(bavail * bsize)} are free on the disk of ${dataDir}. Make room.`,
    );
  return { format, bytes };
}
