// Safetensors of typed arrays, for the client: files in the order they are given in, and answers whose layout is known before
// the rest of them is here. The stream of an answer fails where it is not as long as its header says. Pure.

import type { KvDtype } from '../core/contract/kv.ts';
import { Problem } from '../core/contract/problems.ts';
import {
  headerLength,
  joinParts,
  type Layout,
  parseHeader,
  type TensorData,
  type TensorInfo,
  tensorBytes,
  tensorHeader,
  tensorLength,
} from '../core/contract/tensors.ts';
import { type Answer, TransferError } from './client-wire.ts';

/** Bytes before a header: its length. */
const PREFIX_BYTES = 8;

/** In the given order, and only if the server would read it. */
export function fileOf(tensors: readonly TensorData[], check: (layout: Layout) => unknown): Uint8Array {
  const header = tensorHeader(tensors);
  check(parseHeader(header.subarray(PREFIX_BYTES)));
  for (const { data, ...tensor } of tensors)
    if (data.length !== tensorLength(tensor))
      throw new RangeError(
        `${tensor.name} has ${data.length} bytes; as ${tensor.dtype} [${tensor.shape}] it must have ${tensorLength(tensor)}.`,
      );
  return joinParts([header, ...tensors.map(({ data }) => data)]);
}

export const bytesOf = ({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength);

/** These tensors, and no other. */
export function holds(
  { tensors }: Layout,
  wanted: Readonly<Record<string, readonly [KvDtype, readonly number[]]>>,
): boolean {
  const isWanted = ({ name, dtype, shape }: TensorInfo) => `${wanted[name]}` === `${dtype},${shape}`;
  return tensors.length === Object.keys(wanted).length && tensors.every(isWanted);
}

/** A view of a tensor, or a copy where it is not aligned. */
export function numbersOf(dtype: KvDtype, file: Uint8Array, layout: Layout, name: string): Float32Array | Uint16Array {
  const info = layout.tensors.find((tensor) => tensor.name === name);
  if (!info) throw new Error(`the answer was seen to hold ${name}, and does not`);
  const bytes = tensorBytes(file, layout, info);
  const { buffer, byteOffset, length } = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice();
  return dtype === 'F32'
    ? new Float32Array(buffer, byteOffset, length / 4)
    : new Uint16Array(buffer, byteOffset, length / 2);
}

export interface Opened<T> {
  readonly layout: Layout;
  readonly meaning: T;
  /** The whole file, from its first byte on. */
  readonly stream: ReadableStream<Uint8Array>;
}

/** A safetensors answer as soon as its header is here; `read` says what it means, or undefined if it is another's. */
export async function openTensors<T>(answer: Answer, read: (layout: Layout) => T | undefined): Promise<Opened<T>> {
  const reader = answer.stream.getReader();
  let head: Uint8Array = new Uint8Array();
  const readTo = async (length: number) => {
    while (head.length < length) {
      const { value } = await reader.read();
      if (!value) throw cut(answer, head.length, length);
      head = joinParts([head, value]);
    }
  };
  try {
    await readTo(PREFIX_BYTES);
    const headerBytes = PREFIX_BYTES + headerLength(head);
    await readTo(headerBytes);
    const layout = parseHeader(head.subarray(PREFIX_BYTES, headerBytes));
    const meaning = read(layout);
    if (meaning === undefined) throw unreadable(answer, 'holds other tensors than were asked for');
    return { layout, meaning, stream: whole(answer, layout, head, reader) };
  } catch (thrown) {
    await reader.cancel().catch(() => {});
    throw thrown instanceof Problem ? unreadable(answer, 'is no safetensors file', thrown) : thrown;
  }
}

/** What was read already, and the rest; fails where there are not as many bytes as the layout says. */
function whole(
  answer: Answer,
  { totalBytes }: Layout,
  head: Uint8Array,
  reader: ReadableStreamDefaultReader<Uint8Array>,
): ReadableStream<Uint8Array> {
  let next: Uint8Array | undefined = head;
  let received = 0;
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const piece = next ?? (await reader.read()).value;
        next = undefined;
        received += piece?.length ?? 0;
        if (piece ? received > totalBytes : received < totalBytes) {
          await reader.cancel().catch(() => {});
          throw cut(answer, received, totalBytes);
        }
        if (piece) controller.enqueue(piece);
        else controller.close();
      },
      cancel: (reason) => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  );
}

const cut = ({ asked }: Answer, received: number, length: number): TransferError =>
  new TransferError('cut', `The answer to ${asked} ended after ${received} of ${length} bytes.`);

const unreadable = ({ asked, origin }: Answer, fault: string, cause?: unknown): TransferError =>
  new TransferError('unreadable', `The answer to ${asked} ${fault}. Is ${origin} a Blatam of this version?`, { cause });
