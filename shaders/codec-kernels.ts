// The kernels of the record codecs: `encode` makes records of f32 vectors, `decode` vectors of records, at any places in
// their ranges, so that one dispatch reaches the K or the V part of many pages. Vectors of rotated formats are rotated.
// Vector i lies at first + floor(i / run) * jump + (i % run) * step, in values for vectors and in words for records.
import { define, type Fixed, parts, type Variant } from './kernel.ts';
import { RECORD_NUMBERS } from './record-text.ts';
import { formatOf, HEAD_DIMS, nameOf, RECORD_NAMES, RECORDS, type RecordFormat, recordWords } from './records.ts';
import { classesOf, groupBytes, isWhole, TRELLIS_SHAPE, TRELLIS_STEPS } from './trellis-text.ts';

const WALK = {
  ...fields('vectors', 'run'),
  ...fields('source_first', 'source_step', 'source_jump'),
  ...fields('target_first', 'target_step', 'target_jump'),
};
type Walk = keyof typeof WALK;
type Places = Readonly<Record<Walk, number>>;
type Constants = Readonly<Record<'CODEC' | 'DIM', number>>;

function fields<N extends string>(...names: readonly N[]): Readonly<Record<N, 'u32'>> {
  return Object.fromEntries(names.map((name) => [name, 'u32'])) as Readonly<Record<N, 'u32'>>;
}

/** Up to the end of the last of them, each `size` words long. */
function reach({ vectors, run }: Places, first: number, step: number, jump: number, size: number): number {
  if (vectors === 0) return 0;
  if (run === 0) throw new RangeError('a run of vectors is to have one at least, not 0');
  // the last of all, and the last of the last whole run, which may lie behind it
  const furthest = [vectors - 1, Math.floor(vectors / run) * run - 1].filter((i) => i >= 0);
  const places = furthest.map((i) => first + Math.floor(i / run) * jump + (i % run) * step);
  return (Math.max(...places) + size) * 4;
}

const sourceReach = (p: Places, size: number) => reach(p, p.source_first, p.source_step, p.source_jump, size);
const targetReach = (p: Places, size: number) => reach(p, p.target_first, p.target_step, p.target_jump, size);

function wordsOf({ CODEC, DIM }: Constants): number {
  const name = nameOf(CODEC);
  if (!name) throw new RangeError(`there is no CODEC ${CODEC}; shaders/records.ts has their numbers`);
  return recordWords(name, DIM);
}

/** Vectors are written four values at a time. */
function quadReach(p: Places, dim: number): number {
  const { target_first, target_step, target_jump } = p;
  const isAligned = [target_first, target_step, target_jump].every((each) => each % 4 === 0);
  if (!isAligned) throw new RangeError(`vectors are written at multiples of 4 values, not as in ${JSON.stringify(p)}`);
  return targetReach(p, dim);
}

const numbersOf = (is: (format: RecordFormat) => boolean): ReadonlySet<number> =>
  new Set(RECORD_NAMES.map(formatOf).flatMap((format) => (is(format) ? format.number : [])));
const TRELLIS_CODECS = numbersOf(({ trellis }) => trellis !== undefined);
const ROTATED_CODECS = numbersOf(({ rotated }) => rotated);
const isMade = ({ CODEC, DIM }: Constants) => nameOf(CODEC) !== undefined && HEAD_DIMS.includes(DIM);
const READ = [RECORD_NUMBERS, 'record.wgsl'] as const;
const PLACES = ['flat.wgsl', 'walk.wgsl', 'sixteen-bits.wgsl'] as const;
const DECODE = [...PLACES, ...READ, 'decode.wgsl'] as const;
const ENCODE = [...PLACES, 'encode.wgsl', ...READ, 'scale.wgsl'] as const;
const SEARCH = [...ENCODE, TRELLIS_SHAPE, 'encode-trellis.wgsl'] as const;

/** The others are copied: a loop over that, unrolled, takes seconds to compile, and gains nothing. */
const isRotated = ({ CODEC }: Constants) => ROTATED_CODECS.has(CODEC);
const isSearched = ({ CODEC }: Constants) => TRELLIS_CODECS.has(CODEC);

/** Every adapter has so much for a workgroup to share. */
const SHARED_BYTES = 16_384;

export const CODEC_KERNELS = {
  encode: define({
    about: 'records of vectors, which are rotated where the format is; the same bits on every adapter',
    bindings: {
      source: { access: 'read', bytes: (p, _, { DIM }) => sourceReach(p, DIM) },
      target: { access: 'write', bytes: (p, _, constants) => targetReach(p, wordsOf(constants)) },
    },
    parameters: WALK,
    constants: { CODEC: RECORDS.tq4.number, DIM: 128 },
    elements: ['u32'],
    variants: [
      ...[64, 128, 256].map((WORKGROUP) => ({
        name: `trellis-group-${WORKGROUP}`,
        files: [...SEARCH, 'encode-trellis-group.wgsl'],
        avoids: ['software'] as const,
        tuning: { WORKGROUP },
        worksWith: (fixed: Fixed<'CODEC' | 'DIM'>) =>
          isMade(fixed) && isSearched(fixed) && isWhole(fixed) && groupBytes(fixed) <= SHARED_BYTES,
        workgroups: (p: Places, fixed: Fixed<'CODEC' | 'DIM'>) => parts(p.vectors * classesOf(fixed), fixed.WORKGROUP),
      })),
      {
        name: 'trellis-lane',
        files: [...SEARCH, TRELLIS_STEPS, 'encode-trellis-lane.wgsl'],
        tuning: { WORKGROUP: 32 },
        worksWith: (fixed) => isMade(fixed) && isSearched(fixed),
        workgroups: (p, { WORKGROUP }) => parts(p.vectors, WORKGROUP),
      },
      {
        name: 'lane',
        files: [...ENCODE, 'encode-lane.wgsl'],
        tuning: { WORKGROUP: 32 },
        worksWith: (fixed) => isMade(fixed) && !isSearched(fixed),
        workgroups: (p, { WORKGROUP }) => parts(p.vectors, WORKGROUP),
      },
    ] satisfies Variant<Walk, 'CODEC' | 'DIM'>[],
  }),

  decode: define({
    about: 'vectors of records; target places are multiples of 4; the same bits on every adapter',
    bindings: {
      source: { access: 'read', bytes: (p, _, constants) => sourceReach(p, wordsOf(constants)) },
      target: { access: 'write', bytes: (p, _, { DIM }) => quadReach(p, DIM) },
    },
    parameters: WALK,
    constants: { CODEC: RECORDS.tq4.number, DIM: 128 },
    elements: ['u32'],
    variants: [
      {
        name: 'octet',
        files: [...DECODE, 'decode-octet.wgsl'],
        avoids: ['software'],
        tuning: { WORKGROUP: 128 },
        worksWith: isMade,
        workgroups: (p, { WORKGROUP, DIM }) => parts(p.vectors * (DIM / 8), WORKGROUP),
      },
      {
        name: 'vector',
        files: [...DECODE, 'decode-vector.wgsl'],
        tuning: { WORKGROUP: 64 },
        worksWith: (fixed) => isMade(fixed) && isRotated(fixed),
        workgroups: (p, { WORKGROUP }) => parts(p.vectors, WORKGROUP),
      },
    ] satisfies Variant<Walk, 'CODEC' | 'DIM'>[],
  }),
};
