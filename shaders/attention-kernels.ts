// The kernels of attention over pages of coded keys and values; attention.ts has the steps that lead from queries to a
// result. The heads that share a kv head are consecutive; their queries, head by head, are its rows, and four rows a quad.
// A page is a block of 64 tokens: the records of their keys, kv head by kv head, then those of their values; a page table
// has for each page the word at which it begins and the position of its first token. The constants say how records are
// read (record.wgsl). What a page table holds is not checked: `extent` is the number of words of `pages` that all pages of
// the table lie in, and whoever writes the table keeps to it.
import { SCORES_TILE, VALUES_TILE } from './attention-tiles.ts';
import { define, parts } from './kernel.ts';
import { RECORD_NUMBERS } from './record-text.ts';
import { RECORDS } from './records.ts';

/** Tokens of a page. */
export const PAGE_TOKENS = 64;
/** Bytes of a page's entry in a page table: the word where it begins, the position of its first token. */
export const PAGE_ENTRY_BYTES = 8;

type Numbers<P extends string> = Readonly<Record<P, number>>;
type Dim = Numbers<'DIM'>;

/** What records of keys and of values are, by their numbers in records.ts. */
const FORMS = { DIM: 128, K_CODEC: RECORDS.f16.number, V_CODEC: RECORDS.f16.number };
const READING = ['attention-pages.wgsl', RECORD_NUMBERS, 'record.wgsl'];
const SCORE_TILES = [...READING, 'attention-tile.wgsl', 'attention-scores-tile.wgsl', SCORES_TILE];
const VALUE_TILES = [...READING, 'attention-tile.wgsl', 'attention-values-tile.wgsl', VALUES_TILE];
/** What says which pages of the table are read, and which of their tokens a query sees; `chunk` is a number of pages. */
const SIGHT = {
  // the head dimension in eights: a bound that a compiler does not know, so that it unrolls no long loops
  octets: 'u32',
  ...u32s('kv_heads', 'rows', 'queries', 'first', 'pages', 'chunk', 'extent'),
  ...u32s('position', 'begin', 'end', 'causal', 'window'),
} as const;

function u32s<N extends string>(...names: readonly N[]): Readonly<Record<N, 'u32'>> {
  return Object.fromEntries(names.map((name) => [name, 'u32'])) as Readonly<Record<N, 'u32'>>;
}
/** Eight tokens to a lane, and 64 to a workgroup. */
const SCORE_LANES = 8;
const TILE_QUADS = 16;
const FEW_ROWS = 16;

const quadsOf = (p: Numbers<'kv_heads' | 'rows'>): number => p.kv_heads * parts(p.rows, 4);
const tilesOf = (p: Numbers<'kv_heads' | 'rows'>, QUADS: number): number => p.kv_heads * parts(parts(p.rows, 4), QUADS);
const areMany = (p: Numbers<'rows'>): boolean => p.rows > FEW_ROWS;
const chunksOf = (p: Numbers<'pages' | 'chunk'>): number => parts(p.pages, p.chunk);
/** Of each chunk: a weight for each token, their sum, and the log-sum-exp of their scores. */
const weightsOf = (p: Numbers<'pages' | 'chunk'>): number => p.pages * PAGE_TOKENS + chunksOf(p) * 2;
const quadBytes = (p: Numbers<'kv_heads' | 'rows'>, DIM: number): number => quadsOf(p) * DIM * 16;
const partialBytes = (rows: number, DIM: number): number => rows * (DIM + 1) * 4;

const bytes = {
  pages: (p: Numbers<'extent'>) => p.extent * 4,
  table: (p: Numbers<'first' | 'pages'>) => (p.first + p.pages) * PAGE_ENTRY_BYTES,
  quadded: (p: Numbers<'kv_heads' | 'rows'>, _: number, { DIM }: Dim) => quadBytes(p, DIM),
  scores: (p: Numbers<'kv_heads' | 'rows' | 'pages'>) => quadsOf(p) * p.pages * PAGE_TOKENS * 16,
  weights: (p: Numbers<'kv_heads' | 'rows' | 'pages' | 'chunk'>) => quadsOf(p) * weightsOf(p) * 16,
  partials: (p: Numbers<'kv_heads' | 'rows' | 'pages' | 'chunk'>, _: number, { DIM }: Dim) =>
    chunksOf(p) * partialBytes(p.kv_heads * p.rows, DIM),
};

type Sight = Numbers<keyof typeof SIGHT>;
type Tuning<C extends string> = Numbers<C | 'WORKGROUP' | 'QUADS'>;

/** A tile as large as is well compiled, for subgroups of so many lanes; a workgroup is one of them. */
const tile = (name: string, tuning: Tuning<never>) => ({
  ...{ name, requires: ['subgroups'] as const, lanes: tuning.WORKGROUP },
  fits: areMany,
  worksWith: (fixed: Numbers<string>) => Object.entries(tuning).every(([each, number]) => fixed[each] === number),
});
const scoresTile = (name: string, tuning: Tuning<'TOKENS'>) => ({
  ...{ ...tile(name, tuning), tuning, files: SCORE_TILES },
  workgroups: (p: Sight) =>
    [(p.pages * PAGE_TOKENS) / (tuning.WORKGROUP * tuning.TOKENS), tilesOf(p, tuning.QUADS)] as const,
});
const valuesTile = (name: string, tuning: Tuning<'AT_ONCE'>) => ({
  ...{ ...tile(name, tuning), tuning, files: VALUE_TILES },
  workgroups: (p: Sight) => [chunksOf(p), tilesOf(p, tuning.QUADS)] as const,
});

export const ATTENTION_KERNELS = {
  attentionQueries: define({
    about: 'scales queries and lays them out, quad by quad, for the other attention kernels',
    bindings: {
      queries: { access: 'read', bytes: (p, _, { DIM }) => p.kv_heads * p.rows * DIM * 4 },
      quadded: { access: 'write', bytes: bytes.quadded },
    },
    parameters: { kv_heads: 'u32', rows: 'u32', scale: 'f32' },
    constants: { DIM: 128 },
    elements: ['f32'],
    variants: [
      {
        name: 'lane',
        files: ['flat.wgsl', 'attention-queries.wgsl'],
        tuning: { WORKGROUP: 64 },
        workgroups: (p, { WORKGROUP, DIM }) => parts(quadsOf(p) * DIM, WORKGROUP),
      },
    ],
  }),

  attentionScores: define({
    about: 'the scores of each row with each token of the pages; -1e30 for a token that the row does not see',
    bindings: {
      pages: { access: 'read', bytes: bytes.pages },
      table: { access: 'read', bytes: bytes.table },
      quadded: { access: 'read', bytes: bytes.quadded },
      scores: { access: 'write', bytes: bytes.scores },
    },
    parameters: SIGHT,
    constants: FORMS,
    elements: ['f32'],
    variants: [
      scoresTile('tile-4', { WORKGROUP: 4, TOKENS: 8, QUADS: 4 }),
      scoresTile('tile-8', { WORKGROUP: 8, TOKENS: 2, QUADS: 4 }),
      {
        name: 'lane',
        files: [...READING, 'attention-scores.wgsl'],
        tuning: { WORKGROUP: SCORE_LANES },
        worksWith: ({ WORKGROUP }) => WORKGROUP === SCORE_LANES,
        workgroups: (p) => [p.pages, quadsOf(p)],
      },
    ],
  }),

  attentionWeights: define({
    about:
      'softmax over each chunk of tokens: weights, then their sum and the log-sum-exp of the scores; `quads` of all rows',
    bindings: {
      scores: { access: 'read', bytes: (p) => p.quads * p.pages * PAGE_TOKENS * 16 },
      weights: { access: 'write', bytes: (p) => p.quads * weightsOf(p) * 16 },
    },
    parameters: { quads: 'u32', pages: 'u32', chunk: 'u32' },
    constants: {},
    elements: ['f32'],
    variants: [
      {
        name: 'lane',
        files: ['flat.wgsl', 'attention-weights.wgsl'],
        tuning: { WORKGROUP: 16 },
        workgroups: (p, { WORKGROUP }) => parts(p.quads * chunksOf(p), WORKGROUP),
      },
    ],
  }),

  attentionValues: define({
    about: 'the values of each chunk of tokens, summed by their weights: a partial result of each chunk',
    bindings: {
      pages: { access: 'read', bytes: bytes.pages },
      table: { access: 'read', bytes: bytes.table },
      weights: { access: 'read', bytes: bytes.weights },
      partials: { access: 'write', bytes: bytes.partials },
    },
    parameters: SIGHT,
    constants: FORMS,
    elements: ['f32'],
    variants: [
      valuesTile('tile-4', { WORKGROUP: 4, AT_ONCE: 1, QUADS: 8 }),
      valuesTile('tile-8', { WORKGROUP: 8, AT_ONCE: 2, QUADS: 2 }),
      {
        name: 'lane',
        files: [...READING, 'attention-values.wgsl'],
        tuning: { WORKGROUP: 16 },
        workgroups: (p) => [chunksOf(p), quadsOf(p)],
      },
    ],
  }),

  attentionChunks: define({
    about: 'scores, softmax and values of each chunk of tokens in one: a partial result of each chunk; for GPUs',
    bindings: {
      pages: { access: 'read', bytes: bytes.pages },
      table: { access: 'read', bytes: bytes.table },
      quadded: { access: 'read', bytes: bytes.quadded },
      partials: { access: 'write', bytes: bytes.partials },
    },
    parameters: SIGHT,
    constants: FORMS,
    elements: ['f32'],
    variants: [
      {
        name: 'tiled',
        files: [...READING, 'attention-chunks-tiled.wgsl'],
        tuning: { WORKGROUP: 256 },
        fits: areMany,
        worksWith: ({ WORKGROUP }) => WORKGROUP === 256,
        workgroups: (p) => [chunksOf(p), tilesOf(p, TILE_QUADS)],
      },
      {
        name: 'quad',
        files: [...READING, 'attention-chunks-quad.wgsl'],
        tuning: { WORKGROUP: 256 },
        worksWith: ({ WORKGROUP }) => WORKGROUP === 256,
        workgroups: (p) => [chunksOf(p), quadsOf(p)],
      },
    ],
  }),

  attentionMerge: define({
    about:
      'merges partial results, `apart` floats from one to the next, by their log-sum-exps; where `biased`, adds a bias to the log-sum-exp of each row',
    bindings: {
      partials: { access: 'read', bytes: (p, _, { DIM }) => (p.parts - 1) * p.apart * 4 + partialBytes(p.rows, DIM) },
      bias: { access: 'read', bytes: (p) => p.rows * 4 },
      merged: { access: 'write', bytes: (p, _, { DIM }) => partialBytes(p.rows, DIM) },
    },
    parameters: { parts: 'u32', apart: 'u32', rows: 'u32', biased: 'u32' },
    constants: { DIM: 128 },
    elements: ['f32'],
    variants: [
      {
        name: 'lane',
        files: ['flat.wgsl', 'attention-merge.wgsl'],
        tuning: { WORKGROUP: 32 },
        workgroups: (p, { WORKGROUP, DIM }) => parts((p.rows * DIM) / 8, WORKGROUP),
      },
    ],
  }),
};
