// A copy of a folder that nobody uses, with owners and modes, synced. Files that never change under their names are linked where
// the file system has links; all others are copied, so that what happens to the copy cannot happen to the original.
import { constants } from 'node:fs';
import { chown, copyFile, lstat, mkdir, open, readdir, readlink, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { linkOrCopy, realDisk } from '../store/disk.ts';

export interface CopyRules {
  /** Left out, by the path below the folder. */
  readonly isSkipped: (path: string) => boolean;
  /** Never changes under its name. */
  readonly isLinked: (path: string) => boolean;
}

interface Found {
  readonly path: string;
  readonly kind: 'folder' | 'file' | 'link';
  readonly bytes: number;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

/** Folders before what is in them. Sockets and the like belong to processes, and are left out. */
async function* walk(folder: string, rules: CopyRules, below = ''): AsyncGenerator<Found, void, void> {
  for (const entry of await readdir(join(folder, below), { withFileTypes: true })) {
    const path = join(below, entry.name);
    if (rules.isSkipped(path)) continue;
    const { size: bytes, mode, uid, gid } = await lstat(join(folder, path));
    const kind = entry.isDirectory() ? 'folder' : entry.isSymbolicLink() ? 'link' : entry.isFile() ? 'file' : undefined;
    if (kind) yield { path, kind, bytes, mode, uid, gid };
    if (kind === 'folder') yield* walk(folder, rules, path);
  }
}

/** How many bytes a copy would write. */
export async function bytesToCopy(folder: string, rules: CopyRules): Promise<number> {
  let sum = 0;
  for await (const { path, kind, bytes } of walk(folder, rules))
    if (kind === 'file' && !rules.isLinked(path)) sum += bytes;
  return sum;
}

export async function copyFolder(
  from: string,
  to: string,
  rules: CopyRules,
  passed: (bytes: number) => void,
): Promise<void> {
  const own = await lstat(from);
  const folders = [to];
  await mkdir(to, { mode: own.mode & 0o7777 });
  await chownIfRoot(to, own);
  for await (const found of walk(from, rules)) {
    const source = join(from, found.path);
    const target = join(to, found.path);
    if (found.kind === 'folder') {
      await mkdir(target, { mode: found.mode & 0o7777 });
      folders.push(target);
    } else if (found.kind === 'link') await symlink(await readlink(source), target);
    else if (rules.isLinked(found.path)) await linkOrCopy(realDisk, source, target);
    else {
      await copyFile(source, target, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
      await syncFile(target);
      passed(found.bytes);
    }
    if (found.kind !== 'link') await chownIfRoot(target, found);
  }
  for (const folder of folders.reverse()) await realDisk.syncFolder(folder);
}

async function chownIfRoot(path: string, { uid, gid }: { uid: number; gid: number }): Promise<void> {
  if (process.getuid?.() === 0) await chown(path, uid, gid);
}

async function syncFile(path: string): Promise<void> {
  const file = await open(path, 'r');
  await file.sync().finally(() => file.close());
}
