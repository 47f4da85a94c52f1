// A payload on its way to the disk. From aligned memory it is written past the page cache (O_DIRECT): no copy by the
// processor, and nothing left to write back when the sync comes, which then takes a fraction of the time. Where the file
// system will not have that, and for small payloads, it is an ordinary write.
import { type Disk, writeAll } from './disk.ts';

const ALIGNMENT = 4096;

export interface PayloadFile {
  /**
   * The first `length` of `bytes` at `position`. For an aligned file, memory and position are multiples of 4096, and bytes
   * behind `length` up to the next multiple are zeroed.
   */
  write(bytes: Uint8Array, length: number, position: number): Promise<void>;
  /** Exactly `total` bytes long, synced and closed. */
  finish(total: number): Promise<void>;
  /** Closed and gone. */
  abandon(): Promise<void>;
}

export async function createPayloadFile(disk: Disk, path: string, aligned: boolean): Promise<PayloadFile> {
  let direct = aligned;
  let file = await disk.open(path, direct ? 'new direct' : 'new').catch((error: unknown) => {
    if (!direct || !isRefused(error)) throw error;
    direct = false;
    return disk.open(path, 'new');
  });
  let padded = false;
  let reopening: Promise<void> | undefined;

  /** Once, however many writes were refused. */
  function withoutDirect(): Promise<void> {
    reopening ??= (async () => {
      const refusing = file;
      file = await disk.open(path, 'write');
      direct = false; // not before: until then every write is refused, and waits here
      await refusing.close();
    })();
    return reopening;
  }

  async function write(bytes: Uint8Array, length: number, position: number): Promise<void> {
    if (!direct) return writeAll(file, bytes.subarray(0, length), position);
    const rounded = Math.ceil(length / ALIGNMENT) * ALIGNMENT;
    if (rounded > length) {
      bytes.fill(0, length, rounded);
      padded = true;
    }
    try {
      await writeAll(file, bytes.subarray(0, rounded), position);
    } catch (error) {
      if (!isRefused(error)) throw error;
      await withoutDirect();
      await writeAll(file, bytes.subarray(0, length), position);
    }
  }

  return {
    write,
    async finish(total) {
      if (padded) await file.truncate(total);
      await file.sync();
      await file.close();
    },
    async abandon() {
      await file.close().catch(() => {});
      await disk.remove(path).catch(() => {});
    },
  };
}

/** The file system has no direct writes, or wants another alignment. */
const isRefused = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === 'EINVAL';
