// Stored bytes on their way out, in pieces, in order, a few ahead of the reader. Each piece comes from the adapter while
// it has the pages, else from disk: an adapter that is lost halfway costs the reader nothing if the bytes are durable.
// What came from disk is offered to `promote`, so that the next reader finds it on an adapter.
import { Problem } from '../contract/problems.ts';
import { PIECE_BYTES, type Piece, type Pieces, privatePiece } from '../gpu/pieces.ts';
import type { GpuLease } from '../gpu/pool.ts';
import type { StoreReader } from '../store/store.ts';
import { PRIVATE_BYTES_MAX } from './pour.ts';

const AHEAD = 3;

export interface DrainOptions {
  readonly pieces: Pieces;
  readonly bytes: number;
  readonly lease: GpuLease | undefined;
  /** Asked once the adapter cannot give a piece; undefined if the bytes are nowhere else. */
  readonly openStored: (() => Promise<StoreReader>) | undefined;
  readonly promote: ((piece: Piece, length: number, offset: number) => Promise<void>) | undefined;
  readonly signal: AbortSignal;
}

export interface Drained {
  /** The reader's own: to be released once its bytes are out. */
  readonly piece: Piece;
  readonly length: number;
}

export async function* drain(options: DrainOptions): AsyncGenerator<Drained, void, void> {
  // Opened before anything is waited for: an open file outlives its entry.
  let stored = !options.lease || options.lease.lost ? options.openStored?.() : undefined;
  stored?.catch(() => {}); // said to whoever reads
  const ahead: Promise<Drained>[] = [];
  const promoting = new Set<Promise<void>>();

  async function fetch(offset: number): Promise<Drained> {
    const length = Math.min(PIECE_BYTES, options.bytes - offset);
    const piece =
      options.bytes <= PRIVATE_BYTES_MAX
        ? privatePiece(new Uint8Array(length))
        : await options.pieces.take(options.signal);
    try {
      if (!(await fromAdapter(offset, piece, length))) await fromDisk(offset, piece, length);
      return { piece, length };
    } catch (error) {
      piece.release();
      throw error;
    }
  }

  async function fromAdapter(offset: number, piece: Piece, length: number): Promise<boolean> {
    const { lease } = options;
    if (!lease || (lease.lost && options.openStored)) return false;
    try {
      await lease.read(offset, piece, length);
      return true;
    } catch (error) {
      if (options.openStored && error instanceof Problem) return false;
      throw error;
    }
  }

  async function fromDisk(offset: number, piece: Piece, length: number): Promise<void> {
    if (!options.openStored) throw new Error('bytes are neither on an adapter nor on disk');
    stored ??= options.openStored();
    await (await stored).read(piece.bytes.subarray(0, length), offset);
    if (!options.promote) return;
    piece.retain();
    const done = options.promote(piece, length, offset).finally(() => {
      piece.release();
      promoting.delete(done);
    });
    promoting.add(done);
  }

  /** Marked as looked after: what is fetched ahead may fail before the reader comes to it. */
  const fetchAhead = (offset: number): Promise<Drained> => {
    const fetched = fetch(offset);
    fetched.catch(() => {});
    return fetched;
  };

  let next = 0;
  try {
    while (next < options.bytes || ahead.length > 0) {
      while (ahead.length < AHEAD && next < options.bytes) {
        ahead.push(fetchAhead(next));
        next += PIECE_BYTES;
      }
      const first = ahead.shift();
      if (first) yield await first;
    }
  } finally {
    for (const unread of ahead) await unread.then(({ piece }) => piece.release()).catch(() => {});
    await Promise.all(promoting);
    await stored?.then((reader) => reader.close()).catch(() => {});
  }
}
