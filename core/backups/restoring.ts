// A backup takes the place of what is there, while the server goes on: it is restored beside the store, each byte checked; what is
// there is backed up; then the one store is changed for the other, and tenants and keys that are missing are added. What is
// written between that backup and the change is gone. Until the change, nothing has happened; from then on, the next start
// finishes what is left (placing.ts).
import { problem } from '../contract/problems.ts';
import { restoreBackup } from '../store/backup.ts';
import type { ChangingStore } from '../store/changing.ts';
import type { Disk } from '../store/disk.ts';
import type { Asker, AuditLine } from './asker.ts';
import type { Catalogue } from './catalogue.ts';
import { assertFits } from './fits.ts';
import type { Tell } from './jobs.ts';
import {
  forgetRestored,
  place,
  readRestored,
  removeBefore,
  restoredFolder,
  rowsFolder,
  storeFolder,
  writeRestored,
} from './placing.ts';
import { copyRows, type Rows } from './rows.ts';

export interface CompleteParts {
  readonly dataDir: string;
  readonly rows: Pick<Rows, 'merge'>;
  readonly audit: (line: AuditLine) => Promise<unknown>;
  readonly log: (line: string) => void;
  readonly disk: Disk;
}

export interface RestoreParts extends CompleteParts {
  readonly store: Pick<ChangingStore, 'change' | 'entries'>;
  readonly startOver: () => void;
  readonly catalogue: Catalogue;
  /** What is there now becomes a backup; gives its name, or null if there is nothing. */
  readonly save: (by: Asker, told: ReturnType<Tell>) => Promise<string | null>;
  readonly now: () => number;
}

export interface Replaced extends Record<string, unknown> {
  readonly entries: number;
  /** The backup of what was there. */
  readonly safety: string | null;
  /** Added; null where they wait for the next start. */
  readonly rows: Readonly<Record<string, number>> | null;
}

export async function restoreOver(
  o: RestoreParts,
  { id, by, safety, tell }: { id: string; by: Asker; safety: boolean; tell: Tell },
): Promise<Replaced> {
  const { dataDir, store, catalogue, disk, log } = o;
  const target = restoredFolder(dataDir);
  await disk.remove(target);
  await assertFits(dataDir, (await catalogue.find(id)).bytes);
  try {
    const manifest = await restoreBackup(catalogue.path(id), target, tell('copying'), disk);
    await copyRows(disk, catalogue.path(id), manifest, rowsFolder(target));
    const saved = safety ? await saveFirst(o, by, tell('saving what is there')) : null;
    await writeRestored(disk, target, { backup: id, by: by.actor, atMs: o.now(), safety: saved });
    disk.reached('restore marked');
    tell('changing')({ files: 0, of: 1, bytes: 0 });
    let entries = 0; // writers go on at once
    await store.change(
      () => place(dataDir, disk),
      () => {
        o.startOver();
        entries = store.entries;
      },
    );
    const rows = await completeRestore(o);
    await removeBefore(dataDir, disk).catch((error: unknown) =>
      log(`${dataDir}/cache.before stays until the next start: ${String(error)}`),
    );
    log(`backup ${id} is restored: ${entries} tensors are what they were at ${manifest.createdAt}`);
    return { entries, safety: saved, rows };
  } catch (error) {
    await disk.remove(target);
    throw error;
  }
}

function saveFirst({ save }: RestoreParts, by: Asker, told: ReturnType<Tell>): Promise<string | null> {
  return save(by, told).catch((cause: unknown) => {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw problem(
      'backup_failed',
      `What is there could not be backed up first (${why}). Nothing was restored; safety=false restores without that.`,
      {},
      { cause },
    );
  });
}

/** The rows of a restore whose files are in place, and who did it: now, or at the start after it. Gives what was added. */
export async function completeRestore(o: CompleteParts): Promise<Record<string, number> | null> {
  const { dataDir, rows, log, disk } = o;
  const folder = storeFolder(dataDir);
  const done = await readRestored(disk, folder);
  if (!done) return null;
  try {
    const added = await rows.merge(rowsFolder(folder));
    const detail = { at: new Date(done.atMs).toISOString(), safety: done.safety, added };
    await o.audit({ actor: done.by, tenant: null, action: 'backup.restored', subject: done.backup, detail });
    await forgetRestored(disk, folder);
    return added;
  } catch (error) {
    log(`backup ${done.backup} is restored, but for tenants and keys, which wait for the next start: ${String(error)}`);
    return null;
  }
}
