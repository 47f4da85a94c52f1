// Pages on their way out of an adapter's memory and back: each part, the K or the V of a block and layer, is packed by itself.
// Records go as they are; exact ones as `lossless` containers or, where the caller gives up bits, as `ec`; what would not
// become smaller goes as it is. The adapter does the work, many parts in a run, by way of one piece.
// A packed part tells whether its bytes are still those that were written (`isWhole`); only whole ones are to be unpacked.
import { WORK_BOUNDS } from '../gpu/work.ts';
import { CorruptContainer } from './block-codec.ts';
import { checksumOf, unsealed } from './checksum.ts';
import {
  batches,
  type Desk,
  isExact,
  type Packed,
  type Packing,
  type PagePart,
  placesOf,
  wordsOf,
} from './packing-desk.ts';
import { packEc, unpackEc } from './packing-ec.ts';
import { packLossless, unpackLossless } from './packing-lossless.ts';

/** In the order of the parts. */
export async function pack(
  parts: readonly { readonly part: PagePart; readonly packing: Packing }[],
  desk: Desk,
): Promise<Packed[]> {
  const packed: Packed[] = [];
  const left = () => [...parts.keys()].filter((index) => !packed[index]);
  const take = (
    how: Packed['how'],
    indices: readonly number[],
    found: readonly (Uint8Array<ArrayBuffer> | undefined)[],
  ) => {
    for (const [i, index] of indices.entries()) {
      const bytes = found[i];
      if (bytes) packed[index] = { how, bytes, seal: how === 'records' ? checksumOf(wordsOf(bytes)) : undefined };
    }
  };
  const graded = left().flatMap((index) => {
    const { part, packing } = parts[index] ?? {};
    return part && isExact(part) && typeof packing === 'object' ? [{ index, part, grade: packing }] : [];
  });
  take(
    'ec',
    graded.map(({ index }) => index),
    await packEc(graded, desk),
  );
  const exact = left().flatMap((index) => {
    const part = parts[index]?.part;
    return part && isExact(part) ? [{ index, part }] : [];
  });
  take(
    'lossless',
    exact.map(({ index }) => index),
    await packLossless(
      exact.map(({ part }) => part),
      desk,
    ),
  );
  const rest = left();
  take(
    'records',
    rest,
    await readRecords(
      rest.flatMap((index) => parts[index]?.part ?? []),
      desk,
    ),
  );
  return packed;
}

/** Into the places of the parts, which are of the same codecs as those that were packed. */
export async function unpack(
  parts: readonly { readonly part: PagePart; readonly packed: Packed }[],
  desk: Desk,
): Promise<void> {
  const of = (how: Packed['how']) =>
    parts.flatMap(({ part, packed }) => (packed.how === how && isExact(part) ? [{ part, bytes: packed.bytes }] : []));
  await unpackEc(of('ec'), desk);
  await unpackLossless(of('lossless'), desk);
  await writeRecords(
    parts.filter(({ packed }) => packed.how === 'records'),
    desk,
  );
}

/** Whether the bytes are those that were written. */
export function isWhole({ bytes, seal }: Packed): boolean {
  if (seal) return checksumOf(wordsOf(bytes)).every((word, i) => word === seal[i]);
  try {
    unsealed(bytes);
    return true;
  } catch (error) {
    if (error instanceof CorruptContainer) return false;
    throw error;
  }
}

const sizeOf = ({ range }: PagePart): number => range.size;

async function readRecords(parts: readonly PagePart[], { piece, run }: Desk): Promise<Uint8Array<ArrayBuffer>[]> {
  const found: Uint8Array<ArrayBuffer>[] = [];
  for (const batch of batches(parts, sizeOf, WORK_BOUNDS.moves)) {
    const places = placesOf(batch.map(sizeOf));
    await run({ downloads: batch.map(({ range }, i) => ({ piece, from: places[i] ?? 0, range })) });
    for (const [i, { range }] of batch.entries()) {
      const from = places[i] ?? 0;
      found.push(piece.bytes.slice(from, from + range.size) as Uint8Array<ArrayBuffer>);
    }
  }
  return found;
}

async function writeRecords(
  parts: readonly { readonly part: PagePart; readonly packed: Packed }[],
  { piece, run }: Desk,
): Promise<void> {
  for (const batch of batches(parts, ({ part }) => sizeOf(part), WORK_BOUNDS.moves)) {
    const places = placesOf(batch.map(({ part }) => sizeOf(part)));
    for (const [i, { packed }] of batch.entries()) piece.bytes.set(packed.bytes, places[i]);
    await run({ uploads: batch.map(({ part }, i) => ({ piece, from: places[i] ?? 0, range: part.range })) });
  }
}
