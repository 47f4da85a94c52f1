// The disk shelf: packages that memory has no room for, in segments of files (segments.ts). A block that has a record here and
// nothing else comes back by it, as by a package in memory.
// Invariants: every record is compared with its checksum when it is read, and what is not what was written is told as
// damaged and never used; a budget of 0 writes nothing.
import type { Means } from '../../../codec/means.ts';
import { type Disk, realDisk } from '../../../store/disk.ts';
import type { KvBlock } from '../held.ts';
import type { Package } from '../packages.ts';
import { createSegmentFiles, type FoundSegment, findSegments, type SegmentFiles } from './files.ts';
import { decodeRecord, encodeRecord, sumOfBytes } from './format.ts';
import { createSegments, type Place, type Segments, type SegmentsOptions } from './segments.ts';

/** What a start has found, to be put on a shelf. */
export interface KvDisk {
  readonly files: SegmentFiles;
  readonly bytesMax: number;
  readonly found: FoundSegment[];
}

export interface DiskStats {
  bytes: number;
  /** The most that it has ever been. */
  bytesMost: number;
  bytesMax: number;
  records: number;
  segments: number;
  written: number;
  writtenBytes: number;
  /** Kept as their segment was dropped. */
  copied: number;
  /** Blocks that were forgotten with their segment. */
  evictions: number;
  /** Writes and removals that the disk refused; and records that had no room. */
  failures: number;
  refused: number;
  /** Records that could not be read, or were not what was written. */
  damaged: number;
}

export interface DiskShelf extends Pick<Segments, 'drop' | 'noted' | 'wiped' | 'settled' | 'faults'> {
  readonly bytesMax: number;
  /** Records for those that have a package and none yet, as far as there is room. */
  write(blocks: readonly KvBlock[]): Promise<void>;
  /** Undefined where its record is gone, or damaged: then that has been told. */
  read(block: KvBlock): Promise<Package | undefined>;
  /** Whether its record is what was written. */
  isWhole(block: KvBlock): Promise<boolean>;
  readonly segments: Segments;
  stats(): DiskStats;
}

export interface DiskShelfOptions extends Omit<SegmentsOptions, 'files' | 'bytesMax' | 'found' | 'readRaw'> {
  readonly disk: KvDisk;
  /** What is there of it is not what it was. */
  readonly damaged: (block: KvBlock) => void;
}

/** For who is to have none. */
export const NO_DISK: KvDisk = { files: createSegmentFiles('', realDisk), bytesMax: 0, found: [] };

/** Within the budget: a smaller one than before costs the oldest. */
export async function openKvDisk(folder: string, bytesMax: number, disk: Disk): Promise<KvDisk> {
  const files = createSegmentFiles(folder, disk);
  const found = await findSegments(folder, disk);
  let bytes = found.reduce((sum, { end }) => sum + end.data + end.index, 0);
  while (found[0] && bytes > bytesMax) {
    const { number, end } = found[0];
    await files.remove(number);
    bytes -= end.data + end.index;
    found.shift();
  }
  return { files, bytesMax, found };
}

export function createDiskShelf(options: DiskShelfOptions): DiskShelf {
  const { bytesMax, files } = options.disk;
  const segments = createSegments({ ...options, ...options.disk, readRaw });
  const intern = createIntern();
  let damages = 0;

  /** Again where it was copied meanwhile. */
  async function bytesOf(block: KvBlock, isWanted: (bytes: Uint8Array<ArrayBuffer>, place: Place) => boolean) {
    for (let place = block.kept.disk; place; ) {
      const bytes = await files.read(place.segment.number, place).catch(() => undefined);
      if (bytes && isWanted(bytes, place)) return bytes;
      if (block.removed) return undefined;
      if (block.kept.disk === place) {
        damages++;
        options.damaged(block);
        return undefined;
      }
      place = block.kept.disk;
    }
    return undefined;
  }

  function readRaw(block: KvBlock): Promise<Uint8Array<ArrayBuffer> | undefined> {
    return bytesOf(block, (bytes, { sum }) => sumOfBytes(bytes) === sum);
  }

  return {
    ...segments,
    segments,
    bytesMax,
    async write(blocks) {
      if (bytesMax === 0) return;
      await segments.write(
        blocks.flatMap((block) => {
          const { cold } = block.kept;
          if (!cold) return [];
          intern(cold.means);
          return [{ block, form: cold.form, encode: () => encodeRecord(block.hash, cold) }];
        }),
      );
    },
    async read(block) {
      let found: Package | undefined;
      await bytesOf(block, (bytes, { sum }) => {
        found = decodeRecord(block.hash, bytes, sum);
        return found !== undefined;
      });
      if (!found) return undefined;
      if (block.kept.disk) block.kept.disk.used = true;
      return { ...found, means: intern(found.means) };
    },
    isWhole: async (block) => (await readRaw(block)) !== undefined,
    stats: () => ({
      ...{ bytes: segments.bytes, bytesMost: segments.bytesMost, bytesMax },
      ...{ records: segments.records, segments: segments.segments.length, ...segments.count, damaged: damages },
    }),
  };
}

const MEANS_MAX = 1024;

/** Chains have their means in common, and so have they when they come from disk: attention does at once what has the same. */
function createIntern() {
  const known = new Map<string, WeakRef<Means>>();
  return (means: Means | undefined): Means | undefined => {
    if (!means) return undefined;
    const bytes = new Uint8Array(means.values.buffer, means.values.byteOffset, means.values.byteLength);
    const key = `${bytes.length} ${sumOfBytes(bytes)}`;
    const own = known.get(key)?.deref();
    if (own?.values.every((value, i) => value === means.values[i])) return own;
    known.delete(key);
    known.set(key, new WeakRef(means));
    const [oldest] = known.keys();
    if (known.size > MEANS_MAX && oldest !== undefined) known.delete(oldest);
    return means;
  };
}
