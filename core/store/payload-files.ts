// Larger payloads, each a plain safetensors file named by its content's hash and its tenant's.
//   entries/ab/<sha-256>.<tenant>.safetensors
//   incoming/      what is being written; emptied at every start
//   quarantine/    what turned out damaged, for a person to look at; the newest few, within a bound of bytes
// What they take is counted in the budget of the disk until they are gone: removed, and closed by their last reader.
import { basename, join } from 'node:path';
import type { Budget } from './budget.ts';
import type { Disk, DiskFile } from './disk.ts';
import { createKeyedLock } from './keyed-lock.ts';
import { createPayloadFile, type PayloadFile } from './payload-file.ts';
import { payloadName } from './records.ts';

const SUFFIX = '.safetensors';
const QUARANTINE_MAX = 100;

export interface PayloadFiles {
  path(tenant: string, digest: string): string;
  /** -1: there is none. */
  sizeOf(tenant: string, digest: string): number;
  begin(aligned: boolean): Promise<{ readonly path: string; readonly file: PayloadFile }>;
  /** To be read. */
  open(tenant: string, digest: string): Promise<Pick<DiskFile, 'read' | 'close'>>;
  /** Finished, it takes the place of whatever has its name; counted when `counts` is told, synced when it resolves. */
  keep(path: string, tenant: string, digest: string, counts: () => void): Promise<void>;
  remove(tenant: string, digest: string): Promise<void>;
  /** A file out of the way; one that is larger than all of the quarantine may be is removed. */
  setAside(path: string): Promise<void>;
  /** Bytes out of the way. */
  writeAside(name: string, bytes: Uint8Array): Promise<void>;
  /** Of what is set aside, as far as it is wanted so; gives how many. */
  removeAside(isWanted: (name: string, path: string) => Promise<boolean>): Promise<number>;
  /** Of what is set aside. */
  quarantineBytes(): Promise<number>;
  /** All files there are, by the names they have by `payloadName`. */
  names(): AsyncGenerator<{ name: string; path: string }, void, void>;
}

export async function openPayloadFiles(
  disk: Disk,
  folder: string,
  quarantineBytesMax: number,
  budget: Pick<Budget, 'add' | 'give' | 'take'>,
): Promise<PayloadFiles> {
  const entries = join(folder, 'entries');
  const incoming = join(folder, 'incoming');
  const quarantine = join(folder, 'quarantine');
  const shards = Array.from({ length: 256 }, (_, i) => i.toString(16).padStart(2, '0'));
  const there = new Set(await disk.list(entries));
  const missing = shards.filter((shard) => !there.has(shard)).map((shard) => join(entries, shard));
  await Promise.all([incoming, quarantine, ...missing].map(disk.makeFolder));
  let next = 1;
  const locks = createKeyedLock();
  const inTurn = (work: () => Promise<void>) => locks.run(quarantine, work);

  const shardOf = (digest: string) => join(entries, digest.slice(0, 2));
  const pathOf = (tenant: string, digest: string) => join(shardOf(digest), `${payloadName(tenant, digest)}${SUFFIX}`);

  /** A name for so many bytes, the oldest having gone for them; undefined if they are too many. */
  async function aside(name: string, bytes: number): Promise<string | undefined> {
    if (bytes > quarantineBytesMax) return undefined;
    const there = (await disk.list(quarantine)).sort().map((name) => join(quarantine, name));
    let held = there.reduce((sum, path) => sum + Math.max(0, disk.sizeOf(path)), bytes);
    for (let count = there.length; count >= QUARANTINE_MAX || held > quarantineBytesMax; count--) {
      const oldest = there.shift();
      if (!oldest) break;
      const gone = Math.max(0, disk.sizeOf(oldest));
      await disk.remove(oldest);
      budget.give(gone);
      held -= gone;
    }
    return join(quarantine, `${new Date().toISOString().replaceAll(/[-:.]/g, '')}-${next++}-${name}`);
  }

  /** By path: how many read there, and what of it is gone and still takes room for them. */
  const readers = new Map<string, number>();
  const owed = new Map<string, number>();

  function giveOnceClosed(path: string, bytes: number): void {
    if (readers.has(path)) owed.set(path, (owed.get(path) ?? 0) + bytes);
    else budget.give(bytes);
  }

  async function removeCounted(path: string): Promise<void> {
    const bytes = Math.max(0, disk.sizeOf(path));
    await disk.remove(path);
    giveOnceClosed(path, bytes);
  }

  async function closeReader(path: string, file: DiskFile): Promise<void> {
    await file.close();
    const others = (readers.get(path) ?? 1) - 1;
    if (others > 0) return void readers.set(path, others);
    readers.delete(path);
    budget.give(owed.get(path) ?? 0);
    owed.delete(path);
  }

  return {
    path: pathOf,
    sizeOf: (tenant, digest) => disk.sizeOf(pathOf(tenant, digest)),
    async begin(aligned) {
      const path = join(incoming, `${next++}${SUFFIX}`);
      return { path, file: await createPayloadFile(disk, path, aligned) };
    },
    async keep(path, tenant, digest, counts) {
      const target = pathOf(tenant, digest);
      const before = Math.max(0, disk.sizeOf(target));
      await disk.rename(path, target);
      giveOnceClosed(target, before);
      budget.add(disk.sizeOf(target));
      counts(); // in the same turn: counted twice, it would leave no room for removals
      disk.reached('payload renamed');
      await disk.syncFolder(shardOf(digest));
    },
    async open(tenant, digest) {
      const path = pathOf(tenant, digest);
      const file = await disk.open(path, 'read');
      readers.set(path, (readers.get(path) ?? 0) + 1);
      return { read: file.read, close: () => closeReader(path, file) };
    },
    remove: (tenant, digest) => removeCounted(pathOf(tenant, digest)),
    async removeAside(isWanted) {
      let count = 0;
      await inTurn(async () => {
        for (const name of await disk.list(quarantine)) {
          const path = join(quarantine, name);
          if (!(await isWanted(name, path))) continue;
          const bytes = Math.max(0, disk.sizeOf(path));
          await disk.remove(path);
          budget.give(bytes);
          count++;
        }
        if (count > 0) await disk.syncFolder(quarantine);
      });
      return count;
    },
    async quarantineBytes() {
      const names = await disk.list(quarantine);
      return names.reduce((sum, name) => sum + Math.max(0, disk.sizeOf(join(quarantine, name))), 0);
    },
    setAside: (path) =>
      inTurn(async () => {
        const to = await aside(basename(path), disk.sizeOf(path));
        await (to === undefined ? removeCounted(path) : disk.rename(path, to));
      }),
    writeAside: (name, bytes) =>
      inTurn(async () => {
        const to = await aside(name, bytes.length);
        if (to === undefined || !budget.take(bytes.length, 'tidying')) return;
        const file = await disk.open(to, 'new');
        await file.write(bytes, 0).finally(() => file.close());
      }),
    async *names() {
      for (const shard of shards)
        for (const file of await disk.list(join(entries, shard)))
          yield {
            name: file.endsWith(SUFFIX) ? file.slice(0, -SUFFIX.length) : file,
            path: join(entries, shard, file),
          };
    },
  };
}
