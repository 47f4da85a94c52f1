// The pieces through which every large payload travels: equal slices of one shared memory, leased with back-pressure.
// A piece is filled once and then read by several parties at the same time (hash, disk, adapter, socket); each retains
// it, and the last release gives it back. The pool never grows: who wants a piece while none is free waits in line, and
// leaves the line when its request is aborted. A release too many is our bug and throws.
// What a tenant's requests take is taken as seen by that tenant (`of`): it never has more than stay free for others, and tenants
// who wait have their turn one after the other. So however slow one tenant's bodies and readers are, there are pieces for others.
import { problem } from '../contract/problems.ts';
import { createLines, type Tenant } from './lines.ts';
import { allocateShared, type SharedHandle } from './memory.ts';

export const PIECE_BYTES = 4 << 20;
const WAIT_MS_MAX = 30_000;

export interface Pieces {
  readonly count: number;
  /** How many could be taken now. */
  readonly free: number;
  readonly waiting: number;
  readonly descriptor: number | undefined;
  readonly handle: SharedHandle;
  /** A free piece, held once by the caller; rejects with the signal's reason, or after half a minute in vain. */
  take(signal?: AbortSignal): Promise<Piece>;
  /** The same pieces as a tenant sees them. */
  of(tenant: string): Pieces;
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
    `Of the ${count} pieces (GPU_PIECES) none came free for your tenant in ${WAIT_MS_MAX / 1000} s. Send it again later.`,
  );

interface Waiter {
  give(piece: Piece): void;
}

export async function openPieces(options: { count: number; shared: boolean }): Promise<Pieces> {
  const memory = await allocateShared(options.count * PIECE_BYTES, { processes: options.shared });
  const free = Array.from({ length: options.count }, (_, i) => options.count - 1 - i);
  const lines = createLines<Waiter>();
  const held = new Map<string, number>();

  const heldBy = (tenant: string): number => held.get(tenant) ?? 0;
  /** One more; what serves all tenants has no bound of its own. */
  const may = (tenant: Tenant): boolean => free.length > (tenant === undefined ? 0 : heldBy(tenant));

  function count(tenant: Tenant, more: 1 | -1): void {
    if (tenant === undefined) return;
    const now = heldBy(tenant) + more;
    if (now > 0) held.set(tenant, now);
    else held.delete(tenant);
  }

  /** Undefined where the tenant may not have another now. */
  function lease(tenant: Tenant): Piece | undefined {
    const index = may(tenant) ? free.pop() : undefined;
    if (index === undefined) return undefined;
    count(tenant, 1);
    const bytes = memory.bytes.subarray(index * PIECE_BYTES, (index + 1) * PIECE_BYTES);
    return new Piece(index, bytes, () => {
      free.push(index);
      count(tenant, -1);
      serve();
    });
  }

  function serve(): void {
    for (let next = lines.next(may); next; next = lines.next(may)) {
      const piece = lease(next.tenant);
      if (piece) next.waiter.give(piece);
    }
  }

  function wait(tenant: Tenant, signal: AbortSignal | undefined): Promise<Piece> {
    return new Promise((resolve, reject) => {
      const leave = (reason: unknown) => {
        lines.leave(tenant, waiter);
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
      lines.add(tenant, waiter);
    });
  }

  /** `undefined` sees all of them. */
  function seenBy(tenant: Tenant): Pieces {
    return {
      count: options.count,
      get free() {
        return tenant === undefined ? free.length : Math.max(0, Math.ceil((free.length - heldBy(tenant)) / 2));
      },
      get waiting() {
        return tenant === undefined ? lines.size : lines.sizeOf(tenant);
      },
      descriptor: memory.descriptor,
      handle: memory.handle,
      async take(signal) {
        signal?.throwIfAborted();
        const isFirst = lines.sizeOf(tenant) === 0;
        return (isFirst ? lease(tenant) : undefined) ?? wait(tenant, signal);
      },
      of: seenBy,
    };
  }

  return seenBy(undefined);
}
