// Larger payloads, each a plain safetensors file named by its content's hash and its tenant's.
//   entries/ab/<sha-256>.<tenant>.safetensors
//   incoming/      what is being written; emptied at every start
//   quarantine/    what turned out damaged, for a person to look at; the newest few, within a bound of bytes
import { basename, join } from 'node:path';
import type { Disk } from './disk.ts';
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
  /** Finished, it takes the place of whatever has its name; synced when it resolves. */
  keep(path: string, tenant: string, digest: string): Promise<void>;
  remove(tenant: string, digest: string): Promise<void>;
  /** A file out of the way; one that is larger than all of the quarantine may be is removed. */
  setAside(path: string): Promise<void>;
  /** Bytes out of the way. */
  writeAside(name: string, bytes: Uint8Array): Promise<void>;
  /** All files there are, by the names they have by `payloadName`. */
  names(): AsyncGenerator<{ name: string; path: string }, void, void>;
}

export async function openPayloadFiles(disk: Disk, folder: string, quarantineBytesMax: number): Promise<PayloadFiles> {
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
      held -= Math.max(0, disk.sizeOf(oldest));
      await disk.remove(oldest);
    }
    return join(quarantine, `${new Date().toISOString().replaceAll(/[-:.]/g, '')}-${next++}-${name}`);
  }

  return {
    path: pathOf,
    sizeOf: (tenant, digest) => disk.sizeOf(pathOf(tenant, digest)),
    async begin(aligned) {
      const path = join(incoming, `${next++}${SUFFIX}`);
      return { path, file: await createPayloadFile(disk, path, aligned) };
    },
    async keep(path, tenant, digest) {
      await disk.rename(path, pathOf(tenant, digest));
      disk.reached('payload renamed');
      await disk.syncFolder(shardOf(digest));
    },
    remove: (tenant, digest) => disk.remove(pathOf(tenant, digest)),
    setAside: (path) =>
      inTurn(async () => {
        const to = await aside(basename(path), disk.sizeOf(path));
        await (to === undefined ? disk.remove(path) : disk.rename(path, to));
      }),
    writeAside: (name, bytes) =>
      inTurn(async () => {
        const to = await aside(name, bytes.length);
        if (to === undefined) return;
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
