// Blocks back from the cold shelf to an adapter, as soon as somebody reads them: packages up through a piece, decoded there,
// and compared with the seals that their pages had. Each block comes back once however many wait for it.
// What a return costs is measured; a block whose return would take longer than computing its tokens anew is not brought back
// (but for one now and then, to measure again), and whoever asked finds a shorter beginning.
import { SEAL_WORDS } from '../../codec/checksum.ts';
import { isWhole, unpack } from '../../codec/packing.ts';
import { BLOCK_TOKENS, type Form, pageBytes } from '../../codec/pages.ts';
import { Problem } from '../../contract/problems.ts';
import type { GpuLease } from '../../gpu/gpu-lease.ts';
import type { Pieces } from '../../gpu/pieces.ts';
import { type Demotion, partsOf } from './demotion.ts';
import type { Held, HeldPages, Kept, KvBlock } from './held.ts';
import type { Package, Packings } from './packages.ts';
import { damagedProblem, sealPages } from './seals.ts';

/** Of one batch; one block at least. */
const BATCH_BYTES = 8 << 20;
const BATCH_BLOCKS = 32;
/** A new measurement weighs so much; one that is far above the rest counts as so many times those. */
const WEIGHT = 0.25;
const OUTLIER = 4;
/** Of so many blocks that are not worth it, one is brought back. */
const TRIAL = 16;
/** So often packages are made for those that would have to be forgotten for it. */
const AHEAD_TRIES = 3;

export interface ReturnsOptions {
  readonly held: HeldPages;
  readonly demotion: Pick<Demotion, 'ahead'>;
  readonly pieces: Pieces;
  /** What callers are thought to compute. */
  readonly recomputeTokensPerSecond: number;
}

export interface Reading {
  /** How many of the blocks, from the first on, are there to be read. */
  readonly count: number;
  readonly pages: readonly Held[];
  readonly release: () => void;
}

export interface Returns {
  /** Brings back what is cold, and holds what is then there; it stays until `release`. */
  read(blocks: readonly KvBlock[], signal: AbortSignal): Promise<Reading>;
  /** Brings back what is cold, worth it or not, as far as there is room. */
  fetch(blocks: readonly KvBlock[], signal: AbortSignal): Promise<void>;
  stats(): { returned: number; declined: number; ms: number; nsPerByte: number };
  close(): Promise<void>;
}

type Wanted = (cold: Package) => boolean;

interface Leased {
  readonly block: KvBlock;
  readonly from: Package;
  readonly lease: GpuLease;
}

export function createReturns({ held, demotion, pieces, recomputeTokensPerSecond }: ReturnsOptions): Returns {
  const closing = new AbortController();
  const underWay = new Map<Kept, Promise<void>>();
  const done = { returned: 0, declined: 0, ms: 0 };
  let batches = 0;
  let msPerByte = 0;
  let turn: Promise<unknown> = Promise.resolve();

  async function read(blocks: readonly KvBlock[], signal: AbortSignal): Promise<Reading> {
    const letGo = held.blocks.hold(blocks);
    try {
      const brought = await bring(blocks, signal, isWorth);
      // while the last ones came back, the first ones may have been cleared, lost or moved to memory
      const left = blocks.slice(0, brought).findIndex(({ removed, kept }) => removed || !kept.hot);
      const count = left < 0 ? brought : left;
      return { count, ...held.read(blocks.slice(0, count)) };
    } finally {
      letGo();
    }
  }

  /** How many of the first are on adapters then. */
  async function bring(blocks: readonly KvBlock[], signal: AbortSignal, wanted: Wanted): Promise<number> {
    for (let at = 0; at < blocks.length; at++) {
      signal.throwIfAborted();
      const block = blocks[at];
      if (!block || block.removed) return at;
      if (block.kept.hot && !block.kept.hot.lease.lost) continue;
      await (underWay.get(block.kept) ?? comeBack(batchFrom(blocks, at, wanted)));
      if (!block.kept.hot) return at;
    }
    return blocks.length;
  }

  /** Cold blocks that follow each other and are wanted. */
  function batchFrom(blocks: readonly KvBlock[], first: number, wanted: Wanted): KvBlock[] {
    const batch: KvBlock[] = [];
    let bytes = 0;
    for (const block of blocks.slice(first, first + BATCH_BLOCKS)) {
      const { hot, cold } = block.kept;
      if (hot || !cold || underWay.has(block.kept)) break;
      bytes += cold.bytes;
      if (batch.length > 0 && bytes > BATCH_BYTES) break;
      if (!wanted(cold)) break;
      batch.push(block);
    }
    return batch;
  }

  function isWorth({ bytes }: Package): boolean {
    if (msPerByte * bytes <= (BLOCK_TOKENS / recomputeTokensPerSecond) * 1000) return true;
    return done.declined++ % TRIAL === TRIAL - 1;
  }

  async function comeBack(batch: readonly KvBlock[]): Promise<void> {
    if (batch.length === 0) return;
    const coming = bringNow(batch).finally(() => {
      for (const { kept } of batch) underWay.delete(kept);
    });
    for (const { kept } of batch) underWay.set(kept, coming);
    await coming;
  }

  /** Where there is no room, blocks stay where they are; and where an adapter is lost on the way, which is told to who asked. */
  async function bringNow(batch: readonly KvBlock[]): Promise<void> {
    const begun = performance.now();
    const open = new Set<Leased>();
    try {
      await inTurn(() => leaseFor(batch, open));
      const leased = [...open];
      for (const some of Map.groupBy(leased, ({ lease }) => lease.adapter).values()) {
        for (const [own, pages] of await unpacked(some)) {
          open.delete(own);
          if (held.returned(own.block, pages)) done.returned++;
        }
      }
      measure(
        performance.now() - begun,
        leased.reduce((sum, { from }) => sum + from.bytes, 0),
      );
    } finally {
      for (const { lease } of open) held.release(lease);
    }
  }

  /** One after the other: what one has made room for, the next does not take. */
  function inTurn<T>(work: () => Promise<T>): Promise<T> {
    const mine = turn.then(work);
    turn = mine.catch(() => {});
    return mine;
  }

  /** Pages for as many of them as there is room for, near those before them. */
  async function leaseFor(batch: readonly KvBlock[], found: Set<Leased>): Promise<void> {
    for (const [tenant, own] of Map.groupBy(batch, ({ kept }) => kept.tenant))
      await demotion.ahead({ tenant, bytes: own.reduce((sum, block) => sum + bytesOf(block), 0) }, closing.signal);
    let near = batch[0]?.parent?.kept.hot?.lease;
    for (const block of batch) {
      const from = block.kept.cold;
      if (!from) break;
      try {
        near = await roomFor(block, from.form, near);
      } catch (error) {
        if (error instanceof Problem && error.code === 'capacity_exhausted') break;
        throw error;
      }
      found.add({ block, from, lease: near });
    }
  }

  /** While packages are made, readers leave blocks that have none: nothing is forgotten for them as long as the shelf has room. */
  async function roomFor(block: KvBlock, form: Form, near: GpuLease | undefined): Promise<GpuLease> {
    const { tenant } = block.kept;
    const wanted = { tenant, shape: block.root.shape, form };
    for (let tries = 0; tries < AHEAD_TRIES; tries++) {
      const lease = held.leaseKeeping(wanted, near);
      if (lease) return lease;
      await demotion.ahead({ tenant, bytes: bytesOf(block) }, closing.signal);
    }
    return held.lease(wanted, near);
  }

  /** On one adapter. Throws `kv_damaged` where one is not what it was; those are forgotten. */
  async function unpacked(some: readonly Leased[]): Promise<Map<Leased, Held>> {
    const { signal } = closing;
    const [first] = some;
    if (!first) return new Map();
    assertWhole(some);
    const piece = await pieces.take(signal);
    try {
      const parts = some.flatMap(({ block, from, lease }) => {
        const packed = from.layers.flatMap(({ k, v }) => [k, v]);
        const places = partsOf(block.root.shape, { lease, form: from.form, packing: from.packing });
        return places.flatMap(({ part }, i) => (packed[i] ? [{ part, packed: packed[i] }] : []));
      });
      await unpack(parts, { piece, run: (work) => first.lease.run(work, { signal }) });
      return await withSeals(some, signal);
    } finally {
      piece.release();
    }
  }

  /** Of what loses something on the way, each part by itself: its pages' seals will be others. */
  function assertWhole(some: readonly Leased[]): void {
    for (const { block, from } of some) {
      if (from.seals || from.layers.every(({ k, v }) => isWhole(k) && isWhole(v))) continue;
      held.damaged(block);
      throw damagedProblem(block, undefined);
    }
  }

  async function withSeals(some: readonly Leased[], signal: AbortSignal): Promise<Map<Leased, Held>> {
    const fresh = await sealPages(
      some.map(({ lease }) => lease),
      signal,
    );
    const found = new Map<Leased, Held>();
    for (const [i, own] of some.entries()) {
      const { from, lease, block } = own;
      const seals = fresh[i];
      if (!seals) throw new Error('pages were given no seals');
      const odd = from.seals ? seals.words.findIndex((word, at) => word !== from.seals?.[at]) : -1;
      if (odd >= 0 && !lease.lost) {
        held.damaged(block);
        throw damagedProblem(block, Math.floor(odd / SEAL_WORDS));
      }
      const { form, wanted, means, packing } = from;
      found.set(own, { lease, form, wanted, means, seals, packing: from.seals ? packing : packedOnce(packing) });
    }
    return found;
  }

  /** The first one compiles its kernels, and says nothing of others. */
  function measure(ms: number, bytes: number): void {
    done.ms += ms;
    if (bytes === 0 || batches++ === 0) return;
    const now = ms / bytes;
    msPerByte = msPerByte === 0 ? now : msPerByte + WEIGHT * (Math.min(now, OUTLIER * msPerByte) - msPerByte);
  }

  return {
    read,
    async fetch(blocks, signal) {
      const letGo = held.blocks.hold(blocks);
      try {
        await bring(blocks, signal, () => true);
      } finally {
        letGo();
      }
    },
    stats: () => ({ ...done, nsPerByte: msPerByte * 1e6 }),
    async close() {
      closing.abort();
      await Promise.allSettled(underWay.values());
    },
  };
}

/** Of the pages that it had, and is to have again. */
const bytesOf = ({ root, kept }: KvBlock): number =>
  kept.cold ? pageBytes(root.shape, kept.cold.form) * root.shape.layers : 0;

/** What has lost something on its way loses nothing more on the next. */
function packedOnce({ k, v }: Packings): Packings {
  return { k: typeof k === 'object' ? 'lossless' : k, v: typeof v === 'object' ? 'lossless' : v };
}
