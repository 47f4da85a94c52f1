// Exact records in and out of `ec` containers by the kernels of an adapter: K by channel as it is, V by vector, rotated on the
// way in and back on the way out. The energy of each head comes back first, of which its step is made. Where bits are asked
// for, the error is tried again until they are met. Scratch 0 is for values and tables, 1 for rotated values, 2 for scales
// and containers, 3 for what is worked on.
import { FORMAT, OPERATION, SIGNS } from '../../shaders/catalogue.ts';
import { EC_AXIS, EC_BLOCK, EC_SLOT, workBytes } from '../../shaders/entropy-kernels.ts';
import { privatePiece } from '../gpu/pieces.ts';
import { type Move, scratch, type WorkDispatch, type WorkRange } from '../gpu/work.ts';
import { SEAL_WORDS, sealed } from './checksum.ts';
import { rotation } from './coding.ts';
import { EC_HEADER_WORDS, ecHead, ecStreams, stepForError } from './ec.ts';
import { classWords } from './ec-classes.ts';
import { decodeStep, encodeSteps, stepWords } from './ec-steps.ts';
import { streamsEnd } from './lossless-steps.ts';
import {
  batches,
  bytesOf,
  type Desk,
  dispatch,
  type EcGrade,
  type ExactPart,
  placesOf,
  wordsOf,
} from './packing-desk.ts';
import { aligned } from './pages.ts';

const [VALUES, TURNED, CONTAINERS, WORK] = [0, 1, 2, 3] as const;
/** Parts of one run: at most nine dispatches each. */
const COUNT_MAX = 100;
/** Of bits asked for: how often another error is tried, and how near is near enough. */
const TRIES = 6;
const NEAR_BITS = 0.05;
/** What containers of normal values have beyond the bits that their error would take at best. */
const SPARE_BITS = 0.4;

export interface Graded {
  readonly part: ExactPart;
  readonly grade: EcGrade;
}
type Container = Uint8Array<ArrayBuffer>;

const inScratch = (buffer: number, offset: number, size: number): WorkRange => ({ at: scratch(buffer), offset, size });
const valuesIn = ({ vectors, dim }: ExactPart): number => vectors * dim;
const blocksIn = ({ vectors }: ExactPart): number => Math.ceil(vectors / EC_BLOCK);
const CLASSES = classWords();

/** Undefined for a part that cannot be brought to its grade, or would not become smaller. */
export async function packEc(parts: readonly Graded[], desk: Desk): Promise<(Container | undefined)[]> {
  const found: (Container | undefined)[] = [];
  for (const batch of batches(parts, ({ part }) => part.range.size, COUNT_MAX)) {
    const energies = await energiesOf(batch, desk);
    found.push(...(await withinGrades(batch, energies, desk)));
  }
  return found;
}

async function withinGrades(
  parts: readonly Graded[],
  energies: readonly Float32Array[],
  desk: Desk,
): Promise<(Container | undefined)[]> {
  const best: (Container | undefined)[] = parts.map(() => undefined);
  const errors = parts.map(({ grade }) => ('error' in grade ? grade.error : 4 ** (SPARE_BITS - grade.bits)));
  // of an energy that is no number there is no step
  let open = [...parts.keys()].filter((i) => energies[i]?.every((energy) => Number.isFinite(energy)));
  for (let tries = 0; open.length > 0 && tries < TRIES; tries++) {
    const asked = open.flatMap((i) => {
      const { part, grade } = parts[i] ?? {};
      const steps = Array.from(energies[i] ?? [], (energy) => stepForError(errors[i] ?? 0, energy));
      return part && grade ? [{ part, grade, steps }] : [];
    });
    const made = await containersOf(asked, desk);
    open = open.filter((i, at) => {
      const { part, grade } = parts[i] ?? {};
      const container = made[at];
      if (!part || !grade) return false;
      if ('error' in grade) {
        best[i] = container;
        return false;
      }
      const beyond = ((container?.length ?? part.range.size) * 8) / valuesIn(part) - grade.bits;
      if (container && beyond <= 0 && container.length > (best[i]?.length ?? 0)) best[i] = container;
      errors[i] = Math.min(1, (errors[i] ?? 1) * 4 ** (beyond + NEAR_BITS / 2));
      return beyond > 0 || beyond < -NEAR_BITS;
    });
  }
  return best;
}

/** The values of a part in f32, rotated where it is coded by vectors; and where they are then. */
function widened({ part, grade }: Graded): { dispatches: WorkDispatch[]; values: WorkRange } {
  const { codec, range, dim } = part;
  const size = valuesIn(part) * 4;
  const dispatches: WorkDispatch[] = [];
  let values = range;
  if (codec !== 'f32') {
    values = inScratch(VALUES, 0, size);
    const constants = { FORMAT: FORMAT[codec] };
    const parameters = { values: valuesIn(part) };
    dispatches.push({ kernel: 'unpack', constants, parameters, bindings: { source: range, target: values } });
  }
  if (grade.axis === 'channels') return { dispatches, values };
  const turned = inScratch(TURNED, 0, size);
  return { dispatches: [...dispatches, rotation(SIGNS.forward, dim, values, turned)], values: turned };
}

/** Of each head of each part: its mean square. */
async function energiesOf(parts: readonly Graded[], { run }: Desk): Promise<Float32Array[]> {
  const sizes = parts.map(({ part }) => aligned(blocksIn(part) * 4));
  const places = placesOf(sizes);
  const sums = parts.map(({ part }) => new Float32Array(blocksIn(part)));
  const ranges = sizes.map((size, i) => inScratch(CONTAINERS, places[i] ?? 0, size));
  await run({
    dispatches: parts.flatMap((graded, i) => {
      const { dispatches, values } = widened(graded);
      const parameters = { length: valuesIn(graded.part), span: EC_BLOCK * graded.part.dim };
      const fold = { kernel: 'reduce', constants: { OPERATION: OPERATION.sumOfSquares }, parameters } as const;
      return [...dispatches, dispatch(fold, { source: values, target: ranges[i] })];
    }),
    downloads: ranges.map((range, i) => {
      const bytes = bytesOf(sums[i]);
      return { piece: privatePiece(bytes), from: 0, range: { ...range, size: bytes.length } };
    }),
  });
  return sums.map((own, i) => own.map((sum) => sum / (EC_BLOCK * (parts[i]?.part.dim ?? 1))));
}

async function containersOf(
  parts: readonly (Graded & { readonly steps: readonly number[] })[],
  { piece, run }: Desk,
): Promise<(Container | undefined)[]> {
  const widest = aligned(Math.max(...parts.map(({ part }) => valuesIn(part))) * 4);
  const classes = inScratch(VALUES, widest, aligned(CLASSES.encode.byteLength));
  const stepsAt = classes.offset + classes.size;
  const scalesBytes = aligned(Math.max(...parts.map(({ part }) => blocksIn(part) * Math.max(EC_BLOCK, part.dim) * 4)));
  const scales = inScratch(CONTAINERS, 0, scalesBytes);
  const places = placesOf(parts.map(({ part }) => part.range.size));
  const stepPlaces = placesOf(parts.map(({ part }) => aligned(blocksIn(part) * 16)));
  const uploads: Move[] = [
    { piece: privatePiece(bytesOf(CLASSES.encode)), from: 0, range: within(classes, CLASSES.encode) },
  ];
  const dispatches = parts.flatMap((graded, i) => {
    const { part, grade } = graded;
    const words = stepWords(graded.steps, part);
    const steps = inScratch(VALUES, stepsAt + (stepPlaces[i] ?? 0), words.byteLength);
    uploads.push({ piece: privatePiece(bytesOf(words)), from: 0, range: steps });
    const { dispatches: before, values: source } = widened(graded);
    const work = inScratch(WORK, 0, workBytes(blocksIn(part) * ecStreams(part.dim), EC_SLOT));
    const container = inScratch(CONTAINERS, scalesBytes + (places[i] ?? 0), part.range.size);
    const ranges = { source, steps, classes, scales, work, container };
    return [...before, ...encodeSteps(grade.axis, part, part.range.size / 4).map((step) => dispatch(step, ranges))];
  });
  const downloads = parts.map(({ part: { range } }, i) => {
    const from = places[i] ?? 0;
    return { piece, from, range: inScratch(CONTAINERS, scalesBytes + from, range.size) };
  });
  await run({ uploads, dispatches, downloads });
  return parts.map(({ part, grade }, i) => {
    const from = places[i] ?? 0;
    const words = wordsOf(piece.bytes.subarray(from, from + part.range.size));
    const end = streamsEnd(words, EC_HEADER_WORDS, ecStreams(part.dim), blocksIn(part));
    if (end > words.length) return undefined;
    const whole = new Uint32Array(end + SEAL_WORDS);
    whole.set(words.subarray(0, end));
    whole.set(ecHead(EC_AXIS[grade.axis], part, whole.length));
    return sealed(whole);
  });
}

/** Containers that are whole, and of just these parts. */
export async function unpackEc(
  parts: readonly { readonly part: ExactPart; readonly bytes: Container }[],
  { piece, run }: Desk,
): Promise<void> {
  for (const batch of batches(parts, ({ bytes }) => aligned(bytes.length), COUNT_MAX)) {
    const places = placesOf(batch.map(({ bytes }) => aligned(bytes.length)));
    const classes = inScratch(TURNED, 0, aligned(CLASSES.decode.byteLength));
    const uploads: Move[] = [
      { piece: privatePiece(bytesOf(CLASSES.decode)), from: 0, range: within(classes, CLASSES.decode) },
    ];
    const dispatches = batch.flatMap(({ part, bytes }, i) => {
      const from = places[i] ?? 0;
      const container = inScratch(VALUES, from, aligned(bytes.length));
      piece.bytes.set(bytes, from);
      uploads.push({ piece, from, range: { ...container, size: bytes.length } });
      return decoding(part, bytes, container, classes);
    });
    await run({ uploads, dispatches });
  }
}

/** The bytes, and behind them nothing that anybody reads. */
const within = (range: WorkRange, { byteLength }: ArrayBufferView): WorkRange => ({ ...range, size: byteLength });

function decoding(part: ExactPart, bytes: Container, container: WorkRange, classes: WorkRange): WorkDispatch[] {
  const { codec, range, dim } = part;
  const size = valuesIn(part) * 4;
  const axis = ((wordsOf(bytes)[1] ?? 0) & 0xff) === EC_AXIS.channels ? 'channels' : 'vectors';
  const content = inScratch(CONTAINERS, 0, size);
  const faults = inScratch(WORK, 0, aligned(blocksIn(part) * ecStreams(dim) * 4));
  const step = decodeStep(axis, part, bytes.length / 4 - SEAL_WORDS);
  const turned = inScratch(WORK, aligned(faults.size), size);
  const values = axis === 'vectors' ? turned : content;
  return [
    dispatch(step, { container, classes, content, faults }),
    ...(axis === 'vectors' ? [rotation(SIGNS.inverse, dim, content, turned)] : []),
    codec === 'f32'
      ? { kernel: 'copy', parameters: { words: valuesIn(part) }, bindings: { source: values, target: range } }
      : {
          ...{ kernel: 'pack', constants: { FORMAT: FORMAT[codec] }, parameters: { values: valuesIn(part) } },
          bindings: { source: values, target: range },
        },
  ];
}
