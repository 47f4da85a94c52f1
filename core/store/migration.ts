// From format 1 (a JSON file for each record under index/, each payload a file) to packs of records; payloads stay where they
// are. The old store is first kept whole in format-1/, by hard links, and what is new counts from the moment in which
// metadata.json is replaced. A kill before that leaves format 1 as it was, and the next start begins anew; after it, the
// next start removes what is left of the old index. The way back: stop, and put what is in format-1/ in its place.
import { join } from 'node:path';
import { parseJson } from '../contract/json.ts';
import { type Disk, linkOrCopy, readWhole, writeAll } from './disk.ts';
import { encodeFrame, type FrameToWrite } from './frames.ts';
import { type Metadata, newId, writeMetadata } from './metadata.ts';
import { packName } from './packs.ts';
import { recordName, recordSchema, type StoredRecord } from './records.ts';
import type { LostRecord } from './start.ts';

const PACK_BYTES = 64 << 20;
const WRITE_BYTES = 1 << 20;
export const OLD_STORE = 'format-1';

export interface Migrated {
  readonly metadata: Metadata;
  readonly lost: readonly LostRecord[];
}

/** Whether there is anything of format 1, whatever metadata.json says. */
export async function hasFormat1(disk: Disk, folder: string): Promise<boolean> {
  for await (const _ of filesBelow(disk, join(folder, 'index'))) return true;
  return false;
}

/** Its records, whether they can be read or not. */
export async function countFormat1(disk: Disk, folder: string): Promise<number> {
  let count = 0;
  for await (const _ of filesBelow(disk, join(folder, 'index'))) count++;
  return count;
}

export async function migrate(disk: Disk, folder: string, log: (line: string) => void): Promise<Migrated> {
  log(`format 1 is migrated; ${join(folder, OLD_STORE)} keeps it as it was, remove it when you need no way back`);
  await keepOld(disk, folder);
  disk.reached('migration kept');
  const { records, lost } = await readRecords(disk, join(folder, 'index'));
  const mark = newId();
  await writePacks(disk, join(folder, 'entries'), mark, records);
  disk.reached('migration packed');
  await disk.remove(join(folder, 'journal')); // of an earlier life: it speaks of other packs
  const metadata: Metadata = { mark, lineage: newId(), checkpoint: undefined };
  await writeMetadata(disk, join(folder, 'metadata.json'), metadata);
  disk.reached('migration done');
  await removeOldIndex(disk, folder);
  log(`${records.length} records are in packs now`);
  return { metadata, lost };
}

/** What a migration that was ended may have left. */
export async function removeOldIndex(disk: Disk, folder: string): Promise<void> {
  await disk.remove(join(folder, 'index'));
  await disk.remove(join(folder, `${OLD_STORE}.partial`));
}

async function keepOld(disk: Disk, folder: string): Promise<void> {
  const partial = join(folder, `${OLD_STORE}.partial`);
  await disk.remove(partial);
  await disk.remove(join(folder, OLD_STORE));
  await disk.makeFolder(partial);
  const metadata = join(folder, 'metadata.json');
  if (disk.sizeOf(metadata) >= 0) await linkOrCopy(disk, metadata, join(partial, 'metadata.json'));
  for (const part of ['index', 'entries']) {
    const made = new Set<string>();
    for await (const { shard, name, path } of filesBelow(disk, join(folder, part))) {
      const to = join(partial, part, shard);
      if (!made.has(shard)) await disk.makeFolder(to);
      made.add(shard);
      await linkOrCopy(disk, path, join(to, name));
    }
    for (const shard of made) await disk.syncFolder(join(partial, part, shard));
    if (made.size > 0) await disk.syncFolder(join(partial, part));
  }
  await disk.syncFolder(partial);
  await disk.rename(partial, join(folder, OLD_STORE));
  await disk.syncFolder(folder);
}

async function readRecords(disk: Disk, index: string): Promise<{ records: StoredRecord[]; lost: LostRecord[] }> {
  const records: StoredRecord[] = [];
  const lost: LostRecord[] = [];
  for await (const { name, path } of filesBelow(disk, index)) {
    const record = recordSchema.safeParse(parseJson(String(await readWhole(disk, path)))).data;
    if (!record) lost.push({ name: path, reason: 'the record is damaged' });
    else if (name !== `${recordName(record.tenant, record.key)}.json`)
      lost.push({ name: path, reason: 'the record is not the one of its name' });
    else records.push(record);
  }
  return { records, lost };
}

async function writePacks(disk: Disk, entries: string, mark: string, records: readonly StoredRecord[]): Promise<void> {
  const partial = join(entries, 'packs.partial');
  await disk.remove(partial);
  await disk.remove(join(entries, 'packs'));
  await disk.makeFolder(partial);
  let seq = 1;
  for (let number = 1, next = 0; next < records.length; number++) {
    const file = await disk.open(join(partial, packName(number)), 'new');
    try {
      let end = 0;
      let parts = [encodeFrame({ kind: 'head', meta: { pack: number } }, 0, mark, 0)];
      for (; next < records.length && end < PACK_BYTES; next++) {
        for (const frame of framesOf(records[next])) parts.push(encodeFrame(frame, seq++, mark, 0));
        const bytes = parts.reduce((sum, part) => sum + part.length, 0);
        if (bytes < WRITE_BYTES && next + 1 < records.length) continue;
        await writeAll(file, Buffer.concat(parts), end);
        end += bytes;
        parts = [];
      }
      await file.sync();
    } finally {
      await file.close();
    }
  }
  await disk.syncFolder(partial);
  await disk.rename(partial, join(entries, 'packs'));
  await disk.syncFolder(entries);
}

function framesOf(record: StoredRecord | undefined): FrameToWrite[] {
  if (!record) return [];
  const { tenant, digest, bytes } = record;
  return [
    { kind: 'payload', meta: { tenant, digest, bytes, file: true } },
    { kind: 'put', meta: record },
  ];
}

/** Of the 256 folders below, not of those that have other names. */
async function* filesBelow(
  disk: Disk,
  folder: string,
): AsyncGenerator<{ shard: string; name: string; path: string }, void, void> {
  for (const shard of await disk.list(folder))
    if (/^[0-9a-f]{2}$/.test(shard))
      for (const name of await disk.list(join(folder, shard))) yield { shard, name, path: join(folder, shard, name) };
}
