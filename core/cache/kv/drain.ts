// Held KV on its way out as a safetensors file: its header, then K and V, decoded by the adapters that hold them straight into
// pieces, a few ahead of the reader; K with its rotary embedding where that is asked for. What lies on several adapters meets in
// the piece. Each page is compared with its seal beside the first run that decodes it: what is damaged before anything went out
// is an answer of its own, later it cuts the body.

import { decoding, type MeanRows, type Positions, type Records } from '../../codec/coding.ts';
import type { Means } from '../../codec/means.ts';
import { BLOCK_TOKENS, type Part, recordsAt } from '../../codec/pages.ts';
import type { KvDtype, KvShape, Rope } from '../../contract/kv.ts';
import { DTYPES } from '../../contract/tensors.ts';
import type { GpuLease } from '../../gpu/gpu-lease.ts';
import { PIECE_BYTES, type Pieces, privatePiece } from '../../gpu/pieces.ts';
import { together } from '../../gpu/together.ts';
import type { Drained } from '../drain.ts';
import type { Held } from './held.ts';
import { groupsOf } from './rows.ts';

const AHEAD = 3;
/** Of one run: each is a dispatch, and some are beside them. */
const GROUPS_MAX = 1000;

export interface KvDrainOptions {
  readonly pieces: Pieces;
  readonly header: Uint8Array;
  readonly shape: KvShape;
  /** What K is given on its way. */
  readonly rope: Rope | undefined;
  /** Of the blocks, in order. */
  readonly pages: readonly Held[];
  /** The last block's may be fewer. */
  readonly tokens: number;
  readonly dtype: KvDtype;
  /** Throws where pages of these layers are not what was stored. */
  readonly verify: (layers: { readonly first: number; readonly last: number }) => Promise<void>;
  readonly signal: AbortSignal;
}

/** Vectors of K or V that go into one piece. */
interface Slice {
  readonly part: Part;
  readonly first: number;
  readonly count: number;
}

export async function* drainKv(options: KvDrainOptions): AsyncGenerator<Drained, void, void> {
  const slices = slicesOf(options);
  const verified = inOrder(options.verify);
  const ahead: Promise<Drained>[] = [];
  const fillAhead = (): void => {
    while (ahead.length < (options.pieces.waiting > 0 ? 1 : AHEAD)) {
      const { value: slice } = slices.next();
      if (!slice) return;
      const filled = fill(slice, verified, options);
      filled.catch(() => {}); // told to the reader when it comes to it
      ahead.push(filled);
    }
  };
  try {
    fillAhead();
    await ahead[0]; // what fails up to here is still an answer of its own
    yield { piece: privatePiece(options.header), length: options.header.length };
    for (let first = ahead.shift(); first; first = ahead.shift()) {
      fillAhead();
      yield await first;
    }
  } finally {
    for (const unread of ahead) await unread.then(({ piece }) => piece.release()).catch(() => {});
  }
}

function* slicesOf({ shape, rope, tokens, dtype }: KvDrainOptions): Generator<Slice, void, void> {
  const all = shape.layers * shape.kvHeads * tokens;
  const groupsInRow = Math.ceil(tokens / BLOCK_TOKENS);
  const fitting = Math.floor(PIECE_BYTES / ((shape.dim * DTYPES[dtype]) / 8));
  const most = Math.min(fitting, groupsInRow > GROUPS_MAX ? fitting : Math.floor(GROUPS_MAX / groupsInRow) * tokens);
  for (const part of ['k', 'v'] as const)
    for (let first = 0; first < all; ) {
      // of long heads a slice has one only: it needs the angles of its own tokens, not of all
      const headEnd = rope && tokens > most ? first - (first % tokens) + tokens : all;
      const end = Math.min(headEnd, first + most);
      const count = end - first - (end < all ? (end % tokens) % BLOCK_TOKENS : 0);
      yield { part, first, count };
      first += count;
    }
}

async function fill(slice: Slice, verified: Verified, options: KvDrainOptions): Promise<Drained> {
  const { shape, dtype, signal } = options;
  const bytes = (slice.count * shape.dim * DTYPES[dtype]) / 8;
  const piece = await options.pieces.take(signal);
  try {
    const positions = options.rope && slice.part === 'k' ? positionsIn(options.rope, slice, options.tokens) : undefined;
    const perLayer = shape.kvHeads * options.tokens;
    const whole = verified(Math.floor((slice.first + slice.count - 1) / perLayer));
    const decoded = holdersOf(slice, options).map(async ({ lease, means, records }) => {
      const rows = means && meanRows(means, slice, options);
      const work = decoding({ dim: shape.dim, vectors: slice.count, dtype, piece, records, means: rows, positions });
      await lease.run(work, { signal });
    });
    await together([whole, ...decoded]);
    return { piece, length: bytes };
  } catch (error) {
    piece.release();
    throw error;
  }
}

/** Resolves once all layers up to this one are found whole. */
type Verified = (last: number) => Promise<void>;

/** Each layer once: K comes layer by layer, and V after it in the same pages. */
function inOrder(verify: KvDrainOptions['verify']): Verified {
  let next = 0;
  let before = Promise.resolve();
  return (last) => {
    if (last >= next) {
      const own = verify({ first: next, last });
      before = together([before, own]).then(() => {});
      before.catch(() => {}); // told to whoever waits for it
      next = last + 1;
    }
    return before;
  };
}

interface Holder {
  readonly lease: GpuLease;
  readonly means: Means | undefined;
  readonly records: Records[];
}

/** The records of a slice, by who decodes them in one run. */
function holdersOf({ part, first, count }: Slice, { shape, pages, tokens }: KvDrainOptions): Holder[] {
  const holders: Holder[] = [];
  for (const { layer, head, block, vectors, at } of groupsOf({ shape, heldCount: tokens }, first, count)) {
    const held = pages[block];
    if (!held) throw new Error(`block ${block} is to be read, and is not held`);
    const means = part === 'k' ? held.means : undefined;
    let holder = holders.find(({ lease, ...other }) => lease.adapter === held.lease.adapter && other.means === means);
    if (!holder) {
      holder = { lease: held.lease, means, records: [] };
      holders.push(holder);
    }
    const word = recordsAt(shape, held.form, part, head);
    holder.records.push({ page: held.lease.range(layer), word, codec: held.form[part], vectors, at });
  }
  return holders;
}

/** Where a slice's vectors are in the sequence: of one head from a block on, or from some token of all heads'. */
function positionsIn(rope: Rope, { first, count }: Slice, tokens: number): Positions {
  const begun = first % tokens;
  if (begun + count > tokens) return { rope, each: tokens, begun, position: 0 };
  return { rope, each: count, begun: 0, position: begun };
}

function meanRows({ values }: Means, { first, count }: Slice, { shape, tokens }: KvDrainOptions): MeanRows {
  const from = Math.floor(first / tokens) * shape.dim;
  const to = Math.ceil((first + count) / tokens) * shape.dim;
  return { values: values.subarray(from, to), each: tokens, begun: first % tokens };
}
