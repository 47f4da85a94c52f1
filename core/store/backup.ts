// A copy of a store as it is at one moment, while writing goes on: packs up to where they are synced, and the files of payloads.
//   <folder>/manifest.json    what is in it, with the sha-256 of each file; written last, so that without it there is no backup
//   <folder>/cache/           the packs and payloads of a store, at their places
//   <folder>/…                what the caller adds; it is checked like the rest, and not restored here
// Incremental: packs and payloads never change under their names, so what the backup before has is linked from there (or
// copied, where the file system has no links), and only what is new is read from the store. Never linked from the store itself:
// damage there must not reach the backup, and a payload that is not what its name says is left out. A backup of nothing is
// an error.
import { dirname, join } from 'node:path';
import { problem } from '../contract/problems.ts';
import type { Payload } from './catalog.ts';
import { type Disk, linkOrCopy, realDisk } from './disk.ts';
import { copyHashed, hashOf } from './hashed-copy.ts';
import { damagedBackup, type Manifest, type ManifestFile, readManifest, writeManifest } from './manifest.ts';
import { newId, writeMetadata } from './metadata.ts';
import type { Parts } from './opening.ts';
import { packName } from './packs.ts';
import { payloadName } from './records.ts';

const STORED = 'cache/';

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
  /** Throws if so many bytes, which are to be copied, are too many. */
  readonly fits?: (bytes: number) => Promise<void>;
  /** Writes what else is to be in it, below the folder that it is given, synced. */
  readonly add?: (to: string) => Promise<readonly ManifestFile[]>;
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
  const { catalog } = parts;
  const release = await parts.hold();
  const kept: Payload[] = [];
  try {
    const entries = catalog.size;
    if (entries === 0) throw problem('backup_empty', 'There is nothing to back up: no tensor is on disk.');
    const wanted = wantedOf(parts, (payload) => {
      catalog.retain(payload);
      kept.push(payload);
    });
    const known = await knownBefore(disk, parts, o);
    const isNew = ({ path, bytes }: Wanted) => known.get(`cache/${path}`)?.bytes !== bytes;
    await o.fits?.(wanted.filter(isNew).reduce((sum, { bytes }) => sum + bytes, 0));
    const { made, copied, leftOut } = await copyAll(disk, parts, o, wanted, known);
    await disk.makeFolder(o.to);
    made.push(...((await o.add?.(o.to)) ?? []));
    const manifest: Manifest = {
      ...{ version: 1, createdAt: new Date(o.now).toISOString(), mark: parts.mark, entries },
      lineage: parts.lineage,
      bytes: made.reduce((sum, { bytes }) => sum + bytes, 0),
      ...{ files: made, leftOut },
    };
    disk.reached('backup copied');
    await writeManifest(disk, o.to, manifest);
    await disk.syncFolder(dirname(o.to));
    return { ...manifest, copied };
  } finally {
    for (const payload of kept) catalog.release(payload);
    release();
  }
}

function wantedOf({ catalog, packs, files }: Parts, keep: (payload: Payload) => void): Wanted[] {
  const wanted: Wanted[] = [];
  for (const { number, end } of catalog.packs.values())
    if (end > 0) wanted.push({ path: `entries/packs/${packName(number)}`, from: packs.path(number), bytes: end });
  for (const payload of catalog.payloads()) {
    if (payload.inline || payload.damaged) continue;
    keep(payload);
    const { tenant, digest, bytes } = payload;
    const path = `entries/${digest.slice(0, 2)}/${payloadName(tenant, digest)}.safetensors`;
    wanted.push({ path, from: files.path(tenant, digest), bytes, payload });
  }
  return wanted;
}

/** Files of the backup before that mean the same here. */
async function knownBefore(disk: Disk, parts: Parts, { before }: BackupOptions): Promise<Map<string, ManifestFile>> {
  const manifest = before ? await readManifest(disk, before).catch(() => undefined) : undefined;
  const same = manifest?.lineage === parts.lineage ? manifest : undefined;
  return new Map(same?.files.map((file) => [file.path, file]));
}

async function copyAll(
  disk: Disk,
  parts: Parts,
  o: BackupOptions,
  wanted: readonly Wanted[],
  known: ReadonlyMap<string, ManifestFile>,
): Promise<Pick<BackupDone, 'copied' | 'leftOut'> & { made: ManifestFile[] }> {
  const made: ManifestFile[] = [];
  const leftOut = Array.from(parts.catalog.payloads()).flatMap(({ inline, damaged, tenant, digest }) =>
    damaged && !inline ? [payloadName(tenant, digest)] : [],
  );
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
        leftOut.push(payloadName(payload.tenant, payload.digest));
        continue;
      }
      if (!sha256)
        throw problem(
          'backup_failed',
          `${from} is shorter than the ${bytes} bytes that were written: the store is damaged.`,
        );
      made.push({ path: `cache/${path}`, bytes, sha256 });
      copied.files++;
      copied.bytes += bytes;
    }
    o.told?.({ files: made.length, of: wanted.length, bytes: copied.bytes });
  }
  for (const path of [...folders, join(o.to, 'cache', 'entries'), join(o.to, 'cache')]) await disk.syncFolder(path);
  return { made, copied, leftOut };
}

/** A file of the caller's, into a backup that is being made. */
export async function addFile(disk: Disk, from: string, to: string, path: string): Promise<ManifestFile> {
  await disk.makeFolder(dirname(join(to, path)));
  const bytes = disk.sizeOf(from);
  const sha256 = await copyHashed(disk, from, join(to, path), bytes);
  if (bytes < 0 || !sha256) throw problem('backup_failed', `${from} is gone, or became shorter.`);
  await disk.syncFolder(dirname(join(to, path)));
  return { path, bytes, sha256 };
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
  if (wrong.length > 0) throw problem('backup_damaged', `${from} is damaged:\n${wrong.join('\n')}`, { faults: wrong });
  return manifest;
}

/** Into a folder that holds no store; everything is checked on the way, and there at once or not at all. */
export async function restoreBackup(from: string, to: string, told?: Told, disk: Disk = realDisk): Promise<Manifest> {
  const manifest = await readManifest(disk, from);
  if ((await disk.list(to)).length > 0)
    throw new Error(`${to} is not empty: stop what uses it and move it away, then restore`);
  const partial = `${to}.restoring`;
  await disk.remove(partial);
  try {
    await copyStored(disk, from, partial, manifest, told);
    disk.reached('restore copied');
    await disk.remove(to); // empty
    await disk.rename(partial, to);
  } catch (error) {
    await disk.remove(partial).catch(() => {}); // perhaps what had filled the disk
    throw error;
  }
  await disk.syncFolder(dirname(to));
  return manifest;
}

async function copyStored(disk: Disk, from: string, to: string, manifest: Manifest, told?: Told): Promise<void> {
  let bytes = 0;
  const folders = new Set([to]);
  const stored = manifest.files.filter(({ path }) => path.startsWith(STORED));
  for (const [i, file] of stored.entries()) {
    const target = join(to, file.path.slice(STORED.length));
    if (!folders.has(dirname(target))) await disk.makeFolder(dirname(target));
    folders.add(dirname(target));
    const found = await copyHashed(disk, join(from, file.path), target, file.bytes);
    if (found !== file.sha256)
      throw damagedBackup(`${file.path} of ${from} is not as it was backed up: nothing was restored`);
    bytes += file.bytes;
    told?.({ files: i + 1, of: stored.length, bytes });
  }
  const metadata = { mark: manifest.mark, lineage: newId(), checkpoint: undefined };
  await writeMetadata(disk, join(to, 'metadata.json'), metadata);
  for (const path of [...folders, join(to, 'entries')]) await disk.syncFolder(path);
}
