// The seals of held pages: a checksum of each, made on its adapter as soon as its bytes are final and compared before they
// are believed. In a record of a fixed rate every pattern of bits is a vector, so that nothing else tells a damaged one. A
// block with a damaged page is forgotten, with all that follows it, and whoever asked is told to store it again; unless it has
// a package in memory, which it comes back from when it is asked for again.
// Not here: when a page is to be looked at again; damage while bytes are in the shaders of another run.
import { SEAL_WORDS } from '../../codec/checksum.ts';
import { sealing } from '../../codec/seals.ts';
import { type Problem, problem } from '../../contract/problems.ts';
import type { GpuLease } from '../../gpu/gpu-lease.ts';
import { together } from '../../gpu/together.ts';
import type { Held, HeldPages, KvBlock } from './held.ts';

/** Of a block's pages, one a layer. */
export interface Seals {
  /** Four a page. */
  readonly words: Uint32Array;
  /** When each page was last found whole, in milliseconds of the process; it is written anew. */
  readonly seenMs: Float64Array;
}

/** A page of a block. */
interface Leaf {
  readonly lease: GpuLease;
  readonly layer: number;
}

/** The seals of all pages of these leases. */
export async function sealPages(leases: readonly GpuLease[], signal: AbortSignal): Promise<Seals[]> {
  const found = leases.map(({ pages }) => ({
    words: new Uint32Array(pages * SEAL_WORDS),
    seenMs: new Float64Array(pages).fill(performance.now()),
  }));
  const leaves = leases.flatMap((lease, index) => layersOf(lease).map((layer) => ({ lease, layer, index })));
  await eachSeal(leaves, signal, ({ layer, index }, seal) => found[index]?.words.set(seal, layer * SEAL_WORDS));
  return found;
}

/** Which pages are looked at: those of some layers, or only of what was not for so long. */
export interface Looked {
  readonly layers?: { readonly first: number; readonly last: number } | undefined;
  readonly staleMs?: number | undefined;
}

/** Which of these, by their place, have a damaged page; of all layers unless some are named. */
export async function damagedAmong(
  all: readonly Held[],
  { layers, staleMs = 0 }: Looked,
  signal: AbortSignal,
): Promise<ReadonlyMap<number, number>> {
  const now = performance.now();
  const leaves = all.flatMap(({ lease, seals }, index) =>
    layersOf(lease)
      .filter((layer) => !layers || (layer >= layers.first && layer <= layers.last))
      .filter((layer) => now - (seals.seenMs[layer] ?? 0) >= staleMs)
      .map((layer) => ({ lease, layer, index, seals })),
  );
  const damaged = new Map<number, number>();
  await eachSeal(leaves, signal, ({ lease, layer, index, seals }, seal) => {
    const isWhole = seal.every((word, i) => word === seals.words[layer * SEAL_WORDS + i]);
    if (isWhole) seals.seenMs[layer] = now;
    else if (lease.lost) throw problem('adapter_lost', `${lease.adapter} was lost while its pages were read.`);
    else if (!damaged.has(index)) damaged.set(index, layer);
  });
  return damaged;
}

/** Throws `kv_damaged` where one of them is not what was stored; see `forget`. */
export async function verifyPages(
  held: HeldPages,
  blocks: readonly KvBlock[],
  pages: readonly Held[],
  looked: Looked,
  signal: AbortSignal,
): Promise<void> {
  const damaged = await damagedAmong(pages, looked, signal);
  const [first] = [...damaged.keys()].sort((a, b) => a - b);
  if (first === undefined) return;
  for (const index of damaged.keys()) forget(held, blocks[index], pages[index]);
  throw damagedProblem(blocks[first], damaged.get(first) ?? 0);
}

/** So many blocks are gone: it and what follows it. None where it has other pages by now, or a package: then only its pages go. */
export function forget(held: HeldPages, block: KvBlock | undefined, pages: Held | undefined): number {
  if (!block || block.removed || block.kept.hot !== pages) return 0;
  return held.damaged(block);
}

export function damagedProblem(block: KvBlock | undefined, layer: number | undefined): Problem {
  const matchedTokens = block ? block.index * block.tokens.length : 0;
  const cure =
    block && !block.removed
      ? 'There is another copy of it: send the request again.'
      : `It is forgotten, with what followed it; store the tokens from ${matchedTokens} on again.`;
  return problem(
    'kv_damaged',
    `Block ${block?.hash} is damaged${layer === undefined ? '' : ` in layer ${layer}`}: its checksum is not the one it was stored with. ${cure}`,
    { matchedTokens },
  );
}

const layersOf = ({ pages }: GpuLease): number[] => Array.from({ length: pages }, (_, layer) => layer);

/** The seals of pages as they are now, by adapter, a run after the other. */
async function eachSeal<L extends Leaf>(
  leaves: readonly L[],
  signal: AbortSignal,
  take: (leaf: L, seal: Uint32Array) => void,
): Promise<void> {
  const places = Map.groupBy(leaves, ({ lease }) => lease.adapter);
  await together(
    [...places.values()].map(async (own) => {
      let at = 0;
      for (const { work, seals, pages } of sealing(own.map(({ lease, layer }) => lease.range(layer)))) {
        await own[at]?.lease.run(work, { signal });
        for (let i = 0; i < pages; i++) {
          const leaf = own[at + i];
          if (leaf) take(leaf, seals.subarray(i * SEAL_WORDS, (i + 1) * SEAL_WORDS));
        }
        at += pages;
      }
    }),
  );
}
