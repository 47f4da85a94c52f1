// Folders for the tests of the database, each gone when its test is over.
//
// The server's user can pass through them unless a test asks for a private one: that is another way to start.
import { chmodSync, mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface TempFolder {
  readonly path: string;
  remove(): void;
}

export function tempFolder(mode = 0o711): TempFolder {
  const path = mkdtempSync(join(realpathSync(tmpdir()), 'blatam-test-'));
  chmodSync(path, mode);
  return { path, remove: () => rmSync(path, { recursive: true, force: true, maxRetries: 3 }) };
}
