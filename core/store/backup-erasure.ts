// A backup without what is erased: written anew beside the old one, which it then replaces, so that a kill leaves one of the two
// and nothing is ever written through a link that other backups share. Packs that hold such frames are written without them,
// payloads that only they needed are left out, as is what lies beside the store and names the tenant, all else is linked. The new manifest verifies; a pack that was damaged stays told as damaged. A backup of nothing else is removed.
import { createHash } from 'node:crypto';
import { basename, dirname, join } from 'node:path';
import { parseJson } from '../contract/json.ts';
import { type Disk, linkOrCopy, readAll, readWhole, replaceWhole, writeAll } from './disk.ts';
import { type Erasure, erasesFrame } from './erasure.ts';
import { type Seen, scanFrames } from './frame-scan.ts';
import { encodeFrame, withoutGroup } from './frames.ts';
import { hashOf } from './hashed-copy.ts';
import { type Manifest, type ManifestFile, readManifest, writeManifest } from './manifest.ts';
import { deleteSchema, payloadSchema, recordSchema, tenantHash } from './records.ts';

const WRITE_BYTES = 1 << 20;
const PACKS = 'cache/entries/packs/';
const BESIDE = /^cache\/[^/]+\.json$/;

export interface BackupErasure extends Partial<Erasure> {
  readonly tenant: string;
  /** Of other files: what is to stand there instead; undefined: they stay as they are. */
  readonly rewrite?: (path: string, text: string) => string | undefined;
}

export interface BackupErased {
  readonly entries: number;
  readonly packs: number;
  readonly payloads: number;
  /** There was nothing else in it. */
  readonly isRemoved: boolean;
}

/** Undefined if it holds nothing of it. */
export async function eraseFromBackup(
  disk: Disk,
  folder: string,
  what: BackupErasure,
): Promise<BackupErased | undefined> {
  await finishExchange(disk, folder);
  const manifest = await readManifest(disk, folder);
  const plan = await planOf(disk, folder, manifest, what);
  const others = await othersOf(disk, folder, manifest, what);
  const beside = await besideNaming(disk, folder, manifest, what);
  if (plan.packs.size + plan.payloads.size + others.size + beside.size === 0) return undefined;
  const entries = manifest.entries - plan.entries;
  const done = { entries: plan.entries, packs: plan.packs.size, payloads: plan.payloads.size };
  if (entries <= 0) {
    await disk.remove(join(folder, 'manifest.json'));
    await disk.remove(folder);
    await disk.syncFolder(dirname(folder));
    return { ...done, isRemoved: true };
  }
  const fresh = freshOf(folder);
  await disk.remove(fresh);
  try {
    await writeFresh(disk, folder, manifest, { plan, others, beside });
  } catch (error) {
    await disk.remove(fresh).catch(() => {}); // it may have filled the disk
    throw error;
  }
  disk.reached('backup rewritten');
  await disk.rename(folder, outdatedOf(folder));
  disk.reached('backup aside');
  await finishExchange(disk, folder);
  return { ...done, isRemoved: false };
}

interface Changes {
  readonly plan: Plan;
  /** What is to stand in files beside the store. */
  readonly others: ReadonlyMap<string, string>;
  /** Files beside the store that are left out. */
  readonly beside: ReadonlySet<string>;
}

async function writeFresh(
  disk: Disk,
  folder: string,
  manifest: Manifest,
  { plan, others, beside }: Changes,
): Promise<void> {
  const fresh = freshOf(folder);
  const files: ManifestFile[] = [];
  const folders = new Set([fresh]);
  for (const file of manifest.files) {
    if (plan.payloads.has(file.path) || beside.has(file.path)) continue;
    const to = join(fresh, file.path);
    for (let at = dirname(to); !folders.has(at); at = dirname(at)) folders.add(at);
    await disk.makeFolder(dirname(to));
    const staying = plan.packs.get(file.path);
    const text = others.get(file.path);
    if (staying) files.push(await writePack(disk, folder, fresh, file, { staying, mark: manifest.mark }));
    else if (text !== undefined) files.push(await writeText(disk, fresh, file.path, text));
    else {
      await linkOrCopy(disk, join(folder, file.path), to);
      files.push(file);
    }
  }
  await copyNotes(disk, folder, fresh);
  for (const path of [...folders].toReversed()) await disk.syncFolder(path);
  const bytes = files.reduce((sum, file) => sum + file.bytes, 0);
  const leftOut = manifest.leftOut.filter((name) => !plan.isGone(name));
  await writeManifest(disk, fresh, { ...manifest, entries: manifest.entries - plan.entries, bytes, files, leftOut });
}

const freshOf = (folder: string): string => `${folder}.erasing`;
const outdatedOf = (folder: string): string => `${folder}.outdated`;

/** Backups whose rewriting was cut: the folder of each, as it should be called. */
export const cutErasures = async (disk: Disk, folder: string): Promise<string[]> =>
  (await disk.list(folder)).flatMap((name) => (name.endsWith('.outdated') ? [join(folder, name.slice(0, -9))] : []));

/** The new one takes the place of the old one, which is no more; a new one that was not whole yet is nothing. */
async function finishExchange(disk: Disk, folder: string): Promise<void> {
  const [fresh, outdated] = [freshOf(folder), outdatedOf(folder)];
  if (disk.sizeOf(folder) < 0 && disk.sizeOf(outdated) >= 0) await disk.rename(fresh, folder);
  else await disk.remove(fresh);
  await disk.syncFolder(dirname(folder));
  await disk.remove(outdated);
}

interface Staying {
  readonly at: number;
  readonly length: number;
}

interface Plan {
  /** Packs that are written anew, and what stays in them. */
  readonly packs: ReadonlyMap<string, readonly Staying[]>;
  /** Whether a payload of this name goes (`payloadName`). */
  readonly isGone: (name: string) => boolean;
  /** Files of those. */
  readonly payloads: ReadonlySet<string>;
  readonly entries: number;
}

async function planOf(disk: Disk, folder: string, manifest: Manifest, what: BackupErasure): Promise<Plan> {
  const { tenant, prefix } = what;
  if (prefix === undefined) return { packs: new Map(), isGone: () => false, payloads: new Set(), entries: 0 };
  const packs = manifest.files.filter(({ path }) => path.startsWith(PACKS));
  /** By key of the tenant: what it holds in the end. */
  const latest = new Map<string, { seq: number; digest: string | undefined }>();
  for (const pack of packs)
    await scan(disk, folder, manifest.mark, pack, ({ header: { kind, seq }, meta }) => {
      const put = kind === 'put' ? recordSchema.safeParse(meta).data : undefined;
      const said = put ?? (kind === 'delete' ? deleteSchema.safeParse(meta).data : undefined);
      if (said?.tenant !== tenant || (latest.get(said.key)?.seq ?? -1) > seq) return;
      latest.set(said.key, { seq, digest: put?.digest });
    });
  const held = [...latest].filter(([, { digest }]) => digest !== undefined);
  const needed = new Set(held.filter(([key]) => !key.startsWith(prefix)).map(([, { digest }]) => digest));
  const isErased = erasesFrame({ tenant, prefix });
  const goes = ({ header: { kind }, meta }: Seen): boolean =>
    isErased(kind, meta) && !(kind === 'payload' && needed.has(payloadSchema.safeParse(meta).data?.digest));
  const touched = new Map<string, Staying[]>();
  for (const pack of packs) {
    const staying: Staying[] = [];
    let isTouched = false;
    await scan(disk, folder, manifest.mark, pack, (seen) => {
      if (goes(seen)) isTouched = true;
      else if (seen.header.kind !== 'head') staying.push({ at: seen.at, length: seen.header.length });
    });
    if (isTouched) touched.set(pack.path, staying);
  }
  const own = tenantHash(tenant);
  const isGone = (name: string): boolean => {
    const [digest, hash] = name.split('.');
    return hash === own && !needed.has(digest);
  };
  const payloads = manifest.files.filter(({ path }) => !path.startsWith(PACKS) && isGone(basename(path)));
  const entries = held.filter(([key]) => key.startsWith(prefix)).length;
  return { packs: touched, isGone, payloads: new Set(payloads.map(({ path }) => path)), entries };
}

async function scan(
  disk: Disk,
  folder: string,
  mark: string,
  { path, bytes: size }: ManifestFile,
  take: (seen: Seen) => void,
): Promise<void> {
  const file = await disk.open(join(folder, path), 'read');
  await scanFrames({ file, from: 0, size, mark, payloads: 'skip', take }).finally(() => file.close());
}

/** Files beside the store that say something of it. */
async function othersOf(
  disk: Disk,
  folder: string,
  manifest: Manifest,
  { rewrite }: BackupErasure,
): Promise<Map<string, string>> {
  const others = new Map<string, string>();
  for (const { path } of rewrite ? manifest.files : []) {
    if (path.startsWith('cache/')) continue;
    const text = String((await readWhole(disk, join(folder, path))) ?? '');
    const next = rewrite?.(path, text);
    if (next !== undefined && next !== text) others.set(path, next);
  }
  return others;
}

/** What lies beside the store and names the tenant, as the keys that were hot: a start does without. */
async function besideNaming(
  disk: Disk,
  folder: string,
  manifest: Manifest,
  { tenant, prefix }: BackupErasure,
): Promise<Set<string>> {
  const naming = new Set<string>();
  for (const { path } of prefix === undefined ? [] : manifest.files) {
    if (!BESIDE.test(path)) continue;
    const text = await readWhole(disk, join(folder, path));
    if (text?.includes(JSON.stringify(tenant))) naming.add(path);
  }
  return naming;
}

async function writePack(
  disk: Disk,
  from: string,
  to: string,
  file: ManifestFile,
  { staying, mark }: { staying: readonly Staying[]; mark: string },
): Promise<ManifestFile> {
  const { path } = file;
  const wasWhole = (await hashOf(disk, join(from, path))) === file.sha256;
  const hash = createHash('sha256');
  const number = Number.parseInt(basename(path), 10);
  const source = await disk.open(join(from, path), 'read');
  const target = await disk.open(join(to, path), 'new');
  let end = 0;
  try {
    let parts = [encodeFrame({ kind: 'head', meta: { pack: number, compacted: true } }, 0, mark, 0)];
    const flush = async () => {
      const bytes = Buffer.concat(parts);
      hash.update(bytes);
      await writeAll(target, bytes, end);
      end += bytes.length;
      parts = [];
    };
    let waiting = 0;
    for (const { at, length } of staying) {
      const frame = Buffer.alloc(length);
      await readAll(source, frame, at);
      parts.push(withoutGroup(frame));
      waiting += length;
      if (waiting < WRITE_BYTES) continue;
      await flush();
      waiting = 0;
    }
    await flush();
    await target.sync();
  } finally {
    await source.close();
    await target.close();
  }
  const sha256 = hash.digest('hex');
  return { path, bytes: end, sha256: wasWhole ? sha256 : `damaged before it was written anew: ${file.sha256}` };
}

async function writeText(disk: Disk, to: string, path: string, text: string): Promise<ManifestFile> {
  const bytes = Buffer.from(text);
  await replaceWhole(disk, join(to, path), bytes);
  return { path, bytes: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') };
}

/** That it was damaged; how was said in words that may name what is erased. */
const WAS_DAMAGED = 'it was found damaged before it was written anew by an erasure: verify it again';

/** What was noted of the backup. That it was whole, and what it held, is found out again. */
async function copyNotes(disk: Disk, from: string, to: string): Promise<void> {
  const bytes = await readWhole(disk, join(from, 'notes.json'));
  const known = parseJson(bytes?.toString() ?? '');
  if (typeof known !== 'object' || known === null) return; // they may be lost
  const { held: _, ...notes } = known as Record<string, { faults?: unknown }>;
  for (const look of ['verified', 'drilled']) {
    const faults = notes[look]?.faults;
    if (Array.isArray(faults) && faults.length > 0) notes[look] = { ...notes[look], faults: [WAS_DAMAGED] };
    else delete notes[look];
  }
  await replaceWhole(disk, join(to, 'notes.json'), Buffer.from(`${JSON.stringify(notes, undefined, 1)}\n`));
}
