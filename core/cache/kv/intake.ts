// One store on its way in: each piece of its body straight into pages, as records. Pages are leased block by block as vectors
// come, so that nothing is ever larger than the pieces and what is kept. Tokens that come before K and V say which blocks are
// held already, and those cost nothing; where tokens come later, all blocks are coded, and what was held is given back.
// Where room ends, the blocks before are kept: a shorter beginning is still one.

import { encoding, type Records } from '../../codec/coding.ts';
import { parseGraded } from '../../codec/grades.ts';
import { createMeans, type Means, setMean } from '../../codec/means.ts';
import { BLOCK_TOKENS, type Form, isRotated, pageBytes, recordsAt, windowFor } from '../../codec/pages.ts';
import type { KvStoreBody, RopeAsked } from '../../contract/kv.ts';
import { readRope, readStoreBody } from '../../contract/kv.ts';
import { Problem, problem } from '../../contract/problems.ts';
import type { Layout } from '../../contract/tensors.ts';
import type { GpuLease } from '../../gpu/gpu-lease.ts';
import type { Piece } from '../../gpu/pieces.ts';
import { together } from '../../gpu/together.ts';
import { type Match, type Root, rootOf } from './blocks.ts';
import type { Held, HeldPages, Kept } from './held.ts';
import { type Group, groupsOf, nextCut, rowsAt, vectorBytes } from './rows.ts';
import { sealPages } from './seals.ts';

/** Blocks at both ends of a sequence that stay as they came. */
export interface Window {
  readonly firstBlocks: number;
  readonly lastBlocks: number;
}

export interface IntakeOptions {
  readonly held: HeldPages;
  readonly tenant: string;
  readonly scope: string;
  readonly model: string;
  readonly codecK: string;
  readonly codecV: string;
  readonly rope: RopeAsked | undefined;
  readonly window: Window;
  readonly signal: AbortSignal;
}

export interface Intake {
  readonly body: KvStoreBody;
  readonly root: Root;
  readonly grades: Kept['grades'];
  /** All of the sequence's; whole once the body is. */
  readonly tokens: Int32Array;
  /** Blocks of the sequence before those that the body holds. */
  readonly blocksBefore: number;
  cut(offset: number): number;
  take(piece: Piece, length: number, offset: number): Promise<void>;
  /** All of the body is in: what was coded is given its seals, and is to be had. */
  seal(): Promise<void>;
  /** The pages that were coded for a block; theirs who ask, once. */
  pagesOf(block: number): Held | undefined;
  /** Blocks from here on found no room, and why; undefined where all did. */
  readonly cutShort: { readonly block: number; readonly fault: Problem } | undefined;
  /** Gives back what nobody asked for. */
  drop(): void;
}

/** Pages that are still being written have no seals yet. */
type Made = Omit<Held, 'seals'>;

export function openIntake(layout: Layout, options: IntakeOptions): Intake {
  const { held } = options;
  const body = readStoreBody(layout);
  const { shape, dtype, heldCount, tokenCount } = body;
  const before = tokenCount - heldCount;
  if (before % BLOCK_TOKENS !== 0)
    throw problem(
      'kv_malformed',
      `k begins at token ${before}; it must begin with a block, at a multiple of ${BLOCK_TOKENS}.`,
    );
  const blocksBefore = before / BLOCK_TOKENS;
  const blockCount = Math.floor(tokenCount / BLOCK_TOKENS);
  const graded = { k: parseGraded(options.codecK, 'k', dtype), v: parseGraded(options.codecV, 'v', dtype) };
  const wanted: Form = { k: graded.k.record, v: graded.v.record };
  const packing = { k: graded.k.packing, v: graded.v.packing };
  for (const form of [wanted, windowForm(wanted, body)]) pageBytes(shape, form); // throws where pages were too large
  const rope = options.rope && readRope(options.rope, shape);
  const root = rootOf(options.scope, options.model, shape, BLOCK_TOKENS, rope);
  const tokens = new Int32Array(tokenCount);
  const tokenBytes = new Uint8Array(tokens.buffer);
  const made = new Map<number, Made>();
  const whole = new Map<number, Held>();
  let tokensLeft = tokens.byteLength;
  let known: Match<Kept> | undefined;
  let release = () => {};
  /** Of this chain, once one is known; else those of the body's own first block. */
  let means: Means | undefined = blocksBefore === 0 && blockCount > 0 ? createMeans(shape) : undefined;
  let cutShort: Intake['cutShort'];
  /** What the first block of the chain tells may have to come from disk. */
  let recognizing: Promise<void> | undefined;

  function takeTokens({ bytes }: Piece, length: number, offset: number): void {
    const begin = offset - layout.headerBytes - body.tokens.begin;
    if (begin < 0 || begin >= tokenBytes.length) return;
    tokenBytes.set(bytes.subarray(0, length), begin);
    tokensLeft -= length;
    if (tokensLeft === 0) recognizing = recognize();
  }

  async function recognize(): Promise<void> {
    if (made.size > 0) return; // K or V came first: who else holds a block may lose it yet, and half of ours would be missing
    known = held.blocks.match(root, tokens.subarray(0, blockCount * BLOCK_TOKENS));
    if (known.blocks.length < blocksBefore)
      throw problem(
        'kv_unknown',
        `k begins at token ${before}, and of the tokens before it ${known.tokens} are held. Store those first.`,
        { matchedTokens: known.tokens },
      );
    release = held.blocks.hold(known.blocks);
    const [first] = known.blocks;
    if (!first) return;
    const read = first.kept.hot ?? first.kept.cold ?? (await held.disk.read(first));
    if (read) {
      means = read.means;
      return;
    }
    release(); // it could not be read, and is forgotten with what followed it: as if it had never been held
    release = () => {};
    await recognize();
  }

  /** Where a block is to be written; undefined where it is not. */
  function pagesFor(block: number): Made | undefined {
    if (block < (known?.blocks.length ?? 0) || (cutShort && block >= cutShort.block)) return undefined;
    const there = made.get(block);
    if (there) return there;
    const form = isExactYet(block) ? windowForm(wanted, body) : wanted;
    try {
      const lease = held.lease({ tenant: options.tenant, shape, form }, nearTo(block));
      const fresh: Made = { lease, form, wanted, means, packing };
      made.set(block, fresh);
      return fresh;
    } catch (error) {
      if (!(error instanceof Problem) || error.code !== 'capacity_exhausted') throw error;
      cutShort = { block, fault: error };
      return undefined;
    }
  }

  const isExactYet = (block: number): boolean =>
    block < options.window.firstBlocks || block >= blockCount - options.window.lastBlocks;
  const nearTo = (block: number): GpuLease | undefined =>
    (made.get(block - 1) ?? known?.blocks[block - 1]?.kept.hot)?.lease;

  function takeMeans(groups: readonly Group[], bytes: Uint8Array, rowBytes: number): void {
    if (!means || blocksBefore + (known?.blocks.length ?? 0) > 0) return;
    for (const { block, layer, head, at, vectors } of groups) {
      const row = layer * shape.kvHeads + head;
      if (block === 0) setMean(means, row, shape.dim, bytes.subarray(at * rowBytes, (at + vectors) * rowBytes), dtype);
    }
  }

  async function take(piece: Piece, length: number, offset: number): Promise<void> {
    const rows = rowsAt(layout, body, offset);
    if (!rows) takeTokens(piece, length, offset);
    if (recognizing) await recognizing;
    if (!rows) return;
    if (blocksBefore > 0 && !known)
      throw problem('kv_malformed', 'Of a sequence whose beginning is held, the tokens must come before k and v.');
    const rowBytes = vectorBytes(body);
    const vectors = length / rowBytes;
    const groups = [...groupsOf(body, rows.first, vectors)];
    if (rows.part === 'k') takeMeans(groups, piece.bytes, rowBytes);
    const places = new Map<string, { lease: GpuLease; records: Records[] }>();
    for (const group of groups) {
      const pages = group.vectors === BLOCK_TOKENS ? pagesFor(blocksBefore + group.block) : undefined;
      if (!pages) continue;
      const { lease, form } = pages;
      const place = places.get(lease.adapter) ?? { lease, records: [] };
      places.set(lease.adapter, place);
      place.records.push({
        page: lease.range(group.layer),
        word: recordsAt(shape, form, rows.part, group.head),
        codec: form[rows.part],
        vectors: group.vectors,
        at: group.at,
      });
    }
    const first = Math.floor(rows.first / heldCount);
    const rowsOfMeans = rows.part === 'k' &&
      means && {
        values: means.values.subarray(first * shape.dim, Math.ceil((rows.first + vectors) / heldCount) * shape.dim),
        each: heldCount,
        begun: rows.first % heldCount,
      };
    await together(
      [...places.values()].map(({ lease, records }) =>
        lease.run(encoding({ dim: shape.dim, vectors, dtype, piece, records, means: rowsOfMeans || undefined }), {
          signal: options.signal,
        }),
      ),
    );
  }

  return {
    body,
    root,
    grades: { k: graded.k.grade, v: graded.v.grade },
    tokens,
    blocksBefore,
    cut: (offset) => nextCut(layout, body, offset),
    take,
    async seal() {
      const all = [...made];
      const seals = await sealPages(
        all.map(([, { lease }]) => lease),
        options.signal,
      );
      for (const [i, [block, pages]] of all.entries()) {
        const own = seals[i];
        if (own) whole.set(block, { ...pages, seals: own });
      }
    },
    pagesOf(block) {
      const found = whole.get(block);
      if (found) made.delete(block);
      whole.delete(block);
      return found;
    },
    get cutShort() {
      return cutShort;
    },
    drop() {
      release();
      for (const { lease } of made.values()) held.release(lease);
      made.clear();
    },
  };
}

/** What a form is before its time: 16 bits where it is to lose something, else what it is. */
function windowForm({ k, v }: Form, { dtype }: KvStoreBody): Form {
  const exact = windowFor(dtype);
  return { k: isRotated(k) ? exact : k, v: isRotated(v) ? exact : v };
}
