// A copy of a store as it is at one moment, while writing goes on: packs up to where they are synced, and the files of payloads.
//   <folder>/manifest.json    what is in it, with the sha-256 of each file; written last, so that without it there is no backup
//   <folder>/cache/           the packs and payloads of a store, at their places
// Incremental: packs and payloads never change under their names, so what the backup before has is linked from there (or
// copied, where the file system has no links), and only what is new is read from the store. Never linked from the store itself:
// damage there must not reach the backup, and a payload that is not what its name says is left out. A backup of nothing is
// an error.
import { createHash } from 'node:crypto';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { parseJson } from '../contract/json.ts';
import type { Payload } from './catalog.ts';
import { type Disk, linkOrCopy, readAll, readWhole, realDisk, replaceWhole, writeAll } from './disk.ts';
import { newId, writeMetadata } from './metadata.ts';
import type { Parts } from './opening.ts';
import { packName } from './packs.ts';
import { payloadName } from './records.ts';

const BUFFER_BYTES = 1 << 20;

const manifestSchema = z.object({
  version: z.literal(1),
  createdAt: z.string(),
  mark: z.string(),
  lineage: z.string(),
  entries: z.int().positive(),
  bytes: z.int().nonnegative(),
  files: z.array(z.object({ path: z.string(), bytes: z.int().nonnegative(), sha256: z.string() })),
});
export type Manifest = z.infer<typeof manifestSchema>;
type ManifestFile = Manifest['files'][number];

export interface Progress {
  readonly files: number;
  readonly of: number;
  readonly bytes: number;
}
export type Told = (progress: Progress) => void;

export interface BackupDone extends Manifest {
  /** Read from the store; the others were in the backup before. */
  readonly copied: { readonly files: number; readonly bytes: number };
}

export interface BackupOptions {
  /** To be made; its name is for the caller to choose. */
  readonly to: string;
  /** The backup before, for what has not changed since. */
  readonly before?: string;
  readonly now: number;
  readonly told?: Told;
}

interface Wanted {
  readonly path: string;
  readonly from: string;
  readonly bytes: number;
  /** Of a payload: what its sha-256 has to be. */
  readonly payload?: Payload;
}

/** The store must hold still in one way only: nothing that is wanted may be removed meanwhile. */
export async function backUp(disk: Disk, parts: Parts, o: BackupOptions): Promise<BackupDone> {
  const { catalog, packs, files } = parts;
  const release = await parts.hold();
  const kept: Payload[] = [];
  try {
    const entries = catalog.size;
    if (entries === 0) throw new Error('there is nothing to back up: the store holds no entry');
    const wanted: Wanted[] = [];
    for (const { number, end } of catalog.packs.values())
      if (end > 0) wanted.push({ path: `entries/packs/${packName(number)}`, from: packs.path(number), bytes: end });
    for (const payload of catalog.payloads()) {
      if (payload.inline || payload.damaged) continue;
      catalog.retain(payload);
      kept.push(payload);
      const { tenant, digest, bytes } = payload;
      const path = `entries/${digest.slice(0, 2)}/${payloadName(tenant, digest)}.safetensors`;
      wanted.push({ path, from: files.path(tenant, digest), bytes, payload });
    }
    const before = o.before ? await readManifest(disk, o.before).catch(() => undefined) : undefined;
    const same = before?.lineage === parts.lineage ? before : undefined;
    const known = new Map(same?.files.map((file) => [file.path, file]));
    const made: ManifestFile[] = [];
    const copied = { files: 0, bytes: 0 };
    const folders = new Set<string>();
    for (const { path, from, bytes, payload } of wanted) {
      const to = join(o.to, 'cache', path);
      if (!folders.has(dirname(to))) await disk.makeFolder(dirname(to));
      folders.add(dirname(to));
      const held = known.get(`cache/${path}`);
      if (o.before && held?.bytes === bytes && disk.sizeOf(join(o.before, held.path)) === bytes) {
        await disk.remove(to);
        await linkOrCopy(disk, join(o.before, held.path), to);
        made.push(held);
      } else {
        const sha256 = await copyHashed(disk, from, to, bytes);
        if (payload && sha256 !== payload.digest) {
          parts.quarantine.suspect(payload); // damaged in the store: no backup is to carry it on
          await disk.remove(to);
          continue;
        }
        made.push({ path: `cache/${path}`, bytes, sha256 });
        copied.files++;
        copied.bytes += bytes;
      }
      o.told?.({ files: made.length, of: wanted.length, bytes: copied.bytes });
    }
    for (const path of [...folders, join(o.to, 'cache', 'entries'), join(o.to, 'cache')]) await disk.syncFolder(path);
    const manifest: Manifest = {
      ...{ version: 1, createdAt: new Date(o.now).toISOString(), mark: parts.mark, entries },
      lineage: parts.lineage,
      bytes: made.reduce((sum, { bytes }) => sum + bytes, 0),
      files: made,
    };
    disk.reached('backup copied');
    await replaceWhole(disk, join(o.to, 'manifest.json'), Buffer.from(`${JSON.stringify(manifest, undefined, 1)}\n`));
    await disk.syncFolder(dirname(o.to));
    return { ...manifest, copied };
  } finally {
    for (const payload of kept) catalog.release(payload);
    release();
  }
}

/** Reads every byte; throws a line for each file that is not as it was. */
export async function verifyBackup(from: string, told?: Told, disk: Disk = realDisk): Promise<Manifest> {
  const manifest = await readManifest(disk, from);
  const wrong: string[] = [];
  let bytes = 0;
  for (const [i, file] of manifest.files.entries()) {
    const found = await hashOf(disk, join(from, file.path)).catch((error: unknown) => String(error));
    if (found !== file.sha256) wrong.push(`${file.path} is not as it was backed up (${found})`);
    bytes += file.bytes;
    told?.({ files: i + 1, of: manifest.files.length, bytes });
  }
  if (wrong.length > 0) throw new Error(`${from} is damaged:\n${wrong.join('\n')}`);
  return manifest;
}

/** Into a folder that holds no store; everything is checked on the way, and there at once or not at all. */
export async function restoreBackup(from: string, to: string, told?: Told, disk: Disk = realDisk): Promise<Manifest> {
  const manifest = await readManifest(disk, from);
  if ((await disk.list(to)).length > 0)
    throw new Error(`${to} is not empty: stop what uses it and move it away, then restore`);
  const partial = `${to}.restoring`;
  await disk.remove(partial);
  let bytes = 0;
  const folders = new Set([partial]);
  for (const [i, file] of manifest.files.entries()) {
    const target = join(partial, file.path.replace(/^cache\//, ''));
    if (!folders.has(dirname(target))) await disk.makeFolder(dirname(target));
    folders.add(dirname(target));
    const found = await copyHashed(disk, join(from, file.path), target, file.bytes);
    if (found !== file.sha256)
      throw new Error(`${file.path} of ${from} is not as it was backed up: nothing was restored`);
    bytes += file.bytes;
    told?.({ files: i + 1, of: manifest.files.length, bytes });
  }
  const metadata = { mark: manifest.mark, lineage: newId(), checkpoint: undefined };
  await writeMetadata(disk, join(partial, 'metadata.json'), metadata);
  for (const path of [...folders, join(partial, 'entries')]) await disk.syncFolder(path);
  disk.reached('restore copied');
  await disk.remove(to); // empty
  await disk.rename(partial, to);
  await disk.syncFolder(dirname(to));
  return manifest;
}

export async function readManifest(disk: Disk, from: string): Promise<Manifest> {
  const path = join(from, 'manifest.json');
  const bytes = await readWhole(disk, path);
  if (!bytes) throw new Error(`${from} is no backup, or one that was not finished: it has no manifest.json`);
  const manifest = manifestSchema.safeParse(parseJson(bytes.toString())).data;
  if (!manifest || manifest.files.some(({ path }) => path.split('/').includes('..')))
    throw new Error(`${path} does not read as the manifest of a backup`);
  return manifest;
}

async function hashOf(disk: Disk, path: string): Promise<string> {
  const hash = createHash('sha256');
  await eachPart(disk, path, Number.POSITIVE_INFINITY, async (part) => void hash.update(part));
  return hash.digest('hex');
}

/** Its first `bytes`, which must be there; gives their sha-256. */
async function copyHashed(disk: Disk, from: string, to: string, bytes: number): Promise<string> {
  const hash = createHash('sha256');
  await disk.remove(to);
  const target = await disk.open(to, 'new');
  try {
    const copied = await eachPart(disk, from, bytes, async (part, at) => {
      hash.update(part);
      await writeAll(target, part, at);
    });
    if (copied !== bytes) throw new Error(`${from} has ${copied} of ${bytes} bytes`);
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
