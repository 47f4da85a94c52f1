// A backup is made: the store's files, the small files beside them, the rows of the database, and notes on how it went. What the
// newest backup has is taken over from it, as long as nothing was ever found wrong there. One that fails leaves nothing.
import { join } from 'node:path';
import { addFile } from '../store/backup.ts';
import type { ChangingStore } from '../store/changing.ts';
import type { Disk } from '../store/disk.ts';
import type { ManifestFile } from '../store/manifest.ts';
import type { Asker } from './asker.ts';
import { type Catalogue, heldOf, type Notes } from './catalogue.ts';
import { assertFits } from './fits.ts';
import type { Tell } from './jobs.ts';
import { storeFolder } from './placing.ts';
import type { Rows } from './rows.ts';

export interface Made extends Record<string, unknown> {
  readonly entries: number;
  readonly bytes: number;
  readonly copiedBytes: number;
  /** Payloads that are damaged in the store. */
  readonly leftOut: number;
}
export type Make = (id: string, by: Asker, reason: Notes['reason'], told: ReturnType<Tell>) => Promise<Made>;

export interface MakeParts {
  readonly dataDir: string;
  readonly folder: string;
  readonly store: Pick<ChangingStore, 'backUp'>;
  readonly rows: Pick<Rows, 'save'>;
  readonly catalogue: Catalogue;
  readonly disk: Disk;
  readonly now: () => number;
  readonly log: (line: string) => void;
}

export function createMake(o: MakeParts): Make {
  const { dataDir, store, catalogue, disk, now, log } = o;
  const fits = (bytes: number) => assertFits(o.folder, bytes);

  /** Small files beside the store's own, and the rows. */
  async function add(to: string): Promise<ManifestFile[]> {
    const folder = storeFolder(dataDir);
    const beside = (await disk.list(folder)).filter((name) => name.endsWith('.json') && name !== 'metadata.json');
    const files: ManifestFile[] = [];
    for (const name of beside) {
      const added = addFile(disk, join(folder, name), to, `cache/${name}`);
      await added.then((file) => files.push(file)).catch((error: unknown) => log(`not in the backup: ${error}`));
    }
    return [...files, ...(await o.rows.save(to))];
  }

  return async (id, by, reason, told) => {
    const begun = performance.now();
    await catalogue.removeUnfinished();
    const [latest] = await catalogue.list();
    const before = latest?.state === 'whole' ? { before: catalogue.path(latest.id) } : {};
    try {
      const to = catalogue.path(id);
      const done = await store.backUp({ to, ...before, now: now(), told, fits, add });
      const seconds = (performance.now() - begun) / 1000;
      const { entries, bytes, copied, leftOut } = done;
      await catalogue.note(id, { reason, by: by.actor, seconds, copied, held: heldOf(done) });
      log(
        `backup ${id}: ${entries} tensors, ${bytes} bytes, ${copied.bytes} of them copied, in ${seconds.toFixed(1)} s`,
      );
      if (leftOut.length > 0) log(`backup ${id} is without ${leftOut.length} payloads that are damaged on disk`);
      return { entries, bytes, copiedBytes: copied.bytes, leftOut: leftOut.length };
    } catch (error) {
      await disk.remove(catalogue.path(id)).catch(() => {});
      throw error;
    }
  };
}
