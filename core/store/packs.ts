// The packs that are being written and read. Writers hand in frames, which are written in the order they came, one write
// and one sync for all that wait at the time (group commit); then each is told where its frames lie, and the journal what
// has changed. A group whose write fails leaves nothing behind; one whose sync fails is written once more into another
// pack, because after a failed sync nobody knows what the disk holds. One group is under way at a time, so that everything
// before it is synced. Where the disk is full, the removals of a group are written by themselves, into room kept for them.
import { join } from 'node:path';
import { problem } from '../contract/problems.ts';
import type { Budget } from './budget.ts';
import type { Place, Row } from './catalog.ts';
import { type Disk, type DiskFile, isFull, readAll, writeAll } from './disk.ts';
import { encodeFrame, type FrameToWrite } from './frames.ts';

const GROUP_BYTES_MAX = 8 << 20;
const WAITING_BYTES_MAX = 64 << 20;
const READERS_MAX = 100;

export interface Packs {
  /** Every frame with a sequence up to this is where it was settled, or was refused. */
  readonly settledSeq: number;
  /** Being written: not to be compacted. */
  readonly active: number | undefined;
  /** Synced groups since the start, and the frames in them. */
  readonly counts: { groups: number; frames: number; failedSyncs: number };
  /**
   * On disk, synced, when it resolves. `settled` is told at once where the frames lie, in the order of all groups, and gives
   * what the journal is to know. `counting` gives back room in the budget that was taken for the frames, which count from then on.
   */
  append(
    frames: readonly FrameToWrite[],
    settled: (places: readonly Place[]) => readonly Row[],
    counting?: () => void,
  ): Promise<void>;
  /** A frame as it lies there; shorter if its pack ends before. */
  read(place: Place): Promise<Buffer>;
  /** A number for a pack that somebody else writes. */
  nextNumber(): number;
  path(number: number): string;
  /** Gone from its place when it resolves; who reads in it goes on. */
  remove(number: number, how?: (path: string) => Promise<void>): Promise<void>;
  /** What is written from now on goes to a new pack. */
  turnOver(): Promise<void>;
  /** Resolves once nobody waits, and the journal has been told. */
  idle(): Promise<void>;
  close(): Promise<void>;
}

export interface PacksOptions {
  readonly disk: Disk;
  readonly folder: string;
  readonly mark: string;
  /** A pack that has grown to it is left. */
  readonly packBytesMax: number;
  /** The highest that are in use. */
  readonly seq: number;
  readonly number: number;
  /** The pack to go on with, and where it ends. */
  readonly last: { readonly number: number; readonly end: number } | undefined;
  readonly journal: { append(rows: readonly Row[]): Promise<void> };
  readonly budget: Pick<Budget, 'take' | 'give' | 'bytesMax'>;
  /** The disk is full: gives it room for removals; false if it has been given already. */
  readonly giveRoom: () => Promise<boolean>;
  readonly log: (line: string) => void;
}

interface Waiting {
  readonly frames: readonly FrameToWrite[];
  readonly bytes: number;
  readonly settled: (places: readonly Place[]) => readonly Row[];
  readonly counting: () => void;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

interface Active {
  readonly number: number;
  readonly file: DiskFile;
  end: number;
  isNew: boolean;
}

/** Of the budget of the disk, which is not the disk. */
export const budgetIsTaken = (bytesMax: number) =>
  problem(
    'disk_full',
    `The ${bytesMax} bytes that may be on disk (DISK_MIB) are taken, and nothing there may leave. Delete some.`,
  );

const isRemoval = ({ frames }: Waiting): boolean => frames.every(({ kind }) => kind === 'delete');

export const packName = (number: number): string => `${String(number).padStart(6, '0')}.pack`;

export function createPacks({
  disk,
  folder,
  mark,
  packBytesMax,
  journal,
  log,
  giveRoom,
  budget,
  ...start
}: PacksOptions): Packs {
  let { seq, number, last } = start;
  let settledSeq = seq;
  let active: Active | undefined;
  let running: Promise<void> | undefined;
  let waitingBytes = 0;
  const waiting: Waiting[] = [];
  const readers = createReaders(disk, (number) => join(folder, packName(number)));
  const counts = { groups: 0, frames: 0, failedSyncs: 0 };
  const groupBytesMax = Math.min(GROUP_BYTES_MAX, packBytesMax);

  async function open(): Promise<Active> {
    if (active && active.end >= packBytesMax) await leave();
    if (active) return active;
    if (last) {
      const { number, end } = last;
      last = undefined;
      const file = await disk.open(join(folder, packName(number)), 'write');
      active = { number, end, file, isNew: false };
      return active;
    }
    const mine = ++number; // compaction takes numbers too
    const file = await disk.open(join(folder, packName(mine)), 'new');
    active = { number: mine, file, end: 0, isNew: true };
    return active;
  }

  /** The next group goes elsewhere. */
  async function leave(): Promise<void> {
    const left = active;
    active = undefined;
    await left?.file.close().catch(() => {});
  }

  interface Written {
    readonly places: Place[][];
    readonly bytes: Buffer;
  }

  function encode(group: readonly Waiting[], pack: Active, firstSeq: number): Written {
    const parts: Buffer[] = [];
    let at = pack.end;
    let next = firstSeq;
    const add = (frame: FrameToWrite, number: number): Place => {
      const bytes = encodeFrame(frame, number, mark, at - pack.end);
      const place = { seq: number, pack: pack.number, at, length: bytes.length };
      parts.push(bytes);
      at += bytes.length;
      return place;
    };
    if (pack.isNew) add({ kind: 'head', meta: { pack: pack.number } }, 0);
    const places = group.map(({ frames }) => frames.map((frame) => add(frame, frame.seq ?? next++)));
    return { places, bytes: Buffer.concat(parts) };
  }

  /** Nothing of a group that failed is to be found by a later start. */
  async function cutOff(pack: Active, bytes: number): Promise<void> {
    try {
      await pack.file.truncate(pack.end);
      budget.give(bytes);
    } catch (error) {
      log(`what was not answered stays at the end of pack ${pack.number}: ${String(error)}`);
      await leave();
    }
  }

  async function write(group: readonly Waiting[], firstSeq: number, isSecond: boolean): Promise<Place[][]> {
    const pack = await open();
    const { places, bytes } = encode(group, pack, firstSeq);
    for (const { counting } of group) counting();
    if (!budget.take(bytes.length, group.every(isRemoval) ? 'removal' : 'tidying'))
      throw budgetIsTaken(budget.bytesMax);
    try {
      await writeAll(pack.file, bytes, pack.end);
      disk.reached('group written');
    } catch (error) {
      await cutOff(pack, bytes.length);
      throw error;
    }
    try {
      await pack.file.sync();
      if (pack.isNew) await disk.syncFolder(folder);
    } catch (error) {
      counts.failedSyncs++;
      await cutOff(pack, bytes.length);
      await leave();
      if (isSecond) throw error;
      log(`a sync of pack ${pack.number} failed, what it was for is written again elsewhere: ${String(error)}`);
      return write(group, firstSeq, true);
    }
    disk.reached('group synced');
    pack.end += bytes.length;
    pack.isNew = false;
    return places;
  }

  async function serve(group: readonly Waiting[]): Promise<void> {
    const firstSeq = seq + 1;
    for (const { frames } of group) seq += frames.length;
    let places: Place[][];
    try {
      places = await write(group, firstSeq, false);
    } catch (error) {
      const removals = isFull(error) ? group.filter(isRemoval) : [];
      const again = removals.length > 0 && (await giveRoom().catch(() => false));
      for (const one of group) if (!again || !isRemoval(one)) one.reject(error);
      if (again) await serve(removals);
      return;
    }
    const rows: Row[] = [];
    for (const [i, { settled, resolve, frames }] of group.entries()) {
      rows.push(...settled(places[i] ?? []));
      counts.frames += frames.length;
      resolve();
    }
    counts.groups++;
    settledSeq = firstSeq + group.reduce((sum, { frames }) => sum + frames.length, 0) - 1;
    await journal.append(rows);
  }

  async function run(): Promise<void> {
    await undefined; // others of this turn come along
    while (waiting.length > 0) {
      let bytes = 0;
      let count = 0;
      for (const one of waiting) {
        bytes += one.bytes;
        if (count > 0 && bytes > groupBytesMax) break;
        count++;
      }
      const group = waiting.splice(0, count);
      await serve(group);
      for (const one of group) waitingBytes -= one.bytes;
    }
  }

  return {
    get settledSeq() {
      return settledSeq;
    },
    get active() {
      return active?.number ?? last?.number;
    },
    counts,
    async append(frames, settled, counting = () => {}) {
      while (waitingBytes > WAITING_BYTES_MAX) await running;
      const bytes = frames.reduce((sum, { payload }) => sum + 512 + (payload?.length ?? 0), 0);
      const done = Promise.withResolvers<void>();
      waitingBytes += bytes;
      waiting.push({ frames, bytes, settled, counting, ...done });
      running ??= run().finally(() => {
        running = undefined;
      });
      return done.promise;
    },
    read: (place) => readers.read(place),
    nextNumber: () => ++number,
    path: (number) => join(folder, packName(number)),
    async remove(number, how = disk.remove) {
      await how(join(folder, packName(number)));
      await disk.syncFolder(folder);
      await readers.forget(number);
    },
    async turnOver() {
      while (running) await running;
      last = undefined;
      await leave();
    },
    async idle() {
      await running;
    },
    async close() {
      await running;
      await leave();
      await readers.close();
    },
  };
}

/** Open files of the packs that were read last: not of all, there may be thousands. */
function createReaders(disk: Disk, path: (number: number) => string) {
  const open = new Map<number, { file: Promise<DiskFile>; users: number; isGone: boolean }>();

  async function closeIfIdle(number: number): Promise<void> {
    const reader = open.get(number);
    if (!reader || reader.users > 0 || !reader.isGone) return;
    open.delete(number);
    await reader.file.then((file) => file.close()).catch(() => {});
  }

  return {
    async read({ pack, at, length }: Place): Promise<Buffer> {
      const reader = open.get(pack) ?? { file: disk.open(path(pack), 'read'), users: 0, isGone: false };
      open.delete(pack);
      open.set(pack, reader); // last
      reader.users++;
      try {
        const frame = Buffer.alloc(length);
        return frame.subarray(0, await readAll(await reader.file, frame, at));
      } catch (error) {
        reader.isGone = true; // opened anew by the next
        throw error;
      } finally {
        reader.users--;
        const oldest = open.size > READERS_MAX ? open.entries().find(([, { users }]) => users === 0) : undefined;
        if (oldest) await this.forget(oldest[0]);
        await closeIfIdle(pack);
      }
    },
    async forget(number: number): Promise<void> {
      const reader = open.get(number);
      if (reader) reader.isGone = true;
      await closeIfIdle(number);
    },
    async close(): Promise<void> {
      for (const number of [...open.keys()]) await this.forget(number);
    },
  };
}
