// A backup takes the place of what a data folder holds whose server does not run: restored beside it, each byte checked, then put there by
// renames. What was there is kept whole in `cache.replaced_…`, readable or not, until somebody removes it. Tenants and keys are
// added by the next start.
import { join } from 'node:path';
import { restoreBackup, type Told } from '../store/backup.ts';
import { type Disk, realDisk } from '../store/disk.ts';
import { openCatalogue } from './catalogue.ts';
import { nameAt } from './names.ts';
import { finishPlacing, place, restoredFolder, rowsFolder, storeFolder, writeRestored } from './placing.ts';
import { copyRows } from './rows.ts';

export interface OfflineRestore {
  readonly dataDir: string;
  /** Of backups. */
  readonly folder: string;
  readonly id: string;
  readonly by: string;
  readonly now: () => number;
  readonly told: Told;
  readonly log: (line: string) => void;
  readonly disk?: Disk;
}

export interface OfflineRestored {
  readonly entries: number;
  /** Where what was there is now; null if nothing was. */
  readonly replaced: string | null;
}

export async function restoreOffline(o: OfflineRestore): Promise<OfflineRestored> {
  const { dataDir, id, disk = realDisk } = o;
  const catalogue = openCatalogue(o.folder, disk);
  await catalogue.find(id);
  await finishPlacing(dataDir, disk, o.log);
  const target = restoredFolder(dataDir);
  const wasThere = disk.sizeOf(storeFolder(dataDir)) >= 0;
  try {
    const manifest = await restoreBackup(catalogue.path(id), target, o.told, disk);
    await copyRows(disk, catalogue.path(id), manifest, rowsFolder(target));
    await writeRestored(disk, target, { backup: id, by: o.by, atMs: o.now(), safety: null });
    const replaced = join(dataDir, nameAt(o.now()).replace('cache_', 'cache.replaced_'));
    await place(dataDir, disk, replaced);
    return { entries: manifest.entries, replaced: wasThere ? replaced : null };
  } catch (error) {
    await disk.remove(target);
    throw error;
  }
}
