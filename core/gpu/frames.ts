// What core and adapter process say to each other: a 16-byte header, then the payload.
//   u32 magic | u8 op | u8 flags | u16 0 | u32 id | u32 payload length        (little-endian)
// An answer carries the id of its question; questions overlap. The reader never assembles a large payload: it asks `place`
// where the bytes belong and copies each chunk there once. A malformed frame ends the connection: both ends are ours.
// Questions of the core: write, read (transfers, below), run (work.ts), canary (answered when the GPU has done all that was
// sent before it). Orders: cancel (drops the question of that id if it has not begun), lose (ends the device).
import type { Run } from './arena.ts';

export const HEADER_BYTES = 16;
const MAGIC = 0x31544c42; // 'BLT1'

export const Op = { hello: 1, write: 2, read: 3, done: 4, fail: 5, run: 6, cancel: 7, canary: 8, lose: 9 } as const;

export interface Head {
  readonly op: number;
  readonly id: number;
  readonly length: number;
}

/** Write and read name where the bytes lie on the adapter, and the shared piece that holds or receives them. */
export interface Transfer {
  /** Index of a shared piece, or INLINE: the bytes follow (write) or come back (read) in the frame itself. */
  readonly piece: number;
  readonly runs: readonly Run[];
}
export const INLINE = 0xffff_ffff;
const TRANSFER_BYTES = 8;
const RUN_BYTES = 12;

export function encodeHead(op: number, id: number, length: number): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, MAGIC, true);
  view.setUint8(4, op);
  view.setUint32(8, id, true);
  view.setUint32(12, length, true);
  return bytes;
}

function decodeHead(bytes: Uint8Array, payloadMax: number): Head {
  const view = new DataView(bytes.buffer, bytes.byteOffset, HEADER_BYTES);
  const length = view.getUint32(12, true);
  if (view.getUint32(0, true) !== MAGIC) throw new Error('a frame does not begin with its magic number');
  if (length > payloadMax) throw new Error(`a frame of ${length} bytes is over the limit of ${payloadMax}`);
  return { op: view.getUint8(4), id: view.getUint32(8, true), length };
}

export function encodeTransfer(t: Transfer): Uint8Array {
  const bytes = new Uint8Array(TRANSFER_BYTES + t.runs.length * RUN_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, t.piece, true);
  view.setUint32(4, t.runs.length, true);
  t.runs.forEach((run, i) => {
    const at = TRANSFER_BYTES + i * RUN_BYTES;
    view.setUint32(at, run.binding, true);
    view.setUint32(at + 4, run.byteOffset, true);
    view.setUint32(at + 8, run.byteLength, true);
  });
  return bytes;
}

/** The transfer, and the inline bytes behind it. */
export function decodeTransfer(payload: Uint8Array): Transfer & { inline: Uint8Array } {
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  const count = view.getUint32(4, true);
  const runs = Array.from({ length: count }, (_, i) => {
    const at = TRANSFER_BYTES + i * RUN_BYTES;
    return {
      binding: view.getUint32(at, true),
      byteOffset: view.getUint32(at + 4, true),
      byteLength: view.getUint32(at + 8, true),
    };
  });
  return { piece: view.getUint32(0, true), runs, inline: payload.subarray(TRANSFER_BYTES + count * RUN_BYTES) };
}

export const encodeJson = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value));
export const decodeJson = (payload: Uint8Array): unknown => JSON.parse(new TextDecoder().decode(payload));

export interface FrameSink {
  /** Where a payload belongs, in order and together at least `head.length` long (else the frame is malformed); undefined:
   * into fresh memory. */
  place(head: Head): readonly Uint8Array[] | undefined;
  /** `payload` is the fresh memory; empty where the bytes were placed. */
  frame(head: Head, payload: Uint8Array): void;
}

const NOTHING = new Uint8Array(0);

/** Feed it every chunk of a socket; it calls the sink once a frame is whole. */
export function createFrameReader(sink: FrameSink, payloadMax: number): (chunk: Uint8Array) => void {
  const header = new Uint8Array(HEADER_BYTES);
  let head: Head | undefined;
  let payload = NOTHING;
  /** Where the next bytes go; `rest` comes behind it. */
  let target: Uint8Array = header;
  let rest: Iterator<Uint8Array> = [].values();
  let filled = 0;

  function begin(next: Head): void {
    head = next;
    const places = next.length > 0 ? sink.place(next) : undefined;
    payload = places ? NOTHING : new Uint8Array(next.length);
    rest = (places ? cut(places, next.length) : [payload]).values();
  }

  /** The target is full: on to what comes behind it, or the frame is whole. */
  function advance(): void {
    if (!head) begin(decodeHead(header, payloadMax));
    filled = 0;
    do target = rest.next().value ?? header;
    while (target.length === 0);
    if (target !== header) return;
    const [done, whole] = [head, payload];
    head = undefined;
    payload = NOTHING;
    if (done) sink.frame(done, whole);
  }

  return (chunk) => {
    for (let at = 0; at < chunk.length; ) {
      const n = Math.min(target.length - filled, chunk.length - at);
      target.set(chunk.subarray(at, at + n), filled);
      filled += n;
      at += n;
      if (filled === target.length) advance();
    }
  };
}

/** The places, as far as `length` bytes fill them. */
function cut(places: readonly Uint8Array[], length: number): Uint8Array[] {
  let left = length;
  const filled = places.map((place) => {
    const part = place.subarray(0, left);
    left -= part.length;
    return part;
  });
  if (left > 0) throw new Error(`a frame of ${length} bytes answers a question that has room for ${length - left}`);
  return filled;
}
