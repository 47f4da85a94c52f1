// Puts one set of folders in the place of another, by renames alone: each part's old one is moved aside before the new one comes.
// Done again it goes on from wherever it was, so a kill in between costs nothing but the second run; undone, it leaves the
// folder as it was.
import { mkdir, rename } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { realDisk } from '../store/disk.ts';

/** What a data folder holds that has a format. */
export const PARTS = ['cache', 'postgres'] as const;

export interface Exchange {
  readonly dataDir: string;
  /** Its parts come. */
  readonly coming: string;
  /** Parts that are there go here. */
  readonly going: string;
  readonly reached: (point: string) => void;
}

const isThere = (path: string): boolean => realDisk.sizeOf(path) >= 0;

export async function exchange({ dataDir, coming, going, reached }: Exchange): Promise<void> {
  await mkdir(going, { recursive: true, mode: 0o700 });
  for (const part of PARTS) {
    const [mine, next, old] = [join(dataDir, part), join(coming, part), join(going, part)];
    if (!isThere(next)) continue; // it has come already, or there is none
    if (isThere(mine) && !isThere(old)) await renameSynced(mine, old);
    reached(`${part} is aside`);
    await renameSynced(next, mine);
    reached(`${part} is exchanged`);
  }
}

/** What `exchange` has done so far, in reverse. */
export async function undo({ dataDir, coming, going }: Omit<Exchange, 'reached'>): Promise<void> {
  for (const part of PARTS.toReversed()) {
    const [mine, next, old] = [join(dataDir, part), join(coming, part), join(going, part)];
    if (!isThere(old)) continue;
    if (isThere(mine)) await renameSynced(mine, next);
    await renameSynced(old, mine);
  }
}

async function renameSynced(from: string, to: string): Promise<void> {
  await rename(from, to);
  for (const folder of new Set([dirname(to), dirname(from)])) await realDisk.syncFolder(folder);
}
