// The files of segments (format.ts), in a folder of their own. Nothing is synced as it is written: what a loss of power takes is
// computed again. What is wiped is, before that is told: its lines first, so that a start does not find it, then its bytes. So is
// the folder, once a segment is removed.
// Not here: what is in them, and how much they may be.
import { join } from 'node:path';
import { type Disk, readAll, readWhole, writeAll } from '../../../store/disk.ts';
import { type Lines, readLines } from './format.ts';

/** How much of a segment's two files there is. */
export interface Extent {
  readonly data: number;
  readonly index: number;
}

export interface Span {
  readonly at: number;
  readonly bytes: number;
}

export interface SegmentFiles {
  /** Behind what is there; the lines last. */
  append(segment: number, end: Extent, chunks: readonly Uint8Array[], lines: Uint8Array): Promise<void>;
  /** Throws where there is not so much. */
  read(segment: number, { at, bytes }: Span): Promise<Uint8Array<ArrayBuffer>>;
  /** Only these lines from now on, and zeros in those places. */
  wipe(segment: number, end: Extent, lines: Uint8Array, places: readonly Span[]): Promise<void>;
  remove(segment: number): Promise<void>;
}

export interface FoundSegment extends Lines {
  readonly number: number;
  readonly end: Extent;
}

const NAME = /^(\d{10})\.(data|index)$/;
const ZEROS = new Uint8Array(1 << 20);

export function createSegmentFiles(folder: string, disk: Disk): SegmentFiles {
  const pathOf = (segment: number, part: keyof Extent): string =>
    join(folder, `${String(segment).padStart(10, '0')}.${part}`);

  async function withFile<T>(
    segment: number,
    part: keyof Extent,
    how: 'read' | 'write' | 'new',
    act: (file: Awaited<ReturnType<Disk['open']>>) => Promise<T>,
  ): Promise<T> {
    const file = await disk.open(pathOf(segment, part), how);
    try {
      return await act(file);
    } finally {
      await file.close();
    }
  }

  return {
    async append(segment, end, chunks, lines) {
      await withFile(segment, 'data', end.data === 0 ? 'new' : 'write', async (file) => {
        let at = end.data;
        for (const chunk of chunks) {
          await writeAll(file, chunk, at);
          at += chunk.length;
        }
      });
      await withFile(segment, 'index', end.index === 0 ? 'new' : 'write', (file) => writeAll(file, lines, end.index));
    },
    read: (segment, { at, bytes }) =>
      withFile(segment, 'data', 'read', async (file) => {
        const into = new Uint8Array(bytes);
        const read = await readAll(file, into, at);
        if (read < bytes) throw new Error(`segment ${segment} ends ${bytes - read} bytes before a record does`);
        return into;
      }),
    async wipe(segment, end, lines, places) {
      await withFile(segment, 'index', 'write', async (file) => {
        await writeAll(file, lines, 0);
        await file.truncate(lines.length);
        await file.sync();
      });
      await withFile(segment, 'data', 'write', async (file) => {
        for (const { at, bytes } of places)
          for (let from = at; from < Math.min(at + bytes, end.data); from += ZEROS.length)
            await writeAll(file, ZEROS.subarray(0, Math.min(ZEROS.length, at + bytes - from)), from);
        await file.sync();
      });
    },
    async remove(segment) {
      await disk.remove(pathOf(segment, 'index'));
      await disk.remove(pathOf(segment, 'data'));
      await disk.syncFolder(folder); // what was in it may have been cleared
    },
  };
}

/** What a start finds, the oldest first; what cannot be used goes. */
export async function findSegments(folder: string, disk: Disk): Promise<FoundSegment[]> {
  await disk.makeFolder(folder);
  const names = (await disk.list(folder)).sort();
  const found: FoundSegment[] = [];
  for (const name of names) {
    const [, number, part] = NAME.exec(name) ?? [];
    const data = join(folder, `${number}.data`);
    const isWhole = number !== undefined && names.includes(`${number}.data`) && names.includes(`${number}.index`);
    if (!isWhole) await disk.remove(join(folder, name));
    else if (part === 'index') {
      const bytes = await readWhole(disk, join(folder, name)).catch(() => undefined);
      const end = { data: Math.max(0, disk.sizeOf(data)), index: bytes?.length ?? 0 };
      found.push({ number: Number(number), end, ...readLines(bytes ?? Buffer.alloc(0)) });
    }
  }
  return found;
}
