// Whether bytes stand anywhere below a folder: in a file, or in the name of one.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Files in which one of these is, with which; none if nothing is left. */
export function tracesIn(folder: string, wanted: Readonly<Record<string, Uint8Array | string>>): string[] {
  const found: string[] = [];
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath, entry.name);
    const bytes = readFileSync(path);
    for (const [name, needle] of Object.entries(wanted))
      if (bytes.includes(Buffer.from(needle)) || (typeof needle === 'string' && path.includes(needle)))
        found.push(`${name} in ${path}`);
  }
  return found;
}
