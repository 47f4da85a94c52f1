// Pages laid out anew for attention, where its kernels cannot take K as it lies: K stored before its rotary embedding is
// decoded, turned out of its codec's rotation, given its mean and embedded, to f32; V's records are copied beside it as they
// are. A group of pages of one form and mean goes into the end of scratch 3 (shaders/attention.ts leaves it free), by way of
// scratch 1 and 2, before the steps of attention in the same run; tables lie in scratch 0 behind what the run brings there.
// Numbers and dispatches only: nothing is sent here.
import { SCRATCH_PAGES_AT } from '../../shaders/attention.ts';
import { SIGNS } from '../../shaders/catalogue.ts';
import { formatOf, recordWords } from '../../shaders/records.ts';
import { angleTable } from '../../shaders/rope.ts';
import type { KvShape, Rope } from '../contract/kv.ts';
import type { Run } from '../gpu/arena.ts';
import { type Move, SCRATCH_BYTES, scratch, type WorkDispatch, type WorkRange } from '../gpu/work.ts';
import { embedding, inArena, rotation, shifted, upload } from './coding.ts';
import type { Means } from './means.ts';
import { aligned, BLOCK_TOKENS, type Form, isRotated, partBytes } from './pages.ts';

/** What all pages of a group have in common. */
export interface Stage {
  readonly shape: KvShape;
  /** As the pages are stored. */
  readonly form: Form;
  readonly rope: Rope;
  /** Of coded K. */
  readonly means: Means | undefined;
  readonly layer: number;
}

export interface StagedPage {
  readonly page: Run;
  /** Its place among those of the group. */
  readonly index: number;
  /** Of its first token in the sequence; a multiple of BLOCK_TOKENS. */
  readonly position: number;
}

/** What goes before the steps of attention in a run. */
export interface Staging {
  readonly uploads: readonly Move[];
  readonly dispatches: readonly WorkDispatch[];
}

/** Pages of a group at most: with four dispatches for each, and as many of attention, a run stays within its bounds. */
const PAGES_MAX = 120;
const [TABLES, FIRST, SECOND, PAGES] = [0, 1, 2, 3] as const;

/** What attention finds. */
export const stagedForm = ({ v }: Form): Form => ({ k: 'f32', v });

const stagedBytes = (shape: KvShape, { v }: Form): number => partBytes(shape, 'f32') + partBytes(shape, v);

/** So many pages are a group at most. */
export const stagedPagesMax = (shape: KvShape, form: Form): number =>
  Math.min(PAGES_MAX, Math.floor((SCRATCH_BYTES - SCRATCH_PAGES_AT) / stagedBytes(shape, form)));

/** Where the page of this index is laid, in scratch 3. */
export const stagedAt = (shape: KvShape, form: Form, index: number): number =>
  SCRATCH_PAGES_AT + index * stagedBytes(shape, form);

/** From pages in the arena to pages in scratch 3; scratch 0 is free from `free` on. */
export function staging(stage: Stage, pages: readonly StagedPage[], free: number): Staging {
  const { shape, form, rope, layer } = stage;
  const { kvHeads, dim } = shape;
  const angles = upload(
    angleTable(
      rope,
      pages.map(({ position }) => position),
    ),
    scratch(TABLES),
    aligned(free),
  );
  const isCoded = isRotated(form.k);
  const own = isCoded ? stage.means?.values.subarray(layer * kvHeads * dim, (layer + 1) * kvHeads * dim) : undefined;
  const rows = own && upload(own, scratch(TABLES), aligned(angles.range.offset + angles.range.size));
  const bytes = partBytes(shape, 'f32');
  const at = (buffer: number, place: number): WorkRange => ({
    ...{ at: scratch(buffer), offset: place * bytes, size: bytes },
  });
  const all = (buffer: number): WorkRange => ({ ...at(buffer, 0), size: pages.length * bytes });
  const plain = isCoded ? SECOND : FIRST;
  return {
    uploads: rows ? [angles, rows] : [angles],
    dispatches: [
      ...pages.map(({ page }, place) => decodingKeys(stage, page, at(FIRST, place))),
      ...(isCoded ? [rotation(SIGNS.inverse, dim, all(FIRST), all(SECOND))] : []),
      ...pages.flatMap(({ page, index }, place) => {
        const keys = { at: scratch(PAGES), offset: stagedAt(shape, form, index), size: bytes };
        const heads = { rope, dim, each: BLOCK_TOKENS, begun: 0, block: place };
        const meant = rows && at(FIRST, place);
        return [
          ...(meant
            ? [shifted({ each: BLOCK_TOKENS, begun: 0, dim, factor: 1 }, at(plain, place), rows.range, meant)]
            : []),
          embedding(heads, meant ?? at(plain, place), angles.range, keys),
          copyingValues(stage, page, { ...keys, offset: keys.offset + bytes }),
        ];
      }),
    ],
  };
}

function decodingKeys({ shape, form }: Stage, page: Run, target: WorkRange): WorkDispatch {
  const { kvHeads, dim } = shape;
  const vectors = kvHeads * BLOCK_TOKENS;
  return {
    kernel: 'decode',
    constants: { CODEC: formatOf(form.k).number, DIM: dim },
    parameters: {
      ...{ vectors, run: vectors, source_jump: 0, target_jump: 0 },
      ...{ source_first: 0, source_step: recordWords(form.k, dim), target_first: 0, target_step: dim },
    },
    bindings: { source: inArena(page), target },
  };
}

/** Attention reads them as they are. */
function copyingValues({ shape, form }: Stage, page: Run, place: WorkRange): WorkDispatch {
  const size = partBytes(shape, form.v);
  const source = { ...inArena(page), offset: page.byteOffset + partBytes(shape, form.k), size };
  return {
    kernel: 'copy',
    parameters: { words: size / 4 },
    bindings: { source, target: { ...place, size } },
  };
}
