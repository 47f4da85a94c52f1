// Entries on their way from one adapter to another: on request, and when an adapter drains. Bytes go through pieces, a few
// entries at a time; readers go on with the pages that they began on, and those pages go with the last of them. Names that
// share their pages share them where they come, too. An entry
// that is replaced, deleted or lost on the way is let go, and so is everything when the signal says so, what adapters are
// asked for at that moment among it: what has moved by then has moved, what has not is where it was.
import type { ProblemCode } from '../contract/problems.ts';
import { Problem } from '../contract/problems.ts';
import { pageBytesFor } from '../gpu/arena.ts';
import type { GpuLease } from '../gpu/gpu-lease.ts';
import { PIECE_BYTES, type Pieces, privatePiece } from '../gpu/pieces.ts';
import type { Pool } from '../gpu/pool.ts';
import { type Entry, isHot } from './entry.ts';
import type { Holdings } from './holdings.ts';
import { PRIVATE_BYTES_MAX } from './pour.ts';

const ABREAST = 4;

/** Entries by what became of them. */
export interface Moved {
  moved: number;
  /** Of those that moved. */
  bytes: number;
  /** Were there already. */
  there: number;
  /** On no adapter: on disk only. */
  cold: number;
  /** Found no room, and stay where they are. */
  noRoom: number;
  /** Replaced, deleted or lost on the way. */
  gone: number;
}

export interface Drained {
  moved: number;
  bytes: number;
  /** Found no room, and are served from disk. */
  left: number;
  /** Found no room and are nowhere else: they stay. */
  kept: number;
  gone: number;
}

export interface Moves {
  /** To one adapter, where others make room by leaving it as they would for new tensors. */
  move(entries: readonly Entry[], adapter: string, signal: AbortSignal): Promise<Moved>;
  /** Off an adapter that takes no new leases: to others where there is free room, else to the disk. */
  clear(adapter: string, signal: AbortSignal): Promise<Drained>;
  /** The same for one entry that has come to an adapter while it drains. */
  leave(entry: Entry, signal: AbortSignal): Promise<void>;
}

export interface MovesOptions {
  readonly holdings: Holdings;
  readonly pool: Pick<Pool, 'lease' | 'places' | 'isDraining'>;
  readonly pieces: Pieces;
}

type Fate = 'moved' | 'noRoom' | 'gone';

/** Where an entry is to come. */
interface Goal {
  isGoal(adapter: string): boolean;
  /** Room there. */
  find(): GpuLease | undefined;
}

export function createMoves({ holdings, pool, pieces }: MovesOptions): Moves {
  /** Room that costs nobody else anything. */
  function freeRoom({ record: { tenant, bytes } }: Entry, adapters: readonly string[]): GpuLease | undefined {
    for (const adapter of adapters) {
      const lease = leaseFor(tenant, bytes, adapter);
      if (holdings.isWithinQuota(lease, bytes, tenant) && lease.grow(bytes)) return lease;
      lease.release();
    }
    return undefined;
  }

  function madeRoom({ id, record: { tenant, bytes } }: Entry, adapter: string): GpuLease | undefined {
    const lease = leaseFor(tenant, bytes, adapter);
    if (holdings.makeRoom(lease, bytes, { tenant, id })) return lease;
    lease.release();
    return undefined;
  }

  const leaseFor = (tenant: string, bytes: number, adapter: string): GpuLease =>
    pool.lease({ adapter, pageBytes: pageBytesFor(bytes), account: holdings.account(tenant) });

  /** Its payload is there already, under another name. */
  function twinThere({ lease, record }: Entry, isGoal: (adapter: string) => boolean): GpuLease | undefined {
    const twin = holdings.twin(record);
    return twin && twin !== lease && isGoal(twin.adapter) && !pool.isDraining(twin.adapter) ? twin : undefined;
  }

  /** Into pages that `find` gives; asked once the entry is held, so that it does not make room for itself. */
  async function carry(entry: Entry, { isGoal, find }: Goal, signal: AbortSignal): Promise<Fate> {
    const from = entry.lease;
    if (!from || !isHot(entry) || entry.replaced || entry.moving) return 'gone';
    const release = holdings.hold(entry);
    entry.moving = true;
    let to: GpuLease | undefined;
    try {
      if (!twinThere(entry, isGoal)) {
        to = find();
        if (!to) return 'noRoom';
        await copy(from, to, entry.record.bytes, signal);
      }
      const twin = twinThere(entry, isGoal); // it may have come there meanwhile
      const next = twin ?? to;
      if (entry.replaced || entry.lease !== from || from.lost || !next || next.lost) return 'gone';
      holdings.move(entry, next);
      if (!twin) to = undefined; // the entry's now
      return 'moved';
    } catch (error) {
      if (signal.aborted || isLoss(error)) return 'gone';
      throw error;
    } finally {
      to?.release();
      entry.moving = false;
      release();
    }
  }

  async function copy(from: GpuLease, to: GpuLease, bytes: number, signal: AbortSignal): Promise<void> {
    const small = bytes <= PRIVATE_BYTES_MAX;
    for (let offset = 0; offset < bytes; offset += PIECE_BYTES) {
      signal.throwIfAborted();
      const length = Math.min(PIECE_BYTES, bytes - offset);
      const piece = small ? privatePiece(new Uint8Array(length)) : await pieces.take(signal);
      try {
        await from.read(offset, piece, length, { signal });
        await to.write(offset, piece, length, { signal });
      } finally {
        piece.release();
      }
    }
  }

  async function move(entries: readonly Entry[], adapter: string, signal: AbortSignal): Promise<Moved> {
    const done: Moved = { moved: 0, bytes: 0, there: 0, cold: 0, noRoom: 0, gone: 0 };
    await abreast(entries, signal, async (entry) => {
      if (!isHot(entry)) {
        done[entry.replaced ? 'gone' : 'cold']++;
        return;
      }
      if (entry.lease?.adapter === adapter) {
        done.there++;
        return;
      }
      const fate = await carry(entry, { isGoal: (id) => id === adapter, find: () => madeRoom(entry, adapter) }, signal);
      done[fate]++;
      if (fate !== 'moved') return;
      done.bytes += entry.record.bytes;
      holdings.touch(entry); // somebody wants it there: it is not the next to leave
    });
    return done;
  }

  async function leaveFor(
    entry: Entry,
    adapter: string,
    signal: AbortSignal,
  ): Promise<Exclude<keyof Drained, 'bytes'>> {
    if (!isHot(entry) || entry.lease?.adapter !== adapter) return 'gone';
    const goal = { isGoal: (id: string) => id !== adapter, find: () => freeRoom(entry, othersThan(adapter)) };
    const fate = await carry(entry, goal, signal);
    if (fate !== 'noRoom') return fate;
    if (!entry.onDisk || entry.flushing) return 'kept';
    holdings.move(entry, undefined);
    return 'left';
  }

  function othersThan(adapter: string): string[] {
    try {
      return pool.places().filter((id) => id !== adapter);
    } catch {
      return []; // none is ready
    }
  }

  return {
    move,
    async clear(adapter, signal) {
      const done: Drained = { moved: 0, bytes: 0, left: 0, kept: 0, gone: 0 };
      const held = holdings.hot().filter(({ lease }) => lease?.adapter === adapter);
      // What is nowhere else goes first, then what was used last: if room ends, it ends for those that lose least.
      const order = [...held.filter((e) => !e.onDisk), ...held.filter((e) => e.onDisk).reverse()];
      await abreast(order, signal, async (entry) => {
        const fate = await leaveFor(entry, adapter, signal);
        done[fate]++;
        if (fate === 'moved') done.bytes += entry.record.bytes;
      });
      return done;
    },
    async leave(entry, signal) {
      const adapter = entry.lease?.adapter;
      if (adapter !== undefined) await leaveFor(entry, adapter, signal);
    },
  };
}

/** Each in turn, a few at a time; throws the signal's reason once those that were under way are done. */
async function abreast<T>(all: readonly T[], signal: AbortSignal, work: (one: T) => Promise<void>): Promise<void> {
  const rest = all.values();
  const next = async (): Promise<void> => {
    for (const one of rest) {
      if (signal.aborted) return;
      await work(one);
    }
  };
  const ended = await Promise.allSettled(Array.from({ length: ABREAST }, next));
  signal.throwIfAborted();
  for (const one of ended) if (one.status === 'rejected') throw one.reason;
}

const LOSSES: readonly ProblemCode[] = ['adapter_lost', 'adapter_unavailable', 'adapter_failed'];
const isLoss = (error: unknown): boolean => error instanceof Problem && LOSSES.includes(error.code);
