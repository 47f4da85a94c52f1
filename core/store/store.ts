// What survives: records of which key holds which payload, and the payloads. The truth lies in packs (packs.ts), larger
// payloads in files beside them (payload-files.ts), and a journal makes starts short (journal.ts; ADR 9).
// Invariant: a record is visible only when its payload is complete and synced, and both are found by every later start. So a
// kill at any moment leaves old or new, never half. The caller serializes writes of one key. One process per folder.
import { Problem, problem } from '../contract/problems.ts';
import { type BackupDone, type BackupOptions, backUp } from './backup.ts';
import { atOf, type Payload, type Place } from './catalog.ts';
import { type Disk, isFull, realDisk } from './disk.ts';
import { type Erasure, erase, type StoreErased } from './erasure.ts';
import type { FrameToWrite } from './frames.ts';
import { type Incoming, openIncoming } from './incoming.ts';
import { readInline } from './inline.ts';
import { openParts, type Parts, RECORD_BYTES } from './opening.ts';
import { budgetIsTaken } from './packs.ts';
import type { PayloadFiles } from './payload-files.ts';
import { payloadName, type StoredRecord } from './records.ts';
import type { LostRecord } from './start.ts';

export type { LostRecord } from './start.ts';

export interface Store {
  /** What the start found, in no order. */
  readonly found: readonly StoredRecord[];
  /** Records that the start could not serve, by name, with the reason. */
  readonly lost: readonly LostRecord[];
  /** What is held now. */
  readonly entries: number;
  readonly bytes: number;
  readonly room: DiskRoom;
  /**
   * `aligned`: pieces lie and are written at multiples of 4096, and may be zeroed behind their length (PayloadFile).
   * `bytes`: so many are to come, and there must be room for them; without a budget it need not be said.
   */
  begin(aligned: boolean, bytes?: number): Promise<StoreWriter>;
  open(record: StoredRecord): Promise<StoreReader>;
  /**
   * Its payload is not what it should be: whoever stores the same bytes again replaces it. It is read once more, and set
   * aside if it is wrong then too.
   */
  distrust(record: StoredRecord): void;
  /** Gone for every later start when it resolves. */
  remove(record: StoredRecord): Promise<void>;
  /** Resolves once payloads that nobody needs are removed, and what goes on in the background is done. */
  settle(): Promise<void>;
  /** Reads all that is held once, to find damage. */
  scrub(): Promise<void>;
  report(): StoreReport;
  /** What has been removed leaves nothing on the disk, names included (erasure.ts). */
  erase(erasure: Erasure): Promise<StoreErased>;
  /** A copy of what is there now, while writing goes on (backup.ts). */
  backUp(options: BackupOptions): Promise<BackupDone>;
  close(): Promise<void>;
}

/** The store's part of the disk. */
export interface DiskRoom {
  /** All that is there or about to be. */
  readonly bytes: number;
  /** The budget; infinite: none. */
  readonly bytesMax: number;
  /** A backup holds what is there: nothing comes free by leaving. */
  readonly isHeld: boolean;
  /** How much has to go before a payload of so many bytes can come; none or less: there is room. */
  lacks(bytes: number): number;
  /** What is dead is given back, as far as it may. */
  tidy(): Promise<void>;
}

/** What there is, and what has happened since the start. */
export interface StoreReport {
  readonly packs: number;
  /** Of packs: frames that count, and all of them. */
  readonly packBytes: { readonly live: number; readonly all: number };
  readonly syncs: number;
  readonly frames: number;
  readonly compacted: { readonly packs: number; readonly bytes: number };
  readonly scrubbed: { readonly rounds: number; readonly bytes: number };
  /** What went wrong, by what it was. */
  readonly faults: Readonly<Record<FaultName, number>>;
}
export type FaultName = 'disk_full' | 'disk_failed' | 'failed_sync' | 'damaged' | 'lost' | 'unread';

export interface StoreWriter {
  write(piece: Uint8Array, length: number, position: number): Promise<void>;
  /** Synced and visible when it resolves, in the place of what its key had. */
  commit(record: StoredRecord): Promise<{ deduplicated: boolean }>;
  abort(): Promise<void>;
}

export interface StoreReader {
  /** Fills `into`; throws `record_damaged` if the payload ends before. */
  read(into: Uint8Array, position: number): Promise<void>;
  close(): Promise<void>;
}

export interface StoreOptions {
  readonly disk?: Disk;
  /** A pack that has grown to it is left for another. */
  readonly packBytesMax?: number;
  /** A journal shorter than that needs no checkpoint. */
  readonly journalBytesMin?: number;
  /** How long compaction leaves the disk to others, between two megabytes. */
  readonly compactionPauseMs?: number;
  /** How fast what is held is read again to find damage; 0: not at all. */
  readonly scrubBytesPerSecond?: number;
  /** Its payload is set aside: who has the bytes may store them again. */
  readonly damaged?: (record: StoredRecord) => void;
  /** Of what is set aside as damaged; the oldest goes first. */
  readonly quarantineBytesMax?: number;
  /** All that may be on disk, the journal with so much a record included (budget.ts). */
  readonly bytesMax?: number;
  /** Kept free for removals on a full disk. */
  readonly spareBytes?: number;
}

const DEFAULTS = {
  disk: realDisk,
  packBytesMax: 64 << 20,
  journalBytesMin: 8 << 20,
  compactionPauseMs: 20,
  scrubBytesPerSecond: 0,
  quarantineBytesMax: 1 << 30,
  bytesMax: Number.POSITIVE_INFINITY,
  spareBytes: 4 << 20,
  damaged: () => {},
};

export async function openStore(
  folder: string,
  log: (line: string) => void,
  options: StoreOptions = {},
): Promise<Store> {
  const settings = { ...DEFAULTS, ...options };
  const { disk } = settings;
  const parts = await openParts(folder, log, settings);
  const { catalog, files, budget, packs, checkpoints, compaction, found, lost, locks } = parts;
  const refusals = { disk_full: 0, disk_failed: 0 };

  async function onDisk<T>(what: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (cause) {
      if (cause instanceof Problem) throw cause;
      const code = isFull(cause) ? 'disk_full' : 'disk_failed';
      refusals[code]++;
      const said = (cause as NodeJS.ErrnoException).code ?? 'unknown reason';
      throw problem(code, `The disk could not ${what} (${said}).`, {}, { cause });
    }
  }

  /** The payload that is there already, if it is whole as far as can be seen. */
  function usable({ tenant, digest, bytes }: StoredRecord): Payload | undefined {
    const known = catalog.payload(tenant, digest);
    if (!known || known.damaged) return undefined;
    return known.inline || files.sizeOf(tenant, digest) === bytes ? known : undefined;
  }

  /** A payload on its way in, and the room in the budget that it has until it is counted by itself. */
  interface Coming {
    readonly incoming: Incoming;
    /** All of it but `kept`; again, less of it. */
    readonly giveBack: (kept?: number) => void;
  }

  async function openComing(aligned: boolean, bytes: number | undefined): Promise<Coming> {
    const taken = bytes === undefined && budget.bytesMax === Number.POSITIVE_INFINITY ? 0 : counted(bytes);
    if (!budget.take(taken, 'newcomer')) throw budgetIsTaken(budget.bytesMax);
    let left = taken;
    const giveBack = (kept = 0) => {
      const rest = Math.min(left, kept);
      budget.give(left - rest);
      left = rest;
    };
    try {
      return { incoming: await openIncoming(files, aligned), giveBack };
    } catch (error) {
      giveBack();
      throw error;
    }
  }

  /** One more record needs a payload that is there, and that has to stay meanwhile. */
  async function share(record: StoredRecord, payload: Payload, { incoming, giveBack }: Coming): Promise<void> {
    catalog.retain(payload);
    try {
      await incoming.abandon();
      giveBack(FRAMES_BYTES + RECORD_BYTES);
      await append(
        [{ kind: 'put', meta: record }],
        ([put]) => put && putRow(record, put, payload.place, payload.inline),
        giveBack,
      );
    } finally {
      catalog.release(payload);
    }
  }

  async function bring(record: StoredRecord, { incoming, giveBack }: Coming): Promise<void> {
    const { tenant, digest, bytes } = record;
    const payload = incoming.inline(bytes);
    const meta = { tenant, digest, bytes, file: !payload };
    const frames: FrameToWrite[] = [
      payload ? { kind: 'payload', meta, payload } : { kind: 'payload', meta },
      { kind: 'put', meta: record },
    ];
    try {
      await incoming.keep(tenant, digest, bytes, () => giveBack(FRAMES_BYTES + RECORD_BYTES));
      const rowOf = ([first, put]: readonly Place[]) =>
        first && put && putRow(record, put, first, payload !== undefined);
      await append(frames, rowOf, giveBack);
    } catch (error) {
      if (!payload && !catalog.payload(tenant, digest)) await files.remove(tenant, digest);
      throw error;
    }
  }

  type Change = ReturnType<typeof putRow> | readonly ['delete', number, number, number, number, string, string];

  async function append(
    frames: readonly FrameToWrite[],
    rowOf: (places: readonly Place[]) => Change | undefined,
    giveBack: Coming['giveBack'] = () => {},
  ): Promise<void> {
    const settled = (places: readonly Place[]) => {
      giveBack();
      const row = rowOf(places);
      if (!row) return [];
      catalog.apply(row);
      return [row];
    };
    await packs.append(frames, settled, () => giveBack(RECORD_BYTES));
    checkpoints.look();
    compaction.look();
  }

  function commit(record: StoredRecord, coming: Coming): Promise<{ deduplicated: boolean }> {
    return locks.run(payloadName(record.tenant, record.digest), async () => {
      const known = usable(record);
      if (!known) {
        await bring(record, coming);
        return { deduplicated: false };
      }
      await share(record, known, coming);
      return { deduplicated: true };
    });
  }

  return {
    found,
    lost,
    get entries() {
      return catalog.size;
    },
    get bytes() {
      return catalog.bytes;
    },
    room: {
      get bytes() {
        return budget.bytes;
      },
      bytesMax: budget.bytesMax,
      get isHeld() {
        return compaction.isHeld;
      },
      lacks: (bytes) => budget.lacks(counted(bytes)),
      tidy: parts.tidy,
    },
    begin: (aligned, bytes) =>
      onDisk('begin a payload', async () => {
        await parts.spare.ensure();
        const coming = await openComing(aligned, bytes);
        const { incoming, giveBack } = coming;
        return {
          write: (piece, length, position) => onDisk('write a payload', () => incoming.write(piece, length, position)),
          commit: (record) => onDisk('commit a payload', () => commit(record, coming)),
          abort: () => incoming.abandon().finally(giveBack),
        };
      }),
    async open({ tenant, digest }) {
      const payload = catalog.payload(tenant, digest);
      const open = payload?.inline ? readInline(parts, payload) : openFile(files, tenant, digest);
      return open.catch((cause: unknown) => {
        if (cause instanceof Problem) throw cause;
        // Only a file that is not there is damage: too many open files, say, are no fault of the payload's.
        const code = (cause as NodeJS.ErrnoException).code === 'ENOENT' ? 'record_damaged' : 'disk_failed';
        throw problem(code, `The payload ${digest} cannot be opened.`, {}, { cause });
      });
    },
    distrust({ tenant, digest }) {
      const payload = catalog.payload(tenant, digest);
      if (payload) parts.quarantine.suspect(payload);
    },
    remove: ({ tenant, key }) =>
      onDisk('remove a record', async () => {
        if (!catalog.find(tenant, key)) return; // gone already
        const frame: FrameToWrite = { kind: 'delete', meta: { tenant, key } };
        const remove = () => append([frame], ([place]) => place && ['delete', ...atOf(place), tenant, key]);
        await remove().catch(async (error: unknown) => {
          if (!(error instanceof Problem)) throw error;
          await parts.tidy(); // the budget had no room even for that
          await remove();
        });
        parts.spare.retry();
      }),
    settle: parts.settle,
    scrub: () => parts.scrub.round(),
    report: () => reportOf(parts, refusals),
    erase: (erasure) => onDisk('erase', () => erase(disk, folder, parts, erasure)),
    backUp: (options) => backUp(disk, parts, options),
    close: parts.close,
  };
}

/** With what its frames and its record take beside it, and as written from aligned memory. */
const counted = (bytes = Number.POSITIVE_INFINITY): number =>
  Math.ceil(bytes / 4096) * 4096 + FRAMES_BYTES + RECORD_BYTES;
const FRAMES_BYTES = 4096;

const putRow = (record: StoredRecord, place: Place, payload: Place, inline: boolean) =>
  ['put', ...atOf(place), record, ...atOf(payload), inline ? 1 : 0] as const;

async function openFile(files: PayloadFiles, tenant: string, digest: string): Promise<StoreReader> {
  const file = await files.open(tenant, digest);
  return {
    async read(into, position) {
      for (let at = 0; at < into.length; ) {
        const bytes = await file.read(into.subarray(at), position + at).catch((cause: unknown) => {
          throw problem('disk_failed', `The payload ${digest} cannot be read.`, {}, { cause });
        });
        if (bytes === 0) throw problem('record_damaged', `The payload ${digest} ends at byte ${position + at}.`);
        at += bytes;
      }
    },
    close: file.close,
  };
}

function reportOf({ catalog, packs, compaction, quarantine, scrub, lost }: Parts, refusals: Refusals): StoreReport {
  const all = [...catalog.packs.values()];
  const { groups, frames, failedSyncs } = packs.counts;
  return {
    packs: all.length,
    packBytes: {
      live: all.reduce((sum, { live }) => sum + live, 0),
      all: all.reduce((sum, { end }) => sum + end, 0),
    },
    syncs: groups,
    frames,
    compacted: { packs: compaction.counts.packs, bytes: compaction.counts.bytes },
    scrubbed: { rounds: scrub.counts.rounds, bytes: scrub.counts.bytes },
    faults: {
      ...refusals,
      failed_sync: failedSyncs,
      damaged: quarantine.counts.setAside,
      lost: lost.length,
      unread: scrub.counts.failed,
    },
  };
}

interface Refusals {
  readonly disk_full: number;
  readonly disk_failed: number;
}
