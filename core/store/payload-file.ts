// A payload on its way to the disk. From aligned memory it is written past the page cache (O_DIRECT): no copy by the
// processor, and nothing left to write back when the sync comes, which then takes a fraction of the time. Where the file
// system will not have that, and for small payloads, it is an ordinary write.
import { constants } from 'node:fs';
import { type FileHandle, open, rm } from 'node:fs/promises';

const ALIGNMENT = 4096;
const CREATE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL;

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

export async function createPayloadFile(path: string, aligned: boolean): Promise<PayloadFile> {
  let direct = aligned && constants.O_DIRECT !== undefined;
  let file = await open(path, direct ? CREATE | constants.O_DIRECT : CREATE, 0o600).catch((error: unknown) => {
    if (!direct || !isRefused(error)) throw error;
    direct = false;
    return open(path, CREATE, 0o600);
  });
  let padded = false;
  let reopening: Promise<void> | undefined;

  /** Once, however many writes were refused. */
  function withoutDirect(): Promise<void> {
    reopening ??= (async () => {
      const refusing = file;
      file = await open(path, constants.O_WRONLY);
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
      await file.datasync();
      await file.close();
    },
    async abandon() {
      await file.close().catch(() => {});
      await rm(path, { force: true }).catch(() => {});
    },
  };
}

/** The file system has no direct writes, or wants another alignment. */
const isRefused = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === 'EINVAL';

async function writeAll(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, at, bytes.length - at, position + at);
    at += bytesWritten;
  }
}
