// Exact records in and out of `lossless` containers by the kernels of an adapter: two runs for as many parts as a piece takes
// to pack them (counts come back first, of which the tables are made), one to unpack them. Scratch 0 is for what is worked
// on, 1 for containers, 2 for tables.
import { LOSSLESS_LANES, LOSSLESS_SLOT, workBytes } from '../../shaders/entropy-kernels.ts';
import { privatePiece } from '../gpu/pieces.ts';
import { type Move, scratch, WORK_BOUNDS, type WorkRange } from '../gpu/work.ts';
import { SEAL_WORDS, sealed } from './checksum.ts';
import { frequenciesIn, losslessHead, losslessLayout } from './lossless.ts';
import { countStep, decodeStep, encodeSteps, streamsEnd } from './lossless-steps.ts';
import { batches, bytesOf, type Desk, dispatch, type ExactPart, placesOf, wordsOf } from './packing-desk.ts';
import { aligned } from './pages.ts';
import { frequenciesOf, ransTable, SYMBOLS } from './rans.ts';

const [WORK, CONTAINERS, TABLES] = [0, 1, 2] as const;
const DISPATCHES_EACH = 4;
const COUNT_MAX = Math.floor(WORK_BOUNDS.dispatches / DISPATCHES_EACH);

const inScratch = (buffer: number, offset: number, size: number): WorkRange => ({ at: scratch(buffer), offset, size });

/** Undefined for a part that would not become smaller. */
export async function packLossless(
  parts: readonly ExactPart[],
  desk: Desk,
): Promise<(Uint8Array<ArrayBuffer> | undefined)[]> {
  const found: (Uint8Array<ArrayBuffer> | undefined)[] = [];
  for (const batch of batches(parts, ({ range }) => range.size, COUNT_MAX)) {
    const frequencies = await countsOf(batch, desk);
    found.push(...(await containersOf(batch, frequencies, desk)));
  }
  return found;
}

/** How often each symbol of a part is to be expected. */
async function countsOf(parts: readonly ExactPart[], { run }: Desk): Promise<Uint16Array[]> {
  const steps = parts.map(({ codec, range }) => countStep(codec, range.size));
  const sizes = steps.map(({ parameters }) => parameters.parts * SYMBOLS * 4);
  const places = placesOf(sizes);
  const counts = sizes.map((size) => new Uint32Array(size / 4));
  const ranges = sizes.map((size, i) => inScratch(WORK, places[i] ?? 0, size));
  await run({
    dispatches: parts.map(({ range }, i) => dispatch(steps[i], { source: range, counts: ranges[i] })),
    downloads: ranges.map((range, i) => ({ piece: privatePiece(bytesOf(counts[i])), from: 0, range })),
  });
  return counts.map((own) => {
    const sums = new Uint32Array(SYMBOLS);
    for (let i = 0; i < own.length; i++) sums[i % SYMBOLS] = (sums[i % SYMBOLS] ?? 0) + (own[i] ?? 0);
    return frequenciesOf(sums);
  });
}

async function containersOf(
  parts: readonly ExactPart[],
  frequencies: readonly Uint16Array[],
  { piece, run }: Desk,
): Promise<(Uint8Array<ArrayBuffer> | undefined)[]> {
  const places = placesOf(parts.map(({ range }) => range.size));
  const uploads: Move[] = [];
  const dispatches = parts.flatMap(({ codec, range: source }, i) => {
    const own = frequencies[i] ?? new Uint16Array(SYMBOLS);
    const layout = losslessLayout(codec, source.size, own);
    const work = inScratch(WORK, 0, workBytes(2 * (layout.blocks + 1) * LOSSLESS_LANES, LOSSLESS_SLOT));
    const container = inScratch(CONTAINERS, places[i] ?? 0, source.size);
    const encoding = inScratch(TABLES, i * SYMBOLS * 4, SYMBOLS * 4);
    uploads.push({ piece: privatePiece(bytesOf(ransTable(own).encode)), from: 0, range: encoding });
    return encodeSteps(codec, source.size, own, source.size / 4).map((step) =>
      dispatch(step, { source, encoding, work, container }),
    );
  });
  const downloads = parts.map(({ range: { size } }, i) => {
    const from = places[i] ?? 0;
    return { piece, from, range: inScratch(CONTAINERS, from, size) };
  });
  await run({ uploads, dispatches, downloads });
  return parts.map(({ codec, range: { size } }, i) => {
    const from = places[i] ?? 0;
    return containerOf(codec, wordsOf(piece.bytes.subarray(from, from + size)), frequencies[i]);
  });
}

/** `words` is as long as the content; what did not fit there is not worth it. */
function containerOf(
  kind: ExactPart['codec'],
  words: Uint32Array,
  frequencies: Uint16Array | undefined,
): Uint8Array<ArrayBuffer> | undefined {
  if (!frequencies) return undefined;
  const { directory, blocks } = losslessLayout(kind, words.byteLength, frequencies);
  const end = streamsEnd(words, directory, LOSSLESS_LANES, blocks);
  if (end > words.length) return undefined;
  const whole = new Uint32Array(end + SEAL_WORDS);
  whole.set(words.subarray(0, end));
  whole.set(losslessHead(kind, words.byteLength, whole.length, frequencies));
  return sealed(whole);
}

/** Containers that are whole, and of just these parts. */
export async function unpackLossless(
  parts: readonly { readonly part: ExactPart; readonly bytes: Uint8Array<ArrayBuffer> }[],
  { piece, run }: Desk,
): Promise<void> {
  for (const batch of batches(parts, ({ bytes }) => aligned(bytes.length), COUNT_MAX)) {
    const places = placesOf(batch.map(({ bytes }) => aligned(bytes.length)));
    const uploads: Move[] = [];
    const dispatches = batch.map(({ part: { codec, range: content }, bytes }, i) => {
      const words = wordsOf(bytes);
      const frequencies = frequenciesIn(words);
      const table = ransTable(frequencies).decode;
      const from = places[i] ?? 0;
      const container = inScratch(CONTAINERS, from, aligned(bytes.length));
      const decoding = inScratch(TABLES, i * table.byteLength, table.byteLength);
      const { blocks } = losslessLayout(codec, content.size, frequencies);
      const faults = inScratch(WORK, 0, 2 * (blocks + 1) * LOSSLESS_LANES * 4);
      piece.bytes.set(bytes, from);
      uploads.push({ piece, from, range: { ...container, size: bytes.length } });
      uploads.push({ piece: privatePiece(bytesOf(table)), from: 0, range: decoding });
      const step = decodeStep(codec, content.size, frequencies, words.length - SEAL_WORDS);
      return dispatch(step, { container, decoding, content, faults });
    });
    await run({ uploads, dispatches });
  }
}
