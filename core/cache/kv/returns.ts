// Blocks back from memory or disk to an adapter, as soon as somebody reads them: packages up through a piece, decoded there,
// and compared with the seals that their pages had. Each block comes back once however many wait for it. One whose record on disk
// cannot be read is forgotten with what follows it, and whoever asked finds a shorter beginning.
// What a return costs is measured, from memory and from disk; a block whose return would take longer than computing its tokens anew is not brought back
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
/** Batches from disk that are in memory at once, read and not yet on their adapter. */
const LANES = 4;
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
  /** Brings back what is cold, worth it or not, as far as there is room; `spare` is room that nobody has to leave. */
  fetch(blocks: readonly KvBlock[], signal: AbortSignal, room?: RoomFor): Promise<void>;
  /** Out of memory and off the disk. */
  stats(): Readonly<Record<Source, ReturnStats>>;
  close(): Promise<void>;
}

export interface ReturnStats {
  readonly returned: number;
  readonly declined: number;
  readonly ms: number;
  readonly nsPerByte: number;
}

/** Of a block without pages: where it comes back from, and how much that is. */
type Source = 'memory' | 'disk';
interface Coming {
  readonly source: Source;
  readonly bytes: number;
}
type Wanted = (coming: Coming) => boolean;
type RoomFor = 'made' | 'spare';
/** On its way; where it was only to take spare room, it may not have come. */
interface Flight {
  readonly done: Promise<void>;
  readonly room: RoomFor;
}

function comingOf({ cold, disk }: Kept): Coming | undefined {
  if (cold) return { source: 'memory', bytes: cold.bytes };
  return disk && { source: 'disk', bytes: disk.bytes };
}

interface Leased {
  readonly block: KvBlock;
  readonly source: Source;
  readonly from: Package;
  readonly lease: GpuLease;
}

export function createReturns({ held, demotion, pieces, recomputeTokensPerSecond }: ReturnsOptions): Returns {
  const closing = new AbortController();
  const underWay = new Map<Kept, Flight>();
  const meters = { memory: createMeter(), disk: createMeter() };
  let turn: Promise<unknown> = Promise.resolve();
  const lanes: Promise<unknown>[] = Array.from({ length: LANES }, () => Promise.resolve());
  let lane = 0;

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
  async function bring(
    blocks: readonly KvBlock[],
    signal: AbortSignal,
    wanted: Wanted,
    room: RoomFor = 'made',
  ): Promise<number> {
    for (let at = 0; at < blocks.length; at++) {
      signal.throwIfAborted();
      const block = blocks[at];
      if (!block || block.removed) return at;
      if (block.kept.hot && !block.kept.hot.lease.lost) continue;
      const other = underWay.get(block.kept);
      await (other?.done ?? comeBack(batchFrom(blocks, at, wanted), room));
      if (other?.room === 'spare' && room === 'made' && !block.removed && !block.kept.hot)
        await comeBack(batchFrom(blocks, at, wanted), room);
      if (!block.kept.hot) return at;
    }
    return blocks.length;
  }

  /** Cold blocks that follow each other and are wanted. */
  function batchFrom(blocks: readonly KvBlock[], first: number, wanted: Wanted): KvBlock[] {
    const batch: KvBlock[] = [];
    let bytes = 0;
    let source: Source | undefined;
    for (const block of blocks.slice(first, first + BATCH_BLOCKS)) {
      const coming = block.kept.hot || underWay.has(block.kept) ? undefined : comingOf(block.kept);
      source ??= coming?.source;
      if (!coming || coming.source !== source) break;
      bytes += coming.bytes;
      if (batch.length > 0 && bytes > BATCH_BYTES) break;
      if (!wanted(coming)) break;
      batch.push(block);
    }
    return batch;
  }

  const isWorth = ({ source, bytes }: Coming): boolean =>
    meters[source].isWorth(bytes, (BLOCK_TOKENS / recomputeTokensPerSecond) * 1000);

  async function comeBack(batch: readonly KvBlock[], room: RoomFor): Promise<void> {
    if (batch.length === 0) return;
    const isOnDisk = batch.some(({ kept }) => !kept.cold);
    const done = (isOnDisk ? inLane(() => bringNow(batch, room)) : bringNow(batch, room)).finally(() => {
      for (const { kept } of batch) underWay.delete(kept);
    });
    for (const { kept } of batch) underWay.set(kept, { done, room });
    await done;
  }

  /** Where there is no room, blocks stay where they are; and where an adapter is lost on the way, which is told to who asked. */
  async function bringNow(batch: readonly KvBlock[], room: RoomFor): Promise<void> {
    const begun = performance.now();
    const open = new Set<Leased>();
    const source = (batch[0] && comingOf(batch[0].kept)?.source) ?? 'memory';
    const { done, measure } = meters[source];
    const packages = await packagesOf(batch);
    try {
      await inTurn(() => leaseFor(batch, packages, source, room, open));
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

  function inLane<T>(work: () => Promise<T>): Promise<T> {
    lane = (lane + 1) % LANES;
    const mine = (lanes[lane] ?? Promise.resolve()).then(work);
    lanes[lane] = mine.catch(() => {});
    return mine;
  }

  /** Of the first of them, up to one that cannot be read. */
  async function packagesOf(batch: readonly KvBlock[]): Promise<Package[]> {
    const found = await Promise.all(batch.map(async (block) => block.kept.cold ?? (await held.disk.read(block))));
    const missing = found.indexOf(undefined);
    return found.slice(0, missing < 0 ? found.length : missing).flatMap((own) => own ?? []);
  }

  /** One after the other: what one has made room for, the next does not take. */
  function inTurn<T>(work: () => Promise<T>): Promise<T> {
    const mine = turn.then(work);
    turn = mine.catch(() => {});
    return mine;
  }

  /** Pages for as many of them as there is room for, near those before them. */
  async function leaseFor(
    batch: readonly KvBlock[],
    packages: readonly Package[],
    source: Source,
    room: RoomFor,
    found: Set<Leased>,
  ): Promise<void> {
    const all = packages.flatMap((from, i) => (batch[i] ? [{ block: batch[i], from }] : []));
    if (room === 'spare') return spareFor(all, source, found);
    for (const [tenant, own] of Map.groupBy(all, ({ block }) => block.kept.tenant)) {
      const bytes = own.reduce((sum, { block, from }) => sum + pagesFor(block, from), 0);
      await demotion.ahead({ tenant, bytes }, closing.signal);
    }
    let near = batch[0]?.parent?.kept.hot?.lease;
    for (const [i, block] of batch.entries()) {
      const from = packages[i];
      if (!from || block.removed) break;
      try {
        near = await roomFor(block, from.form, near);
      } catch (error) {
        if (error instanceof Problem && error.code === 'capacity_exhausted') break;
        throw error;
      }
      found.add({ block, source, from, lease: near });
    }
  }

  function spareFor(all: readonly Pick<Leased, 'block' | 'from'>[], source: Source, found: Set<Leased>): void {
    for (const { block, from } of all) {
      const wanted = { tenant: block.kept.tenant, shape: block.root.shape, form: from.form };
      const lease = !block.removed && held.hasRoom(wanted) ? held.freeLease(wanted) : undefined;
      if (!lease) return;
      found.add({ block, source, from, lease });
    }
  }

  /** While packages are made, readers leave blocks that have none: nothing is forgotten for them as long as the shelf has room. */
  async function roomFor(block: KvBlock, form: Form, near: GpuLease | undefined): Promise<GpuLease> {
    const { tenant } = block.kept;
    const wanted = { tenant, shape: block.root.shape, form };
    for (let tries = 0; tries < AHEAD_TRIES; tries++) {
      const lease = held.leaseKeeping(wanted, near);
      if (lease) return lease;
      await demotion.ahead({ tenant, bytes: pagesFor(block, { form }) }, closing.signal);
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
    for (const { block, source, from } of some) {
      if (from.seals || from.layers.every(({ k, v }) => isWhole(k) && isWhole(v))) continue;
      held.damaged(block, PARTS[source]);
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
      const { from, source, lease, block } = own;
      const seals = fresh[i];
      if (!seals) throw new Error('pages were given no seals');
      const odd = from.seals ? seals.words.findIndex((word, at) => word !== from.seals?.[at]) : -1;
      if (odd >= 0 && !lease.lost) {
        held.damaged(block, PARTS[source]);
        throw damagedProblem(block, Math.floor(odd / SEAL_WORDS));
      }
      const { form, wanted, means, packing } = from;
      found.set(own, { lease, form, wanted, means, seals, packing: from.seals ? packing : packedOnce(packing) });
    }
    return found;
  }

  return {
    read,
    async fetch(blocks, signal, room) {
      const letGo = held.blocks.hold(blocks);
      try {
        await bring(blocks, signal, () => true, room);
      } finally {
        letGo();
      }
    },
    stats: () => ({ memory: meters.memory.stats(), disk: meters.disk.stats() }),
    async close() {
      closing.abort();
      await Promise.allSettled([...underWay.values()].map(({ done }) => done));
    },
  };
}

/** Of the pages that it had, and is to have again. */
const pagesFor = ({ root: { shape } }: KvBlock, { form }: Pick<Package, 'form'>): number =>
  pageBytes(shape, form) * shape.layers;

const PARTS = { memory: 'package', disk: 'record' } as const;

/** What returns from one place cost. */
function createMeter() {
  const done = { returned: 0, declined: 0, ms: 0 };
  let batches = 0;
  let msPerByte = 0;
  return {
    done,
    isWorth(bytes: number, msMax: number): boolean {
      if (msPerByte * bytes <= msMax) return true;
      return done.declined++ % TRIAL === TRIAL - 1;
    },
    /** The first one compiles its kernels, and says nothing of others. */
    measure(ms: number, bytes: number): void {
      done.ms += ms;
      if (bytes === 0 || batches++ === 0) return;
      const now = ms / bytes;
      msPerByte = msPerByte === 0 ? now : msPerByte + WEIGHT * (Math.min(now, OUTLIER * msPerByte) - msPerByte);
    },
    stats: (): ReturnStats => ({ ...done, nsPerByte: msPerByte * 1e6 }),
  };
}

/** What has lost something on its way loses nothing more on the next. */
function packedOnce({ k, v }: Packings): Packings {
  return { k: typeof k === 'object' ? 'lossless' : k, v: typeof v === 'object' ? 'lossless' : v };
}
