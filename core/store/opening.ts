// Opens the parts of a store in their order: the format, what is there, and what writes and tidies from then on.
import { dirname, join } from 'node:path';
import { type Budget, createBudget } from './budget.ts';
import { atOf, type Catalog, createCatalog, type Held, type Payload, type Row } from './catalog.ts';
import { type Checkpoints, createCheckpoints } from './checkpoints.ts';
import { type Compaction, createCompaction } from './compaction.ts';
import { type Disk, readAll } from './disk.ts';
import type { FrameToWrite } from './frames.ts';
import { markOf, readHeader } from './frames.ts';
import { createJournal } from './journal.ts';
import { createKeyedLock, type KeyedLock } from './keyed-lock.ts';
import { type Metadata, newId, readMetadata, writeMetadata } from './metadata.ts';
import { hasFormat1, migrate, removeOldIndex } from './migration.ts';
import { createPacks, type Packs } from './packs.ts';
import { openPayloadFiles, type PayloadFiles } from './payload-files.ts';
import { createQuarantine, type Quarantine } from './quarantine.ts';
import { payloadName, type StoredRecord } from './records.ts';
import { createRescue } from './rescue.ts';
import { createScrub, isWholePayload, type Scrub } from './scrub.ts';
import { openSpare, type Spare } from './spare.ts';
import { type LostRecord, recover, removeUnneeded } from './start.ts';

export interface PartsOptions {
  readonly disk: Disk;
  readonly packBytesMax: number;
  readonly journalBytesMin: number;
  readonly compactionPauseMs: number;
  readonly scrubBytesPerSecond: number;
  readonly quarantineBytesMax: number;
  readonly bytesMax: number;
  readonly spareBytes: number;
  readonly damaged: (record: StoredRecord) => void;
}

export interface Parts {
  readonly mark: string;
  readonly lineage: string;
  readonly catalog: Catalog;
  readonly files: PayloadFiles;
  readonly budget: Budget;
  readonly packs: Packs;
  /** Bytes for removals on a full disk. */
  readonly spare: Spare;
  readonly checkpoints: Checkpoints;
  readonly compaction: Compaction;
  readonly quarantine: Quarantine;
  readonly scrub: Scrub;
  /** By payload: what is done with its file happens in order. */
  readonly locks: KeyedLock;
  readonly found: readonly StoredRecord[];
  readonly lost: readonly LostRecord[];
  /** Packs stay where they are until the result is called. */
  hold(): Promise<() => void>;
  settle(): Promise<void>;
  /** What is dead is given back now, as far as it may. */
  tidy(): Promise<void>;
  close(): Promise<void>;
}

/** Of a budget: packs, the shortest journal and the quarantine are no larger than one. */
const BUDGET_PARTS = 64;
/** Of a budget, for removals and for compaction, which writes at most two packs' bytes before others go. */
const RESERVE_PACKS = 5;
/** What a record may take of journal and checkpoints. */
export const RECORD_BYTES = 1024;

export async function openParts(folder: string, log: (line: string) => void, options: PartsOptions): Promise<Parts> {
  const { disk, spareBytes } = options;
  const scaled = options.bytesMax / BUDGET_PARTS;
  const packBytesMax = Math.min(options.packBytesMax, scaled);
  const journalBytesMin = Math.min(options.journalBytesMin, scaled);
  let opened: Catalog | undefined;
  const budget = createBudget({
    bytesMax: options.bytesMax,
    reserveBytes: RESERVE_PACKS * packBytesMax,
    allowance: () => spareBytes + 2 * journalBytesMin + RECORD_BYTES * (opened?.size ?? 0),
  });
  const packsFolder = join(folder, 'entries', 'packs');
  const journalFolder = join(folder, 'journal');
  const metadataPath = join(folder, 'metadata.json');
  await disk.makeFolder(folder);
  const { metadata, isNew, lost: lostBefore } = await formatOf(folder, log, disk);
  for (const path of [packsFolder, journalFolder]) await disk.makeFolder(path);
  const files = await openPayloadFiles(disk, folder, Math.min(options.quarantineBytesMax, scaled), budget);
  for (const path of [packsFolder, join(folder, 'entries'), journalFolder, folder, dirname(folder)])
    await disk.syncFolder(path);
  if (isNew) await writeMetadata(disk, metadataPath, metadata);
  const { mark, lineage } = metadata;
  for (const name of await disk.list(join(folder, 'incoming'))) await disk.remove(join(folder, 'incoming', name));

  let isServing = false;
  const dropping = new Set<Promise<void>>();
  const locks = createKeyedLock();
  /** Freeing a large file takes the disk a while, and nobody waits for it. */
  function dropLater({ tenant, digest, inline }: Payload): void {
    if (inline || !isServing) return;
    const dropped: Promise<void> = locks
      .run(payloadName(tenant, digest), async () => {
        const now = catalog.payload(tenant, digest);
        if (!now || now.inline) await files.remove(tenant, digest);
      })
      .catch((error: unknown) => log(`a payload without a record stays until the next start: ${String(error)}`))
      .finally(() => dropping.delete(dropped));
    dropping.add(dropped);
  }

  const recovered = await recover(
    { disk, packsFolder, journalFolder, mark, checkpoint: metadata.checkpoint, files, log },
    () => createCatalog(dropLater),
  );
  const { catalog, journal: next } = recovered;
  opened = catalog;
  const lost = [...lostBefore, ...recovered.lost];
  for (const { name, reason } of lost) log(`lost: ${name} (${reason})`);
  if (recovered.isUncertain) log('payloads without a record stay: something may be missing that is not known by name');
  else await removeUnneeded(catalog, files, disk.remove);
  budget.found(await bytesFound(disk, packsFolder, catalog, files, recovered.isUncertain));

  const journal = createJournal({ disk, folder: journalFolder, log, ...next });
  const { seq, pack: number, last } = recovered;
  const spare = await openSpare(disk, join(folder, 'spare'), spareBytes, log);
  const packs = createPacks({
    ...{ disk, folder: packsFolder, mark, packBytesMax, seq, number, last, journal, log },
    giveRoom: spare.give,
    budget,
  });
  const checkpoints = createCheckpoints({
    ...{ catalog, journal, log, isDue: recovered.isBehind },
    journalBytesMin,
    settledSeq: () => packs.settledSeq,
    name: (checkpoint) => writeMetadata(disk, metadataPath, { mark, lineage, checkpoint }),
    hasRoom: () =>
      spare.ensure().then(
        () => true,
        () => false,
      ),
  });
  const isWhole = (payload: Payload) => isWholePayload({ disk, mark, packs, files }, payload);
  const quarantine = createQuarantine({ catalog, files, packs, locks, isWhole, damaged: options.damaged, log });
  const rewrite = (held: Held) => writeAgain(held, packs, catalog);
  const compaction = createCompaction({
    ...{ disk, folder: packsFolder, mark, packBytesMax, catalog, packs, journal, checkpoints, log, budget },
    rescue: createRescue({ catalog, quarantine, rewrite }),
    setAside: files.setAside,
    room: () => (spare.isFull ? spare.bytes / 2 : Number.POSITIVE_INFINITY),
    pauseMs: options.compactionPauseMs,
  });
  const scrub = createScrub({
    ...{ disk, mark, catalog, packs, files, log, suspect: quarantine.suspect },
    bytesPerSecond: options.scrubBytesPerSecond,
    rewrite,
  });
  isServing = true;
  await Promise.all(recovered.unwritten.map(rewrite)).catch((error: unknown) =>
    log(`${recovered.unwritten.length} records are served, and could not be written again: ${String(error)}`),
  );
  checkpoints.look();
  compaction.look();

  const settle = async () => {
    await packs.idle();
    await quarantine.settle();
    await Promise.all(dropping);
    await compaction.settle();
    await checkpoints.settle();
  };
  return {
    ...{ mark, lineage, catalog, files, budget, packs, spare, checkpoints, compaction, quarantine, scrub, locks, lost },
    found: Array.from(catalog.held(), ({ record }) => record),
    hold: compaction.hold,
    async tidy() {
      await Promise.all(dropping);
      await compaction.now();
    },
    settle,
    async close() {
      await scrub.close();
      await compaction.close();
      await settle();
      await packs.close();
      await journal.close();
    },
  };
}

/** Of everything that is counted byte by byte. */
async function bytesFound(
  disk: Disk,
  packsFolder: string,
  catalog: Catalog,
  files: PayloadFiles,
  isUncertain: boolean,
): Promise<number> {
  let bytes = await files.quarantineBytes();
  for (const name of await disk.list(packsFolder)) bytes += disk.sizeOf(join(packsFolder, name));
  if (isUncertain) for await (const { path } of files.names()) bytes += disk.sizeOf(path);
  else for (const payload of catalog.payloads()) if (!payload.inline) bytes += payload.bytes;
  return bytes;
}

interface Format {
  readonly metadata: Metadata;
  /** metadata.json has to be written. */
  readonly isNew: boolean;
  readonly lost: readonly LostRecord[];
}

/** What the folder holds; a format before this one is brought to it. */
async function formatOf(folder: string, log: (line: string) => void, disk: Disk): Promise<Format> {
  const path = join(folder, 'metadata.json');
  const found = await readMetadata(disk, path);
  if (typeof found === 'object' && found.metadata) {
    await removeOldIndex(disk, folder);
    return { metadata: found.metadata, isNew: false, lost: [] };
  }
  const mark = typeof found === 'object' ? undefined : await markInPacks(disk, join(folder, 'entries', 'packs'));
  if (mark) {
    log(`${path} ${found === 'none' ? 'is gone' : 'cannot be read'}: the index is read from the packs`);
    return { metadata: { mark, lineage: newId(), checkpoint: undefined }, isNew: true, lost: [] };
  }
  if (typeof found === 'object' || (await hasFormat1(disk, folder)))
    return { ...(await migrate(disk, folder, log)), isNew: false };
  if (found === 'damaged') throw new Error(`${path} says format nothing readable, and no pack or record tells more.`);
  return { metadata: { mark: newId(), lineage: newId(), checkpoint: undefined }, isNew: true, lost: [] };
}

/** The mark that the first frame of a pack bears. */
async function markInPacks(disk: Disk, folder: string): Promise<string | undefined> {
  for (const name of (await disk.list(folder)).sort()) {
    const file = await disk.open(join(folder, name), 'read');
    const head = Buffer.alloc(4096);
    await readAll(file, head, 0).finally(() => file.close());
    if (readHeader(head, 0, '')) return markOf(head, 0);
  }
  return undefined;
}

/**
 * A record that is whole but for its frame: the next start must find it too. With the sequences that it had, so that it
 * stands behind whatever has been said of its key meanwhile.
 */
async function writeAgain({ record, place, payload }: Held, packs: Packs, catalog: Catalog): Promise<void> {
  const { tenant, digest, bytes } = payload;
  const put: FrameToWrite = { kind: 'put', meta: record, seq: place.seq };
  const meta = { tenant, digest, bytes, file: true };
  const named: FrameToWrite = { kind: 'payload', meta, seq: payload.place.seq };
  await packs.append(payload.inline ? [put] : [named, put], (places) => {
    const rows: Row[] = [];
    const mine = places.at(-1);
    if (mine) rows.push(['put moved', ...atOf(mine), record.tenant, record.key]);
    if (places.length > 1 && places[0]) rows.push(['payload moved', ...atOf(places[0]), tenant, digest, 0]);
    rows.forEach(catalog.apply);
    return rows;
  });
}
