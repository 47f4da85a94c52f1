// A payload on its way in, before it is known what it is: in memory while it is small, in a file from the piece on that makes
// it larger, or from the beginning where pieces are aligned. Pieces come in any order, and several at a time.
import { INLINE_BYTES_MAX } from './frames.ts';
import type { PayloadFile } from './payload-file.ts';
import type { PayloadFiles } from './payload-files.ts';

export interface Incoming {
  write(piece: Uint8Array, length: number, position: number): Promise<void>;
  /** All of it, if it is in memory. */
  inline(bytes: number): Uint8Array | undefined;
  /** In a file, synced and in its place, if it is not; `counts` is told when it is counted by itself. */
  keep(tenant: string, digest: string, bytes: number, counts: () => void): Promise<void>;
  abandon(): Promise<void>;
}

interface Spilled {
  readonly path: string;
  readonly file: PayloadFile;
}

export async function openIncoming(files: PayloadFiles, aligned: boolean): Promise<Incoming> {
  let memory = Buffer.alloc(0);
  /** Of what has come. */
  let end = 0;
  let spilled: Promise<Spilled> | undefined;
  if (aligned) {
    spilled = files.begin(true);
    await spilled;
  }

  async function spill(): Promise<Spilled> {
    const begun = await files.begin(false);
    const { file } = begun;
    await file.write(memory, end, 0).catch(async (error: unknown) => {
      await file.abandon();
      throw error;
    });
    memory = Buffer.alloc(0);
    return begun;
  }

  /** Its room doubles, so that a payload that trickles in is not copied with every byte. */
  function remember(bytes: Uint8Array, position: number): void {
    end = Math.max(end, position + bytes.length);
    if (end > memory.length) {
      const grown = Buffer.alloc(Math.min(INLINE_BYTES_MAX, Math.max(end, 2 * memory.length)));
      grown.set(memory);
      memory = grown;
    }
    memory.set(bytes, position);
  }

  return {
    async write(piece, length, position) {
      if (!spilled && position + length <= INLINE_BYTES_MAX) return remember(piece.subarray(0, length), position);
      spilled ??= spill();
      await (await spilled).file.write(piece, length, position);
    },
    inline: (bytes) => (spilled ? undefined : memory.subarray(0, Math.min(end, bytes))),
    async keep(tenant, digest, bytes, counts) {
      if (!spilled) return;
      const { path, file } = await spilled;
      await file.finish(bytes);
      await files.keep(path, tenant, digest, counts);
    },
    async abandon() {
      memory = Buffer.alloc(0);
      await spilled?.then(
        ({ file }) => file.abandon(),
        () => {},
      );
    },
  };
}
