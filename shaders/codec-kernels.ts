// The kernels of the record codecs: `encode` makes records of f32 vectors, `decode` vectors of records, at any places in
// their ranges, so that one dispatch reaches the K or the V part of many pages. Vectors of rotated formats are rotated.
// Vector i lies at first + floor(i / run) * jump + (i % run) * step, in values for vectors and in words for records.
import { define, parts, type Variant } from './kernel.ts';
import { RECORD_NUMBERS } from './record-text.ts';
import { HEAD_DIMS, RECORD_NAMES, RECORDS, recordWords } from './records.ts';

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

/** The format that CODEC says; undefined for a number that none has. */
const nameOf = (codec: number) => RECORD_NAMES.find((name) => RECORDS[name].number === codec);

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

const isMade = ({ CODEC, DIM }: Constants) => nameOf(CODEC) !== undefined && HEAD_DIMS.includes(DIM);
const DECODE = ['flat.wgsl', 'walk.wgsl', RECORD_NUMBERS, 'record.wgsl', 'decode.wgsl'] as const;

export const CODEC_KERNELS = {
  decode: define({
    about: 'vectors of records; target places are multiples of 4; the same bits on every adapter',
    bindings: {
      source: { access: 'read', bytes: (p, _, constants) => sourceReach(p, wordsOf(constants)) },
      target: { access: 'write', bytes: (p, _, { DIM }) => quadReach(p, DIM) },
    },
    parameters: WALK,
    constants: { CODEC: RECORDS.tcq4.number, DIM: 128 },
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
        worksWith: isMade,
        workgroups: (p, { WORKGROUP }) => parts(p.vectors, WORKGROUP),
      },
    ] satisfies Variant<Walk, 'CODEC' | 'DIM'>[],
  }),
};
