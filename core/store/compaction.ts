// Gives back the room of dead frames, in the background and at a measured pace: what lives in a few packs is copied, with its
// sequences, into another, which is synced and known to the journal before they go. Many small packs become one in the same
// way. A deletion may go once no other pack holds anything dead that is older, which it could be hiding.
// A pack with a frame that does not read is set aside as a whole, once all that lives in it is elsewhere (rescue.ts): nothing
// that may be looked for is thrown away. An erasure has its dead frames gone at once, deletions included, from every pack that has
// any (`purge`). On a full disk what takes least comes first, as far as there is room.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Budget } from './budget.ts';
import type { Catalog, PackCount, Place, Row } from './catalog.ts';
import type { Checkpoints } from './checkpoints.ts';
import { choosePacks, HEAD_BYTES, hiding, type MayHide } from './compaction-choice.ts';
import { type Disk, type DiskFile, writeAll } from './disk.ts';
import { type Seen, scanFrames } from './frame-scan.ts';
import { encodeFrame, type FrameKind, readHeader, readMeta, readPayload, withoutGroup } from './frames.ts';
import type { Journal } from './journal.ts';
import type { Packs } from './packs.ts';
import { deleteSchema, payloadSchema, recordSchema } from './records.ts';
import type { Rescue } from './rescue.ts';

const LOOK_MS = 200;
/** After a failure. */
const PAUSE_MS = 10_000;
const WRITE_BYTES = 1 << 20;
const ROWS = 500;

export interface Compaction {
  readonly counts: { packs: number; bytes: number; failed: number };
  /** Something has died: is it time? */
  look(): void;
  settle(): Promise<void>;
  /** What can be given back now is: for who waits for room. */
  now(): Promise<void>;
  /** Somebody holds the packs. */
  readonly isHeld: boolean;
  /** No dead frame that is to be erased is in any pack when it resolves; waits until nobody holds. */
  purge(isErased: Erases): Promise<{ packs: number; frames: number }>;
  /** No pack goes until the result is called. */
  hold(): Promise<() => void>;
  /** Stops at the next good moment. */
  close(): Promise<void>;
}

/** Whether a frame of this kind that counts no more is to leave nothing behind. */
export type Erases = (kind: FrameKind, meta: unknown) => boolean;

export interface CompactionOptions {
  readonly disk: Disk;
  readonly folder: string;
  readonly mark: string;
  readonly catalog: Catalog;
  readonly packs: Packs;
  readonly journal: Journal;
  readonly checkpoints: Checkpoints;
  readonly rescue: Rescue;
  readonly setAside: (path: string) => Promise<void>;
  readonly budget: Pick<Budget, 'take' | 'give' | 'lacks' | 'tidyingBytes'>;
  /** Bytes that the disk has for it now. */
  readonly room: () => number;
  /** Between two megabytes. */
  readonly pauseMs: number;
  readonly packBytesMax: number;
  readonly log: (line: string) => void;
}

/** A frame that lives, and the row that says where it is once it lies elsewhere. */
interface Living {
  readonly place: Place;
  readonly isStillThere: () => boolean;
  readonly moved: (place: Place) => Row | undefined;
}

export function createCompaction(o: CompactionOptions): Compaction {
  const { disk, catalog, packs, journal, log } = o;
  const counts = { packs: 0, bytes: 0, failed: 0 };
  /** Something there must still be looked at: not again in this life. */
  const unfit = new Set<number>();
  let running: Promise<void> | undefined;
  let isClosing = false;
  let held = 0;
  /** Who waits until nobody holds. */
  const released: (() => void)[] = [];
  let looked = Number.NEGATIVE_INFINITY;

  /** Newcomers wait for what it gives back, or soon will. */
  const isShort = (): boolean => o.budget.lacks(o.packBytesMax) > 0;

  function choose(): PackCount[] {
    return choosePacks({
      packs: [...catalog.packs.values()].filter(({ number }) => number !== packs.active && !unfit.has(number)),
      mayHide: hiding(catalog.packs.values()),
      packBytesMax: o.packBytesMax,
      room: Math.min(o.room(), o.budget.tidyingBytes),
      isShort: isShort(),
    });
  }

  /** Undefined if it does not live; throws where what it says cannot be understood. */
  function livingOf(
    { header, meta, at }: Seen,
    pack: number,
    mayHide: MayHide,
    isErased: Erases = () => false,
  ): Living | undefined {
    const place: Place = { seq: header.seq, pack, at, length: header.length };
    const isHere = (found: { place: Place } | undefined) => found?.place.pack === pack && found.place.at === at;
    if (header.kind === 'put') {
      const { tenant, key } = recordSchema.parse(meta);
      const isStillThere = () => isHere(catalog.find(tenant, key));
      return { place, isStillThere, moved: (to) => ['put moved', ...at4(to), tenant, key] };
    }
    if (header.kind === 'payload') {
      const { tenant, digest, file } = payloadSchema.parse(meta);
      const isStillThere = () => isHere(catalog.payload(tenant, digest));
      return { place, isStillThere, moved: (to) => ['payload moved', ...at4(to), tenant, digest, file ? 0 : 1] };
    }
    if (header.kind === 'head') return undefined;
    const { tenant, key } = deleteSchema.parse(meta);
    const isHidden = (catalog.find(tenant, key)?.place.seq ?? 0) > header.seq;
    // Packs go one after another: another source may still be there when this one is not.
    const stays = !isHidden && mayHide(header.seq, pack) && !isErased('delete', meta);
    return { place, isStillThere: () => stays, moved: () => undefined };
  }

  /** What lives in a pack, and whether all of it reads; undefined if something that lives is neither read nor rescued. */
  async function read(pack: PackCount, isErased?: Erases): Promise<{ living: Living[]; isWhole: boolean } | undefined> {
    const living: Living[] = [];
    let isUnderstood = true;
    const mayHide = hiding(catalog.packs.values()); // what dies from now on was alive after every deletion that is read here
    const file = await disk.open(packs.path(pack.number), 'read');
    const take = (seen: Seen) => {
      try {
        const one = livingOf(seen, pack.number, mayHide, isErased);
        if (one?.isStillThere()) living.push(one);
      } catch {
        isUnderstood = false;
      }
    };
    try {
      const { holes, end } = await scanFrames({
        ...{ file: paced(file, () => pause()), from: 0, size: pack.end, mark: o.mark, payloads: 'verify', take },
      });
      const isWhole = isUnderstood && holes.length === 0 && end === pack.end;
      const isSafe = isWhole || (await o.rescue(pack.number, new Set(living.map(({ place }) => place.at))));
      return isSafe ? { living, isWhole } : undefined;
    } finally {
      await file.close();
    }
  }

  const pause = async () => {
    if (!isClosing && o.pauseMs > 0 && !isShort()) await sleep(o.pauseMs);
  };

  /** As it was when it was found to live: a disk may give other bytes the second time. */
  async function wholeFrame(place: Place): Promise<Buffer> {
    const frame = await packs.read(place);
    const header = readHeader(frame, 0, o.mark);
    if (header?.seq === place.seq && readMeta(frame, 0, header) !== undefined && readPayload(frame, 0, header))
      return frame;
    throw new Error(`what lies in pack ${place.pack} at ${place.at} does not read a second time`);
  }

  async function write(living: readonly Living[], number: number, path: string) {
    const places: Place[] = [];
    await disk.remove(path);
    const file = await disk.open(path, 'new');
    let end = 0;
    try {
      let parts = [encodeFrame({ kind: 'head', meta: { pack: number, compacted: true } }, 0, o.mark, 0)];
      let at = parts[0]?.length ?? 0;
      const flush = async () => {
        await writeAll(file, Buffer.concat(parts), end);
        end = at;
        parts = [];
        await pause();
      };
      for (const { place } of living) {
        const frame = withoutGroup(await wholeFrame(place));
        places.push({ seq: place.seq, pack: number, at, length: frame.length });
        parts.push(frame);
        at += frame.length;
        if (at - end >= WRITE_BYTES) await flush();
      }
      await flush();
      await file.sync();
    } finally {
      await file.close();
    }
    return { places, end };
  }

  /** In small steps: each leaves index and journal in agreement. */
  async function install(living: readonly Living[], places: readonly Place[]): Promise<void> {
    for (let from = 0; from < living.length; from += ROWS) {
      const rows: Row[] = [];
      for (const [i, one] of living.slice(from, from + ROWS).entries()) {
        const place = places[from + i];
        const row = place && one.isStillThere() ? one.moved(place) : undefined;
        if (!row) continue;
        catalog.apply(row);
        rows.push(row);
      }
      await journal.append(rows);
    }
  }

  async function compact(sources: readonly PackCount[], isErased?: Erases): Promise<void> {
    const living: Living[] = [];
    const damaged = new Set<number>();
    for (const source of sources) {
      const found = await read(source, isErased);
      if (!found) {
        unfit.add(source.number);
        log(`pack ${source.number} holds something that does not read, and is not compacted`);
        return;
      }
      for (const one of found.living) living.push(one); // perhaps more than a call takes arguments
      if (!found.isWhole) damaged.add(source.number);
    }
    if (isClosing) return;
    if (living.length > 0 && !(await bring(living))) return;
    // The rows must be there to stay before the packs go that they lead away from.
    const isKnown = (await journal.sync()) || (await o.checkpoints.make()) || (await o.checkpoints.renounce());
    if (!isKnown) return;
    disk.reached('compaction known');
    for (const { number, end } of sources) {
      const left = catalog.packs.get(number)?.live ?? 0;
      if (left > 0 && !damaged.has(number)) {
        // The index leads to something there that was not found in the pack: it stays, for the next start to look at.
        unfit.add(number);
        log(`pack ${number} stays: the index leads to ${left} bytes there that were not met`);
        continue;
      }
      const row: Row = ['pack gone', number];
      catalog.apply(row);
      await journal.append([row]);
      await packs.remove(number, damaged.has(number) ? o.setAside : undefined);
      if (!damaged.has(number)) o.budget.give(end);
      if (damaged.has(number)) log(`pack ${number} does not read as a whole, and is set aside in quarantine/`);
      disk.reached('compaction removed');
      counts.packs++;
      counts.bytes += end;
    }
  }

  /** False, and nothing done, if the budget has no room for it. */
  async function bring(living: readonly Living[]): Promise<boolean> {
    const number = packs.nextNumber();
    const path = packs.path(number);
    const partial = `${path}.partial`;
    const planned = living.reduce((sum, { place }) => sum + place.length, HEAD_BYTES);
    if (!o.budget.take(planned, 'tidying')) return false;
    try {
      const { places, end } = await write(living, number, partial);
      disk.reached('compaction written');
      await disk.rename(partial, path);
      await disk.syncFolder(o.folder);
      disk.reached('compaction renamed');
      const deletions = living.reduce((sum, one) => sum + (one.moved(one.place) ? 0 : one.place.length), 0);
      const seqs = places.map(({ seq }) => seq);
      const first = seqs.reduce((least, seq) => Math.min(least, seq), Number.MAX_SAFE_INTEGER);
      const last = seqs.reduce((most, seq) => Math.max(most, seq), 0);
      const row: Row = ['pack', number, end, deletions, first, last];
      catalog.apply(row);
      await journal.append([row]);
      o.budget.give(planned - end);
      await install(living, places);
      return true;
    } catch (error) {
      await disk.remove(partial).catch(() => {});
      if (disk.sizeOf(path) < 0) o.budget.give(planned);
      throw error;
    }
  }

  /** How many frames of a pack are to leave nothing behind; what does not read may be one. */
  async function erasedIn(pack: PackCount, isErased: Erases): Promise<number> {
    let count = 0;
    const isLiving = (seen: Seen): boolean => {
      try {
        return livingOf(seen, pack.number, () => false)?.isStillThere() ?? false;
      } catch {
        return false;
      }
    };
    const take = (seen: Seen) => {
      if (isErased(seen.header.kind, seen.meta) && !isLiving(seen)) count++;
    };
    const file = await disk.open(packs.path(pack.number), 'read');
    const { holes, end } = await scanFrames({
      ...{ file: paced(file, () => pause()), from: 0, size: pack.end, mark: o.mark, payloads: 'skip', take },
    }).finally(() => file.close());
    return count + holes.length + Number(end < pack.end);
  }

  async function purge(isErased: Erases): Promise<{ packs: number; frames: number }> {
    await packs.turnOver();
    const done = { packs: 0, frames: 0 };
    for (const pack of [...catalog.packs.values()]) {
      if (pack.number === packs.active) continue; // begun since
      const frames = await erasedIn(pack, isErased);
      if (frames === 0) continue;
      await compact([pack], isErased);
      if (isClosing || catalog.packs.has(pack.number))
        throw new Error(
          `pack ${pack.number} could not be written anew: DISK_MIB has no room for its copy, or the log says what does not read there`,
        );
      done.packs++;
      done.frames += frames;
      disk.reached('pack purged');
    }
    return done;
  }

  async function run(): Promise<void> {
    for (let sources = choose(); sources.length > 0 && !isClosing && held === 0; sources = choose()) {
      const before = counts.packs;
      await compact(sources);
      if (counts.packs === before) return;
    }
  }

  function start(): void {
    running = run()
      .catch((error: unknown) => {
        counts.failed++;
        looked = performance.now() + PAUSE_MS;
        log(`packs could not be compacted, tried again later: ${String(error)}`);
      })
      .finally(() => {
        running = undefined;
      });
  }

  return {
    counts,
    look() {
      const now = performance.now();
      if (running || isClosing || held > 0 || now - looked < Math.min(LOOK_MS, o.pauseMs * LOOK_MS)) return;
      looked = now;
      if (choose().length > 0) start();
    },
    async now() {
      await running;
      if (isClosing || held > 0) return;
      if (choose().length === 0 && isShort()) await packs.turnOver();
      if (!running && choose().length > 0) start();
      await running;
    },
    get isHeld() {
      return held > 0;
    },
    async settle() {
      await running;
    },
    async purge(isErased) {
      while (running || held > 0) await (running ?? new Promise<void>((resolve) => released.push(resolve)));
      const purging = purge(isErased);
      const ended = purging.then(
        () => {},
        () => {},
      );
      running = ended.finally(() => {
        running = undefined;
      });
      return purging;
    },
    async hold() {
      held++;
      await running;
      return () => {
        held--;
        if (held === 0) for (const resolve of released.splice(0)) resolve();
      };
    },
    async close() {
      isClosing = true;
      await running;
    },
  };
}

const at4 = ({ seq, pack, at, length }: Place) => [seq, pack, at, length] as const;

/** The same file, not read in one go. */
const paced = (file: DiskFile, pause: () => Promise<void>): DiskFile => ({
  ...file,
  async read(into, position) {
    await pause();
    return file.read(into, position);
  },
});
