// A frame of a pack: a header of 48 bytes, JSON that says what it is about, perhaps a payload, zeros up to a multiple of 8.
// Each part has a checksum, so that a length is believed before what it measures is there, and a payload can be skipped.
// A frame bears its store's mark, 8 random bytes that callers never see: no payload holds, by chance or on purpose, what
// could be taken for one. `back` leads to the first frame of the group that was written and synced with it.
import { crc32 } from 'node:zlib';
import { parseJson } from '../contract/json.ts';

export const KINDS = ['head', 'payload', 'put', 'delete'] as const;
export type FrameKind = (typeof KINDS)[number];

export const FRAME_VERSION = 2;
export const HEADER_BYTES = 48;
/** A key, a tenant and 64 dimensions have room in a fraction of it. */
export const META_BYTES_MAX = 1 << 20;
/** Larger payloads are files of their own. */
export const INLINE_BYTES_MAX = 64 << 10;

const MAGIC = 0x666c_6c62; // bllf
export const MAGIC_BYTES = Buffer.from('bllf');
const PADDED = 8;

export interface FrameHeader {
  readonly version: number;
  readonly kind: FrameKind;
  readonly seq: number;
  /** How far before this frame its group begins. */
  readonly back: number;
  readonly metaBytes: number;
  readonly payloadBytes: number;
  readonly metaSum: number;
  readonly payloadSum: number;
  /** In all. */
  readonly length: number;
}

export interface FrameToWrite {
  readonly kind: FrameKind;
  readonly meta: unknown;
  readonly payload?: Uint8Array;
  /** Of what was said before: the sequence that it had then. */
  readonly seq?: number;
}

/** `mark`: 16 hex digits. */
export function encodeFrame({ kind, meta, payload }: FrameToWrite, seq: number, mark: string, back: number): Buffer {
  const text = Buffer.from(JSON.stringify(meta));
  if (text.length > META_BYTES_MAX) throw new RangeError(`a frame of ${text.length} bytes beside its payload`);
  const payloadBytes = payload?.length ?? 0;
  const frame = Buffer.alloc(frameLength(text.length, payloadBytes));
  frame.writeUInt32LE(MAGIC, 0);
  frame[4] = FRAME_VERSION;
  frame[5] = KINDS.indexOf(kind);
  frame.write(mark, 8, 8, 'hex');
  frame.writeUInt32LE(seq % 2 ** 32, 16);
  frame.writeUInt32LE(Math.floor(seq / 2 ** 32), 20);
  frame.writeUInt32LE(text.length, 24);
  frame.writeUInt32LE(payloadBytes, 28);
  frame.writeUInt32LE(crc32(text), 32);
  frame.writeUInt32LE(payload ? crc32(payload) : 0, 36);
  frame.writeUInt32LE(back, 40);
  frame.writeUInt32LE(crc32(frame.subarray(0, 44)), 44);
  text.copy(frame, HEADER_BYTES);
  if (payload) frame.set(payload, HEADER_BYTES + text.length);
  return frame;
}

const frameLength = (metaBytes: number, payloadBytes: number): number =>
  Math.ceil((HEADER_BYTES + metaBytes + payloadBytes) / PADDED) * PADDED;

/** Undefined if these bytes are no header with this mark; of an empty mark, any will do. */
export function readHeader(bytes: Buffer, at: number, mark: string): FrameHeader | undefined {
  if (at + HEADER_BYTES > bytes.length || bytes.readUInt32LE(at) !== MAGIC) return undefined;
  if (crc32(bytes.subarray(at, at + 44)) !== bytes.readUInt32LE(at + 44)) return undefined;
  if (mark && markOf(bytes, at) !== mark) return undefined;
  const kind = KINDS[bytes[at + 5] ?? KINDS.length];
  const metaBytes = bytes.readUInt32LE(at + 24);
  const payloadBytes = bytes.readUInt32LE(at + 28);
  if (!kind || metaBytes > META_BYTES_MAX || payloadBytes > INLINE_BYTES_MAX) return undefined;
  return {
    version: bytes[at + 4] ?? 0,
    kind,
    seq: bytes.readUInt32LE(at + 16) + bytes.readUInt32LE(at + 20) * 2 ** 32,
    back: bytes.readUInt32LE(at + 40),
    metaBytes,
    payloadBytes,
    metaSum: bytes.readUInt32LE(at + 32),
    payloadSum: bytes.readUInt32LE(at + 36),
    length: frameLength(metaBytes, payloadBytes),
  };
}

export const markOf = (bytes: Buffer, at: number): string => bytes.toString('hex', at + 8, at + 16);

/** The frame as it is where nothing was written with it. */
export function withoutGroup(frame: Buffer): Buffer {
  frame.writeUInt32LE(0, 40);
  frame.writeUInt32LE(crc32(frame.subarray(0, 44)), 44);
  return frame;
}

/** What the frame is about; undefined if it is damaged. */
export function readMeta(bytes: Buffer, at: number, { metaBytes, metaSum }: FrameHeader): unknown {
  const text = bytes.subarray(at + HEADER_BYTES, at + HEADER_BYTES + metaBytes);
  return text.length === metaBytes && crc32(text) === metaSum ? parseJson(text.toString()) : undefined;
}

/** Undefined if it is damaged. */
export function readPayload(bytes: Buffer, at: number, header: FrameHeader): Buffer | undefined {
  const from = at + HEADER_BYTES + header.metaBytes;
  const payload = bytes.subarray(from, from + header.payloadBytes);
  return payload.length === header.payloadBytes && crc32(payload) === header.payloadSum ? payload : undefined;
}
