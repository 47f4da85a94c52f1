// Small secret files below DATA_DIR: made once, mode 0600, complete or absent.

import { randomBytes } from 'node:crypto';
import { linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';

/** The file's text; if there is none yet it is made from `make`, and the first of two processes wins. */
export function readOrMake(path: string, make: () => string): { text: string; made: boolean } {
  const existing = read(path);
  if (existing !== undefined) return { text: existing, made: false };
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const fresh = `${path}.${randomBytes(6).toString('hex')}`;
  const text = make();
  writeFileSync(fresh, text, { mode: 0o600, flush: true });
  try {
    linkSync(fresh, path); // unlike rename, never over a file that is there
    return { text, made: true };
  } catch (error) {
    const theirs = read(path);
    if (theirs === undefined) throw error;
    return { text: theirs, made: false };
  } finally {
    rmSync(fresh, { force: true });
  }
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
