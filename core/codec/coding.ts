// The runs that turn vectors into records of pages and back: what is uploaded, which kernels do it, and where it lies on the
// adapter meanwhile. From places and shapes to `Work`: nothing is sent here.
// Encoding: what stays as it is straight into pages; all else as f32, coded K without its mean, rotated where the codec wants
// it, then records into pages. Decoding is the way back, from pages to a piece, for K with its rotary embedding too where it is
// asked for. Recoding goes from exact pages to coded ones, and nothing travels.
import { FORMAT, hadamardBlock, SIGNS } from '../../shaders/catalogue.ts';
import { formatOf, type RecordName, recordWords } from '../../shaders/records.ts';
import { angleTable, PAIRS } from '../../shaders/rope.ts';
import type { KvDtype, Rope } from '../contract/kv.ts';
import { DTYPES } from '../contract/tensors.ts';
import type { Run } from '../gpu/arena.ts';
import { type Piece, privatePiece } from '../gpu/pieces.ts';
import { type Move, scratch, type Work, type WorkDispatch, type WorkRange } from '../gpu/work.ts';
import { aligned, BLOCK_TOKENS, exactFor, isRotated } from './pages.ts';

/** Records after each other in a page, and which vectors they are of the stretch. */
export interface Records {
  readonly page: Run;
  /** Where the first begins in the page, in words. */
  readonly word: number;
  readonly codec: RecordName;
  readonly vectors: number;
  /** The first vector, counted from the beginning of the stretch. */
  readonly at: number;
}

/** The rows of K's mean over a stretch of vectors; `each` vectors share one. */
export interface MeanRows {
  readonly values: Float32Array;
  readonly each: number;
  /** Vectors of the first row that come before the stretch. */
  readonly begun: number;
}

/** Where vectors of a stretch are in their sequence: vector i is token (i + begun) % each of those from `position` on. */
export interface Positions {
  readonly rope: Rope;
  readonly each: number;
  readonly begun: number;
  /** At the beginning of a block. */
  readonly position: number;
}

/** Vectors after each other, in the order of a tensor; as many as fit a piece. */
export interface Stretch {
  readonly dim: number;
  readonly vectors: number;
  readonly dtype: KvDtype;
  readonly piece: Piece;
  readonly records: readonly Records[];
  /** What coded records lack. */
  readonly means: MeanRows | undefined;
  /** What all lack, where it is to be added on the way out. */
  readonly positions?: Positions | undefined;
}

/** Scratch buffers: three for values, one for what is looked up. */
const [FIRST, SECOND, THIRD, TABLE] = [0, 1, 2, 3] as const;

const inScratch = (buffer: number, size: number): WorkRange => ({ at: scratch(buffer), offset: 0, size });
export const inArena = ({ binding, byteOffset, byteLength }: Run): WorkRange => ({
  at: binding,
  offset: byteOffset,
  size: byteLength,
});

export function encoding({ dim, vectors, dtype, piece, records, means }: Stretch): Work {
  const exact = records.filter(({ codec }) => codec === exactFor(dtype));
  const others = records.filter(({ codec }) => codec !== exactFor(dtype));
  const asTheyAre = copies(exact, dim, dtype, piece);
  if (others.length === 0) return { uploads: asTheyAre };
  const values = vectors * dim;
  const isNarrow = dtype !== 'F32';
  const [plain, turned] = isNarrow ? ([SECOND, FIRST] as const) : ([FIRST, SECOND] as const);
  const isCoded = others.some(({ codec }) => isRotated(codec));
  return {
    uploads: [
      ...asTheyAre,
      { piece, from: 0, range: inScratch(FIRST, (values * DTYPES[dtype]) / 8) },
      ...(means && isCoded ? [tableOf(means)] : []),
    ],
    dispatches: [
      ...(isNarrow ? [unpacking(dtype, values, FIRST, plain)] : []),
      ...(isCoded ? turning(means, dim, values, plain, turned) : []),
      ...others.map((each) => encode(each, dim, values, isRotated(each.codec) ? turned : plain)),
    ],
  };
}

/** Coded values of a stretch from `plain` to `turned`, by way of THIRD where there are means. */
function turning(
  means: MeanRows | undefined,
  dim: number,
  values: number,
  plain: number,
  turned: number,
): WorkDispatch[] {
  if (!means) return [turn(SIGNS.forward, dim, values, plain, turned)];
  return [shift(means, -1, dim, values, plain, THIRD), turn(SIGNS.forward, dim, values, THIRD, turned)];
}

export function decoding({ dim, vectors, dtype, piece, records, means, positions }: Stretch): Work {
  const isAsItIs = ({ codec }: Records) => codec === exactFor(dtype) && !positions;
  const others = records.filter((each) => !isAsItIs(each));
  const asTheyAre = copies(records.filter(isAsItIs), dim, dtype, piece);
  if (others.length === 0) return { downloads: asTheyAre };
  const values = vectors * dim;
  const coded = others.filter(({ codec }) => isRotated(codec));
  const plain = others.filter(({ codec }) => !isRotated(codec));
  const isShifted = means !== undefined && coded.length > 0;
  const done = isShifted ? FIRST : SECOND;
  const other = done === FIRST ? SECOND : FIRST;
  const placed = positions ? other : done;
  const last = dtype === 'F32' ? placed : THIRD;
  const sized = (buffer: number) => inScratch(buffer, values * 4);
  const table = isShifted ? tableOf(means) : undefined;
  const angles = positions && anglesOf(positions, vectors, table?.range.size ?? 0);
  return {
    uploads: [table, angles].filter((each) => each !== undefined),
    dispatches: [
      ...coded.map((each) => decode(each, dim, values, FIRST)),
      ...(coded.length > 0 ? [turn(SIGNS.inverse, dim, values, FIRST, SECOND)] : []),
      ...(isShifted ? [shift(means, 1, dim, values, SECOND, FIRST)] : []),
      ...plain.map((each) => decode(each, dim, values, done)), // what it overwrites was nothing
      ...(angles ? [embedding({ ...positions, dim, block: 0 }, sized(done), angles.range, sized(placed))] : []),
      ...(dtype === 'F32' ? [] : [packing(dtype, values, placed, THIRD)]),
    ],
    downloads: [
      ...asTheyAre,
      ...joined(others).map(({ at, vectors: count }) => {
        const [offset, size] = [(at * dim * DTYPES[dtype]) / 8, (count * dim * DTYPES[dtype]) / 8];
        return { piece, from: offset, range: { at: scratch(last), offset, size } };
      }),
    ],
  };
}

/** Stretches of records that follow each other. */
function joined(records: readonly Records[]): { readonly at: number; readonly vectors: number }[] {
  const found: { at: number; vectors: number }[] = [];
  for (const { at, vectors } of records) {
    const last = found.at(-1);
    if (last && last.at + last.vectors === at) last.vectors += vectors;
    else found.push({ at, vectors });
  }
  return found;
}

/** Records that are the very bytes of the tensor, and where those are in the piece. */
function copies(records: readonly Records[], dim: number, dtype: KvDtype, piece: Piece): Move[] {
  const bytes = (dim * DTYPES[dtype]) / 8;
  return records.map(({ page, word, vectors, at }) => ({
    piece,
    from: at * bytes,
    range: { at: page.binding, offset: page.byteOffset + word * 4, size: vectors * bytes },
  }));
}

/** Exact records of one page become records of another; what is coded already is never coded again. */
export function recoding(from: Records, to: Records, dim: number, means: MeanRows | undefined): WorkDispatch[] {
  if (isRotated(from.codec)) throw new Error(`records of ${from.codec} were to be coded again`);
  const values = from.vectors * dim;
  const isCoded = isRotated(to.codec);
  return [
    decode(from, dim, values, FIRST),
    ...(isCoded ? turning(means, dim, values, FIRST, SECOND) : []),
    encode(to, dim, values, isCoded ? SECOND : FIRST),
  ];
}

export const tableOf = ({ values }: MeanRows): Move => upload(values, scratch(TABLE), 0);

/** The angles of a stretch, behind so many bytes of means. */
function anglesOf({ rope, each, begun, position }: Positions, vectors: number, bytesBefore: number): Move {
  const blocks = Math.ceil(Math.min(each, vectors + begun) / BLOCK_TOKENS);
  const begins = Array.from({ length: blocks }, (_, block) => position + block * BLOCK_TOKENS);
  return upload(angleTable(rope, begins), scratch(TABLE), aligned(bytesBefore));
}

export function upload({ buffer, byteOffset, byteLength }: Float32Array, at: number, offset: number): Move {
  const piece = privatePiece(new Uint8Array(buffer, byteOffset, byteLength));
  return { piece, from: 0, range: { at, offset, size: byteLength } };
}

const formatOfDtype = (dtype: KvDtype): number => (dtype === 'BF16' ? FORMAT.bf16 : FORMAT.f16);

const unpacking = (dtype: KvDtype, values: number, from: number, to: number): WorkDispatch => ({
  kernel: 'unpack',
  constants: { FORMAT: formatOfDtype(dtype) },
  parameters: { values },
  bindings: { source: inScratch(from, values * 2), target: inScratch(to, values * 4) },
});

const packing = (dtype: KvDtype, values: number, from: number, to: number): WorkDispatch => ({
  kernel: 'pack',
  constants: { FORMAT: formatOfDtype(dtype) },
  parameters: { values },
  bindings: { source: inScratch(from, values * 4), target: inScratch(to, values * 2) },
});

/** Forward or inverse, of vectors of `dim` f32. */
export const rotation = (signs: number, dim: number, source: WorkRange, target: WorkRange): WorkDispatch => ({
  kernel: 'hadamard',
  constants: { BLOCK: hadamardBlock(dim), DIM: dim, SIGNS: signs },
  parameters: { values: source.size / 4 },
  bindings: { source, target },
});

/** The same from one scratch buffer to another. */
const turn = (signs: number, dim: number, values: number, from: number, to: number): WorkDispatch =>
  rotation(signs, dim, inScratch(from, values * 4), inScratch(to, values * 4));

const shift = (means: MeanRows, factor: number, dim: number, values: number, from: number, to: number): WorkDispatch =>
  shifted(
    { ...means, dim, factor },
    inScratch(from, values * 4),
    inScratch(TABLE, means.values.byteLength),
    inScratch(to, values * 4),
  );

type Shift = Pick<MeanRows, 'each' | 'begun'> & { readonly dim: number; readonly factor: number };

/** Vectors with `factor` times their rows. */
export const shifted = (
  { dim, each, begun, factor }: Shift,
  source: WorkRange,
  rows: WorkRange,
  target: WorkRange,
): WorkDispatch => ({
  kernel: 'shift',
  parameters: { values: source.size / 4, dim, each, begun, factor },
  bindings: { source, rows, target },
});

type Walked = Pick<Positions, 'rope' | 'each' | 'begun'> & { readonly dim: number; readonly block: number };

/** Vectors with their rotary embedding; `block` is that of token 0 in the table of angles. */
export const embedding = (
  { rope, dim, each, begun, block }: Walked,
  source: WorkRange,
  angles: WorkRange,
  target: WorkRange,
): WorkDispatch => ({
  kernel: 'rope',
  constants: { PAIRS: PAIRS[rope.pairs] },
  parameters: { values: source.size / 4, dim, turned: rope.dims, each, begun, block },
  bindings: { source, angles, target },
});

/** One after the other, at both ends. */
const walk = (vectors: number, sourceFirst: number, sourceStep: number, targetFirst: number, targetStep: number) => ({
  vectors,
  ...{ run: vectors, source_jump: 0, target_jump: 0 },
  ...{ source_first: sourceFirst, source_step: sourceStep, target_first: targetFirst, target_step: targetStep },
});

const encode = (
  { page, word, codec, vectors, at }: Records,
  dim: number,
  values: number,
  from: number,
): WorkDispatch => ({
  kernel: 'encode',
  constants: { CODEC: formatOf(codec).number, DIM: dim },
  parameters: walk(vectors, at * dim, dim, word, recordWords(codec, dim)),
  bindings: { source: inScratch(from, values * 4), target: inArena(page) },
});

const decode = (
  { page, word, codec, vectors, at }: Records,
  dim: number,
  values: number,
  to: number,
): WorkDispatch => ({
  kernel: 'decode',
  constants: { CODEC: formatOf(codec).number, DIM: dim },
  parameters: walk(vectors, word, recordWords(codec, dim), at * dim, dim),
  bindings: { source: inArena(page), target: inScratch(to, values * 4) },
});
