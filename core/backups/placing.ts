// How a restored store takes the place of the one that is there, by names alone, so that a kill at any moment leaves one of the two:
//   <data>/cache             what is served
//   <data>/cache.restored    whole, and to be served next; before, it is being made in cache.restored.restoring
//   <data>/cache.before      what was served, to be removed, or kept for a person
// The step that decides is the second of the renames: without `cache`, the next start finishes; with it, `cache.restored` is
// given up. What lies in the folder and is not the store's (`kv`) goes along.
import { join } from 'node:path';
import { z } from 'zod';
import { parseJson } from '../contract/json.ts';
import { type Disk, readWhole, replaceWhole } from '../store/disk.ts';

/** Not the store's, and as good with another. */
const GOES_ALONG = ['kv'];

export const storeFolder = (dataDir: string): string => join(dataDir, 'cache');
export const restoredFolder = (dataDir: string): string => join(dataDir, 'cache.restored');
const beforeFolder = (dataDir: string): string => join(dataDir, 'cache.before');

/** Takes the restored store for the one that is served, which goes to `before`; the result takes that back. */
export async function place(
  dataDir: string,
  disk: Disk,
  before: string = beforeFolder(dataDir),
): Promise<() => Promise<void>> {
  const [store, restored] = [storeFolder(dataDir), restoredFolder(dataDir)];
  await disk.remove(before);
  const takeBack = async () => {
    if (disk.sizeOf(store) >= 0) await disk.rename(store, restored);
    await disk.rename(before, store);
    await carryAlong(disk, restored, store);
  };
  if (disk.sizeOf(store) >= 0) {
    await carryAlong(disk, store, restored);
    disk.reached('restore ready');
    await disk.rename(store, before);
  }
  disk.reached('restore aside');
  try {
    await disk.rename(restored, store);
    await disk.syncFolder(dataDir);
  } catch (error) {
    await takeBack();
    throw error;
  }
  disk.reached('restore placed');
  return takeBack;
}

async function carryAlong(disk: Disk, from: string, to: string): Promise<void> {
  for (const name of GOES_ALONG)
    if (disk.sizeOf(join(from, name)) >= 0 && disk.sizeOf(join(to, name)) < 0)
      await disk.rename(join(from, name), join(to, name));
}

/** What was served before is not wanted any more. */
export const removeBefore = (dataDir: string, disk: Disk): Promise<void> => disk.remove(beforeFolder(dataDir));

/** Of a start, before the store is opened: a restore that was cut is finished, or taken back. */
export async function finishPlacing(dataDir: string, disk: Disk, log: (line: string) => void): Promise<void> {
  const [store, restored, before] = [storeFolder(dataDir), restoredFolder(dataDir), beforeFolder(dataDir)];
  const isThere = (path: string) => disk.sizeOf(path) >= 0;
  await disk.remove(`${restored}.restoring`);
  if (!isThere(store) && isThere(restored)) {
    log('a restore was cut when all was ready: it is finished now');
    await disk.rename(restored, store);
    await disk.syncFolder(dataDir);
  }
  if (!isThere(store) && isThere(before)) await disk.rename(before, store);
  if (isThere(restored)) {
    log('a restore was cut before anything was changed: nothing is, restore again');
    await carryAlong(disk, restored, store);
    await disk.remove(restored);
  }
  await disk.remove(before);
}

// ---- what is still to be done with it

const doneSchema = z.object({ backup: z.string(), by: z.string(), atMs: z.number(), safety: z.string().nullable() });
/** Of a restore whose files are in place. */
export type Restored = z.infer<typeof doneSchema>;

const marker = (folder: string) => join(folder, 'restored', 'restored.json');

/** Goes with the restored store: as long as it is there, the rows of the backup wait to be merged. */
export async function writeRestored(disk: Disk, folder: string, done: Restored): Promise<void> {
  await replaceWhole(disk, marker(folder), Buffer.from(`${JSON.stringify(done)}\n`));
  await disk.syncFolder(folder);
}

export async function readRestored(disk: Disk, folder: string): Promise<Restored | undefined> {
  const bytes = await readWhole(disk, marker(folder));
  return bytes && doneSchema.safeParse(parseJson(bytes.toString())).data;
}

/** Beside the marker lie the rows. */
export const rowsFolder = (folder: string): string => join(folder, 'restored');
export const forgetRestored = (disk: Disk, folder: string): Promise<void> => disk.remove(join(folder, 'restored'));
