// Safetensors, read and written strictly: eight bytes with the header's length N, N bytes of JSON, then the tensors.
//
// Reading gives a layout whose tensors, in order of `begin`, cover the data section exactly: no gap, no overlap, each
// as long as its dtype and shape say, each name once. Whatever breaks this is a problem `tensors_*`, and no input makes
// another exception, a deep stack or more than n log n work. Writing gives bytes that the reader accepts, in the order
// of the reference implementation: largest elements first, so that each tensor is aligned to its element, then by name.
//
// Payloads are never copied (only `joinParts` does, for those who need one array), never looked at, and never
// converted. Stricter than the reference: only spaces pad the header, a header fits the first 4 MiB of a stream, tensors
// have at most 64 dimensions, and the bits of a tensor (zeros in its shape left out) are a number that JavaScript holds
// exactly. Pure: runs on every runtime.

import { type Cursor, closeHeader, openHeader, quote, readIntegers, readMembers, readString } from './header-json.ts';
import { type Problem, problem } from './problems.ts';

/** Bits of an element; in the order of the reference, by which it lays tensors out, last first. */
export const DTYPES = {
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  C64: 64,
  F64: 64,
  I64: 64,
  U64: 64,
} as const;

export type Dtype = keyof typeof DTYPES;

/** `begin` and `end` count from the start of the data section. */
export interface TensorInfo {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

/** Where things are in a file: the data section begins at `headerBytes`, which is 8 + N. */
export interface Layout {
  readonly headerBytes: number;
  readonly totalBytes: number;
  readonly tensors: readonly TensorInfo[];
  readonly metadata: Readonly<Record<string, string>>;
}

export type TensorShape = Pick<TensorInfo, 'name' | 'dtype' | 'shape'>;
export type TensorData = TensorShape & { readonly data: Uint8Array };

const PREFIX_BYTES = 8;
export const HEADER_BYTES_MAX = 4 * 1024 * 1024 - PREFIX_BYTES;
export const TENSORS_MAX = 65_536;
export const RANK_MAX = 64;

const METADATA = '__metadata__';
const SHAPE_WANTED = `a list of at most ${RANK_MAX} whole numbers from 0 to 2^53 - 1`;
const OFFSETS_WANTED = 'a list of two whole numbers from 0 to 2^53 - 1';

const isDtype = (name: string): name is Dtype => Object.hasOwn(DTYPES, name);

/** Bytes of a tensor. A tensor without elements has none, yet its other dimensions must be sane, as strides use them. */
export function tensorLength({ name, dtype, shape }: TensorShape): number {
  if (!isDtype(dtype)) throw unknownDtype(name, dtype);
  if (shape.length > RANK_MAX || !shape.every((size) => Number.isSafeInteger(size) && size >= 0)) {
    throw problem('tensors_shape_malformed', `The shape of tensor ${quote(name)} must be ${SHAPE_WANTED}.`);
  }
  const bits = shape.reduce((product, size) => product * (size || 1), DTYPES[dtype]);
  if (!Number.isSafeInteger(bits)) {
    throw problem('tensors_shape_overflow', `Tensor ${quote(name)} has more than 2^53 - 1 bits. Split it.`);
  }
  if (shape.includes(0)) return 0;
  if (bits % 8 !== 0) {
    const detail = `Tensor ${quote(name)} has ${bits} bits of ${dtype}, not whole bytes. Pad its shape.`;
    throw problem('tensors_length_mismatch', detail);
  }
  return bits / 8;
}

/** N, from the first eight bytes of a file. */
export function headerLength(first8: Uint8Array): number {
  if (first8.length < PREFIX_BYTES) {
    throw problem(
      'tensors_truncated',
      `The file has ${first8.length} bytes, and its first 8 tell the header's length.`,
    );
  }
  const view = new DataView(first8.buffer, first8.byteOffset, PREFIX_BYTES);
  return checkedHeaderLength(view.getBigUint64(0, true));
}

function checkedHeaderLength(length: bigint | number): number {
  if (length > HEADER_BYTES_MAX) {
    const detail =
      `The first 8 bytes announce a header of ${length} bytes, at most ${HEADER_BYTES_MAX} are read. ` +
      'This is no safetensors file, or one to be split.';
    throw problem('tensors_header_too_large', detail);
  }
  if (length < 2) {
    const detail = `The header has ${length} bytes, and the shortest, {}, has 2. Send a safetensors file.`;
    throw problem('tensors_header_malformed', detail);
  }
  return Number(length);
}

/** The layout of a whole file in memory. */
export function parseTensors(file: Uint8Array): Layout {
  const headerBytes = PREFIX_BYTES + headerLength(file);
  if (headerBytes > file.length) throw truncated(headerBytes, file.length);
  return parseHeader(file.subarray(PREFIX_BYTES, headerBytes), file.length);
}

/** The layout from the N bytes of JSON; `totalBytes` is the length of the whole file, where it is known. */
export function parseHeader(json: Uint8Array, totalBytes?: number): Layout {
  const headerBytes = PREFIX_BYTES + checkedHeaderLength(json.length);
  const cursor = openHeader(json);
  const { tensors, metadata } = readHeader(cursor);
  closeHeader(cursor);
  const needed = headerBytes + coveredBytes(tensors);
  if (!Number.isSafeInteger(needed)) {
    throw problem('tensors_shape_overflow', 'The tensors together have more than 2^53 - 1 bytes. Split the file.');
  }
  if (totalBytes !== undefined && totalBytes < needed) throw truncated(needed, totalBytes);
  if (totalBytes !== undefined && totalBytes > needed) {
    const detail = `The file has ${totalBytes} bytes, and its header tells of ${needed}. Remove what follows the tensors.`;
    throw problem('tensors_trailing', detail);
  }
  return { headerBytes, totalBytes: needed, tensors, metadata };
}

const truncated = (needed: number, found: number): Problem =>
  problem('tensors_truncated', `The file has ${found} bytes, and its header tells of ${needed}. Send the whole file.`);

/** Everything the JSON says; the tensors come sorted by `begin`, and each fits its own range. */
function readHeader(cursor: Cursor): { tensors: TensorInfo[]; metadata: Record<string, string> } {
  const tensors: TensorInfo[] = [];
  let metadata: Record<string, string> = Object.create(null);
  for (const name of readMembers(cursor, repeatedName)) {
    if (name === METADATA) {
      metadata = readMetadata(cursor);
    } else {
      if (tensors.length === TENSORS_MAX) throw tooMany();
      tensors.push(readTensor(cursor, name));
    }
  }
  // An empty tensor may share its place with the one that begins there, and goes before it.
  tensors.sort((a, b) => a.begin - b.begin || a.end - b.end);
  return { tensors, metadata };
}

const repeatedName = (name: string): Problem =>
  name === METADATA
    ? problem('tensors_header_malformed', `Beside one ${METADATA}, nothing has that name. Remove the other.`)
    : problem('tensors_name_duplicate', `Two tensors are named ${quote(name)}. Rename one.`);

const tooMany = (): Problem =>
  problem('tensors_header_too_large', `The header has more than ${TENSORS_MAX} tensors. Split the file.`);

function readMetadata(cursor: Cursor): Record<string, string> {
  const metadata: Record<string, string> = Object.create(null);
  const repeated = (key: string) =>
    problem('tensors_header_malformed', `The metadata has ${quote(key)} twice. Keep one.`);
  for (const key of readMembers(cursor, repeated)) metadata[key] = readString(cursor, 'a metadata value in quotes');
  return metadata;
}

function readTensor(cursor: Cursor, name: string): TensorInfo {
  cursor.tensor = name;
  let dtype: Dtype | undefined;
  let shape: number[] | undefined;
  let offsets: number[] | undefined;
  const repeated = (field: string) => badEntry(name, `has ${quote(field)} twice`);
  for (const field of readMembers(cursor, repeated)) {
    if (field === 'dtype') dtype = readDtype(cursor, name);
    else if (field === 'shape') shape = readIntegers(cursor, SHAPE_WANTED, RANK_MAX, 'tensors_shape_malformed');
    else if (field === 'data_offsets') offsets = readIntegers(cursor, OFFSETS_WANTED, 2, 'tensors_offsets_malformed');
    else throw badEntry(name, `has the unknown field ${quote(field)}`);
  }
  cursor.tensor = undefined;
  if (!dtype || !shape || !offsets) throw badEntry(name, 'lacks one of them');
  return checkedTensor({ name, dtype, shape }, offsets);
}

const badEntry = (name: string, fault: string): Problem =>
  problem('tensors_header_malformed', `Tensor ${quote(name)} must have dtype, shape and data_offsets, and ${fault}.`);

function readDtype(cursor: Cursor, name: string): Dtype {
  const found = readString(cursor, 'a dtype in double quotes', 'tensors_dtype_unknown');
  if (!isDtype(found)) throw unknownDtype(name, found);
  return found;
}

const unknownDtype = (name: string, found: string): Problem => {
  const known = Object.keys(DTYPES).join(', ');
  return problem('tensors_dtype_unknown', `Tensor ${quote(name)} has dtype ${quote(found)}. Use one of ${known}.`);
};

function checkedTensor(tensor: TensorShape, offsets: readonly number[]): TensorInfo {
  const [begin, end] = offsets;
  if (begin === undefined || end === undefined || begin > end) {
    const detail = `Tensor ${quote(tensor.name)} has data_offsets [${offsets}]. Write [begin, end], begin not after end.`;
    throw problem('tensors_offsets_malformed', detail);
  }
  const length = tensorLength(tensor);
  if (end - begin !== length) {
    const detail = `Tensor ${quote(tensor.name)} needs ${length} bytes for its dtype and shape, and its data_offsets give ${end - begin}.`;
    throw problem('tensors_length_mismatch', detail);
  }
  return { ...tensor, begin, end };
}

/** The length of the data section that the sorted tensors cover without gap or overlap. */
function coveredBytes(tensors: readonly TensorInfo[]): number {
  let covered = 0;
  for (const { name, begin, end } of tensors) {
    if (begin > covered) {
      const detail = `Tensor ${quote(name)} begins at ${begin}, and the one before ends at ${covered}. Leave no gap.`;
      throw problem('tensors_gap', detail);
    }
    if (begin < covered) {
      const detail = `Tensor ${quote(name)} begins at ${begin}, and another reaches to ${covered}. Keep them apart.`;
      throw problem('tensors_overlap', detail);
    }
    covered = end;
  }
  return covered;
}

/** The bytes of one tensor: a view into the file. */
export function tensorBytes(file: Uint8Array, layout: Layout, info: TensorInfo): Uint8Array {
  const end = layout.headerBytes + info.end;
  if (end > file.length) throw truncated(end, file.length);
  return file.subarray(layout.headerBytes + info.begin, end);
}

/** A file as its header and the very same views, in the order of the file, which need not be the given one. */
export function tensorParts(tensors: readonly TensorData[], metadata?: Layout['metadata']): Uint8Array[] {
  for (const tensor of tensors) {
    const length = tensorLength(tensor);
    if (tensor.data.length !== length) {
      const detail = `Tensor ${quote(tensor.name)} needs ${length} bytes for its dtype and shape, and has ${tensor.data.length}.`;
      throw problem('tensors_length_mismatch', detail);
    }
  }
  const ordered = tensors.toSorted((a, b) => RANKS[b.dtype] - RANKS[a.dtype] || (a.name < b.name ? -1 : 1));
  return [tensorHeader(ordered, metadata), ...ordered.map(({ data }) => data)];
}

const RANKS = Object.fromEntries(Object.keys(DTYPES).map((dtype, rank) => [dtype, rank])) as Record<Dtype, number>;

/** The first 8 + N bytes of a file whose tensors follow in the given order, for those who stream them. */
export function tensorHeader(tensors: readonly TensorShape[], metadata: Layout['metadata'] = {}): Uint8Array {
  if (tensors.length > TENSORS_MAX) throw tooMany();
  const members = Object.keys(metadata).length > 0 ? [`"${METADATA}":${metadataText(metadata)}`] : [];
  const names = new Set<string>([METADATA]);
  let begin = 0;
  for (const tensor of tensors) {
    const { name, dtype, shape } = tensor;
    if (names.has(name)) throw repeatedName(name);
    names.add(name);
    const end = begin + tensorLength(tensor);
    members.push(`${nameText(name)}:{"dtype":"${dtype}","shape":[${shape}],"data_offsets":[${begin},${end}]}`);
    begin = end;
  }
  return paddedHeader(new TextEncoder().encode(`{${members.join(',')}}`));
}

function paddedHeader(json: Uint8Array): Uint8Array {
  const length = checkedHeaderLength(Math.ceil(json.length / 8) * 8);
  const header = new Uint8Array(PREFIX_BYTES + length).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(length), true);
  header.set(json, PREFIX_BYTES);
  return header;
}

const metadataText = (metadata: Layout['metadata']): string =>
  `{${Object.entries(metadata).map(([key, value]) => `${nameText(key)}:${nameText(value)}`)}}`;

function nameText(text: string): string {
  if (text.isWellFormed()) return JSON.stringify(text);
  throw problem('tensors_header_malformed', `${quote(text)} has half a surrogate pair, which UTF-8 cannot say.`);
}

export function joinParts(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const joined = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}
