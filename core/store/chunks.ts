// Rows in chunks, each with its length and a checksum: what checkpoints and journals are made of. A chunk carries the
// serial of its first row, counted over all rows ever written, so that a reader knows when some are missing. Reading ends
// where a chunk is torn or wrong. A record is written without the names of its fields, which would be half of all.
import { crc32 } from 'node:zlib';
import { parseJson } from '../contract/json.ts';
import type { Row } from './catalog.ts';
import { type DiskFile, readAll } from './disk.ts';
import { fieldsOf, type RecordFields, recordOf } from './records.ts';

const PREFIX_BYTES = 8;
const CHUNK_BYTES_MAX = 64 << 20;
const WINDOW_BYTES = 4 << 20;

export function encodeChunk(serial: number, rows: readonly Row[]): Buffer {
  const text = Buffer.from(JSON.stringify([serial, rows.map(shorten)]));
  const prefix = Buffer.alloc(PREFIX_BYTES);
  prefix.writeUInt32LE(text.length, 0);
  prefix.writeUInt32LE(crc32(text), 4);
  return Buffer.concat([prefix, text]);
}

const RECORD = 5;

const shorten = (row: Row): readonly unknown[] =>
  row[0] === 'put' ? (row as readonly unknown[]).with(RECORD, fieldsOf(row[RECORD])) : row;

function lengthen(row: unknown[]): Row {
  if (row[0] === 'put') row[RECORD] = recordOf(row[RECORD] as RecordFields);
  return row as unknown as Row;
}

export interface Chunk {
  readonly serial: number;
  readonly rows: readonly Row[];
}

/** True if the file was read to its end; `take` may say that it wants no more. */
export async function readChunks(file: DiskFile, size: number, take: (chunk: Chunk) => boolean): Promise<boolean> {
  let window = Buffer.alloc(0);
  let windowAt = 0;
  /** Undefined if there are not so many. */
  async function bytesAt(at: number, bytes: number): Promise<Buffer | undefined> {
    if (at + bytes > size) return undefined;
    if (at + bytes > windowAt + window.length) {
      const fresh = Buffer.allocUnsafe(Math.min(Math.max(bytes, WINDOW_BYTES), size - at));
      window = fresh.subarray(0, await readAll(file, fresh, at));
      windowAt = at;
    }
    const found = window.subarray(at - windowAt, at - windowAt + bytes);
    return found.length === bytes ? found : undefined;
  }
  for (let at = 0; at < size; ) {
    const prefix = await bytesAt(at, PREFIX_BYTES);
    const length = prefix?.readUInt32LE(0) ?? 0;
    const sum = prefix?.readUInt32LE(4);
    const text = length > 0 && length <= CHUNK_BYTES_MAX ? await bytesAt(at + PREFIX_BYTES, length) : undefined;
    if (!text || crc32(text) !== sum) return false;
    const [serial, short] = parseJson(text.toString()) as [number, unknown[][]]; // the checksum says that we wrote it
    if (!take({ serial, rows: short.map(lengthen) })) return false;
    at += PREFIX_BYTES + length;
  }
  return true;
}
