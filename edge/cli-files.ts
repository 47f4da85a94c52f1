// The files of the command line: one to send, one to receive.
//
// What is sent has been checked to be safetensors, by its header alone, and hashed in one pass; it is then read again, and
// should it have changed in between the server refuses it by its digest. What is received lies beside its place under
// another name until it is whole, right and on disk; only then does it take its name. At any failure it is removed.

import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { type FileHandle, link, open, rename, rm, stat } from 'node:fs/promises';
import type { Writable } from 'node:stream';
import { Problem, problem } from '../core/contract/problems.ts';
import { headerLength, type Layout, parseHeader, parseTensors, type TensorInfo } from '../core/contract/tensors.ts';
import { size } from './cli-words.ts';
import { type Fetched, TransferError } from './client.ts';

/** Told of bytes as they pass. */
export type Passing = (bytes: number) => void;

/** What the user can mend; the message is the whole of it. */
export class Failure extends Error {
  readonly exitCode: number;
  constructor(message: string, exitCode = 1, options?: ErrorOptions) {
    super(message, options);
    this.name = 'Failure';
    this.exitCode = exitCode;
  }
}

const STDIN_BYTES_MAX = 256 * 1024 * 1024;
const PREFIX_BYTES = 8;
const HASH_PIECE_BYTES = 1024 * 1024;
const SEND_PIECE_BYTES = 256 * 1024;

export const faultCode = (thrown: unknown): string | undefined =>
  thrown instanceof Error && 'code' in thrown ? String(thrown.code) : undefined;

// ---- to send

export interface TensorFile {
  readonly length: number;
  readonly layout: Layout;
  /** The bytes of one of its tensors. */
  read(tensor: TensorInfo): Promise<Uint8Array>;
  digest(passing: Passing): Promise<Uint8Array>;
  stream(passing: Passing): ReadableStream<Uint8Array>;
  close(): Promise<void>;
}

export async function openTensorFile(path: string): Promise<TensorFile> {
  const handle = await open(path).catch((cause) => {
    if (faultCode(cause) === 'ENOENT') throw new Failure(`there is no file ${path}.`, 1, { cause });
    throw cause;
  });
  try {
    const found = await handle.stat();
    if (!found.isFile()) throw new Failure(`${path} is no regular file. Name one, or - for stdin.`);
    const layout = await tensorsOf(path, () => readLayout(handle, found.size));
    return tensorFile(path, handle, found.size, layout);
  } catch (thrown) {
    await handle.close();
    throw thrown;
  }
}

function tensorFile(path: string, handle: FileHandle, length: number, layout: Layout): TensorFile {
  async function* pieces(pieceBytes: number, passing: Passing): AsyncGenerator<Uint8Array, void, undefined> {
    for (let at = 0; at < length; ) {
      const piece = await readAt(handle, at, Math.min(pieceBytes, length - at));
      if (piece.length === 0) throw new Failure(`${path} became shorter while it was read.`);
      at += piece.length;
      passing(piece.length);
      yield piece;
    }
  }
  return {
    length,
    layout,
    read: ({ begin, end }) => readAt(handle, layout.headerBytes + begin, end - begin),
    async digest(passing) {
      const hash = createHash('sha256');
      for await (const piece of pieces(HASH_PIECE_BYTES, passing)) hash.update(piece);
      return hash.digest();
    },
    stream: (passing) => ReadableStream.from(pieces(SEND_PIECE_BYTES, passing)),
    close: () => handle.close(),
  };
}

async function readLayout(handle: FileHandle, length: number): Promise<Layout> {
  const headerBytes = headerLength(await readAt(handle, 0, PREFIX_BYTES));
  const needed = PREFIX_BYTES + headerBytes;
  if (needed > length)
    throw problem('tensors_truncated', `It has ${length} bytes, and its header alone would have ${needed}.`);
  return parseHeader(await readAt(handle, PREFIX_BYTES, headerBytes), length);
}

async function readAt(handle: FileHandle, position: number, length: number): Promise<Uint8Array> {
  const { bytesRead, buffer } = await handle.read(new Uint8Array(length), 0, length, position);
  return buffer.subarray(0, bytesRead);
}

async function tensorsOf(name: string, layout: () => Layout | Promise<Layout>): Promise<Layout> {
  try {
    return await layout();
  } catch (cause) {
    if (!(cause instanceof Problem)) throw cause;
    throw new Failure(`${name} is no whole safetensors file. ${cause.message}`, 1, { cause });
  }
}

export async function readTensorsOf(stdin: AsyncIterable<Uint8Array>): Promise<{ bytes: Uint8Array; layout: Layout }> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const part of stdin) {
    length += part.length;
    if (length > STDIN_BYTES_MAX)
      throw new Failure(`stdin has more than ${size(STDIN_BYTES_MAX)}, which is kept in memory. Put a file instead.`);
    parts.push(part);
  }
  const bytes = Buffer.concat(parts);
  return { bytes, layout: await tensorsOf('stdin', () => parseTensors(bytes)) };
}

// ---- to receive

/** A digest where the server knows one; else the stream itself fails where it is not whole. */
export type Received = Pick<Fetched, 'stream'> & { readonly digest?: Uint8Array };

/** That `path` may be written; asked before anything is fetched, and seen to again when it is. */
export async function assertFree(path: string, force: boolean): Promise<void> {
  const found = await stat(path).catch((thrown) => {
    if (faultCode(thrown) === 'ENOENT') return undefined;
    throw thrown;
  });
  if (found === undefined) return;
  if (!found.isFile()) throw new Failure(`${path} is no regular file. Name one, or - for stdout.`);
  if (!force) throw exists(path);
}

const exists = (path: string): Failure =>
  new Failure(`${path} exists. Use --force to replace it, or name another file.`);

export async function receiveFile(fetched: Received, path: string, force: boolean, passing: Passing): Promise<number> {
  const partial = `${path}.${randomBytes(6).toString('hex')}.part`;
  const handle = await open(partial, 'wx').catch(async (cause) => {
    await fetched.stream.cancel();
    if (faultCode(cause) === 'ENOENT') throw new Failure(`there is no folder to write ${path} in.`, 1, { cause });
    throw cause;
  });
  try {
    const received = await checked(fetched, passing, (piece) => handle.writeFile(piece));
    await handle.sync();
    await handle.close();
    await place(partial, path, force);
    return received;
  } finally {
    await handle.close().catch(() => {});
    await rm(partial, { force: true });
  }
}

/** A hard link refuses a name that is taken, which a rename does not. */
async function place(partial: string, path: string, force: boolean): Promise<void> {
  if (force) return rename(partial, path);
  try {
    await link(partial, path);
  } catch (thrown) {
    if (faultCode(thrown) === 'EEXIST') throw exists(path);
    await assertFree(path, force); // this file system has no hard links
    await rename(partial, path);
  }
}

export const receiveStream = (
  fetched: Received,
  out: Writable,
  signal: AbortSignal,
  passing: Passing,
): Promise<number> => checked(fetched, passing, (piece) => writeTo(out, piece, signal));

/** Waits until there is room for more. */
export async function writeTo(out: Writable, data: Uint8Array | string, signal: AbortSignal): Promise<void> {
  if (!out.write(data)) await once(out, 'drain', { signal });
}

/** Every byte to `write`, and an error at the end if there is a digest and they were not its. */
async function checked(fetched: Received, passing: Passing, write: (piece: Uint8Array) => Promise<void>) {
  const hash = createHash('sha256');
  let received = 0;
  for await (const piece of fetched.stream) {
    hash.update(piece);
    await write(piece);
    received += piece.length;
    passing(piece.length);
  }
  if (!fetched.digest || hash.digest().equals(fetched.digest)) return received;
  throw new TransferError('damaged', `The ${size(received)} that came do not match their digest.`);
}
