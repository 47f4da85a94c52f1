// The rows of the database as files of a backup, a row a line, and back: rows/tenants.jsonl, rows/keys.jsonl (secrets as the
// database has them, sealed) and rows/audit.jsonl, which is for reading only.
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import type { Query } from '../../db/query.ts';
import { addRows, readRows, SAVED_TABLES, type SavedRow, type SavedTable } from '../../db/rows.ts';
import { parseJson } from '../contract/json.ts';
import { type Disk, type DiskFile, readWhole, writeAll } from '../store/disk.ts';
import { copyHashed } from '../store/hashed-copy.ts';
import { damagedBackup, type Manifest, type ManifestFile } from '../store/manifest.ts';

const FOLDER = 'rows';
const MERGED = ['tenants', 'keys'] as const;

export interface Rows {
  /** Into a backup that is being made: all of one moment, synced. */
  save(to: string): Promise<ManifestFile[]>;
  /** What is missing is added; gives how many of each. */
  merge(folder: string): Promise<Record<string, number>>;
}

export function databaseRows(query: Query, disk: Disk): Rows {
  return {
    async save(to) {
      await disk.makeFolder(join(to, FOLDER));
      const files = new Map<SavedTable, LineFile>();
      try {
        for (const table of SAVED_TABLES) files.set(table, await openLines(disk, to, `${FOLDER}/${table}.jsonl`));
        await readRows(query, async (table, rows) => files.get(table)?.write(rows));
        const made = await Promise.all(Array.from(files.values(), (file) => file.end()));
        await disk.syncFolder(join(to, FOLDER));
        return made;
      } finally {
        for (const file of files.values()) await file.close();
      }
    },
    async merge(folder) {
      const added: Record<string, number> = {};
      for (const table of MERGED) added[table] = await addRows(query, table, await readLines(disk, folder, table));
      return added;
    },
  };
}

/** From a backup to where `merge` finds them. */
export async function copyRows(disk: Disk, from: string, { files }: Manifest, to: string): Promise<void> {
  await disk.makeFolder(to);
  for (const table of MERGED) {
    const file = files.find(({ path }) => path === `${FOLDER}/${table}.jsonl`);
    if (!file) continue; // of a store alone
    const found = await copyHashed(disk, join(from, file.path), join(to, `${table}.jsonl`), file.bytes);
    if (found !== file.sha256) throw damagedBackup(`${file.path} of ${from} is not as it was backed up`);
  }
  await disk.syncFolder(to);
}

interface LineFile {
  write(rows: readonly SavedRow[]): Promise<void>;
  end(): Promise<ManifestFile>;
  close(): Promise<void>;
}

async function openLines(disk: Disk, to: string, path: string): Promise<LineFile> {
  const hash = createHash('sha256');
  let file: DiskFile | undefined = await disk.open(join(to, path), 'new');
  let bytes = 0;
  return {
    async write(rows) {
      const text = Buffer.from(rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
      if (file) await writeAll(file, text, bytes);
      hash.update(text);
      bytes += text.length;
    },
    async end() {
      await file?.sync();
      return { path, bytes, sha256: hash.digest('hex') };
    },
    async close() {
      const open = file;
      file = undefined;
      await open?.close();
    },
  };
}

async function readLines(disk: Disk, folder: string, table: SavedTable): Promise<SavedRow[]> {
  const bytes = await readWhole(disk, join(folder, `${table}.jsonl`));
  const lines = bytes?.toString().split('\n') ?? [];
  return lines.flatMap((line) => {
    const row = parseJson(line);
    return typeof row === 'object' && row !== null ? [row as SavedRow] : [];
  });
}
