// Where content and names of tenants are, in the order in which they are erased: first what lets a tenant in, then what is served,
// then what remembers it. Another place is another of these functions, and a line where they are listed (core/main.ts).
import { basename, join } from 'node:path';
import { timeOf } from '../backups/names.ts';
import { rowsFolder, storeFolder } from '../backups/placing.ts';
import type { Cache } from '../cache/cache.ts';
import type { Kv } from '../cache/kv/kv.ts';
import { parseJson } from '../contract/json.ts';
import { cutErasures, eraseFromBackup } from '../store/backup-erasure.ts';
import { type Disk, readWhole, replaceWhole } from '../store/disk.ts';
import { holdsTenant } from '../store/erasure.ts';
import type { Store } from '../store/store.ts';
import { isOfKv, type Place, tensorsOf } from './scope.ts';

/**
 * Keys, and the tenant itself: from now on nobody writes for it. First those of a restored backup that could not be added yet,
 * or the next start would bring them back.
 */
export const inDatabase = (
  erase: (tenant: string) => Promise<{ keys: number; tenants: number }>,
  dataDir: string,
  disk: Disk,
): Place => ({
  name: 'database',
  async erase({ tenant, whole }) {
    if (!whole) return {};
    const waiting = rowsFolder(storeFolder(dataDir));
    for (const name of await disk.list(waiting)) {
      const path = join(waiting, name);
      const text = String((await readWhole(disk, path)) ?? '');
      const next = rowsWithout(tenant)(path, text);
      if (next !== undefined && next !== text) await replaceWhole(disk, path, Buffer.from(next));
    }
    return erase(tenant);
  },
});

/** On adapters and on disk, as far as they are held. */
export const amongTensors = (cache: Pick<Cache, 'erase'>): Place => ({
  name: 'tensors',
  async erase(scope) {
    const prefix = tensorsOf(scope);
    return prefix === undefined ? {} : { ...(await cache.erase(scope.tenant, prefix)) };
  },
});

/** On adapters and in memory; what other tenants have stored too under a salt is theirs, and stays. */
export const amongKv = (kv: Pick<Kv, 'clear'>): Place => ({
  name: 'kv',
  async erase(scope) {
    const { tenant, model, salt } = scope;
    return isOfKv(scope) ? { ...(await kv.clear({ tenant, model, salt })) } : {};
  },
});

/** What the disk remembers of tensors that are gone: packs, journal, quarantine, an earlier format. */
export const onDisk = (store: Pick<Store, 'erase'>): Place => ({
  name: 'disk',
  async erase(scope) {
    const prefix = tensorsOf(scope);
    return prefix === undefined ? {} : { ...(await store.erase({ tenant: scope.tenant, prefix })) };
  },
});

/** Every backup in the folders, by its name: what else lies there is somebody else's. */
export const inBackups = (folders: readonly string[], disk: Disk): Place => ({
  name: 'backups',
  async erase(scope) {
    const { tenant, whole } = scope;
    const prefix = tensorsOf(scope);
    const done = { looked: 0, rewritten: 0, removed: 0, entries: 0, payloads: 0 };
    if (prefix === undefined) return {};
    for (const path of await backupsIn(folders, disk)) {
      if (disk.sizeOf(join(path, 'manifest.json')) < 0 && disk.sizeOf(`${path}.outdated`) < 0) {
        await disk.remove(path); // never finished, and nobody is at it now
        done.removed++;
        continue;
      }
      done.looked++;
      const erased = await eraseFromBackup(disk, path, {
        tenant,
        prefix,
        ...(whole && { rewrite: rowsWithout(tenant) }),
      });
      if (!erased) continue;
      if (erased.isRemoved) done.removed++;
      else done.rewritten++;
      done.entries += erased.entries;
      done.payloads += erased.payloads;
    }
    for (const folder of folders) done.removed += Number(await removeDrill(disk, join(folder, 'drill')));
    return done;
  },
});

async function backupsIn(folders: readonly string[], disk: Disk): Promise<Set<string>> {
  const paths: string[] = [];
  for (const folder of folders) {
    for (const name of await disk.list(folder)) paths.push(join(folder, name));
    paths.push(...(await cutErasures(disk, folder)));
  }
  return new Set(paths.filter((path) => timeOf(basename(path)) !== undefined));
}

/** A store that was restored on trial, or was about to be. */
async function removeDrill(disk: Disk, path: string): Promise<boolean> {
  const isOurs = ['cache', 'cache.restoring'].some((name) => disk.sizeOf(join(path, name)) >= 0);
  if (isOurs) await disk.remove(path);
  return isOurs;
}

/** Rows of tables as lines of JSON: those of the tenant and its keys go; the audit log stays as it is, append-only. */
const rowsWithout = (tenant: string) => (path: string, text: string) => {
  const owner = /\/tenants\.jsonl$/.test(path) ? 'id' : /\/keys\.jsonl$/.test(path) ? 'tenant' : undefined;
  if (owner === undefined) return undefined;
  const isOther = (line: string) => (parseJson(line) as Record<string, unknown> | undefined)?.[owner] !== tenant;
  return text.split('\n').filter(isOther).join('\n');
};

/**
 * Ways back: data folders that an upgrade has kept, and stores that a restore has put aside. One that has something of the tenant goes
 * as a whole; KV on disk does not say whose it is, and nobody needs what it was then.
 */
export const inThePast = (dataDir: string, disk: Disk): Place => ({
  name: 'ways back',
  async erase({ tenant, whole }) {
    let removed = 0;
    for (const folder of KEPT_BY_UPGRADES.map((name) => join(dataDir, 'upgrade', name))) {
      const isThere = disk.sizeOf(folder) >= 0;
      if (isThere) await disk.remove(join(folder, 'cache', 'kv'));
      if (!isThere || !(whole || (await holdsTenant(disk, join(folder, 'cache'), tenant)))) continue;
      await disk.remove(folder);
      removed++;
    }
    for (const name of await disk.list(dataDir)) {
      const folder = join(dataDir, name);
      const isAside = name.startsWith('cache.replaced_') && (await holdsTenant(disk, folder, tenant));
      if (!isAside && name !== 'cache.before') continue; // which the next start would remove
      await disk.remove(folder);
      removed++;
    }
    await disk.syncFolder(dataDir);
    return { removed };
  },
});
const KEPT_BY_UPGRADES = ['before', 'after', 'next'];
