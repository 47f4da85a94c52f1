// Room on the disk for what is to be written, where the disk has a budget: what is dead there is given back first, then others
// leave (shelf.ts), several at a time, so that one sync and one compaction serve for many newcomers. One after another is made
// room for. Nobody leaves for what could never fit, nor while a backup holds everything, as it would be in vain.
import { problem } from '../contract/problems.ts';
import { createKeyedLock } from '../store/keyed-lock.ts';
import type { Store, StoreWriter } from '../store/store.ts';
import type { Asker } from './lodgings.ts';
import type { Shelf } from './shelf.ts';

/** Of the budget, at least so much leaves at once. */
const BATCH_SHARE = 1 / 256;
const ABREAST = 64;
/** Others may take what was made free: so often it is made again. */
const TRIES = 8;

export interface DiskRoom {
  readonly evictions: { entries: number; bytes: number };
  /** A place for so many bytes; throws `disk_full`. */
  begin(asker: Asker, bytes: number, aligned: boolean): Promise<StoreWriter>;
}

export interface DiskRoomOptions {
  readonly store: Pick<Store, 'begin' | 'room'>;
  readonly shelf: Pick<Shelf, 'name'>;
  readonly mayLeave: (id: string) => boolean;
  /** From the disk; false if that may not be by then. */
  readonly evict: (id: string) => Promise<boolean>;
}

export function createDiskRoom({ store, shelf, mayLeave, evict }: DiskRoomOptions): DiskRoom {
  /** Another one, when another store is put in its place. */
  const room = () => store.room;
  const turns = createKeyedLock();
  const evictions = { entries: 0, bytes: 0 };

  const full = (bytes: number, why: string) =>
    problem(
      'disk_full',
      `There is no room for ${bytes} bytes in the ${room().bytesMax} of the disk's budget (DISK_MIB): ${why}.`,
    );

  async function make(bytes: number, asker: Asker): Promise<void> {
    if (room().lacks(bytes) > room().bytes) throw full(bytes, 'it could not hold them if it were empty');
    for (;;) {
      if (room().lacks(bytes) <= 0) return;
      await room().tidy();
      const lacks = room().lacks(bytes);
      if (lacks <= 0) return;
      if (room().isHeld) throw full(bytes, 'a backup holds what is there. Send it again when the backup is done');
      if (!(await evictSome(Math.max(lacks, room().bytesMax * BATCH_SHARE), bytes, asker)))
        throw full(bytes, 'nothing that is there may leave');
    }
  }

  /** False if nobody may leave. */
  async function evictSome(wanted: number, bytes: number, asker: Asker): Promise<boolean> {
    const named = new Map<string, number>();
    for (let left = wanted; left > 0; ) {
      const next = shelf.name(bytes, asker, (id) => !named.has(id) && mayLeave(id));
      if (!next) break;
      named.set(next.id, next.bytes);
      left -= next.bytes;
    }
    const leaving = named.entries();
    const work = async (): Promise<void> => {
      for (const [id, held] of leaving) {
        if (!(await evict(id))) continue;
        evictions.entries++;
        evictions.bytes += held;
      }
    };
    await Promise.all(Array.from({ length: ABREAST }, work));
    return named.size > 0;
  }

  return {
    evictions,
    async begin(asker, bytes, aligned) {
      for (let tries = 1; ; tries++) {
        if (room().lacks(bytes) > 0) await turns.run('disk', () => make(bytes, asker));
        try {
          return await store.begin(aligned, bytes);
        } catch (error) {
          if (room().lacks(bytes) <= 0 || tries === TRIES) throw error;
        }
      }
    },
  };
}
