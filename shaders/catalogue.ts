// Every kernel there is, as data: core/gpu/kernels.ts compiles and dispatches it, references.ts says what it must give.
// Variants stand best first for a GPU; those that lose on a software adapter avoid it. The forms called `lane` use no
// barrier and nothing that an adapter may lack, so each kernel runs everywhere (f16 matrices need shader-f16).
import { ATTENTION_KERNELS, PAGE_TOKENS } from './attention-kernels.ts';
import { CODEC_KERNELS } from './codec-kernels.ts';
import { ENTROPY_KERNELS } from './entropy-kernels.ts';
import { define, type Element, parts, type Variant, WORKGROUPS_MAX } from './kernel.ts';
import { PAIRS } from './rope.ts';

/** What a value in 16 bits is: the constant FORMAT of pack and unpack. */
export const FORMAT = { f16: 0, bf16: 1 } as const;
/** How reduce folds: its constant OPERATION. */
export const OPERATION = { sum: 0, max: 1, min: 2, sumOfSquares: 3 } as const;
/** What a stream of checksum reads at most, in units of 16 bytes; part of what the hash is. */
export const CHECKSUM_UNITS = 32;
/** Where the signs of a rotation go: SIGNS of hadamard. Forward rotates; inverse undoes it. */
export const SIGNS = { none: 0, forward: 1, inverse: 2 } as const;
/** The largest block that the Hadamard kernels take. */
export const HADAMARD_BLOCK_MAX = 256;

/** Vectors of `width` are transformed in blocks of the largest power of two in it, 256 at most: 80 in 16s, 96 in 32s. */
export const hadamardBlock = (width: number): number => Math.min(width & -width, HADAMARD_BLOCK_MAX);

/** A lane takes PER units: a workgroup apart, so that GPUs read in one go, or side by side, which processors like. */
function streaming<P extends string>(
  file: string,
  units: (p: Readonly<Record<P, number>>) => number,
  { apart = [], beside = [] }: { readonly apart?: readonly string[]; readonly beside?: readonly string[] } = {},
): Variant<P>[] {
  const files = ['flat.wgsl', file];
  const workgroups: Variant<P>['workgroups'] = (p, { WORKGROUP, PER = 1 }) => parts(units(p), WORKGROUP * PER);
  return [
    {
      name: 'apart',
      files: [...files, ...apart],
      avoids: ['software'],
      tuning: { WORKGROUP: 256, PER: 4, BESIDE: 0 },
      workgroups,
    },
    { name: 'beside', files: [...files, ...beside], tuning: { WORKGROUP: 16, PER: 64, BESIDE: 1 }, workgroups },
  ];
}

const subgroups = { requires: ['subgroups'], avoids: ['software'] } as const;
const barriers = { avoids: ['software'] } as const;
const blocksOf4 = (n: number) => n % 4 === 0;

/** A workgroup folds a row (or a segment) at a time: by subgroups, or by workgroup memory alone; a lane alone, on processors. */
function folding<P extends string, C extends string>(
  pieces: readonly string[],
  rows: (p: Readonly<Record<P, number>>) => number,
  isWide: (p: Readonly<Record<P, number>>) => boolean,
): Variant<P, C>[] {
  const perGroup = (p: Readonly<Record<P, number>>) => Math.min(rows(p), WORKGROUPS_MAX);
  const perLane: Variant<P, C>['workgroups'] = (p, { WORKGROUP }) => parts(rows(p), WORKGROUP);
  const tuning = { WORKGROUP: 128 };
  const files = (how: string, width: string) => [`${width}.wgsl`, ...pieces, `across-${how}.wgsl`];
  const wide = { fits: isWide };
  return [
    { name: 'subgroup-wide', files: files('subgroups', 'wide'), ...subgroups, ...wide, tuning, workgroups: perGroup },
    { name: 'subgroup', files: files('subgroups', 'narrow'), ...subgroups, tuning, workgroups: perGroup },
    { name: 'workgroup-wide', files: files('workgroup', 'wide'), ...barriers, ...wide, tuning, workgroups: perGroup },
    { name: 'workgroup', files: files('workgroup', 'narrow'), ...barriers, tuning, workgroups: perGroup },
    { name: 'lane-wide', files: files('lane', 'wide'), ...wide, tuning: { WORKGROUP: 16 }, workgroups: perLane },
    { name: 'lane', files: files('lane', 'narrow'), tuning: { WORKGROUP: 16 }, workgroups: perLane },
  ];
}

type Shape = Readonly<Record<'rows' | 'inner' | 'columns', number>>;
const TILE = 64;
const FLOATS: readonly ['f32', 'f16'] = ['f32', 'f16'];

export const CATALOGUE = {
  fill: define({
    about: 'sets words to one value',
    bindings: { target: { access: 'write', bytes: (p) => p.words * 4 } },
    parameters: { words: 'u32', value: 'u32' },
    constants: {},
    elements: ['u32'],
    variants: streaming<'words'>('fill.wgsl', (p) => parts(p.words, 4)),
  }),

  copy: define({
    about: 'copies words',
    bindings: {
      source: { access: 'read', bytes: (p) => p.words * 4 },
      target: { access: 'write', bytes: (p) => p.words * 4 },
    },
    parameters: { words: 'u32' },
    constants: {},
    elements: ['u32'],
    variants: streaming<'words'>('copy.wgsl', (p) => parts(p.words, 4)),
  }),

  pack: define({
    about: 'rounds f32 to f16 or bf16, to nearest, ties to even; the same bits on every adapter',
    bindings: {
      source: { access: 'read', bytes: (p) => p.values * 4 },
      target: { access: 'write', bytes: (p) => p.values * 2 },
    },
    parameters: { values: 'u32' },
    constants: { FORMAT: FORMAT.f16 },
    elements: ['u32'],
    variants: streaming<'values'>('pack.wgsl', (p) => parts(p.values, 8), {
      apart: ['sixteen-bits.wgsl', 'pack-shifts.wgsl'],
      beside: ['upper.wgsl', 'pack-products.wgsl'],
    }),
  }),

  unpack: define({
    about: 'widens f16 or bf16 to f32, exactly; the same bits on every adapter',
    bindings: {
      source: { access: 'read', bytes: (p) => p.values * 2 },
      target: { access: 'write', bytes: (p) => p.values * 4 },
    },
    parameters: { values: 'u32' },
    constants: { FORMAT: FORMAT.f16 },
    elements: ['u32'],
    variants: streaming<'values'>('unpack.wgsl', (p) => parts(p.values, 8), {
      apart: ['sixteen-bits.wgsl', 'unpack-shifts.wgsl'],
      beside: ['upper.wgsl', 'unpack-products.wgsl'],
    }),
  }),

  shift: define({
    about: 'adds a row of a table times a factor to vectors of `dim` values, `each` of which share a row',
    bindings: {
      source: { access: 'read', bytes: (p) => p.values * 4 },
      rows: { access: 'read', bytes: (p) => parts(p.values / p.dim + p.begun, p.each) * p.dim * 4 },
      target: { access: 'write', bytes: (p) => p.values * 4 },
    },
    // `begun`: how many vectors of the first row came before; `dim` and `values` are multiples of 4
    parameters: { values: 'u32', dim: 'u32', each: 'u32', begun: 'u32', factor: 'f32' },
    constants: {},
    elements: ['u32'],
    variants: streaming<'values'>('shift.wgsl', (p) => parts(p.values, 4)),
  }),

  rope: define({
    about:
      'the rotary embedding of vectors of `dim` values, of which the first `turned` (a multiple of 8) turn; ' +
      'vector i is of token (i + begun) % each, in block `block` + token / 64 of the table that rope.ts makes',
    bindings: {
      source: { access: 'read', bytes: (p) => p.values * 4 },
      angles: { access: 'read', bytes: (p) => (PAGE_TOKENS + p.block + blocksReached(p)) * p.turned * 4 },
      target: { access: 'write', bytes: (p) => p.values * 4 },
    },
    parameters: { values: 'u32', dim: 'u32', turned: 'u32', each: 'u32', begun: 'u32', block: 'u32' },
    constants: { PAIRS: PAIRS.halves },
    elements: ['u32'],
    variants: streaming<'values'>('rope.wgsl', (p) => parts(p.values, 4)),
  }),

  checksum: define({
    about: 'one level of the 128-bit checksum: each stream of the source becomes 16 bytes; steps.ts has the levels',
    bindings: {
      source: { access: 'read', bytes: (p) => p.bytes },
      target: { access: 'write', bytes: (p) => p.streams * 16 },
    },
    parameters: { bytes: 'u32', streams: 'u32', lanes: 'u32', level: 'u32' },
    constants: {},
    elements: ['u32'],
    variants: [
      {
        name: 'lane',
        files: ['flat.wgsl', 'checksum.wgsl'],
        tuning: { WORKGROUP: 64 },
        workgroups: (p, { WORKGROUP }) => parts(p.streams, WORKGROUP),
      },
    ],
  }),

  hadamard: define({
    about:
      'orthonormal Walsh-Hadamard transform of each block of BLOCK values (16, 32, 64, 128, 256), its own inverse; ' +
      'with SIGNS, the rotation of vectors of DIM values (a multiple of BLOCK; 0: BLOCK), or what undoes it',
    bindings: { source: { access: 'read', bytes: hadamardBytes }, target: { access: 'write', bytes: hadamardBytes } },
    parameters: { values: 'u32' },
    constants: { BLOCK: 128, SIGNS: SIGNS.none, DIM: 0 },
    elements: FLOATS,
    variants: [
      {
        name: 'subgroup',
        files: ['signs.wgsl', 'hadamard.wgsl', 'hadamard-subgroup.wgsl'],
        ...subgroups,
        worksWith: isRotation,
        tuning: { WORKGROUP: 128 },
        workgroups: (p, { WORKGROUP }) => Math.min(parts(p.values, WORKGROUP * 4), WORKGROUPS_MAX),
      },
      {
        name: 'workgroup',
        files: ['flat.wgsl', 'signs.wgsl', 'hadamard.wgsl', 'hadamard-workgroup.wgsl'],
        ...barriers,
        tuning: { WORKGROUP: 128 },
        worksWith: (fixed) => fixed.WORKGROUP * 2 >= fixed.BLOCK && isRotation(fixed),
        workgroups: (p, { WORKGROUP }) => parts(p.values, WORKGROUP * 2),
      },
      {
        name: 'lane',
        files: ['flat.wgsl', 'signs.wgsl', 'hadamard.wgsl', 'hadamard-lane.wgsl'],
        tuning: { WORKGROUP: 64 },
        worksWith: isRotation,
        // of 128 values a lane gives half
        workgroups: (p, { WORKGROUP, BLOCK }) => parts(p.values, WORKGROUP * (BLOCK === 128 ? 64 : BLOCK)),
      },
    ],
  }),

  reduce: define({
    about: 'folds each segment of `span` values into one f32: rows of a matrix, or a level of a long sum (steps.ts)',
    bindings: {
      source: { access: 'read', bytes: (p, size) => p.length * size },
      target: { access: 'write', bytes: (p) => parts(p.length, p.span) * 4 },
    },
    parameters: { length: 'u32', span: 'u32' },
    constants: { OPERATION: OPERATION.sum },
    elements: FLOATS,
    variants: folding<'length' | 'span', 'OPERATION'>(
      ['fold.wgsl', 'reduce.wgsl'],
      (p) => parts(p.length, p.span),
      (p) => blocksOf4(p.length) && blocksOf4(p.span),
    ),
  }),

  matvec: define({
    about: 'matrix (rows x columns, row by row) times vector; sums in f32',
    bindings: {
      matrix: { access: 'read', bytes: (p, size) => p.rows * p.columns * size },
      vector: { access: 'read', bytes: (p, size) => p.columns * size },
      target: { access: 'write', bytes: (p, size) => p.rows * size },
    },
    parameters: { rows: 'u32', columns: 'u32' },
    constants: {},
    elements: FLOATS,
    variants: folding<'rows' | 'columns', never>(
      ['matvec.wgsl'],
      (p) => p.rows,
      (p) => blocksOf4(p.columns),
    ),
  }),

  matmul: define({
    about: 'left (rows x inner) times right (inner x columns), all row by row; sums in f32',
    bindings: {
      left: { access: 'read', bytes: (p, size) => p.rows * p.inner * size },
      right: { access: 'read', bytes: (p, size) => p.inner * p.columns * size },
      target: { access: 'write', bytes: (p, size) => p.rows * p.columns * size },
    },
    parameters: { rows: 'u32', inner: 'u32', columns: 'u32' },
    constants: {},
    elements: FLOATS,
    variants: [
      {
        name: 'subgroup-matrix',
        files: ['matmul-subgroup-matrix.wgsl'],
        requires: ['subgroup-matrix', 'subgroups', 'shader-f16'],
        elements: ['f16'],
        tuning: { WORKGROUP: 128 },
        fits: (p) => p.rows % TILE === 0 && p.columns % TILE === 0 && p.inner % 16 === 0,
        worksWith: ({ WORKGROUP }) => WORKGROUP === 128,
        workgroups: tiles,
      },
      {
        name: 'tiled',
        files: ['matmul-tiled.wgsl'],
        ...barriers,
        tuning: { WORKGROUP: 256 },
        worksWith: ({ WORKGROUP }) => WORKGROUP === 256,
        workgroups: tiles,
      },
      {
        name: 'lane-wide',
        files: ['flat.wgsl', 'wide.wgsl', 'matmul-lane-wide.wgsl'],
        tuning: { WORKGROUP: 64 },
        fits: (p) => blocksOf4(p.inner) && blocksOf4(p.columns),
        workgroups: (p, { WORKGROUP }) => parts(parts(p.rows, 4) * (p.columns / 4), WORKGROUP),
      },
      {
        name: 'lane',
        files: ['flat.wgsl', 'matmul-lane.wgsl'],
        tuning: { WORKGROUP: 64 },
        workgroups: (p, { WORKGROUP }) => parts(parts(p.rows, 4) * p.columns, WORKGROUP),
      },
    ],
  }),

  ...ENTROPY_KERNELS,
  ...CODEC_KERNELS,
  ...ATTENTION_KERNELS,
};

/** Blocks of 64 tokens from that of token 0 on. */
function blocksReached(p: Readonly<Record<'values' | 'dim' | 'each' | 'begun', number>>): number {
  return parts(Math.min(p.each, p.values / p.dim + p.begun), PAGE_TOKENS);
}

function hadamardBytes(p: { readonly values: number }, size: number): number {
  return p.values * size;
}

function isRotation({ BLOCK, SIGNS: signs, DIM }: Readonly<Record<'BLOCK' | 'SIGNS' | 'DIM', number>>): boolean {
  return DIM % BLOCK === 0 && signs <= SIGNS.inverse;
}

function tiles({ rows, columns }: Shape): readonly [number, number] {
  return [parts(columns, TILE), parts(rows, TILE)];
}

export type Catalogue = typeof CATALOGUE;
export type KernelName = keyof Catalogue;
export type BindingOf<N extends KernelName> = keyof Catalogue[N]['bindings'];
export type ParameterOf<N extends KernelName> = keyof Catalogue[N]['parameters'];
export type ConstantOf<N extends KernelName> = keyof Catalogue[N]['constants'];
export type ElementOf<N extends KernelName> = Catalogue[N]['elements'][number] & Element;
