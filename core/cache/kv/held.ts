// What is held of blocks. Pages: room for them on adapters, within a budget of their own; who has to go when it is short; and
// giving them back. A block's pages lie on one adapter, one page a layer, on that of the block before it where there is
// room. A block that has a package in memory (packages.ts) or a record on disk too (disk/) is only without its pages then; others
// are forgotten. Whose pages have to go, households.ts says; for one tenant's block nothing goes that follows it and is another's.
// Invariants: nothing is leased beyond the budget as it is then (it shrinks while an adapter is away), a lease is released
// once, and each block has pages, a package or a record.

import type { CodedPages } from '../../codec/attention.ts';
import { BLOCK_TOKENS, type Form, type Part, pageBytes, sameForm } from '../../codec/pages.ts';
import type { KvShape } from '../../contract/kv.ts';
import type { KvCause } from '../../contract/kv-calls.ts';
import { problem } from '../../contract/problems.ts';
import type { GpuLease } from '../../gpu/gpu-lease.ts';
import type { Pool } from '../../gpu/pool.ts';
import { type Course, DEFAULT_COURSE } from '../course.ts';
import { type Block, type Blocks, createBlocks } from './blocks.ts';
import type { Place } from './disk/segments.ts';
import { createDiskShelf, type DiskShelf, type KvDisk, NO_DISK } from './disk/shelf.ts';
import { type Counted, createTierCount, type KvTiers, storedBytes } from './face.ts';
import { type Asker, createHouseholds } from './households.ts';
import { createShelf, type Package, type Packings, type Shelf } from './packages.ts';
import type { Seals } from './seals.ts';

/** What a block has on an adapter; replaced as a whole. */
export interface Held extends CodedPages {
  /** What it is to become once enough blocks follow it. */
  readonly wanted: Form;
  /** What its pages were when they were stored. */
  readonly seals: Seals;
  /** How it is packed when it leaves. */
  readonly packing: Packings;
}

/** Where a block is: on an adapter, in memory, on disk, or in several of them. */
export interface Kept {
  hot: Held | undefined;
  cold: Package | undefined;
  disk?: Place | undefined;
  /** Whose it is, and of whose share its pages, its package and its record are. */
  tenant: string;
  /** What K and V are told as, where that is not what their records are. */
  readonly grades: Readonly<Record<Part, string | undefined>>;
  /** As what it is counted, in the index (face.ts). */
  counted?: Counted | undefined;
}
export type KvBlocks = Blocks<Kept>;
export type KvBlock = Block<Kept>;

export interface HeldOptions {
  readonly pool: Pick<Pool, 'ready' | 'capacityBytes' | 'places' | 'lease' | 'reportOf'>;
  /** Of the adapters' memory. */
  readonly share: number;
  /** Of that, and of the shelf, for one tenant; all of it, if it is not given. */
  readonly quota?: number;
  /** Tensors leave the lease's adapter for it; false if that is not enough. */
  readonly makeRoom: (lease: GpuLease, bytes: number) => boolean;
  /** Pages were leased. */
  readonly leased: () => void;
  /** Of the shelf. */
  readonly coldBytesMax: number;
  /** Where what has no room there goes; default: nowhere. */
  readonly disk?: KvDisk | undefined;
  /** Who has stored a block. */
  readonly tenantsOf?: (block: KvBlock) => readonly string[];
  readonly log?: (line: string) => void;
  /** A block has a package. */
  readonly packed?: () => void;
  /** By which strategy blocks leave. */
  readonly course?: Course;
  readonly now: () => number;
  /** A block is not held any more. */
  readonly left: (block: KvBlock, cause: KvCause) => void;
  /** Its pages are on another adapter now, or gone or back. */
  readonly moved: (block: KvBlock) => void;
}

/** Pages for a block of a tenant. */
export interface Wanted {
  readonly tenant: string;
  readonly shape: KvShape;
  readonly form: Form;
}

export interface HeldPages {
  readonly blocks: KvBlocks;
  readonly shelf: Shelf;
  readonly disk: DiskShelf;
  /** Of pages. */
  readonly bytes: number;
  /** The most that it has ever been. */
  readonly bytesMost: number;
  /** As it is now. */
  readonly bytesMax: number;
  /** Of pages of each tenant that has some. */
  tenants(): { readonly tenant: string; readonly bytes: number }[];
  /** Of pages, for each tenant. */
  readonly quotaBytes: number;
  /** Of pages on each adapter that has some, and of all its memory. */
  adapters(): { readonly adapter: string; readonly bytes: number; readonly capacity: number }[];
  /** Times that a block was left without its pages, and kept. */
  readonly demotions: number;
  readonly evictions: number;
  /** Blocks of which something was not what it had been, and what was forgotten with them. */
  readonly damages: number;
  /** Pages for a block, others leaving if they must; near another if there is room. Throws `capacity_exhausted`. */
  lease(wanted: Wanted, near?: GpuLease): GpuLease;
  /** The same where none has to be forgotten for it: those that leave have packages. Else undefined. */
  leaseKeeping(wanted: Wanted, near?: GpuLease): GpuLease | undefined;
  /** On the adapter of another lease; undefined where that has no room for it. */
  leaseNear(near: Pick<GpuLease, 'adapter'>, wanted: Wanted): GpuLease | undefined;
  /** The same where an adapter (the named one) has free room; others leave for the budget only. */
  freeLease(wanted: Wanted, on?: string): GpuLease | undefined;
  /** Within the budget and the tenant's quota, without anybody leaving. */
  hasRoom(wanted: Wanted): boolean;
  /** So many have to go for what is asked for; none where there is room. */
  bytesOver(asker: Asker): number;
  /** Given back without having been held. */
  release(lease: GpuLease): void;
  /** What blocks have on adapters now, each of them; it stays until `release`, whatever takes its place. */
  read(blocks: readonly KvBlock[]): { readonly pages: readonly Held[]; readonly release: () => void };
  /**
   * Other pages in the place of the old ones, which go back with their last reader. Where those are no longer the block's,
   * the other ones go back at once: false.
   */
  replace(block: KvBlock, old: Held, pages: Held): boolean;
  /** Pages for a block that had none, out of its package; where it has gone or has some, they go back at once: false. */
  returned(block: KvBlock, pages: Held): boolean;
  /** Blocks whose turn it would be to leave a tier, each as if those before it had; nobody comes or goes meanwhile. */
  wouldLeave(tier: string, asker?: Asker): Generator<KvBlock, void, void>;
  /** It is another tenant's from now on. */
  passOn(block: KvBlock, tenant: string): void;
  /** Its pages go; false where it has neither a package nor a record, and all as it was. */
  cool(block: KvBlock): boolean;
  /** Its pages and its package go; false where it has no record, and all as it was. */
  sink(block: KvBlock): boolean;
  /** A part of it is not what it was: that goes, and where it has no other it is forgotten with what follows it, so many. */
  damaged(block: KvBlock, part?: 'pages' | 'package' | 'record'): number;
  /** How much is in which tier; of a tenant's blocks, or of all. */
  tiers(tenant?: string): KvTiers;
  /** What contradicts the invariants, a line each; none if all is well. */
  faults(): string[];
  /** Forgets what was only on adapters that are gone. */
  dropLost(): number;
}

/** Of the index: blocks with pages anywhere, and with pages on one adapter. */
export const HOT = 'hot';
export const hotOn = (adapter: string): string => `hot on ${adapter}`;
export const COLD = 'cold';

/** What becomes of a block that leaves its adapter; false where it stays. */
type Goes = (block: KvBlock) => boolean;

const tiersOf = ({ hot, cold }: Kept): string[] => [
  ...(hot ? [HOT, hotOn(hot.lease.adapter)] : []),
  ...(cold ? [COLD] : []),
];

/** A page a layer. */
const bytesOf = ({ shape, form }: Wanted): number => pageBytes(shape, form) * shape.layers;

export function createHeldPages({
  pool,
  share,
  quota = 1,
  makeRoom,
  coldBytesMax,
  course = DEFAULT_COURSE,
  now,
  leased,
  left,
  moved,
  ...more
}: HeldOptions): HeldPages {
  const budget = () => share * pool.capacityBytes;
  let bytes = 0;
  let bytesMost = 0;
  let evictions = 0;
  let demotions = 0;
  let damages = 0;
  const count = createTierCount();
  const households = createHouseholds(quota, (number) => blocks.dropParty(number));
  const blocks: KvBlocks = createBlocks<Kept>({
    blockTokens: BLOCK_TOKENS,
    ...{ course, capacity, now, gone },
    tiersOf(kept) {
      count.note(kept);
      return tiersOf(kept);
    },
    partyOf: ({ tenant }) => households.numberOf(tenant),
    left(block, cause) {
      count.drop(block.kept);
      disk.drop(block); // who reads it has its pages
      left(block, cause);
    },
    bytesOf: storedBytes,
  });
  const shelf = createShelf({
    bytesMax: coldBytesMax,
    ...{ quota, households },
    // whoever is nowhere else goes as a whole, and what follows with it
    leaving: ({ next }) =>
      blocks.leaving(COLD, next).filter((block) => block.kept.hot || block.kept.disk || blocks.isLast(block)),
    forget: evict,
    sunk: (block) => moved(block),
    changed(block) {
      blocks.changed(block);
      if (block.kept.cold) more.packed?.();
    },
  });
  const disk = createDiskShelf({
    disk: more.disk ?? NO_DISK,
    ...{ quota, households },
    forget: evict,
    changed: (block) => blocks.changed(block),
    damaged: (block) => damaged(block, 'record'),
    following: (block) => blocks.following(block.root, block),
    tenantsOf: more.tenantsOf ?? (() => []),
    log: more.log ?? (() => {}),
  });
  /** How many read pages now; and those that are no block's any more. */
  const readers = new Map<Held, number>();
  const replaced = new Set<Held>();
  /** All that was leased and not given back, and whose it is. */
  const leases = new Map<GpuLease, string>();
  /** By adapter. */
  const places = new Map<string, number>();

  function countLease({ adapter, bytes: own }: GpuLease, sign: 1 | -1): void {
    bytes += sign * own;
    bytesMost = Math.max(bytesMost, bytes);
    places.set(adapter, (places.get(adapter) ?? 0) + sign * own);
  }

  /** It is of this tenant's share from now on. */
  function charge(lease: GpuLease, tenant: string): void {
    const before = leases.get(lease);
    if (before === tenant) return;
    leases.set(lease, tenant);
    households.account(tenant, 'pages', lease.bytes);
    if (before !== undefined) households.account(before, 'pages', -lease.bytes);
  }

  /** In blocks, as large as they are now. */
  function capacity(): number {
    const own = bytes / Math.max(1, leases.size);
    const packed = shelf.packages > 0 ? shelf.bytes / shelf.packages : own;
    const written = disk.segments.records > 0 ? disk.segments.bytes / disk.segments.records : packed;
    if (own === 0 || packed === 0) return blocks.size;
    return Math.floor(budget() / own + coldBytesMax / packed + disk.bytesMax / written);
  }

  function gone(block: KvBlock): void {
    setPages(block, undefined);
    shelf.drop(block);
  }

  /** The old ones go back with their last reader. */
  function setPages(block: KvBlock, pages: Held | undefined): void {
    const old = block.kept.hot;
    block.kept.hot = pages;
    if (pages) charge(pages.lease, block.kept.tenant);
    blocks.changed(block);
    if (!old) return;
    if (readers.has(old)) replaced.add(old);
    else release(old.lease);
  }

  function release(lease: GpuLease): void {
    const tenant = leases.get(lease);
    if (tenant === undefined) throw new Error(`pages on ${lease.adapter} were given back twice`);
    leases.delete(lease);
    countLease(lease, -1);
    households.account(tenant, 'pages', -lease.bytes);
    lease.release();
  }

  function leave(pages: Held): void {
    const left = (readers.get(pages) ?? 1) - 1;
    if (left > 0) return void readers.set(pages, left);
    readers.delete(pages);
    if (replaced.delete(pages)) release(pages.lease);
  }

  /** True once so many bytes more are within the budget, and the tenant's within its quota. */
  function withinBudget(asker: Asker, goes: Goes = coolOrEvict): boolean {
    const bytesMax = budget();
    if (asker.bytes > quota * bytesMax) return false;
    const { next } = households.turns('pages', bytesMax, asker);
    for (const block of blocks.leaving(HOT, next)) {
      if (bytesOver(asker) === 0) break;
      if (mayGo(block) && !goes(block)) return false;
    }
    return bytesOver(asker) === 0;
  }

  function bytesOver({ tenant, bytes: wanted }: Asker): number {
    const own = households.bytesOf(tenant, 'pages');
    return Math.max(0, bytes + wanted - budget(), own + wanted - quota * budget());
  }

  /** Nothing that is another tenant's is forgotten with it. */
  const mayGo = (block: KvBlock): boolean =>
    block.kept.cold !== undefined ||
    block.kept.disk !== undefined ||
    blocks.isLast(block) ||
    blocks.withFollowing(block).every(({ kept }) => kept.tenant === block.kept.tenant);

  function* wouldLeave(tier: string, asker?: Asker): Generator<KvBlock, void, void> {
    const turns =
      tier === COLD ? households.turns('packages', coldBytesMax, asker) : households.turns('pages', budget(), asker);
    for (const block of blocks.wouldLeave(tier, turns.next)) {
      const { hot, cold, tenant } = block.kept;
      turns.wouldGive(tenant, (tier === COLD ? cold?.bytes : hot?.lease.bytes) ?? 0);
      yield block;
    }
  }

  function evict(block: KvBlock): void {
    evictions += blocks.remove(block, 'evicted');
  }

  function coolOrEvict(block: KvBlock): true {
    if (!cool(block)) evict(block);
    return true;
  }

  function cool(block: KvBlock): boolean {
    if (!(block.kept.cold || block.kept.disk) || !block.kept.hot) return false;
    setPages(block, undefined);
    shelf.spare(block, false);
    demotions++;
    moved(block);
    return true;
  }

  function damaged(block: KvBlock, part: 'pages' | 'package' | 'record' = 'pages'): number {
    const gone = loses(block, part) ? 0 : blocks.remove(block, 'damaged');
    damages += Math.max(1, gone);
    return gone;
  }

  /** False where it has nothing else. */
  function loses(block: KvBlock, part: 'pages' | 'package' | 'record'): boolean {
    if (part === 'pages') return cool(block);
    const { hot, cold, disk: record } = block.kept;
    if (!hot && !(part === 'package' ? record : cold)) return false;
    if (part === 'package') shelf.drop(block);
    else disk.drop(block);
    return true;
  }

  /** Tensors leave first: KV has its budget, and tensors are on disk as a rule. */
  function fits(lease: GpuLease, asker: Asker, goes: Goes = coolOrEvict): boolean {
    const wanted = asker.bytes;
    if (lease.grow(wanted) || makeRoom(lease, wanted)) return true;
    const trial = lease.trial();
    const leaving: KvBlock[] = [];
    for (const block of wouldLeave(hotOn(lease.adapter), asker)) {
      if (!block.kept.hot || !mayGo(block)) continue;
      trial.give(block.kept.hot.lease);
      leaving.push(block);
      if (trial.fits(wanted)) break;
    }
    if (!trial.fits(wanted)) return false;
    for (const block of leaving) if (!block.removed && !goes(block)) return false;
    return lease.grow(wanted);
  }

  /** The pages of a block on one adapter; undefined if it does not come to fit. */
  function leaseOn(adapter: string, wanted: Wanted, fit: typeof fits): GpuLease | undefined {
    const { shape, form, tenant } = wanted;
    const lease = pool.lease({ adapter, pageBytes: pageBytes(shape, form) });
    if (fit(lease, askerOf(wanted))) {
      countLease(lease, 1);
      charge(lease, tenant);
      leased();
      return lease;
    }
    lease.release();
    return undefined;
  }

  /** Near another if there is room; undefined where no adapter has any. */
  function leaseAnywhere(wanted: Wanted, near?: GpuLease, goes?: Goes): GpuLease | undefined {
    const places = placesFor(wanted);
    const first = near && places.includes(near.adapter) ? [near.adapter] : [];
    for (const adapter of new Set([...first, ...places])) {
      const lease = leaseOn(adapter, wanted, (each, asker) => fits(each, asker, goes));
      if (lease) return lease;
    }
    return undefined;
  }

  const askerOf = (wanted: Wanted): Asker => ({ tenant: wanted.tenant, bytes: bytesOf(wanted) });
  const placesFor = ({ shape, form }: Wanted): string[] => pool.places(pageBytes(shape, form));

  return {
    blocks,
    shelf,
    disk,
    get bytes() {
      return bytes;
    },
    get bytesMost() {
      return bytesMost;
    },
    get bytesMax() {
      return budget();
    },
    tenants: () =>
      households.tenantsIn('pages').map((tenant) => ({ tenant, bytes: households.bytesOf(tenant, 'pages') })),
    get quotaBytes() {
      return quota * budget();
    },
    adapters: () =>
      [...places].map(([adapter, own]) => ({ adapter, bytes: own, capacity: pool.reportOf(adapter).memory.capacity })),
    get demotions() {
      return demotions;
    },
    get evictions() {
      return evictions;
    },
    get damages() {
      return damages;
    },
    lease(wanted, near) {
      const asker = askerOf(wanted);
      if (!withinBudget(asker))
        throw problem(
          'capacity_exhausted',
          `A block of ${asker.bytes} bytes is beyond your tenant's part of the ${budget()} set aside for KV (KV_MEMORY_PERCENT, TENANT_MEMORY_PERCENT).`,
        );
      const lease = leaseAnywhere(wanted, near);
      if (lease) return lease;
      throw problem('capacity_exhausted', `No adapter has room for a block of ${asker.bytes} bytes of KV.`);
    },
    leaseKeeping: (wanted, near) =>
      withinBudget(askerOf(wanted), cool) ? leaseAnywhere(wanted, near, cool) : undefined,
    leaseNear({ adapter }, wanted) {
      const isOpen = pool.ready && placesFor(wanted).includes(adapter);
      if (!isOpen || !withinBudget(askerOf(wanted))) return undefined;
      return leaseOn(adapter, wanted, fits);
    },
    freeLease(wanted, on) {
      if (!withinBudget(askerOf(wanted))) return undefined;
      for (const adapter of pool.ready ? placesFor(wanted) : []) {
        if (on !== undefined && adapter !== on) continue;
        const lease = leaseOn(adapter, wanted, (each, { bytes }) => each.grow(bytes));
        if (lease) return lease;
      }
      return undefined;
    },
    hasRoom: (wanted) => bytesOver(askerOf(wanted)) === 0,
    bytesOver,
    release,
    read(read) {
      const pages = read.map(({ hash, kept }) => {
        if (!kept.hot) throw new Error(`block ${hash} was to be read, and is on no adapter`);
        return kept.hot;
      });
      const letGo = blocks.hold(read);
      for (const each of pages) readers.set(each, (readers.get(each) ?? 0) + 1);
      return {
        pages,
        release() {
          for (const each of pages) leave(each);
          letGo();
        },
      };
    },
    replace(block, old, pages) {
      if (block.kept.hot !== old) {
        release(pages.lease);
        return false;
      }
      setPages(block, pages);
      if (!sameForm(old.form, pages.form)) {
        shelf.drop(block); // it is of what was
        disk.drop(block);
      }
      if (old.lease.adapter !== pages.lease.adapter) moved(block);
      return true;
    },
    returned(block, pages) {
      if (block.removed || block.kept.hot) {
        release(pages.lease);
        return false;
      }
      setPages(block, pages);
      // what has lost something in its package would lose its smallness without it
      if (block.kept.cold?.seals) shelf.spare(block, true);
      moved(block);
      return true;
    },
    wouldLeave,
    passOn(block, tenant) {
      const { hot, cold, disk: record, tenant: before } = block.kept;
      // it has something throughout, with the one or the other
      if (record) households.account(tenant, 'disk', record.bytes);
      if (cold) households.account(tenant, 'packages', cold.bytes);
      if (hot) households.account(tenant, 'pages', hot.lease.bytes);
      count.drop(block.kept);
      blocks.changeParty(block, () => {
        block.kept.tenant = tenant;
      });
      if (!block.removed) count.note(block.kept);
      if (hot) leases.set(hot.lease, tenant);
      if (hot) households.account(before, 'pages', -hot.lease.bytes);
      if (cold) households.account(before, 'packages', -cold.bytes);
      if (record) households.account(before, 'disk', -record.bytes);
    },
    cool,
    sink(block) {
      if (!block.kept.disk) return false;
      const isMoved = block.kept.hot !== undefined || block.kept.cold !== undefined;
      setPages(block, undefined);
      shelf.drop(block);
      if (isMoved) moved(block);
      return true;
    },
    tiers: count.tiers,
    damaged,
    faults() {
      const found: string[] = [];
      const sum = [...leases.keys()].reduce((all, lease) => all + lease.bytes, 0);
      if (sum !== bytes) found.push(`${bytes} bytes of KV are counted, ${sum} are leased`);
      for (const tenant of households.tenantsIn('pages')) {
        const own = [...leases].reduce((all, [lease, whose]) => all + (whose === tenant ? lease.bytes : 0), 0);
        const told = households.bytesOf(tenant, 'pages');
        if (told !== own) found.push(`${told} bytes of KV are counted for ${tenant}, ${own} are leased`);
      }
      const owners = new Set<GpuLease>();
      let [cold, packages] = [0, 0];
      const looked = createTierCount();
      for (const block of blocks.all()) {
        const { hash, parent, kept, removed } = block;
        if (removed || parent?.removed) found.push(`block ${hash} is found, and it or the one before it is removed`);
        if (!kept.hot && !kept.cold && !kept.disk)
          found.push(`block ${hash} is found, and has neither pages nor a package nor a record`);
        if (kept.disk && !kept.disk.segment.live.has(block))
          found.push(`block ${hash} has a record in segment ${kept.disk.segment.number}, which does not know it`);
        looked.note({ ...kept, counted: undefined });
        cold += kept.cold?.bytes ?? 0;
        packages += kept.cold ? 1 : 0;
        if (!kept.hot) continue;
        if (!leases.has(kept.hot.lease)) found.push(`block ${hash} has pages that were given back`);
        if (owners.has(kept.hot.lease)) found.push(`block ${hash} has the pages of another`);
        if (leases.get(kept.hot.lease) !== kept.tenant) found.push(`block ${hash} has pages of another tenant's share`);
        owners.add(kept.hot.lease);
      }
      const [told, seen] = [count.tiers(), looked.tiers()].map((tiers) => JSON.stringify(tiers));
      if (told !== seen) found.push(`tiers are counted as ${told}, and are ${seen}`);
      // removed ones that somebody still holds, and room that is reserved, are counted too
      if (cold > shelf.bytes || packages > shelf.packages)
        found.push(`packages have ${cold} bytes, and the shelf counts ${shelf.bytes}`);
      if (shelf.bytes > shelf.bytesMax) found.push(`the shelf has ${shelf.bytes} bytes of ${shelf.bytesMax}`);
      return [...found, ...disk.faults()];
    },
    dropLost() {
      const lost = [...blocks.all()].filter(({ kept }) => kept.hot?.lease.lost);
      let forgotten = 0;
      for (const block of lost) if (!block.removed && !cool(block)) forgotten += blocks.remove(block, 'lost');
      return forgotten;
    },
  };
}
