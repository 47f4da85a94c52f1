// What has been removed of a tenant leaves nothing in a store's folder: packs are written anew without its dead frames and without
// the deletions that name it, the journal begins anew behind a checkpoint, payloads and what is set aside of it are removed, and
// so is the store of an earlier format, which is only kept as a way back, if it has anything of the tenant. What is held now stays, and reads go on meanwhile.
// Files are removed, not overwritten: what becomes of their blocks is the file system's affair.
import { join } from 'node:path';
import type { Erases } from './compaction.ts';
import type { Disk } from './disk.ts';
import { readWhole } from './disk.ts';
import { readHeader, readMeta } from './frames.ts';
import { OLD_STORE } from './migration.ts';
import type { Parts } from './opening.ts';
import { deleteSchema, payloadSchema, recordSchema, tenantHash } from './records.ts';

export interface Erasure {
  readonly tenant: string;
  /** What its keys begin with; all do with nothing. */
  readonly prefix: string;
}

export interface StoreErased {
  /** Packs that were written anew, and the frames that are not in them any more. */
  readonly packs: number;
  readonly frames: number;
  /** Of payloads that nobody needs, of what was set aside, of an earlier format. */
  readonly files: number;
}

/** Frames of it that are not held any more. Which key a payload was of is not known: all of the tenant's go. */
export const erasesFrame =
  ({ tenant, prefix }: Erasure): Erases =>
  (kind, meta) => {
    if (kind === 'head') return false;
    if (kind === 'payload') return payloadSchema.safeParse(meta).data?.tenant === tenant;
    const owner = (kind === 'put' ? recordSchema : deleteSchema).safeParse(meta).data;
    return owner?.tenant === tenant && owner.key.startsWith(prefix);
  };

export async function erase(disk: Disk, folder: string, parts: Parts, erasure: Erasure): Promise<StoreErased> {
  const { checkpoints } = parts;
  const done = await parts.compaction.purge(erasesFrame(erasure));
  disk.reached('packs purged');
  // Rows since the last checkpoint name what is gone; so may the checkpoint.
  if (!(await checkpoints.make())) throw new Error('the journal could not be made anew');
  disk.reached('journal erased');
  await parts.settle();
  const files = (await removePayloads(parts, erasure.tenant)) + (await removeAside(disk, parts, erasure));
  const old = join(folder, OLD_STORE);
  const hasOld = await holdsTenant(disk, old, erasure.tenant);
  if (hasOld) await disk.remove(old);
  await disk.syncFolder(folder);
  disk.reached('store erased');
  return { ...done, files: files + Number(hasOld) };
}

/** Whether a store that nobody opens, of any format, has something of a tenant. */
export async function holdsTenant(disk: Disk, folder: string, tenant: string): Promise<boolean> {
  const said = `{"tenant":${JSON.stringify(tenant)}`; // what records begin with
  const hash = `.${tenantHash(tenant)}.`;
  const entries = join(folder, 'entries');
  for (const [above, isRecords] of [
    [join(folder, 'index'), true],
    [entries, false],
  ] as const)
    for (const below of await disk.list(above))
      for (const name of await disk.list(join(above, below))) {
        if (name.includes(hash)) return true;
        if (!isRecords && below !== 'packs') continue;
        if ((await readWhole(disk, join(above, below, name)))?.includes(said)) return true;
      }
  for (const beside of ['.', 'journal', 'restored'])
    for (const name of await disk.list(join(folder, beside))) {
      if (beside !== 'journal' && !/\.jsonl?$/.test(name)) continue;
      if ((await readWhole(disk, join(folder, beside, name)))?.includes(JSON.stringify(tenant))) return true;
    }
  const aside = await disk.list(join(folder, 'quarantine'));
  if (aside.some((name) => name.includes(hash) || !name.endsWith('.safetensors'))) return true;
  const old = join(folder, OLD_STORE);
  return disk.sizeOf(old) >= 0 && holdsTenant(disk, old, tenant);
}

/** Payloads of a tenant that no record needs: removing them may have failed before. */
async function removePayloads({ catalog, files, locks }: Parts, tenant: string): Promise<number> {
  const own = tenantHash(tenant);
  let count = 0;
  for await (const { name } of files.names()) {
    const [digest = '', hash] = name.split('.');
    if (hash !== own) continue;
    await locks.run(name, async () => {
      const payload = catalog.payload(tenant, digest);
      if (payload && !payload.inline) return;
      await files.remove(tenant, digest);
      count++;
    });
  }
  return count;
}

/** All that was set aside of the tenant: a damaged payload tells no key. */
const removeAside = (disk: Disk, { files, mark }: Parts, { tenant }: Erasure): Promise<number> =>
  files.removeAside(async (name, path) => {
    if (name.endsWith('.pack')) return true; // of everybody, the tenant perhaps among them
    if (!name.endsWith('.frame')) return name.includes(`.${tenantHash(tenant)}`);
    const frame = await readWhole(disk, path);
    const header = frame && readHeader(frame, 0, mark);
    const meta = header && payloadSchema.safeParse(readMeta(frame, 0, header)).data;
    return !meta || meta.tenant === tenant;
  });
