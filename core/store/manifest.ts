// manifest.json of a backup: what is in it, with the sha-256 of each file. It is written last and at once, so that a folder without one
// is no backup, and whoever changes what is in a backup writes the files anew beside the old ones and the manifest in the end.
import { join } from 'node:path';
import { z } from 'zod';
import { parseJson } from '../contract/json.ts';
import { problem } from '../contract/problems.ts';
import { type Disk, readWhole, replaceWhole } from './disk.ts';

const manifestSchema = z.object({
  version: z.literal(1),
  createdAt: z.string(),
  mark: z.string(),
  lineage: z.string(),
  entries: z.int().positive(),
  bytes: z.int().nonnegative(),
  files: z.array(z.object({ path: z.string(), bytes: z.int().nonnegative(), sha256: z.string() })),
  /** Payloads that were damaged in the store, by name: their entries cannot be restored. */
  leftOut: z.array(z.string()).default([]),
});
export type Manifest = z.infer<typeof manifestSchema>;
export type ManifestFile = Manifest['files'][number];

export async function readManifest(disk: Disk, from: string): Promise<Manifest> {
  const path = join(from, 'manifest.json');
  const bytes = await readWhole(disk, path);
  if (!bytes)
    throw problem('backup_unknown', `${from} is no backup, or one that was not finished: it has no manifest.json`);
  const manifest = manifestSchema.safeParse(parseJson(bytes.toString())).data;
  if (!manifest || manifest.files.some(({ path }) => path.split('/').includes('..')))
    throw damagedBackup(`${path} does not read as the manifest of a backup`);
  return manifest;
}

export const writeManifest = (disk: Disk, to: string, manifest: Manifest): Promise<void> =>
  replaceWhole(disk, join(to, 'manifest.json'), Buffer.from(`${JSON.stringify(manifest, undefined, 1)}\n`));

export const damagedBackup = (detail: string) => problem('backup_damaged', detail, { faults: [detail] });
