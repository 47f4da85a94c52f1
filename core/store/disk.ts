// The file system as the store asks for it: a port of few calls, so that tests can put faults below the store, and end
// the process at a named point. Errors are the system's own, with their `code`.
import { constants, statSync } from 'node:fs';
import { type FileHandle, link, mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';

/** `new`: must not be there yet. `direct`: past the page cache, from aligned memory. */
export type Opening = 'read' | 'write' | 'new' | 'new direct';

export interface DiskFile {
  /** How many bytes came: fewer than asked for at the end. */
  read(into: Uint8Array, position: number): Promise<number>;
  /** How many bytes went: perhaps not all. */
  write(bytes: Uint8Array, position: number): Promise<number>;
  /** The bytes, and the length, will outlive a loss of power. */
  sync(): Promise<void>;
  truncate(bytes: number): Promise<void>;
  close(): Promise<void>;
}

export interface Disk {
  open(path: string, how: Opening): Promise<DiskFile>;
  rename(from: string, to: string): Promise<void>;
  link(from: string, to: string): Promise<void>;
  /** Nothing there is as good as removed. */
  remove(path: string): Promise<void>;
  /** Names in a folder; none if there is no such folder. */
  list(folder: string): Promise<string[]>;
  makeFolder(path: string): Promise<void>;
  /** -1: no such file. Waits for the disk: for starts, and for few files. */
  sizeOf(path: string): number;
  syncFolder(path: string): Promise<void>;
  /** The store has come to a point where a test may end the process. */
  reached(point: string): void;
}

const NEW = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL;
const FLAGS: Readonly<Record<Opening, number>> = {
  read: constants.O_RDONLY,
  write: constants.O_RDWR,
  new: NEW,
  'new direct': NEW | (constants.O_DIRECT ?? 0),
};

export const realDisk: Disk = {
  open: async (path, how) => fileOf(await open(path, FLAGS[how], 0o600)),
  rename,
  link,
  remove: (path) => rm(path, { force: true, recursive: true }),
  list: (folder) =>
    readdir(folder).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return [];
      throw error;
    }),
  makeFolder: async (path) => void (await mkdir(path, { recursive: true, mode: 0o700 })),
  sizeOf: (path) => statSync(path, { throwIfNoEntry: false })?.size ?? -1,
  async syncFolder(path) {
    const folder = await open(path, 'r');
    await folder.sync().finally(() => folder.close());
  },
  reached() {},
};

const fileOf = (file: FileHandle): DiskFile => ({
  read: async (into, position) => (await file.read(into, 0, into.length, position)).bytesRead,
  write: async (bytes, position) => (await file.write(bytes, 0, bytes.length, position)).bytesWritten,
  sync: () => file.datasync(),
  truncate: (bytes) => file.truncate(bytes),
  close: () => file.close(),
});

/** All of them, in as many writes as it takes. */
export async function writeAll(file: DiskFile, bytes: Uint8Array, position: number): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    const written = await file.write(bytes.subarray(at), position + at);
    if (written === 0) throw Object.assign(new Error('the disk took no more bytes'), { code: 'ENOSPC' });
    at += written;
  }
}

/** How many bytes came: all of `into`, unless the file ends before. */
export async function readAll(file: DiskFile, into: Uint8Array, position: number): Promise<number> {
  let at = 0;
  while (at < into.length) {
    const read = await file.read(into.subarray(at), position + at);
    if (read === 0) break;
    at += read;
  }
  return at;
}

/** A small file as it is; undefined if there is none. */
export async function readWhole(disk: Disk, path: string): Promise<Buffer | undefined> {
  const size = disk.sizeOf(path);
  if (size < 0) return undefined;
  const file = await disk.open(path, 'read');
  try {
    const bytes = Buffer.alloc(size);
    return bytes.subarray(0, await readAll(file, bytes, 0));
  } finally {
    await file.close();
  }
}

/** A small file, old or new and never half, synced with its name. */
export async function replaceWhole(disk: Disk, path: string, bytes: Uint8Array): Promise<void> {
  const partial = `${path}.new`;
  await disk.remove(partial);
  const file = await disk.open(partial, 'new');
  try {
    await writeAll(file, bytes, 0);
    await file.sync();
  } finally {
    await file.close();
  }
  await disk.rename(partial, path);
  await disk.syncFolder(dirname(path));
}

/** There is no room, as opposed to: the disk is not well. */
export const isFull = (error: unknown): boolean => FULL.has((error as NodeJS.ErrnoException).code ?? '');
const FULL = new Set(['ENOSPC', 'EDQUOT', 'EFBIG']);

/** The same file under another name, or, where the file system has no such thing, the same bytes, synced. */
export async function linkOrCopy(disk: Disk, from: string, to: string): Promise<'linked' | 'copied'> {
  try {
    await disk.link(from, to);
    return 'linked';
  } catch (error) {
    if (!CANNOT_LINK.has((error as NodeJS.ErrnoException).code ?? '')) throw error;
    await copy(disk, from, to);
    return 'copied';
  }
}
const CANNOT_LINK = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EXDEV', 'EMLINK']);
const COPY_BYTES = 1 << 20;

export async function copy(disk: Disk, from: string, to: string): Promise<void> {
  const source = await disk.open(from, 'read');
  try {
    const target = await disk.open(to, 'new');
    try {
      const buffer = Buffer.allocUnsafe(COPY_BYTES);
      for (let at = 0, read = COPY_BYTES; read === COPY_BYTES; at += read) {
        read = await readAll(source, buffer, at);
        await writeAll(target, buffer.subarray(0, read), at);
      }
      await target.sync();
    } finally {
      await target.close();
    }
  } finally {
    await source.close();
  }
}
