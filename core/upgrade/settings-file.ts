// The file of settings that goes with an upgrade: read, kept, and put in its place whole.
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { readWhole, realDisk, replaceWhole } from '../store/disk.ts';
import { rewriteSettings } from './configuration.ts';
import type { Run } from './run.ts';

export async function settingsOf({ settingsFile, renamed }: Run): Promise<{ text?: string; changes: string[] }> {
  return settingsFile ? rewriteSettings(await readFile(settingsFile, 'utf8'), renamed) : { changes: [] };
}

export async function keepSettings(file: string | null, to: string): Promise<void> {
  if (file !== null && !existsSync(to)) await replaceWhole(realDisk, to, await readFile(file));
}

export async function installSettings(file: string | null, from: string): Promise<void> {
  const bytes = await readWhole(realDisk, from);
  if (file !== null && bytes) await replaceWhole(realDisk, file, bytes);
}
