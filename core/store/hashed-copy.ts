// Files copied and read with their sha-256 on the way, a megabyte at a time. A copy is synced; its folder is the caller's affair.
import { createHash } from 'node:crypto';
import { type Disk, readAll, writeAll } from './disk.ts';

const BUFFER_BYTES = 1 << 20;

/** The sha-256 of a file, read to its end. */
export async function hashOf(disk: Disk, path: string): Promise<string> {
  const hash = createHash('sha256');
  await eachPart(disk, path, Number.POSITIVE_INFINITY, async (part) => void hash.update(part));
  return hash.digest('hex');
}

/** Its first `bytes`; gives their sha-256, or nothing if it has fewer, or is not there. */
export async function copyHashed(disk: Disk, from: string, to: string, bytes: number): Promise<string | undefined> {
  if (disk.sizeOf(from) < bytes) return undefined;
  const hash = createHash('sha256');
  await disk.remove(to);
  const target = await disk.open(to, 'new');
  try {
    const copied = await eachPart(disk, from, bytes, async (part, at) => {
      hash.update(part);
      await writeAll(target, part, at);
    });
    if (copied < bytes) return undefined;
    await target.sync();
  } finally {
    await target.close();
  }
  return hash.digest('hex');
}

async function eachPart(
  disk: Disk,
  path: string,
  bytes: number,
  take: (part: Buffer, at: number) => Promise<void>,
): Promise<number> {
  const file = await disk.open(path, 'read');
  try {
    const buffer = Buffer.allocUnsafe(BUFFER_BYTES);
    let at = 0;
    while (at < bytes) {
      const read = await readAll(file, buffer.subarray(0, Math.min(BUFFER_BYTES, bytes - at)), at);
      if (read === 0) break;
      await take(buffer.subarray(0, read), at);
      at += read;
    }
    return at;
  } finally {
    await file.close();
  }
}
