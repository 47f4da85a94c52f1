// A body on its way in: from the socket into pieces, and each piece at the same time to the hash, the disk and the
// adapter. Nothing is assembled: memory is bounded by the pieces, and a body waits while none is free. The first piece
// must hold the whole safetensors header, which says how long the body is before the rest of it came; what is wrong with
// it is said then. All parties are done with all pieces when `pour` returns or throws.
import { problem } from '../contract/problems.ts';
import { HEADER_BYTES_MAX, headerLength, type Layout, parseHeader } from '../contract/tensors.ts';
import { type Piece, type Pieces, privatePiece } from '../gpu/pieces.ts';
import type { Digest, Digests } from './digest.ts';

/** Bodies up to this size never take a shared piece. */
export const PRIVATE_BYTES_MAX = 64 << 10;
const PREFIX_BYTES = 8;
/** What one body may hold at a time: the others are for other requests. */
const PIECES_MAX = 8;

export interface Body {
  readonly chunks: AsyncIterable<Uint8Array>;
  /** As announced; undefined for a chunked body. */
  readonly length: number | undefined;
}

/** The sha-256 that the caller signed; `proven`: the body was compared with it already. */
export interface SignedDigest {
  readonly bytes: Uint8Array;
  readonly proven: boolean;
}

/** Receives `length` bytes of the piece, which belong at `offset`; the piece is its own until the promise settles. */
export type Sink = (piece: Piece, length: number, offset: number) => Promise<void>;

export interface Poured {
  readonly layout: Layout;
  readonly digest: Uint8Array;
}

export interface PourOptions {
  readonly pieces: Pieces;
  readonly digests: Digests;
  readonly bytesMax: number;
  readonly signal: AbortSignal;
  /** What the body must hash to, where that was signed: proven, it is taken as it is; else the body is refused that differs. */
  readonly digest: SignedDigest | undefined;
  /** Called once the header is understood: who else wants the bytes. */
  readonly sinks: (layout: Layout) => Promise<readonly Sink[]>;
  /** Where pieces must end, for sinks that want whole rows: the next such offset after the given one. */
  readonly cut?: (layout: Layout, offset: number) => number;
}

export async function pour(body: Body, options: PourOptions): Promise<Poured> {
  const { length: announced } = body;
  if (announced !== undefined && announced > options.bytesMax) throw tooLarge(announced, options.bytesMax);
  const small = announced !== undefined && announced <= PRIVATE_BYTES_MAX;
  const hash = options.digest?.proven
    ? known(options.digest.bytes)
    : options.digests.begin(small ? 'private' : 'shared');

  /** The next piece to fill, once few enough of this body's are still with a sink. */
  async function take(): Promise<Piece> {
    if (small) return privatePiece(new Uint8Array(announced ?? 0));
    while (handed.size >= PIECES_MAX) await Promise.race(running);
    return options.pieces.take(options.signal);
  }

  let layout: Layout | undefined;
  let sinks: readonly Sink[] | undefined;
  const running = new Set<Promise<void>>();
  /** Pieces with sinks that still use them. */
  const handed = new Map<Piece, number>();
  let failure: unknown;
  let received = 0;

  function hand(sink: Sink, piece: Piece, length: number, offset: number): void {
    piece.retain();
    handed.set(piece, (handed.get(piece) ?? 0) + 1);
    const run = async () => sink(piece, length, offset); // one that throws at once must not keep the piece either
    const done = run()
      .catch((error: unknown) => {
        failure ??= error ?? new Error('a sink failed without a reason');
      })
      .finally(() => {
        piece.release();
        const users = (handed.get(piece) ?? 0) - 1;
        if (users > 0) handed.set(piece, users);
        else handed.delete(piece);
        running.delete(done);
      });
    running.add(done);
  }

  /** How far a piece that begins at `start` is filled before the header is read, or it is handed on. */
  function endOf({ bytes }: Piece, start: number, filled: number): number {
    if (layout) return Math.min(bytes.length, (options.cut?.(layout, start) ?? Number.POSITIVE_INFINITY) - start);
    const header = filled < PREFIX_BYTES ? 0 : headerLength(bytes.subarray(0, PREFIX_BYTES));
    return Math.min(bytes.length, PREFIX_BYTES + header);
  }

  async function flush(piece: Piece, length: number): Promise<void> {
    try {
      hand((p, n) => hash.update(p, n), piece, length, received - length);
      layout ??= readHeader(piece.bytes.subarray(0, length), announced, options.bytesMax); // too short: it says so
      sinks ??= await options.sinks(layout);
      for (const sink of sinks) hand(sink, piece, length, received - length);
    } finally {
      piece.release();
    }
  }

  /** Chunks into pieces; ends early when a sink failed. */
  async function receive(): Promise<void> {
    let piece: Piece | undefined;
    let filled = 0;
    try {
      for await (const chunk of body.chunks) {
        options.signal.throwIfAborted();
        if (failure) return;
        for (let at = 0; at < chunk.length; ) {
          piece ??= await take();
          const end = endOf(piece, received - filled, filled);
          const n = Math.min(end - filled, chunk.length - at);
          if (n === 0) throw trailing(announced ?? received);
          piece.bytes.set(n === chunk.length ? chunk : chunk.subarray(at, at + n), filled);
          filled += n;
          at += n;
          received += n;
          if (filled === end && filled > PREFIX_BYTES)
            layout ??= readHeader(piece.bytes.subarray(0, filled), announced, options.bytesMax);
          if (layout && received > layout.totalBytes) throw trailing(layout.totalBytes);
          if (!layout || filled < endOf(piece, received - filled, filled)) continue;
          const [full, length] = [piece, filled];
          piece = undefined;
          filled = 0;
          await flush(full, length);
        }
      }
      if (piece) {
        const last = piece;
        piece = undefined;
        await flush(last, filled);
      }
    } finally {
      piece?.release();
    }
  }

  try {
    await receive().catch((error: unknown) => {
      failure ??= error;
    });
    await Promise.all(running);
    if (failure) throw failure;
    if (!layout) throw problem('tensors_truncated', 'The body is empty. Send a safetensors file.');
    if (received !== layout.totalBytes)
      throw problem('tensors_truncated', `The header announces ${layout.totalBytes} bytes, ${received} came.`);
    const digest = await hash.end();
    if (options.digest && !Buffer.from(digest).equals(options.digest.bytes))
      throw problem(
        'digest_mismatch',
        'The body is not the one that was signed: its sha-256 differs from content-digest.',
      );
    return { layout, digest };
  } catch (error) {
    hash.drop();
    throw error;
  }
}

/** In place of a hash. */
const known = (digest: Uint8Array): Digest => ({ update: async () => {}, end: async () => digest, drop() {} });

/** The layout, from the first bytes of a body. */
function readHeader(first: Uint8Array, announced: number | undefined, bytesMax: number): Layout {
  if (first.length < PREFIX_BYTES)
    throw problem('tensors_truncated', `A safetensors file begins with 8 bytes of length; ${first.length} came.`);
  const length = headerLength(first.subarray(0, PREFIX_BYTES));
  if (length > HEADER_BYTES_MAX || PREFIX_BYTES + length > first.length)
    throw problem('tensors_truncated', `The header announces ${length} bytes, ${first.length - PREFIX_BYTES} came.`);
  const layout = parseHeader(first.subarray(PREFIX_BYTES, PREFIX_BYTES + length), announced);
  if (layout.totalBytes > bytesMax) throw tooLarge(layout.totalBytes, bytesMax);
  return layout;
}

const tooLarge = (bytes: number, bytesMax: number) =>
  problem('body_too_large', `The body has ${bytes} bytes, the limit is ${bytesMax} (BODY_BYTES_MAX).`, { bytesMax });

const trailing = (bytes: number) =>
  problem('tensors_trailing', `The body goes on after its ${bytes} bytes. Send exactly one safetensors file.`);
