// Blocks on their way to the cold shelf, ahead of need: while pages take more than a share of their budget, or of an adapter, those that would
// leave next are given packages, some at a time, in the background. Leaving is then only giving pages back. A block that has
// to go before it has its package is forgotten. What memory would lose for a package has been written to disk before, where there is one.
// Pages are compared with their seals before anything is made of them.
import { pack } from '../../codec/packing.ts';
import type { PagePart } from '../../codec/packing-desk.ts';
import { BLOCK_TOKENS, type Part, partBytes } from '../../codec/pages.ts';
import type { KvShape } from '../../contract/kv.ts';
import type { Pieces } from '../../gpu/pieces.ts';
import { type Held, type HeldPages, HOT, hotOn, type KvBlock } from './held.ts';
import type { Asker } from './households.ts';
import type { Package, Reserved } from './packages.ts';
import { damagedAmong, forget } from './seals.ts';

/** Of the budget of pages, and of each adapter: above it, packages are made. */
const LOW_WATER = 0.85;
/** Of one batch; one block at least. */
const BATCH_BYTES = 8 << 20;
const BATCH_BLOCKS = 32;
/** Are looked for at a time: to look is work for each that would leave before them. */
const DUE_BLOCKS = 1024;
/** Who would leave is looked at anew once so much of all blocks was leased. */
const LOOK_EVERY = 1 / 128;
/** What containers and seals add to records, for each part at most. */
const PART_BYTES_MORE = 64;

export interface Demotion {
  /** Pages were leased: looks, soon, whether packages are due. */
  wake(): void;
  /** Packages for those that would leave if so many bytes were leased for a tenant: then nobody has to be forgotten for those. */
  ahead(asker: Asker, signal: AbortSignal): Promise<void>;
  /** Gives blocks packages now, as far as there is room for them. */
  pack(blocks: readonly KvBlock[], signal: AbortSignal): Promise<void>;
  /** Nothing is due or under way. */
  settled(): Promise<void>;
  stats(): { packed: number; packedBytes: number; pageBytes: number; ms: number; failures: number };
  close(): Promise<void>;
}

export function createDemotion(
  held: HeldPages,
  pieces: Pieces,
  /** What would leave memory for what is asked is on disk then, as far as that takes it. */
  spill: (asker: Asker) => Promise<void> = async () => {},
): Demotion {
  const { blocks, shelf } = held;
  const closing = new AbortController();
  const done = { packed: 0, packedBytes: 0, pageBytes: 0, ms: 0, failures: 0 };
  let running: Promise<void> | undefined;
  let isDue = false;
  let leased = 0;

  /**
   * Those that would leave next and would be forgotten by it, as if those before them had left; so many bytes have to. As far as
   * memory and disk have room for all of them: what leaves first would lose its package to what leaves later.
   */
  function next(bytesOver: number, tier: string, asker?: Asker): KvBlock[] {
    let over = bytesOver;
    let room = shelf.bytesMax + held.disk.bytesMax;
    const found: KvBlock[] = [];
    for (const block of held.wouldLeave(tier, asker)) {
      const { hot, cold, disk } = block.kept;
      if (over <= 0 || found.length === DUE_BLOCKS) break;
      over -= hot?.lease.bytes ?? 0;
      room -= cold?.bytes ?? disk?.bytes ?? (hot ? roomOf(hot) : 0);
      if (room < 0) break;
      if (!cold && !disk) found.push(block);
    }
    return found;
  }

  async function run(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve)); // whoever leased goes on first
    while (isDue && !closing.signal.aborted) {
      isDue = false;
      await packDue(closing.signal).catch(() => {
        if (!closing.signal.aborted) done.failures++; // an adapter is lost, or all pieces are in use: at the next wake again
      });
    }
  }

  async function packDue(signal: AbortSignal): Promise<void> {
    await packNext(() => held.bytes - LOW_WATER * held.bytesMax, signal);
    for (const { tenant } of held.tenants()) {
      const own = () => held.tenants().find((each) => each.tenant === tenant)?.bytes ?? 0;
      // who asks for all of its quota makes room of its own
      const asker = { tenant, bytes: held.quotaBytes };
      await packNext(() => own() - LOW_WATER * held.quotaBytes, signal, HOT, asker);
    }
    for (const { adapter } of held.adapters()) {
      const bytesOver = () => {
        const own = held.adapters().find((each) => each.adapter === adapter);
        return own ? own.bytes - LOW_WATER * own.capacity : 0;
      };
      await packNext(bytesOver, signal, hotOn(adapter));
    }
  }

  /** Until nothing is due, or there is no room. */
  async function packNext(
    bytesOver: () => number,
    signal: AbortSignal,
    tier: string = HOT,
    asker?: Asker,
  ): Promise<void> {
    const tried = new Set<KvBlock>();
    while (bytesOver() > 0) {
      // a package that left at once, for one that is wanted more, is not made again
      const due = next(bytesOver(), tier, asker).filter((block) => !tried.has(block));
      if (due.length === 0) return;
      for (const batch of batches(due)) {
        if (bytesOver() <= 0) return;
        const before = done.packed;
        await packAll(batch, signal);
        if (done.packed === before) return;
      }
      for (const block of due) tried.add(block);
    }
  }

  async function packAll(all: readonly KvBlock[], signal: AbortSignal): Promise<void> {
    const here = all.filter(({ removed, kept }) => !removed && kept.hot && !kept.cold);
    for (const [tenant, own] of Map.groupBy(here, ({ kept }) => kept.tenant))
      await spill({ tenant, bytes: own.reduce((sum, { kept }) => sum + (kept.hot ? roomOf(kept.hot) : 0), 0) });
    for (const some of Map.groupBy(here, ({ kept }) => kept.hot?.lease.adapter).values()) await packSome(some, signal);
  }

  /** Of one adapter. */
  async function packSome(all: readonly KvBlock[], signal: AbortSignal): Promise<void> {
    const some = all.filter(({ removed, kept }) => !removed && kept.hot);
    const begun = performance.now();
    const { pages, release } = held.read(some);
    const rooms: Reserved[] = [];
    try {
      const piece = await pieces.take(signal);
      try {
        const damaged = await damagedAmong(pages, {}, signal);
        for (const index of damaged.keys()) forget(held, some[index], pages[index]);
        const jobs = roomFor(some, pages, damaged, rooms);
        const [first] = pages;
        if (!first) return;
        const parts = jobs.flatMap(({ block, own }) => partsOf(block.root.shape, own));
        const packed = await pack(
          parts.map(({ part, name, own }) => ({ part, packing: own.packing[name] })),
          { piece, run: (work) => first.lease.run(work, { signal }) },
        );
        for (const { block, own, room } of jobs) {
          const layers = packed.splice(0, own.lease.pages * 2);
          if (block.removed || block.kept.hot !== own || block.kept.cold) continue;
          const made = packageOf(own, layers);
          room.put(block, made);
          done.packed++;
          done.packedBytes += made.bytes;
          done.pageBytes += own.lease.bytes;
        }
      } finally {
        piece.release();
      }
    } finally {
      for (const room of rooms) room.release();
      release();
      done.ms += performance.now() - begun;
    }
  }

  /** As many of them as the shelf takes. */
  function roomFor(
    some: readonly KvBlock[],
    pages: readonly Held[],
    damaged: ReadonlyMap<number, number>,
    rooms: Reserved[],
  ): { block: KvBlock; own: Held; room: Reserved }[] {
    const jobs: { block: KvBlock; own: Held; room: Reserved }[] = [];
    for (const [index, block] of some.entries()) {
      const own = pages[index];
      if (!own || damaged.has(index)) continue;
      const room = shelf.reserve({ tenant: block.kept.tenant, bytes: roomOf(own) });
      if (!room) break;
      rooms.push(room);
      jobs.push({ block, own, room });
    }
    return jobs;
  }

  return {
    wake() {
      if (shelf.bytesMax === 0 || closing.signal.aborted) return;
      if (++leased < LOOK_EVERY * blocks.size) return;
      leased = 0;
      isDue = true;
      running ??= run().finally(() => {
        running = undefined;
      });
    },
    ahead: (asker, signal) => packNext(() => held.bytesOver(asker), signal, HOT, asker),
    pack: packAll,
    async settled() {
      while (running) await running;
    },
    stats: () => ({ ...done }),
    async close() {
      closing.abort();
      await running;
    },
  };
}

/** What its package takes at most. */
const roomOf = ({ lease }: Pick<Held, 'lease'>): number => lease.bytes + 2 * lease.pages * PART_BYTES_MORE;

/** In order. */
function* batches(all: readonly KvBlock[]): Generator<KvBlock[], void, void> {
  let batch: KvBlock[] = [];
  let bytes = 0;
  for (const block of all) {
    const own = block.kept.hot?.lease.bytes ?? 0;
    if (batch.length > 0 && (bytes + own > BATCH_BYTES || batch.length === BATCH_BLOCKS)) {
      yield batch;
      [batch, bytes] = [[], 0];
    }
    batch.push(block);
    bytes += own;
  }
  if (batch.length > 0) yield batch;
}

/** K and V of each layer, in that order. */
export function partsOf(shape: KvShape, own: Pick<Held, 'lease' | 'form' | 'packing'>) {
  const { kvHeads, dim } = shape;
  const part = (name: Part, layer: number): PagePart => {
    const { binding, byteOffset } = own.lease.range(layer);
    const offset = byteOffset + (name === 'v' ? partBytes(shape, own.form.k) : 0);
    const size = partBytes(shape, own.form[name]);
    return { range: { at: binding, offset, size }, codec: own.form[name], vectors: kvHeads * BLOCK_TOKENS, dim };
  };
  return Array.from({ length: own.lease.pages }, (_, layer) =>
    (['k', 'v'] as const).map((name) => ({ part: part(name, layer), name, own })),
  ).flat();
}

function packageOf(own: Held, packed: readonly Package['layers'][number]['k'][]): Package {
  const layers = Array.from({ length: packed.length / 2 }, (_, layer) => {
    const [k, v] = packed.slice(layer * 2, layer * 2 + 2);
    if (!k || !v) throw new Error(`layer ${layer} was not packed`);
    return { k, v };
  });
  const isLossy = packed.some(({ how }) => how === 'ec');
  const seals = isLossy ? undefined : own.seals.words.slice();
  const bytes = packed.reduce((sum, part) => sum + part.bytes.length + (part.seal?.byteLength ?? 0), 0);
  const { form, wanted, packing, means } = own;
  return { form, wanted, packing, means, layers, seals, bytes: bytes + (seals?.byteLength ?? 0) };
}
