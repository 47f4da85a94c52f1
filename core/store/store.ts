// What survives: payloads as content-addressed files (each a plain safetensors file), and one record for each key.
//   metadata.json                      the format's version
//   entries/ab/<sha-256>.<tenant>.safetensors   payloads; a tenant's keys with equal payloads share one
//   index/ab/<hash of key>.json        records
//   incoming/                          what is being written; emptied at every start
// Invariant: a record is visible only when its payload is complete and synced; a file appears by rename, after fsync, and
// the folder is synced behind it. So a kill at any moment leaves old or new, never half, and at worst a payload without
// a record, which the next start removes. The caller serializes writes of one key. One process per folder.
import { mkdirSync } from 'node:fs';
import { type FileHandle, open, readdir, readFile, rename, rm, stat, unlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { parseJson } from '../contract/json.ts';
import { problem } from '../contract/problems.ts';
import { createKeyedLock } from './keyed-lock.ts';
import { createPayloadFile, type PayloadFile } from './payload-file.ts';
import { payloadName, recordName, recordSchema, type StoredRecord } from './records.ts';

const FORMAT = 1;
const SCAN_AT_ONCE = 64;
const SUFFIX = '.safetensors';

export interface Store {
  /** What the start found, in no order. */
  readonly found: readonly StoredRecord[];
  /** Records that the start could not serve, by name, with the reason. */
  readonly lost: readonly LostRecord[];
  readonly bytes: number;
  /** `aligned`: pieces lie and are written at multiples of 4096, and may be zeroed behind their length (PayloadFile). */
  begin(aligned: boolean): Promise<StoreWriter>;
  open(record: StoredRecord): Promise<StoreReader>;
  /** Its payload is not what it should be: whoever stores the same bytes again replaces it. */
  distrust(record: StoredRecord): void;
  /** Gone for every later start when it resolves. */
  remove(record: StoredRecord): Promise<void>;
  /** Resolves once payloads that nobody needs are removed. */
  close(): Promise<void>;
}

export interface LostRecord {
  readonly name: string;
  readonly reason: string;
  /** The payload that it named. */
  readonly payload?: string;
}

export interface StoreWriter {
  write(piece: Uint8Array, length: number, position: number): Promise<void>;
  /** Synced and visible when it resolves. `previous` is the record that this one replaces. */
  commit(record: StoredRecord, previous: StoredRecord | undefined): Promise<{ deduplicated: boolean }>;
  abort(): Promise<void>;
}

export interface StoreReader {
  /** Fills `into`; throws `record_damaged` if the file ends before. */
  read(into: Uint8Array, position: number): Promise<void>;
  close(): Promise<void>;
}

export async function openStore(folder: string, log: (line: string) => void): Promise<Store> {
  const paths = layout(folder);
  for (const path of paths.above) await syncFolder(path);
  await checkFormat(paths.metadata);
  for (const name of await readdir(paths.incoming)) await unlink(join(paths.incoming, name));
  const { found, lost, references } = await scan(paths);
  for (const { name, reason } of lost) log(`lost: ${name} (${reason})`);
  const sizes = new Map(found.map((record) => [nameOf(record), record.bytes]));
  let bytes = [...sizes.values()].reduce((sum, size) => sum + size, 0);
  const payloads = createKeyedLock();
  /** Payloads whose bytes turned out wrong: the next writer of the same ones replaces them. */
  const damaged = new Set<string>();
  let nextWriter = 1;

  /** One more record needs the payload: moves the file in, or drops it if the same one is there and whole. */
  const keep = (record: StoredRecord, incoming: string) =>
    payloads.run(nameOf(record), async () => {
      const name = nameOf(record);
      const held = references.get(name) ?? 0;
      const isThere = held > 0 && !damaged.has(name) && (await sizeOf(paths.payload(name))) === record.bytes;
      if (isThere) await unlink(incoming);
      else {
        await rename(incoming, paths.payload(name));
        await syncFolder(paths.payloadFolder(name));
        damaged.delete(name);
        if (held === 0) bytes += record.bytes;
      }
      references.set(name, held + 1);
      return isThere;
    });

  /** One record fewer needs it. */
  const drop = (record: StoredRecord) =>
    payloads.run(nameOf(record), async () => {
      const name = nameOf(record);
      const held = (references.get(name) ?? 0) - 1;
      if (held > 0) return void references.set(name, held);
      references.delete(name);
      damaged.delete(name);
      bytes -= record.bytes;
      await unlink(paths.payload(name));
    });

  /** The record is gone already; a payload that stays behind is removed by the next start. */
  const leftover = (error: unknown) => log(`a payload without a record stays until the next start: ${String(error)}`);

  /** Freeing a large file takes the disk a while, and nobody waits for it. */
  const dropping = new Set<Promise<void>>();
  function dropLater(record: StoredRecord): void {
    const dropped: Promise<void> = drop(record)
      .catch(leftover)
      .finally(() => dropping.delete(dropped));
    dropping.add(dropped);
  }

  /** Visible once it is renamed: a failure before that leaves the key as it was, and the payload is given up. */
  async function putRecord(record: StoredRecord): Promise<void> {
    const name = recordName(record.tenant, record.key);
    const incoming = join(paths.incoming, `${nextWriter++}.json`);
    try {
      await writeFile(incoming, JSON.stringify(record), { flush: true, mode: 0o600 });
      await rename(incoming, paths.record(name));
    } catch (error) {
      await rm(incoming, { force: true });
      await drop(record).catch(leftover);
      throw error;
    }
    // If this fails, either record may be the one that a later start finds: both payloads stay.
    await syncFolder(paths.recordFolder(name));
  }

  return {
    found,
    lost,
    get bytes() {
      return bytes;
    },
    begin: (aligned) =>
      onDisk('begin a payload', async () => {
        const path = join(paths.incoming, `${nextWriter++}.safetensors`);
        return writer(path, await createPayloadFile(path, aligned));
      }),
    async open(record) {
      try {
        return reader(record.digest, await open(paths.payload(nameOf(record)), 'r'));
      } catch (cause) {
        // Only a file that is not there is damage: too many open files, say, are no fault of the payload's.
        const code = (cause as NodeJS.ErrnoException).code === 'ENOENT' ? 'record_damaged' : 'disk_failed';
        throw problem(code, `The payload ${record.digest} cannot be opened.`, {}, { cause });
      }
    },
    distrust(record) {
      damaged.add(nameOf(record));
    },
    remove: (record) =>
      onDisk('remove a record', async () => {
        const name = recordName(record.tenant, record.key);
        await rm(paths.record(name), { force: true }); // gone already, if this failed halfway before
        await syncFolder(paths.recordFolder(name));
        dropLater(record);
      }),
    async close() {
      await Promise.all(dropping);
    },
  };

  function writer(path: string, file: PayloadFile): StoreWriter {
    return {
      write: (piece, length, position) => onDisk('write a payload', () => file.write(piece, length, position)),
      commit: (record, previous) =>
        onDisk('commit a payload', async () => {
          await file.finish(record.bytes);
          const deduplicated = await keep(record, path);
          await putRecord(record);
          if (previous) dropLater(previous);
          return { deduplicated };
        }),
      abort: () => file.abandon(),
    };
  }
}

function reader(digest: string, file: FileHandle): StoreReader {
  return {
    async read(into, position) {
      for (let at = 0; at < into.length; ) {
        const { bytesRead } = await file.read(into, at, into.length - at, position + at);
        if (bytesRead === 0) throw problem('record_damaged', `The payload ${digest} ends at byte ${position + at}.`);
        at += bytesRead;
      }
    },
    close: () => file.close(),
  };
}

type Paths = ReturnType<typeof layout>;

function layout(folder: string) {
  const entries = join(folder, 'entries');
  const index = join(folder, 'index');
  const incoming = join(folder, 'incoming');
  const shards = Array.from({ length: 256 }, (_, i) => i.toString(16).padStart(2, '0'));
  const parts = [incoming, ...[entries, index].flatMap((parent) => shards.map((shard) => join(parent, shard)))];
  for (const path of parts) mkdirSync(path, { recursive: true, mode: 0o700 });
  const above = [entries, index, folder, dirname(folder)];
  const payloadFolder = (name: string) => join(entries, name.slice(0, 2));
  const recordFolder = (name: string) => join(index, name.slice(0, 2));
  return {
    metadata: join(folder, 'metadata.json'),
    incoming,
    /** Folders whose names must be on disk before anything in them counts. */
    above,
    shards,
    entries,
    index,
    payloadFolder,
    recordFolder,
    payload: (name: string) => join(payloadFolder(name), `${name}${SUFFIX}`),
    record: (name: string) => join(recordFolder(name), `${name}.json`),
  };
}

async function checkFormat(path: string): Promise<void> {
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (text === undefined) {
    await writeFile(`${path}.new`, `${JSON.stringify({ format: FORMAT })}\n`, { flush: true });
    return rename(`${path}.new`, path);
  }
  const format = formatSchema.safeParse(parseJson(text)).data?.format ?? 'nothing readable';
  if (format === FORMAT) return;
  throw new Error(`${path} says format ${format}; this Blatam reads format ${FORMAT}. Use the version that wrote it.`);
}

/** Reads every record, checks that its payload is there in full, and removes payloads that no record names. */
async function scan(paths: Paths) {
  const found: StoredRecord[] = [];
  const lost: LostRecord[] = [];
  const references = new Map<string, number>();

  async function take(shard: string, file: string): Promise<void> {
    const path = join(paths.index, shard, file);
    const parsed = recordSchema.safeParse(await readJson(path));
    if (!parsed.success) return void lost.push({ name: path, reason: 'the record is damaged' });
    const record = parsed.data;
    if (file !== `${recordName(record.tenant, record.key)}.json`)
      return void lost.push({ name: path, reason: 'the record is not the one of its name', payload: nameOf(record) });
    const size = await sizeOf(paths.payload(nameOf(record)));
    if (size !== record.bytes) {
      const reason = size < 0 ? 'its payload is missing' : `its payload has ${size} of ${record.bytes} bytes`;
      return void lost.push({ name: `${record.tenant}/${record.key}`, reason, payload: nameOf(record) });
    }
    found.push(record);
    references.set(nameOf(record), (references.get(nameOf(record)) ?? 0) + 1);
  }

  for (const shard of paths.shards) {
    const files = await readdir(join(paths.index, shard));
    for (let i = 0; i < files.length; i += SCAN_AT_ONCE)
      await Promise.all(files.slice(i, i + SCAN_AT_ONCE).map((file) => take(shard, file)));
  }
  // An unreadable record may need any payload: until a person has looked at it, nothing is removed.
  if (lost.some((one) => one.payload === undefined)) return { found, lost, references };
  const wanted = new Set([...references.keys(), ...lost.flatMap((one) => one.payload ?? [])]);
  for (const shard of paths.shards)
    for (const file of await readdir(join(paths.entries, shard)))
      if (!wanted.has(file.slice(0, -SUFFIX.length))) await unlink(join(paths.entries, shard, file));
  return { found, lost, references };
}

const formatSchema = z.object({ format: z.number() });

const nameOf = (record: StoredRecord): string => payloadName(record.tenant, record.digest);

/** A file that cannot be read stops the start: what it says is not lost, and must not be treated as if it were. */
const readJson = async (path: string): Promise<unknown> => parseJson(await readFile(path, 'utf8'));

async function sizeOf(path: string): Promise<number> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return -1;
    throw error;
  }
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

const FULL = new Set(['ENOSPC', 'EDQUOT', 'EFBIG']);

async function onDisk<T>(what: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? '';
    const detail = `The disk could not ${what} (${code || 'unknown reason'}).`;
    throw problem(FULL.has(code) ? 'disk_full' : 'disk_failed', detail, {}, { cause });
  }
}
