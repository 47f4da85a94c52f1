// The drill: a backup is restored into a folder of its own, opened by a real store, and every entry read and compared with its
// digest. What is wrong is told by name; the folder is gone afterwards, whatever happens.
import { createHash } from 'node:crypto';
import { restoreBackup, type Told } from '../store/backup.ts';
import type { Disk } from '../store/disk.ts';
import type { StoredRecord } from '../store/records.ts';
import { openStore, type Store } from '../store/store.ts';

const PART_BYTES = 1 << 20;

export interface Drilled {
  readonly entries: number;
  readonly bytes: number;
  readonly faults: readonly string[];
}

export interface DrillOptions {
  readonly from: string;
  /** Emptied before and after. */
  readonly scratch: string;
  readonly disk: Disk;
  readonly restoring: Told;
  readonly reading: Told;
}

export async function drill({ from, scratch, disk, restoring, reading }: DrillOptions): Promise<Drilled> {
  await disk.remove(scratch);
  await disk.makeFolder(scratch);
  try {
    const manifest = await restoreBackup(from, `${scratch}/cache`, restoring, disk);
    const store = await openStore(`${scratch}/cache`, () => {}, { disk });
    try {
      const known = new Set(manifest.leftOut);
      const lost = store.lost.filter(({ payload }) => !payload || !known.has(payload));
      const faults = lost.map(({ name, reason }) => `lost: ${name} (${reason})`);
      const found = store.found.length + store.lost.length;
      if (found !== manifest.entries) faults.push(`${found} entries were found, of ${manifest.entries}`);
      const read = await readAllOf(store, reading);
      return { entries: store.found.length, bytes: read.bytes, faults: [...faults, ...read.faults] };
    } finally {
      await store.close();
    }
  } finally {
    await disk.remove(scratch);
  }
}

async function readAllOf(store: Store, told: Told): Promise<{ bytes: number; faults: string[] }> {
  const faults: string[] = [];
  let bytes = 0;
  for (const [i, record] of store.found.entries()) {
    const { tenant, key } = record;
    const digest = await digestOf(store, record).catch((error: unknown) => String(error));
    if (digest !== record.digest) faults.push(`${tenant}/${key} is not what it should be (${digest})`);
    bytes += record.bytes;
    told({ files: i + 1, of: store.found.length, bytes });
  }
  return { bytes, faults };
}

async function digestOf(store: Store, record: StoredRecord): Promise<string> {
  const reader = await store.open(record);
  try {
    const hash = createHash('sha256');
    const buffer = Buffer.allocUnsafe(Math.min(PART_BYTES, record.bytes));
    for (let at = 0; at < record.bytes; at += buffer.length) {
      const part = buffer.subarray(0, Math.min(buffer.length, record.bytes - at));
      await reader.read(part, at);
      hash.update(part);
    }
    return hash.digest('hex');
  } finally {
    await reader.close();
  }
}
