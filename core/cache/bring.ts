// An entry that is only on disk, brought to an adapter before anybody asks for it: into room that is free, and by pieces that
// nobody waits for. It is hashed on the way like everything that comes from disk, and becomes hot when all of it is there; given
// up, it leaves nothing. Whoever wants the room or the pieces comes first.
import { problem } from '../contract/problems.ts';
import type { Piece, Pieces } from '../gpu/pieces.ts';
import type { Store } from '../store/store.ts';
import type { Departures } from './departures.ts';
import type { Digests } from './digest.ts';
import { drain } from './drain.ts';
import { type Entry, isHot } from './entry.ts';
import type { Holdings } from './holdings.ts';
import { PRIVATE_BYTES_MAX } from './pour.ts';
import type { Room } from './room.ts';

/** `crowded`: others wanted the pieces. `gone`: replaced or lost on the way, or there was nothing to bring. */
export type Brought = 'brought' | 'noRoom' | 'crowded' | 'gone';

/** Throws the signal's reason; what else goes wrong is `gone`: a reader will be told. */
export type Bring = (entry: Entry, signal: AbortSignal) => Promise<Brought>;

export interface BringParts {
  readonly pieces: Pieces;
  readonly digests: Digests;
  readonly store: Pick<Store, 'open'>;
  readonly holdings: Holdings;
  readonly room: Room;
  readonly departures: Departures;
}

/** Of all pieces, those that stay for others. */
const SHARE_KEPT = 0.5;

/** Whether there is anything to bring, and nobody else brings it. */
export const isAbsent = (entry: Entry): boolean =>
  entry.onDisk && !entry.flushing && !entry.promoting && !entry.replaced && !isHot(entry);

export function createBring({ pieces, digests, store, holdings, room, departures }: BringParts): Bring {
  const isCrowded = (): boolean => pieces.waiting > 0 || pieces.free <= pieces.count * SHARE_KEPT;

  /** Pieces as they are seen from here: never waited for. */
  const spare: Pieces = {
    ...pieces,
    get free() {
      return pieces.free;
    },
    get waiting() {
      return pieces.waiting;
    },
    async take(signal) {
      if (isCrowded()) throw crowded();
      return pieces.take(signal);
    },
  };

  /** The same payload may lie there under another name. */
  function shareTwin(entry: Entry): boolean {
    const twin = room.twin(entry.record);
    if (!twin) return false;
    holdings.cool(entry);
    holdings.heat(entry, twin);
    return true;
  }

  return async (entry, signal) => {
    if (!isAbsent(entry)) return 'gone';
    if (entry.record.bytes > PRIVATE_BYTES_MAX && isCrowded()) return 'crowded';
    if (shareTwin(entry)) return 'brought';
    const lease = room.free(entry.record.bytes, { tenant: entry.record.tenant, id: entry.id });
    if (!lease) return 'noRoom';
    entry.promoting = true;
    let fault: unknown;
    const promote = (piece: Piece, length: number, offset: number): Promise<void> =>
      lease.write(offset, piece, length).catch((error: unknown) => {
        fault ??= error;
      });
    let whole = false;
    try {
      const { bytes, digest } = entry.record;
      const stored = { open: () => store.open(entry.record), digests, digest };
      for await (const { piece } of drain({ pieces: spare, bytes, lease: undefined, stored, promote, signal })) {
        piece.release();
        signal.throwIfAborted();
        if (fault) break;
      }
      whole = !fault;
    } catch (error) {
      fault ??= error;
    }
    entry.promoting = false;
    const isWanted = whole && !entry.replaced && !isHot(entry);
    if (isWanted && !lease.lost && !room.twin(entry.record)) {
      holdings.cool(entry); // what it had was lost with its adapter
      holdings.heat(entry, lease);
      departures.leaveIfDraining(entry);
      return 'brought';
    }
    lease.release();
    if (isWanted && shareTwin(entry)) return 'brought'; // it has come there meanwhile
    signal.throwIfAborted();
    return isFor(fault, 'pieces_exhausted') ? 'crowded' : 'gone';
  };
}

const crowded = () => problem('pieces_exhausted', 'Others need the pieces.');
const isFor = (error: unknown, code: string): boolean =>
  error instanceof Error && 'code' in error && error.code === code;
