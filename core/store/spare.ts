// A file of bytes that nobody needs, so that a removal can be written to a full disk: the file goes, and its room is for
// removals, and for tidying what they leave dead. Until the disk has room for the file again, nothing else is taken.
import { randomFillSync } from 'node:crypto';
import { type Disk, isFull, writeAll } from './disk.ts';

const PART_BYTES = 256 << 10;
/** After the disk had no room for it. */
const PAUSE_MS = 1000;

export interface Spare {
  readonly bytes: number;
  /** The disk has not had room for it since it was given, or since the start. */
  readonly isFull: boolean;
  /** For a removal, on a full disk; false if it is gone already. */
  give(): Promise<boolean>;
  /** There again when it resolves; throws what the disk said if that has no room. Not asked again at once. */
  ensure(): Promise<void>;
  /** Something was removed: there may be room. */
  retry(): void;
}

export async function openSpare(disk: Disk, path: string, bytes: number, log: (line: string) => void): Promise<Spare> {
  let isThere = disk.sizeOf(path) === bytes;
  let notBefore = 0;
  let full: unknown;
  let making: Promise<void> | undefined;

  async function make(): Promise<void> {
    await disk.remove(path);
    const part = randomFillSync(new Uint8Array(Math.min(bytes, PART_BYTES))); // zeros are no room where the disk compresses
    try {
      const file = await disk.open(path, 'new');
      try {
        for (let at = 0; at < bytes; at += part.length)
          await writeAll(file, part.subarray(0, Math.min(part.length, bytes - at)), at);
        await file.sync();
      } finally {
        await file.close();
      }
      isThere = true;
      full = undefined;
    } catch (error) {
      await disk.remove(path).catch(() => {});
      notBefore = performance.now() + PAUSE_MS;
      full = isFull(error) ? error : undefined; // a disk that is not well says so to whoever writes
    }
  }

  async function ensure(): Promise<void> {
    if (isThere) return;
    if (performance.now() >= notBefore)
      making ??= make().finally(() => {
        making = undefined;
      });
    await making;
    if (full) throw full;
  }

  await ensure().catch((error: unknown) => log(`the disk has no room for ${path}, and takes nothing new: ${error}`));
  return {
    bytes,
    get isFull() {
      return full !== undefined;
    },
    async give() {
      await making;
      if (!isThere) return false;
      isThere = false;
      full = Object.assign(new Error('it had no room for a removal'), { code: 'ENOSPC' });
      await disk.remove(path);
      log(`the disk is full: ${bytes} bytes kept for that are for removals now, and nothing else is taken`);
      return true;
    },
    ensure,
    retry() {
      notBefore = 0;
    },
  };
}
