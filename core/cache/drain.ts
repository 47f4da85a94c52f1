// Stored bytes on their way out, in pieces, in order, a few ahead of the reader. Each piece comes from the adapter while
// it has the pages, else from disk: an adapter that is lost halfway costs the reader nothing if the bytes are durable.
// What came from disk is offered to `promote`, so that the next reader finds it on an adapter. A body that comes from disk
// from beginning to end is hashed on the way, and its last piece held back until the hash is right: damaged bytes never
// arrive as a whole answer. One that comes from disk from some piece on is hashed as well: what went out before is read there once
// more, for the hash alone.
import { Problem, problem } from '../contract/problems.ts';
import type { Party } from '../gpu/freight.ts';
import type { GpuLease } from '../gpu/gpu-lease.ts';
import { PIECE_BYTES, type Piece, type Pieces, privatePiece } from '../gpu/pieces.ts';
import type { StoreReader } from '../store/store.ts';
import type { Digest, Digests } from './digest.ts';
import { PRIVATE_BYTES_MAX } from './pour.ts';

const AHEAD = 3;
const PART_BYTES = 1 << 20;

export interface DrainOptions {
  readonly pieces: Pieces;
  readonly bytes: number;
  readonly lease: GpuLease | undefined;
  /** Of a batch: brings the bytes from the adapter together with those of others. */
  readonly party?: Party | undefined;
  /** Asked once the adapter cannot give a piece; undefined if the bytes are nowhere else. */
  readonly stored: StoredBytes | undefined;
  readonly promote: ((piece: Piece, length: number, offset: number) => Promise<void>) | undefined;
  readonly signal: AbortSignal;
}

export interface StoredBytes {
  readonly open: () => Promise<StoreReader>;
  readonly digests: Digests;
  /** What they must hash to, hex. */
  readonly digest: string;
}

export interface Drained {
  /** The reader's own: to be released once its bytes are out. */
  readonly piece: Piece;
  readonly length: number;
}

interface Fetched extends Drained {
  readonly offset: number;
  readonly isFromDisk: boolean;
}

export async function* drain(options: DrainOptions): AsyncGenerator<Drained, void, void> {
  // Opened before anything is waited for: an open file outlives its entry.
  const allFromDisk = !options.lease || options.lease.lost;
  let stored = allFromDisk ? options.stored?.open() : undefined;
  stored?.catch(() => {}); // said to whoever reads
  const small = options.bytes <= PRIVATE_BYTES_MAX;
  let hash = allFromDisk ? options.stored?.digests.begin(small ? 'private' : 'shared') : undefined;
  const ahead: Promise<Fetched>[] = [];
  const promoting = new Set<Promise<void>>();

  async function fetch(offset: number): Promise<Fetched> {
    const length = Math.min(PIECE_BYTES, options.bytes - offset);
    const piece = small ? privatePiece(new Uint8Array(length)) : await options.pieces.take(options.signal);
    try {
      const isFromAdapter = await fromAdapter(offset, piece, length);
      if (!isFromAdapter) await fromDisk(offset, piece, length);
      return { piece, length, offset, isFromDisk: !isFromAdapter };
    } catch (error) {
      piece.release();
      throw error;
    }
  }

  async function fromAdapter(offset: number, piece: Piece, length: number): Promise<boolean> {
    const { lease, party } = options;
    if (!lease || (lease.lost && options.stored)) {
      party?.leave(); // nobody waits for the disk's sake
      return false;
    }
    try {
      await (party ? party.read(lease, offset, piece, length) : lease.read(offset, piece, length));
      return true;
    } catch (error) {
      if (options.stored && error instanceof Problem) return false;
      throw error;
    }
  }

  async function fromDisk(offset: number, piece: Piece, length: number): Promise<void> {
    if (!options.stored) throw new Error('bytes are neither on an adapter nor on disk');
    stored ??= options.stored.open();
    await (await stored).read(piece.bytes.subarray(0, length), offset);
    if (!options.promote) return;
    piece.retain();
    const done = options.promote(piece, length, offset).finally(() => {
      piece.release();
      promoting.delete(done);
    });
    promoting.add(done);
  }

  /** Hashes pieces in their order; before the last one is given out, all of them must be right. */
  async function check({ piece, length, offset, isFromDisk }: Fetched, isLast: boolean): Promise<void> {
    try {
      if (isFromDisk) hash ??= await hashUpTo(offset);
      if (!hash) return;
      await hash.update(piece, length);
      if (!isLast) return;
      const found = Buffer.from(await hash.end()).toString('hex');
      if (found !== options.stored?.digest) throw problem('record_damaged', `On disk its sha-256 is ${found}.`);
    } catch (error) {
      piece.release();
      throw error;
    }
  }

  /** A reader of the adapter has come to its end there: what it was given is on disk too, and belongs to the hash. */
  async function hashUpTo(end: number): Promise<Digest | undefined> {
    const { stored: source } = options;
    if (!source || !stored) return undefined;
    const reader = await stored;
    const begun = source.digests.begin('private'); // no piece is taken: others may wait for this reader's
    const part = new Uint8Array(Math.min(end, PART_BYTES));
    for (let at = 0; at < end; at += part.length) {
      options.signal.throwIfAborted();
      const length = Math.min(part.length, end - at);
      await reader.read(part.subarray(0, length), at);
      await begun.update(privatePiece(part), length);
    }
    return begun;
  }

  /** Nobody reads ahead while others wait for a piece. */
  const depth = () => (options.pieces.waiting > 0 || options.pieces.free < AHEAD ? 1 : AHEAD);

  /** Marked as looked after: what is fetched ahead may fail before the reader comes to it. */
  const fetchAhead = (offset: number): Promise<Fetched> => {
    const fetched = fetch(offset);
    fetched.catch(() => {});
    return fetched;
  };

  let next = 0;
  try {
    while (next < options.bytes || ahead.length > 0) {
      while (ahead.length < depth() && next < options.bytes) {
        ahead.push(fetchAhead(next));
        next += PIECE_BYTES;
      }
      const first = await ahead.shift();
      if (!first) continue;
      await check(first, next >= options.bytes && ahead.length === 0);
      yield { piece: first.piece, length: first.length };
    }
  } finally {
    hash?.drop();
    for (const unread of ahead) await unread.then(({ piece }) => piece.release()).catch(() => {});
    await Promise.all(promoting);
    await stored?.then((reader) => reader.close()).catch(() => {});
  }
}
