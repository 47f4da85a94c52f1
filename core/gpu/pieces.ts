// The pieces through which every large payload travels: equal slices of one shared memory, leased with back-pressure.
// A piece is filled once and then read by several parties at the same time (hash, disk, adapter, socket); each retains
// it, and the last release gives it back. The pool never grows: who wants a piece while none is free waits in line, and
// leaves the line when its request is aborted. A release too many is our bug and throws.
import { problem } from '../contract/problems.ts';
import { allocateShared, type SharedHandle } from './memory.ts';

export const PIECE_BYTES = 4 << 20;
const WAIT_MS_MAX = 30_000;

export interface Pieces {
  readonly count: number;
  readonly free: number;
  readonly waiting: number;
  readonly descriptor: number | undefined;
  readonly handle: SharedHandle;
  /** A free piece, held once by the caller; rejects with the signal's reason, or after half a minute in vain. */
  take(signal?: AbortSignal): Promise<Piece>;
}

/** A leased slice of memory. `index` is its place in the shared memory, or -1 for a private one (`privatePiece`). */
export class Piece {
  readonly index: number;
  readonly bytes: Uint8Array;
  #holders = 1;
  readonly #free: (piece: Piece) => void;

  constructor(index: number, bytes: Uint8Array, free: (piece: Piece) => void) {
    this.index = index;
    this.bytes = bytes;
    this.#free = free;
  }
  retain(): this {
    if (this.#holders < 1) throw new Error(`piece ${this.index} was retained after its last release`);
    this.#holders++;
    return this;
  }
  release(): void {
    if (this.#holders < 1) throw new Error(`piece ${this.index} was released more often than held`);
    if (--this.#holders === 0) this.#free(this);
  }
}

/** Small payloads need no shared memory: the same interface over bytes of the caller's own. */
export const privatePiece = (bytes: Uint8Array): Piece => new Piece(-1, bytes, () => {});

const tooBusy = (count: number) =>
  problem(
    'pieces_exhausted',
    `All ${count} pieces (GPU_PIECES) were in use for ${WAIT_MS_MAX / 1000} s. Send it again later.`,
  );

interface Waiter {
  give(piece: Piece): void;
}

export async function openPieces(options: { count: number; shared: boolean }): Promise<Pieces> {
  const memory = await allocateShared(options.count * PIECE_BYTES, { processes: options.shared });
  const free = Array.from({ length: options.count }, (_, i) => options.count - 1 - i);
  const line = new Set<Waiter>();

  const lease = (index: number): Piece =>
    new Piece(index, memory.bytes.subarray(index * PIECE_BYTES, (index + 1) * PIECE_BYTES), giveBack);

  function giveBack(piece: Piece): void {
    const [next] = line;
    if (!next) return void free.push(piece.index);
    line.delete(next);
    next.give(lease(piece.index));
  }

  function wait(signal: AbortSignal | undefined): Promise<Piece> {
    return new Promise((resolve, reject) => {
      const leave = (reason: unknown) => {
        line.delete(waiter);
        settle();
        reject(reason);
      };
      const onAbort = () => leave(signal?.reason);
      const timer = setTimeout(() => leave(tooBusy(options.count)), WAIT_MS_MAX);
      const settle = () => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', onAbort);
      };
      const waiter: Waiter = {
        give(piece) {
          settle();
          resolve(piece);
        },
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      line.add(waiter);
    });
  }

  return {
    count: options.count,
    get free() {
      return free.length;
    },
    get waiting() {
      return line.size;
    },
    descriptor: memory.descriptor,
    handle: memory.handle,
    async take(signal) {
      signal?.throwIfAborted();
      const index = free.pop();
      return index === undefined ? wait(signal) : lease(index);
    },
  };
}
