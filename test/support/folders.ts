// A folder for a test, gone with the test (or with the file, when made outside of one).
import { mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, type TestContext } from 'node:test';

export function folder(t?: TestContext): string {
  const path = mkdtempSync(join(realpathSync(tmpdir()), 'blatam-test-'));
  const remove = () => rmSync(path, { recursive: true, force: true, maxRetries: 3 });
  if (t) t.after(remove);
  else after(remove);
  return path;
}
