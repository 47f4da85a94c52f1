// Whether a copy may be written to a disk: it leaves some of it free for others, the store perhaps among them.
import { statfs } from 'node:fs/promises';
import { problem } from '../contract/problems.ts';

/** What stays free: a share, and never more than this. */
const FREE_SHARE = 0.05;
const FREE_BYTES = 10 * 2 ** 30;

/** Throws `backup_failed`. */
export async function assertFits(folder: string, bytes: number): Promise<void> {
  const { bavail, blocks, bsize } = await statfs(folder);
  const left = bavail * bsize - bytes;
  const least = Math.min(blocks * bsize * FREE_SHARE, FREE_BYTES);
  if (left >= least) return;
  throw problem(
    'backup_failed',
    `${bytes} bytes are to be copied to ${folder}, and its disk would have ${Math.max(0, left)} bytes left, below the ` +
      `${Math.ceil(least)} that stay free. Make room, or take another disk (BACKUP_DIR).`,
  );
}
