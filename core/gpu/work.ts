// A run: bytes up to the adapter, kernels, bytes down from it, as one unit. Its types, its bounds, and its frame:
//   u32 length of the description | description, JSON | the bytes of uploads that no shared piece holds, each padded to words
// Only numbers and names are described; tensors never pass through JSON. Both ends check the bounds; whether ranges exist
// and fit their kernels, the adapter's process says.

import { SCRATCH_BYTES } from '../../shaders/attention.ts';
import type { BindingOf, KernelName, ParameterOf } from '../../shaders/catalogue.ts';
import { INLINE } from './frames.ts';
import { type AnyWanted, KernelError, type Wanted } from './kernel-choice.ts';
import { PIECE_BYTES, type Piece } from './pieces.ts';

/** Buffers for what lives no longer than a run: what one leaves there is gone by the next. */
export const SCRATCH_BUFFERS = 4;
export { SCRATCH_BYTES };

const SCRATCH_FIRST = 0xffff_ff00;

/** The number of a scratch buffer, where a binding of the arena would have its own. */
export const scratch = (index: number): number => SCRATCH_FIRST + index;
/** Which scratch buffer a number means; negative for a binding of the arena. */
export const scratchIndex = (at: number): number => at - SCRATCH_FIRST;

/** Of one run. What it brings down passes through one staging buffer, what it brings up through Dawn's own. */
export const WORK_BOUNDS = {
  dispatches: 1024,
  /** Uploads, and downloads as many. */
  moves: 4096,
  uploadBytes: 4 * PIECE_BYTES,
  downloadBytes: PIECE_BYTES,
  descriptionBytes: 1 << 20,
} as const;
export const WORK_BYTES_MAX = 8 + WORK_BOUNDS.descriptionBytes + WORK_BOUNDS.uploadBytes + 4 * WORK_BOUNDS.moves;

/** Bytes on the adapter; `at` is the number of an arena's binding, or `scratch(n)`. */
export interface WorkRange {
  readonly at: number;
  readonly offset: number;
  readonly size: number;
}

/** Bytes of a piece from `from` on, and where they lie on the adapter. Both begin at words; an upload writes whole words. */
export interface Move {
  readonly piece: Piece;
  readonly from: number;
  readonly range: WorkRange;
}

/** A dispatch (kernel-choice.ts) whose ranges are numbers. */
interface DispatchOf<N extends KernelName> extends Wanted<N> {
  readonly bindings: Readonly<Record<BindingOf<N>, WorkRange>>;
  readonly parameters: Readonly<Record<ParameterOf<N>, number>>;
}
export type WorkDispatch = { [N in KernelName]: DispatchOf<N> }[KernelName];

/** First the uploads, then the dispatches in their order, then the downloads; nobody else's work in between. */
export interface Work {
  readonly uploads?: readonly Move[];
  readonly dispatches?: readonly WorkDispatch[];
  readonly downloads?: readonly Move[];
}

/** A move as the adapter's process sees it. */
export interface RemoteMove {
  /** A shared piece, or INLINE: `from` then counts in the frame's own bytes (up), and the answer brings them (down). */
  readonly piece: number;
  readonly from: number;
  readonly range: WorkRange;
}

export interface RemoteWork {
  readonly timed: boolean;
  readonly uploads: readonly RemoteMove[];
  readonly dispatches: readonly WorkDispatch[];
  readonly downloads: readonly RemoteMove[];
  readonly inline: Uint8Array;
}

export interface EncodedWork {
  /** All of the frame, in order. */
  readonly parts: readonly Uint8Array[];
  /** Where the answer's bytes belong. */
  readonly places: readonly Uint8Array[];
  /** Payload, both ways, however it travels. */
  readonly bytes: number;
}

type MoveRow = readonly [piece: number, from: number, at: number, offset: number, size: number];

/** Also of what is far too much: no bits, which would wrap. */
export const wholeWords = (bytes: number): number => Math.ceil(bytes / 4) * 4;
const sum = (moves: readonly { readonly range: WorkRange }[]) => moves.reduce((all, { range }) => all + range.size, 0);

/** `isShared` says whether the adapter's process sees a piece. Throws a KernelError where a bound is exceeded. */
export function encodeWork(work: Work, timed: boolean, isShared: (piece: Piece) => boolean): EncodedWork {
  const { uploads = [], dispatches = [], downloads = [] } = work;
  checkBounds(uploads, dispatches, downloads);
  const inline: Uint8Array[] = [];
  let at = 0;
  const up = uploads.map(({ piece, from, range }): MoveRow => {
    checkPiece(piece, from, range);
    if (isShared(piece)) return rowOf(piece.index, from, range);
    inline.push(padded(piece.bytes.subarray(from), range.size));
    at += wholeWords(range.size);
    return rowOf(INLINE, at - wholeWords(range.size), range);
  });
  const places: Uint8Array[] = [];
  const down = downloads.map(({ piece, from, range }): MoveRow => {
    checkPiece(piece, from, range);
    if (isShared(piece)) return rowOf(piece.index, from, range);
    places.push(piece.bytes.subarray(from, from + range.size));
    return rowOf(INLINE, 0, range);
  });
  const description = new TextEncoder().encode(JSON.stringify({ timed, up, dispatches, down }));
  if (description.length > WORK_BOUNDS.descriptionBytes)
    throw new KernelError(`a run is described in ${description.length} bytes; make it several runs`);
  const length = new Uint8Array(4);
  new DataView(length.buffer).setUint32(0, description.length, true);
  return { parts: [length, description, ...inline], places, bytes: sum(uploads) + sum(downloads) };
}

const rowOf = (piece: number, from: number, { at, offset, size }: WorkRange): MoveRow => [
  piece,
  from,
  at,
  offset,
  size,
];

/** A GPU copies whole words: up to three bytes more, which nobody reads back. */
export function padded(bytes: Uint8Array, length: number): Uint8Array {
  const rounded = wholeWords(length);
  if (rounded <= bytes.length) return bytes.subarray(0, rounded);
  const copy = new Uint8Array(rounded);
  copy.set(bytes.subarray(0, length));
  return copy;
}

/** Throws a KernelError unless this is a run within its bounds, well formed in every part. */
export function decodeWork(payload: Uint8Array): RemoteWork {
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  const length = payload.length < 4 ? Number.NaN : view.getUint32(0, true);
  if (!(4 + length <= payload.length)) throw malformed('its description is cut');
  const told = recordOf(parsed(payload.subarray(4, 4 + length)), 'it');
  const inline = payload.subarray(4 + length);
  const work = {
    timed: told.timed === true,
    uploads: listOf(told.up, 'its uploads').map(moveOf),
    dispatches: listOf(told.dispatches, 'its dispatches').map(dispatchOf),
    downloads: listOf(told.down, 'its downloads').map(moveOf),
    inline,
  };
  checkBounds(work.uploads, work.dispatches, work.downloads);
  for (const { piece, from, range } of work.uploads)
    if (piece === INLINE && from + wholeWords(range.size) > inline.length)
      throw malformed('bytes of an upload are missing');
  return work;
}

function checkBounds(
  uploads: readonly { readonly range: WorkRange }[],
  dispatches: readonly unknown[],
  downloads: readonly { readonly range: WorkRange }[],
): void {
  const found: readonly (readonly [what: string, count: number, max: number])[] = [
    ['dispatches', dispatches.length, WORK_BOUNDS.dispatches],
    ['uploads', uploads.length, WORK_BOUNDS.moves],
    ['downloads', downloads.length, WORK_BOUNDS.moves],
    ['bytes to upload', sum(uploads), WORK_BOUNDS.uploadBytes],
    [
      'bytes to download',
      downloads.reduce((all, { range }) => all + wholeWords(range.size), 0),
      WORK_BOUNDS.downloadBytes,
    ],
  ];
  for (const [what, count, max] of found)
    if (!(count <= max)) throw new KernelError(`a run with ${count} ${what}; ${max} at most, make it several runs`);
}

function checkPiece({ bytes }: Piece, from: number, { size }: WorkRange): void {
  if (!(isCount(from) && isCount(size) && from % 4 === 0 && from + size <= bytes.length))
    throw new KernelError(
      `bytes ${from} to ${from + size} of a piece of ${bytes.length}; they begin at words, inside it`,
    );
}

const malformed = (why: string) => new KernelError(`a run is malformed: ${why}`);
const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

function parsed(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    throw malformed('its description is no JSON');
  }
}

function recordOf(value: unknown, what: string): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw malformed(`${what} is no object`);
  return value as Readonly<Record<string, unknown>>;
}

function listOf(value: unknown, what: string): readonly unknown[] {
  if (!Array.isArray(value)) throw malformed(`${what} are no list`);
  return value;
}

function rangeOf(at: unknown, offset: unknown, size: unknown): WorkRange {
  if (!isCount(at) || !isCount(offset) || !isCount(size)) throw malformed('a range is not made of whole numbers');
  return { at, offset, size };
}

function moveOf(row: unknown): RemoteMove {
  const [piece, from, at, offset, size] = listOf(row, 'the numbers of a move');
  const range = rangeOf(at, offset, size);
  if (!isCount(piece) || !isCount(from)) throw malformed('a move is not made of whole numbers');
  if (from % 4 !== 0 || range.offset % 4 !== 0) throw new KernelError('what is moved up or down begins at words');
  return { piece, from, range };
}

function dispatchOf(value: unknown): WorkDispatch {
  const { kernel, element, variant, constants, tuning, parameters, bindings } = recordOf(value, 'a dispatch');
  if (typeof kernel !== 'string') throw malformed('a dispatch names no kernel');
  for (const name of [element, variant])
    if (name !== undefined && typeof name !== 'string') throw malformed(`${kernel}: element and variant are names`);
  for (const numbers of [constants ?? {}, tuning ?? {}, parameters])
    for (const [name, number] of Object.entries(recordOf(numbers, `${kernel}: parameters, constants or tuning`)))
      if (typeof number !== 'number') throw malformed(`${kernel}: ${name} is no number`);
  const ranges = Object.entries(recordOf(bindings, `${kernel}: bindings`)).map(([name, range]) => {
    const { at, offset, size } = recordOf(range, `${kernel}: ${name}`);
    return [name, rangeOf(at, offset, size)];
  });
  const wanted = { kernel, element, variant, constants, tuning } as unknown as AnyWanted;
  return { ...wanted, parameters, bindings: Object.fromEntries(ranges) } as WorkDispatch;
}
