// What a start finds: the index as checkpoint and journal tell it, what the packs hold behind that, or everything from the
// packs if there is nothing else; then whatever cannot be served is named. Writes nothing but this: a group that was torn
// and never answered is cut off the end of the pack written last.
import { join } from 'node:path';
import { atOf, type Catalog, type Held, type Payload, type Place } from './catalog.ts';
import { type Disk, readAll } from './disk.ts';
import { type Scanned, type Seen, scanFrames } from './frame-scan.ts';
import { FRAME_VERSION, readHeader, readMeta } from './frames.ts';
import { type CheckpointName, numberOf, replay } from './journal.ts';
import { packName } from './packs.ts';
import type { PayloadFiles } from './payload-files.ts';
import type { StoredRecord } from './records.ts';
import { deleteSchema, headSchema, payloadName, payloadSchema, recordSchema, tenantHash } from './records.ts';

export interface LostRecord {
  readonly name: string;
  readonly reason: string;
  /** The payload that it named. */
  readonly payload?: string;
}

export interface Recovered {
  readonly lost: readonly LostRecord[];
  readonly seq: number;
  /** The highest pack. */
  readonly pack: number;
  readonly last: { readonly number: number; readonly end: number } | undefined;
  readonly journal: { readonly number: number; readonly serial: number; readonly hasGap: boolean };
  /** Servable, but their frames are gone: to be written again. */
  readonly unwritten: readonly Held[];
  /** Checkpoint and journal did not tell everything: another checkpoint is due. */
  readonly isBehind: boolean;
  /** Records may be missing that nobody can name: no payload is to be removed. */
  readonly isUncertain: boolean;
}

export interface RecoverOptions {
  readonly disk: Disk;
  readonly packsFolder: string;
  readonly journalFolder: string;
  readonly mark: string;
  readonly checkpoint: CheckpointName | undefined;
  readonly catalog: Catalog;
  readonly files: PayloadFiles;
  readonly log: (line: string) => void;
}

/** With an index that a damaged checkpoint has not touched: `catalog` is asked for again. */
export async function recover(
  o: Omit<RecoverOptions, 'catalog'>,
  fresh: () => Catalog,
): Promise<Recovered & { catalog: Catalog }> {
  const { disk, log } = o;
  let catalog = fresh();
  const settled = () => {
    for (const pack of catalog.packs.values()) pack.end = 0;
  };
  let known = await replay(disk, o.journalFolder, o.checkpoint, (row) => catalog.apply(row), settled);
  if (!known) {
    log('the last checkpoint cannot be read: the index is read from the packs');
    catalog = fresh();
    const files = (await disk.list(o.journalFolder)).map(numberOf).filter((number) => number > 0);
    known = { seq: 0, serial: Number.MAX_SAFE_INTEGER / 2, next: Math.max(0, ...files) + 1, whole: false };
  }
  const packs = await readPacks({ ...o, catalog }, known.seq);
  const gone = goneFrom(catalog, packs.sizes);
  const lost = [...packs.lost, ...gone.lost, ...(await lostFiles(catalog, o.files))];
  const isBehind = !known.whole || packs.isBehind || lost.length > 0 || gone.unwritten.length > 0;
  return {
    ...{ catalog, lost, unwritten: gone.unwritten.filter(({ record }) => catalog.find(record.tenant, record.key)) },
    ...{ seq: Math.max(known.seq, packs.seq), pack: Math.max(packs.highest, catalog.highestPack), last: packs.last },
    ...{ isBehind, isUncertain: packs.lost.length > 0 },
    // A row that was found in the packs is in no journal: the gap says so.
    journal: { number: known.next, serial: known.serial + (isBehind ? 1 : 0), hasGap: isBehind },
  };
}

type Owner = Pick<StoredRecord, 'tenant' | 'key'>;

/** Frames that no row told of. */
interface Findings {
  readonly changes: { readonly place: Place; readonly put?: StoredRecord; readonly deleted?: Owner }[];
  readonly payloads: Map<string, { place: Place; inline: boolean }>;
  readonly lost: LostRecord[];
}

async function readPacks(o: RecoverOptions, knownSeq: number) {
  const { disk, catalog, log } = o;
  const names = await disk.list(o.packsFolder);
  for (const name of names) if (name.endsWith('.partial')) await disk.remove(join(o.packsFolder, name));
  const numbers = names.map(numberOf).filter((number) => number > 0);
  const sizes = new Map(numbers.sort((a, b) => a - b).map((n) => [n, disk.sizeOf(join(o.packsFolder, packName(n)))]));
  const highest = Math.max(0, ...numbers);
  const lost: LostRecord[] = [];
  const findings: Findings = { changes: [], payloads: new Map(), lost };
  const written = await lastWritten(o, [...sizes.keys()]);
  let seq = 0;
  let isBehind = false;
  let last: { number: number; end: number } | undefined;
  for (const [number, size] of sizes) {
    const from = catalog.packs.get(number)?.end ?? 0;
    const isLast = number === written;
    // Where a frame was cut in two, nothing is to follow.
    if (isLast && from <= size) last = { number, end: size };
    if (from >= size) continue;
    isBehind = true;
    const path = join(o.packsFolder, packName(number));
    const scanned = await readPack(o, { number, path, from, size, knownSeq, findings, isLast });
    seq = Math.max(seq, scanned.seq);
    const torn = scanned.end < size ? [{ from: scanned.end, to: size }] : [];
    if (isLast) {
      if (scanned.end < size)
        log(`pack ${number} ends in ${size - scanned.end} bytes that were never answered: cut off`);
      await secureEnd(disk, path, scanned.end);
      sizes.set(number, scanned.end);
      last = { number, end: scanned.end };
    }
    for (const hole of [...scanned.holes, ...(isLast ? [] : torn)])
      lost.push({ name: `${path} from ${hole.from} to ${hole.to}`, reason: 'what is there cannot be read' });
    if (lost.length > 0 && isLast) last = undefined; // what follows goes elsewhere
    catalog.apply(['pack', number, sizes.get(number) ?? size, 0, scanned.firstSeq, scanned.seq]);
  }
  await applyFindings(o, [...sizes.keys()], findings);
  return { sizes, highest, lost, seq, isBehind, last };
}

/** The pack that writers wrote to last: the others are as compaction or an earlier life have left them, synced. */
async function lastWritten({ disk, packsFolder, mark }: RecoverOptions, numbers: readonly number[]): Promise<number> {
  for (const number of numbers.toReversed()) {
    const file = await disk.open(join(packsFolder, packName(number)), 'read');
    const bytes = Buffer.alloc(512);
    await readAll(file, bytes, 0).finally(() => file.close());
    const header = readHeader(bytes, 0, mark);
    const head = header && headSchema.safeParse(readMeta(bytes, 0, header)).data;
    if (!head?.compacted) return number;
  }
  return 0;
}

interface PackToRead {
  readonly number: number;
  readonly path: string;
  readonly from: number;
  readonly size: number;
  readonly knownSeq: number;
  readonly findings: Findings;
  readonly isLast: boolean;
}

async function readPack(o: RecoverOptions, pack: PackToRead): Promise<Scanned & { firstSeq: number; seq: number }> {
  const { number, from, size, knownSeq, findings } = pack;
  let firstSeq = Number.MAX_SAFE_INTEGER;
  let seq = 0;

  function take({ header, meta, at }: Seen): void {
    if (header.version > FRAME_VERSION)
      throw new Error(
        `${pack.path} has frames of version ${header.version}; this Blatam reads up to ${FRAME_VERSION}.`,
      );
    const place: Place = { seq: header.seq, pack: number, at, length: header.length };
    seq = Math.max(seq, place.seq);
    if (header.kind !== 'head') firstSeq = Math.min(firstSeq, place.seq); // also of what counts no more
    const isKnown = place.seq <= knownSeq;
    if (header.kind === 'put') {
      const put = recordSchema.safeParse(meta).data;
      if (!put)
        findings.lost.push({ name: `${pack.path} at ${at}`, reason: 'the record is not one that this version knows' });
      else if (isKnown) findMoved(o.catalog.find(put.tenant, put.key), place, o);
      else findings.changes.push({ place, put });
    } else if (header.kind === 'delete') findings.changes.push({ place, deleted: deleteSchema.parse(meta) });
    else if (header.kind === 'payload') {
      const { tenant, digest, file } = payloadSchema.parse(meta);
      const name = `${tenant}\0${digest}`;
      if (isKnown) findMoved(o.catalog.payload(tenant, digest), place, o);
      else if ((findings.payloads.get(name)?.place.seq ?? 0) <= place.seq)
        findings.payloads.set(name, { place, inline: !file });
    }
  }

  const file = await o.disk.open(pack.path, 'read');
  try {
    const payloads = pack.isLast ? 'verify' : 'skip';
    const scanned = await scanFrames({ ...{ file, from, size, take, payloads }, mark: o.mark });
    return { ...scanned, firstSeq, seq };
  } finally {
    await file.close();
  }
}

/** Compaction had copied it when the process ended: the copy counts if the pack it came from is gone. */
function findMoved(
  thing: Held | Payload | undefined,
  place: Place,
  { disk, catalog, packsFolder }: RecoverOptions,
): void {
  if (thing?.place.seq !== place.seq || disk.sizeOf(join(packsFolder, packName(thing.place.pack))) >= 0) return;
  const at = atOf(place);
  if ('record' in thing) catalog.apply(['put moved', ...at, thing.record.tenant, thing.record.key]);
  else catalog.apply(['payload moved', ...at, thing.tenant, thing.digest, thing.inline ? 1 : 0]);
}

/** In the order in which they came about, wherever compaction has brought them. */
async function applyFindings(
  o: RecoverOptions,
  numbers: readonly number[],
  { changes, payloads }: Findings,
): Promise<void> {
  const { catalog } = o;
  const wanted = new Set<string>();
  for (const { put } of changes) {
    if (!put) continue;
    const name = `${put.tenant}\0${put.digest}`;
    if (payloads.has(name)) continue;
    // As it is before anything is applied: a deletion may leave it to nobody for a moment.
    const known = catalog.payload(put.tenant, put.digest);
    if (known) payloads.set(name, { place: known.place, inline: known.inline });
    else if (o.files.sizeOf(put.tenant, put.digest) < 0) wanted.add(name);
  }
  if (wanted.size > 0) await findPayloads(o, numbers, wanted, payloads);
  for (const { place, put, deleted } of changes.sort((a, b) => a.place.seq - b.place.seq)) {
    const at = atOf(place);
    if (deleted) catalog.apply(['delete', ...at, deleted.tenant, deleted.key]);
    if (!put) continue;
    const found = payloads.get(`${put.tenant}\0${put.digest}`);
    // Without its frame a payload may still be there as a file: that is looked at next.
    const where = found?.place ?? { ...place, seq: 0, length: 0 };
    catalog.apply(['put', ...at, put, ...atOf(where), found?.inline ? 1 : 0]);
  }
}

/** A writer was about to need it when nobody else did any more: then only the packs know where it lies. */
async function findPayloads(
  o: RecoverOptions,
  numbers: readonly number[],
  wanted: ReadonlySet<string>,
  payloads: Findings['payloads'],
): Promise<void> {
  for (const number of numbers) {
    const path = join(o.packsFolder, packName(number));
    const take = ({ header, meta, at }: Seen): void => {
      if (header.kind !== 'payload') return;
      const { tenant, digest, file } = payloadSchema.parse(meta);
      const name = `${tenant}\0${digest}`;
      if (!wanted.has(name) || (payloads.get(name)?.place.seq ?? -1) > header.seq) return;
      payloads.set(name, { place: { seq: header.seq, pack: number, at, length: header.length }, inline: !file });
    };
    const file = await o.disk.open(path, 'read');
    const range = { from: 0, size: o.disk.sizeOf(path) };
    await scanFrames({ file, ...range, mark: o.mark, payloads: 'skip', take }).finally(() => file.close());
  }
}

/** What lies in packs that are gone, or shorter than they were. */
function goneFrom(catalog: Catalog, sizes: ReadonlyMap<number, number>): { lost: LostRecord[]; unwritten: Held[] } {
  const isThere = ({ pack, at, length }: Place) => at + length <= (sizes.get(pack) ?? -1);
  const lost: LostRecord[] = [];
  const unwritten: Held[] = [];
  for (const held of catalog.held()) {
    const { record, place, payload } = held;
    if (payload.inline && !isThere(payload.place)) {
      const reason = `pack ${payload.place.pack}, in which its payload was, is ${sizes.has(payload.place.pack) ? 'cut short' : 'gone'}`;
      lost.push({ name: `${record.tenant}/${record.key}`, reason });
      catalog.forget(held);
    } else if (!isThere(place) || !isThere(payload.place)) unwritten.push(held);
  }
  for (const number of [...catalog.packs.keys()]) if (!sizes.has(number)) catalog.apply(['pack gone', number]);
  return { lost, unwritten };
}

/** What lies in files that are gone, or not as long as they should be; those are set aside. */
async function lostFiles(catalog: Catalog, files: PayloadFiles): Promise<LostRecord[]> {
  const wrong = new Map<Payload, number>();
  for (const payload of catalog.payloads()) {
    if (payload.inline) continue;
    const size = files.sizeOf(payload.tenant, payload.digest);
    if (size !== payload.bytes) wrong.set(payload, size);
  }
  if (wrong.size === 0) return [];
  const lost: LostRecord[] = [];
  for (const held of catalog.held()) {
    const size = wrong.get(held.payload);
    if (size === undefined) continue;
    const { tenant, key, digest, bytes } = held.record;
    const reason = size < 0 ? 'its payload is missing' : `its payload has ${size} of ${bytes} bytes`;
    lost.push({ name: `${tenant}/${key}`, reason, payload: payloadName(tenant, digest) });
    catalog.forget(held);
  }
  for (const [{ tenant, digest }, size] of wrong) if (size >= 0) await files.setAside(files.path(tenant, digest));
  return lost;
}

/** Payloads that no record needs: written, and never answered, or removed when nobody was there to do it. */
export async function removeUnneeded(
  catalog: Catalog,
  files: PayloadFiles,
  remove: (path: string) => Promise<void>,
): Promise<void> {
  const tenants = new Map<string, string>();
  for (const { tenant } of catalog.payloads()) if (!tenants.has(tenant)) tenants.set(tenant, tenantHash(tenant));
  const byHash = new Map([...tenants].map(([tenant, hash]) => [hash, tenant]));
  for await (const { name, path } of files.names()) {
    const [digest = '', hash = ''] = name.split('.');
    const tenant = byHash.get(hash);
    const payload = tenant === undefined ? undefined : catalog.payload(tenant, digest);
    if (!payload || payload.inline) await remove(path);
  }
}

/** Read from memory, perhaps: from now on it is relied on. */
async function secureEnd(disk: Disk, path: string, end: number): Promise<void> {
  const file = await disk.open(path, 'write');
  try {
    await file.truncate(end);
    await file.sync();
  } finally {
    await file.close();
  }
}
