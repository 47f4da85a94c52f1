// An entry on its way out: from its adapter, else from the disk, and what comes from the disk back to an adapter on the way
// (promotion), where there is room that others leave. Readers of an entry that is replaced finish on it.
import { Problem, problem } from '../contract/problems.ts';
import type { Party } from '../gpu/freight.ts';
import type { GpuLease } from '../gpu/gpu-lease.ts';
import type { Piece, Pieces } from '../gpu/pieces.ts';
import type { Pool } from '../gpu/pool.ts';
import type { Store, StoreReader } from '../store/store.ts';
import type { Departures } from './departures.ts';
import type { Digests } from './digest.ts';
import { type Drained, drain } from './drain.ts';
import { type Entry, isHot } from './entry.ts';
import type { Holdings } from './holdings.ts';
import type { Room } from './room.ts';

/** The bytes, once; whoever asks reads to the end or calls `return()`. */
export type Read = (entry: Entry, signal: AbortSignal, party?: Party) => AsyncGenerator<Drained, void, void>;

export interface ReadParts {
  readonly pieces: Pieces;
  readonly digests: Digests;
  readonly pool: Pick<Pool, 'ready'>;
  readonly store: Pick<Store, 'open' | 'distrust'>;
  readonly holdings: Holdings;
  readonly room: Room;
  readonly departures: Departures;
  readonly log: (line: string) => void;
}

export function createRead(parts: ReadParts): Read {
  const { pieces, digests, pool, store, holdings, room, departures, log } = parts;

  /** Its payload goes with the record: a reader that began on an adapter may come too late for it. */
  async function openStored(entry: Entry): Promise<StoreReader> {
    await entry.flushing;
    try {
      if (entry.onDisk) return await store.open(entry.record);
    } catch (error) {
      if (!entry.replaced) throw error;
    }
    throw problem(
      'adapter_lost',
      'An adapter was lost, and the tensors on it are nowhere else. Send the request again.',
    );
  }

  /** Room on an adapter for an entry that is read from disk; the first reader fills it. */
  function promote(entry: Entry) {
    if (entry.promoting || entry.replaced || !pool.ready) return undefined;
    holdings.cool(entry); // what it had was lost with its adapter
    const asker = { tenant: entry.record.tenant, id: entry.id };
    const found = room.find(entry.record.bytes, asker);
    if (!found) return undefined;
    const lease: GpuLease = found;
    entry.promoting = true;
    let failed = false;
    return {
      write: (piece: Piece, length: number, offset: number): Promise<void> =>
        room.write(lease, piece, length, offset, asker).catch(() => {
          failed = true;
        }),
      end(whole: boolean): void {
        entry.promoting = false;
        const isKept = whole && !failed && !entry.replaced && !lease.lost && !isHot(entry);
        if (isKept && !room.twin(entry.record)) {
          holdings.cool(entry); // what it was given meanwhile was lost too
          holdings.heat(entry, lease);
        } else lease.release();
        if (isKept && !isHot(entry)) shareTwin(entry); // it has come there meanwhile
        departures.leaveIfDraining(entry);
      },
    };
  }

  /** The same payload may lie there under another name. */
  function shareTwin(entry: Entry): void {
    const twin = entry.replaced ? undefined : room.twin(entry.record);
    if (!twin) return;
    holdings.cool(entry);
    holdings.heat(entry, twin);
  }

  return async function* read(entry, signal, party) {
    if (!isHot(entry)) shareTwin(entry);
    if (!entry.lease && !entry.onDisk && !entry.flushing)
      throw problem('tensor_unknown', `${entry.record.key} left its adapter before it was read, and is nowhere else.`);
    const release = holdings.hold(entry);
    const promotion = isHot(entry) ? undefined : promote(entry);
    let whole = false;
    try {
      yield* drain({
        pieces: pieces.of(entry.record.tenant),
        bytes: entry.record.bytes,
        lease: entry.lease,
        party,
        stored:
          entry.onDisk || entry.flushing
            ? { open: () => openStored(entry), digests, digest: entry.record.digest }
            : undefined,
        promote: promotion?.write,
        signal,
      });
      whole = true;
    } catch (error) {
      if (error instanceof Problem && error.code === 'record_damaged') {
        store.distrust(entry.record);
        log(`damaged on disk: ${entry.record.tenant}/${entry.record.key} (${error.message})`);
      }
      throw error;
    } finally {
      promotion?.end(whole);
      release();
    }
  };
}
