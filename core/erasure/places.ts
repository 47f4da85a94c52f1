// Where content and names of tenants are, in the order in which they are erased: first what lets a tenant in, then what is served,
// then what remembers it. Another place is another of these functions, and a line where they are listed (core/main.ts).
import { join } from 'node:path';
import type { Cache } from '../cache/cache.ts';
import type { Kv } from '../cache/kv/kv.ts';
import { parseJson } from '../contract/json.ts';
import { cutErasures, eraseFromBackup } from '../store/backup-erasure.ts';
import type { Disk } from '../store/disk.ts';
import { holdsTenant } from '../store/erasure.ts';
import type { Store } from '../store/store.ts';
import { isOfKv, type Place, tensorsOf } from './scope.ts';

/** Keys, and the tenant itself: from now on nobody writes for it. */
export const inDatabase = (erase: (tenant: string) => Promise<{ keys: number; tenants: number }>): Place => ({
  name: 'database',
  erase: async ({ tenant, whole }) => (whole ? erase(tenant) : {}),
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

/** Every backup in the folder. */
export const inBackups = (folder: string, disk: Disk): Place => ({
  name: 'backups',
  async erase(scope) {
    const { tenant, whole } = scope;
    const prefix = tensorsOf(scope);
    const done = { looked: 0, rewritten: 0, removed: 0, entries: 0, payloads: 0 };
    if (prefix === undefined) return {};
    const there = (await disk.list(folder)).filter((name) => !/\.(?:outdated|erasing)$/.test(name));
    const all = [...there.map((name) => join(folder, name)), ...(await cutErasures(disk, folder))];
    for (const path of new Set(all)) {
      if (disk.sizeOf(join(path, 'manifest.json')) < 0 && disk.sizeOf(`${path}.outdated`) < 0) {
        done.removed += Number(await removeUnfinished(disk, path));
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
    return done;
  },
});

/** A backup that was never finished, or a store that was restored on trial: nobody is at it now. */
async function removeUnfinished(disk: Disk, path: string): Promise<boolean> {
  const isOurs = ['cache', 'entries'].some((name) => disk.sizeOf(join(path, name)) >= 0);
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
 * Ways back: data folders that an upgrade has kept. One that has something of the tenant goes as a whole; KV on disk does not say
 * whose it is, and nobody needs what it was then.
 */
export const inThePast = (folders: readonly string[], disk: Disk): Place => ({
  name: 'ways back',
  async erase({ tenant, whole }) {
    let removed = 0;
    for (const folder of folders) {
      const isThere = disk.sizeOf(folder) >= 0;
      if (isThere) await disk.remove(join(folder, 'cache', 'kv'));
      if (!isThere || !(whole || (await holdsTenant(disk, join(folder, 'cache'), tenant)))) continue;
      await disk.remove(folder);
      removed++;
    }
    return { removed };
  },
});
