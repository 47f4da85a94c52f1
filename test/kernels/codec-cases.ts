// What the kernels of the record codecs are tried with: vectors as models make them and as they should not, places with
// gaps that have to stay, and what the CPU references make of them, byte for byte.
import { recordCodec } from '../../core/codec/record-codecs.ts';
import { RECORDS, type RecordName } from '../../shaders/records.ts';
import { gaussian } from '../support/gaussian.ts';
import type { Seeded } from '../support/seeded.ts';
import type { Case } from './cases.ts';

/** What lies between and behind, as workbench.ts fills its targets. */
const KEPT = 0xa5a5_a5a5;

interface Walk {
  readonly run: number;
  readonly first: number;
  readonly step: number;
  readonly jump: number;
}

const placeOf = (i: number, { run, first, step, jump }: Walk) => first + Math.floor(i / run) * jump + (i % run) * step;

/** Runs of three; after each vector and each run, and before the first, some words that are not theirs. */
export const apart = (size: number): Walk => ({ run: 3, first: 8, step: size + 4, jump: 3 * size + 20 });
export const dense = (size: number, count: number): Walk => ({ run: count, first: 0, step: size, jump: 0 });

/** The words of each at its place, the rest as it was. */
function scattered(pieces: readonly Uint32Array[], walk: Walk): Uint32Array {
  const last = pieces.at(-1);
  const words = new Uint32Array(last ? placeOf(pieces.length - 1, walk) + last.length : 0).fill(KEPT);
  for (const [i, piece] of pieces.entries()) words.set(piece, placeOf(i, walk));
  return words;
}

export interface CodecCase {
  readonly codec: RecordName;
  readonly dim: number;
  readonly vectors: readonly Float32Array[];
  readonly walk?: (size: number, count: number) => Walk;
}

export const encodedBy = (codec: RecordName, vector: Float32Array): Uint32Array<ArrayBuffer> => {
  const record = new Uint32Array(recordCodec(codec).words(vector.length));
  recordCodec(codec).encode(vector, record);
  return record;
};

export const decodedBy = (codec: RecordName, dim: number, record: Uint32Array): Float32Array<ArrayBuffer> => {
  const vector = new Float32Array(dim);
  recordCodec(codec).decode(record, vector);
  return vector;
};

const wordsOf = ({ buffer, byteOffset, length }: Float32Array) => new Uint32Array(buffer, byteOffset, length);

function caseOf(
  kernel: 'encode' | 'decode',
  { codec, dim, walk = dense }: CodecCase,
  sources: readonly Uint32Array[],
  targets: readonly Uint32Array[],
): Case {
  const count = sources.length;
  const from = walk(sources[0]?.length ?? 0, count);
  const to = walk(targets[0]?.length ?? 0, count);
  const bytes = new Uint8Array(scattered(targets, to).buffer);
  return {
    name: `${codec} of ${count} x ${dim}, ${walk === dense ? 'dense' : 'apart'}`,
    kernel,
    element: 'u32',
    constants: { CODEC: RECORDS[codec].number, DIM: dim },
    parameters: {
      ...{ vectors: count, run: from.run },
      ...{ source_first: from.first, source_step: from.step, source_jump: from.jump },
      ...{ target_first: to.first, target_step: to.step, target_jump: to.jump },
    },
    sources: { source: scattered(sources, from) },
    expected: { bytes },
  };
}

export function decodeCase(each: CodecCase): Case {
  const records = each.vectors.map((vector) => encodedBy(each.codec, vector));
  const decoded = records.map((record) => wordsOf(decodedBy(each.codec, each.dim, record)));
  return caseOf('decode', each, records, decoded);
}

export function encodeCase(each: CodecCase): Case {
  const records = each.vectors.map((vector) => encodedBy(each.codec, vector));
  return caseOf('encode', each, each.vectors.map(wordsOf), records);
}

export const normalVectors = (seed: Seeded, count: number, dim: number): Float32Array[] =>
  Array.from({ length: count }, () => Float32Array.from({ length: dim }, gaussian(seed)));

/** Vectors that no model should make, by name. Their values are all finite, but for the last three. */
export function oddVectors(seed: Seeded, dim: number): readonly (readonly [name: string, vector: Float32Array])[] {
  const normal = () => Float32Array.from({ length: dim }, gaussian(seed));
  const times = (factor: number) => normal().map((value) => value * factor);
  const withOne = (vector: Float32Array, value: number) => vector.with(seed.below(dim), value);
  const zeros = new Float32Array(dim);
  return [
    ['zeros', zeros],
    ['negative zeros', zeros.map(() => -0)],
    ['one value', withOne(zeros, 1000)],
    ['an outlier', withOne(normal(), -1000)],
    ['five deviations', withOne(normal(), 5)],
    ['all equal', zeros.map(() => 0.75)],
    ['two values in turn', zeros.map((_, i) => (i % 2 ? 3 : -3))],
    ['powers of two', zeros.map((_, i) => 2 ** (i % 24) * (i % 2 ? 1 : -1))],
    ['thousandths', times(1e-3)],
    ['beyond f16', times(1e7)],
    ['the largest', times(1e37)],
    ['the smallest with a scale', times(2e-5)],
    ['below every scale', times(1e-7)],
    ['near 2^-90', times(2 ** -90)],
    ['denormals', times(1e-40)],
    ['NaN', withOne(normal(), Number.NaN)],
    ['infinity', withOne(normal(), Number.POSITIVE_INFINITY)],
    ['minus infinity and NaN', withOne(withOne(normal(), Number.NaN), Number.NEGATIVE_INFINITY)],
  ];
}

/** A few, for every variant and workgroup size; all formats and dimensions, and the searches, are in codec-suite.ts. */
const FEW: readonly (readonly [RecordName, number, number])[] = [
  ['tq4', 128, 65],
  ['q8r', 96, 64],
  ['f16', 80, 63],
];

function* few(seed: Seeded, caseFor: (each: CodecCase) => Case): Generator<Case> {
  for (const [codec, dim, count] of FEW)
    yield caseFor({ codec, dim, vectors: normalVectors(seed, count, dim), walk: apart });
}

export const CODEC_CASES = {
  encode: (seed: Seeded) => few(seed, encodeCase),
  decode: (seed: Seeded) => few(seed, decodeCase),
};
