// Where the vectors of a store's body lie, and where its pieces are to be cut, so that of each layer and head a piece holds
// whole blocks (the last of a sequence may be shorter). Numbers only.
import { BLOCK_TOKENS } from '../../codec/pages.ts';
import type { KvShape, KvStoreBody } from '../../contract/kv.ts';
import { DTYPES, type Layout } from '../../contract/tensors.ts';
import { PIECE_BYTES } from '../../gpu/pieces.ts';

/** Vectors of one block, layer and head, next to each other in a piece and in the block's page. */
export interface Group {
  readonly layer: number;
  readonly head: number;
  /** Counted from the first block that the body holds. */
  readonly block: number;
  readonly vectors: number;
  /** Where it begins in the piece, in vectors. */
  readonly at: number;
}

/** What a piece that begins at an offset of the body holds; undefined where that is neither K nor V. */
export interface Rows {
  readonly part: 'k' | 'v';
  /** The first vector, of all of K or V in the body's order: layer, head, token. */
  readonly first: number;
}

export const vectorBytes = ({ dtype, shape }: Pick<KvStoreBody, 'dtype' | 'shape'>): number =>
  (shape.dim * DTYPES[dtype]) / 8;

/** The next offset after `offset` at which a piece has to end. */
export function nextCut(layout: Layout, body: KvStoreBody, offset: number): number {
  const rows = rowsAt(layout, body, offset);
  if (!rows) return nextTensor(layout, offset);
  const bytes = vectorBytes(body);
  const all = vectorsIn(body);
  const fitting = rows.first + Math.floor(PIECE_BYTES / bytes);
  if (fitting >= all) return offset + (all - rows.first) * bytes;
  const spare = (fitting % body.heldCount) % BLOCK_TOKENS;
  return offset + (fitting - spare - rows.first) * bytes;
}

export function rowsAt({ headerBytes }: Layout, body: KvStoreBody, offset: number): Rows | undefined {
  for (const part of ['k', 'v'] as const) {
    const { begin, end } = body[part];
    const inside = offset - headerBytes - begin;
    if (inside >= 0 && offset - headerBytes < end) return { part, first: inside / vectorBytes(body) };
  }
  return undefined;
}

function nextTensor({ headerBytes, tensors, totalBytes }: Layout, offset: number): number {
  const begins = tensors.map(({ begin }) => headerBytes + begin).filter((begin) => begin > offset);
  return Math.min(totalBytes, ...begins);
}

const vectorsIn = ({ shape, heldCount }: { shape: KvShape; heldCount: number }): number =>
  shape.layers * shape.kvHeads * heldCount;

/** The groups in `count` vectors from `first` on. */
export function* groupsOf(
  { shape, heldCount }: Pick<KvStoreBody, 'shape' | 'heldCount'>,
  first: number,
  count: number,
): Generator<Group, void, void> {
  for (let at = 0; at < count; ) {
    const index = first + at;
    const token = index % heldCount;
    const row = Math.floor(index / heldCount);
    const vectors = Math.min(BLOCK_TOKENS, heldCount - token, count - at);
    yield {
      layer: Math.floor(row / shape.kvHeads),
      head: row % shape.kvHeads,
      block: Math.floor(token / BLOCK_TOKENS),
      vectors,
      at,
    };
    at += vectors;
  }
}
