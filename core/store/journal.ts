// The journal: rows on their way behind the packs, never waited for by a writer's answer, and the checkpoints that make it
// short again. Losing it costs a longer start, and names of what is damaged. What could not be written is a gap in the
// serials, and what comes behind a gap is not believed until a checkpoint stands for it.
//   journal/NNNNNN.journal      rows, file by file
//   journal/NNNNNN.checkpoint   all rows of an index, and the journals from NNNNNN on go on from it
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { type Catalog, putRow, type Row } from './catalog.ts';
import { encodeChunk, readChunks } from './chunks.ts';
import { type Disk, type DiskFile, writeAll } from './disk.ts';

const CHUNK_ROWS = 500;

/** What metadata.json says of the last checkpoint. */
export interface CheckpointName {
  readonly number: number;
  /** The first row that is not in it. */
  readonly serial: number;
  /** All that have a sequence up to this are in it. */
  readonly seq: number;
}

export interface Journal {
  /** Written since the last checkpoint. */
  readonly bytes: number;
  /** Rows are missing for which no checkpoint stands yet. */
  readonly isBroken: boolean;
  /** In order; resolves once they are with the system, or given up. */
  append(rows: readonly Row[]): Promise<void>;
  /** Synced, with all rows up to now; false if that cannot be said. */
  sync(): Promise<boolean>;
  /** Writes a checkpoint of the catalog while it changes, a little at a time; undefined if the disk would not have it. */
  checkpoint(catalog: Catalog, seq: number): Promise<CheckpointName | undefined>;
  /** A start goes by this checkpoint: what lies before it is superfluous. */
  forgetBefore(number: number): Promise<void>;
  /** No start is to go by what was written: it is removed, and what comes is not believed until a checkpoint stands for it. */
  forgetAll(): Promise<void>;
  close(): Promise<void>;
}

export interface JournalOptions {
  readonly disk: Disk;
  readonly folder: string;
  /** The number of the next file. */
  readonly number: number;
  readonly serial: number;
  /** Rows are missing that packs tell of: what follows is not believed, and not written, until a checkpoint stands for it. */
  readonly hasGap: boolean;
  readonly log: (line: string) => void;
}

const fileName = (number: number, kind: 'journal' | 'checkpoint'): string =>
  `${String(number).padStart(6, '0')}.${kind}`;
export const numberOf = (name: string): number => Number(/^(\d{6,})\.(?:journal|checkpoint|pack)$/.exec(name)?.[1]);

export function createJournal({ disk, folder, log, ...start }: JournalOptions): Journal {
  let { number, serial } = start;
  let file: DiskFile | undefined;
  let end = 0;
  /** The last file that lacks something. */
  let brokenIn = start.hasGap ? start.number : undefined;
  let last: Promise<void> = Promise.resolve();

  async function write(rows: readonly Row[]): Promise<void> {
    const chunk = encodeChunk(serial, rows);
    serial += rows.length;
    if (brokenIn === number) return;
    try {
      file ??= await disk.open(join(folder, fileName(number, 'journal')), 'new');
      await writeAll(file, chunk, end);
      end += chunk.length;
    } catch (error) {
      brokenIn = number;
      log(`the journal cannot be written, the next checkpoint stands for it: ${String(error)}`);
    }
  }

  /** One after another. */
  function inOrder<T>(work: () => Promise<T>): Promise<T> {
    const done = last.then(work);
    last = done.then(
      () => {},
      () => {},
    );
    return done;
  }

  /** From here on rows go to the next file. */
  const turnOver = () =>
    inOrder(async () => {
      const full = file;
      // The file is not synced again: what compaction removes relies on these rows until the checkpoint is there.
      await full?.sync().catch(() => {
        brokenIn = number;
      });
      number++;
      file = undefined;
      end = 0;
      await full?.close().catch(() => {});
      return { number, serial };
    });

  async function writeRows(to: DiskFile, rows: Iterable<Row>): Promise<void> {
    let at = 0;
    let chunk: Row[] = [];
    let written = 0;
    const flush = async () => {
      const bytes = encodeChunk(written, chunk);
      written += chunk.length;
      chunk = [];
      await writeAll(to, bytes, at);
      at += bytes.length;
      await turn(); // requests come first
    };
    for (const row of rows) if (chunk.push(row) === CHUNK_ROWS) await flush();
    await flush();
  }

  return {
    get bytes() {
      return end;
    },
    get isBroken() {
      return brokenIn !== undefined;
    },
    append: (rows) => inOrder(() => write(rows)),
    sync: () =>
      inOrder(async () => {
        if (brokenIn !== undefined) return false;
        if (!file) return true;
        await file.sync();
        await disk.syncFolder(folder);
        return true;
      }).catch(() => {
        brokenIn = number;
        return false;
      }),
    async checkpoint(catalog, seq) {
      const packs: Row[] = [];
      const end: Row = ['end', catalog.highestPack];
      for (const { number, end, deletions, firstSeq, lastSeq } of catalog.packs.values())
        packs.push(['pack', number, end, deletions, firstSeq, lastSeq]);
      const name = { seq, ...(await turnOver()) };
      const path = join(folder, fileName(name.number, 'checkpoint'));
      try {
        await disk.remove(path);
        const to = await disk.open(path, 'new');
        try {
          await writeRows(to, rowsOf(catalog, packs, end));
          disk.reached('checkpoint written');
          await to.sync();
        } finally {
          await to.close();
        }
        await disk.syncFolder(folder);
        return name;
      } catch (error) {
        log(`the checkpoint cannot be written: ${String(error)}`);
        await disk.remove(path).catch(() => {});
        return undefined;
      }
    },
    async forgetBefore(first) {
      if (brokenIn !== undefined && brokenIn < first) brokenIn = undefined;
      for (const name of await disk.list(folder)) if (numberOf(name) < first) await disk.remove(join(folder, name));
    },
    async forgetAll() {
      const next = await turnOver();
      brokenIn = next.number;
      for (const name of await disk.list(folder))
        if (numberOf(name) < next.number) await disk.remove(join(folder, name));
    },
    close: () => inOrder(async () => void (await file?.close())),
  };
}

/** What lies in packs comes last: it says how far all rows before it may be believed. */
function* rowsOf(catalog: Catalog, packs: readonly Row[], end: Row): Generator<Row, void, void> {
  for (const held of catalog.held()) yield putRow(held);
  yield* packs;
  yield end;
}

export interface Replayed {
  /** All rows with a sequence up to this are known. */
  readonly seq: number;
  readonly serial: number;
  /** The number for the next file. */
  readonly next: number;
  /** Whether everything that was written could be read. */
  readonly whole: boolean;
}

/** Brings the catalog to where checkpoint and journals lead; undefined if the checkpoint that is named cannot be read. */
export async function replay(
  disk: Disk,
  folder: string,
  from: CheckpointName | undefined,
  apply: (row: Row) => void,
  settled: () => void,
): Promise<Replayed | undefined> {
  let { serial, seq } = from ?? { serial: 0, seq: 0 };
  if (from) {
    let last: Row | undefined;
    let isSettled = false;
    let counted = 0;
    const isWhole = await readFile(disk, join(folder, fileName(from.number, 'checkpoint')), (chunk) => {
      if (chunk.serial !== counted) return false;
      counted += chunk.rows.length;
      for (const row of chunk.rows) {
        if (row[0] !== 'put' && !isSettled) {
          settled();
          isSettled = true;
        }
        apply(row);
        last = row;
      }
      return true;
    });
    if (!isWhole || last?.[0] !== 'end') return undefined;
  }
  const numbers = (await disk.list(folder)).filter((name) => name.endsWith('.journal')).map(numberOf);
  const wanted = numbers.filter((number) => number >= (from?.number ?? 0)).sort((a, b) => a - b);
  let whole = true;
  for (const number of wanted)
    whole &&= await readFile(disk, join(folder, fileName(number, 'journal')), (chunk) => {
      if (chunk.serial !== serial) return false;
      serial += chunk.rows.length;
      for (const row of chunk.rows) {
        if (row[0] !== 'pack' && row[0] !== 'pack gone' && row[0] !== 'end') seq = Math.max(seq, row[1]);
        apply(row);
      }
      return true;
    });
  return { seq, serial, next: Math.max(0, from?.number ?? 0, ...numbers) + 1, whole };
}

async function readFile(disk: Disk, path: string, take: Parameters<typeof readChunks>[2]): Promise<boolean> {
  const size = disk.sizeOf(path);
  if (size < 0) return false;
  try {
    const file = await disk.open(path, 'read');
    return await readChunks(file, size, take).finally(() => file.close());
  } catch {
    return false; // the packs know it too
  }
}
