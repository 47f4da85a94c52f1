// The KV of token sequences: stored as blocks of 64 tokens in coded pages on adapters, found again by the longest held
// beginning, given back as tensors, and attended over where it lies. What is not read for a while goes to memory, compressed, and
// from there to disk, and comes back as soon as it is (demotion.ts, disk/spill.ts, returns.ts). What an adapter loses that is not there
// is gone, and is stored again by whoever needs it. What is on disk is there again after a restart (disk/restore.ts).
// Each page has a seal (seals.ts): load and moves look at all they read, attention at what nobody has for a while.
// Invariants: whoever reads a block holds it, so that it cannot leave; nothing of one scope is ever found from another.

import { pageBytes } from '../../codec/pages.ts';
import type { KvPolicy, PolicyBody } from '../../contract/policy.ts';
import type { Pieces } from '../../gpu/pieces.ts';
import type { Pool } from '../../gpu/pool.ts';
import { type Course, DEFAULT_COURSE } from '../course.ts';
import type { Digests } from '../digest.ts';
import { kvPolicyAnswer } from '../policy-report.ts';
import { inSlices } from '../slices.ts';
import { createBook } from './book.ts';
import { type KvCalls, openCalls } from './calls.ts';
import { createCanary } from './canary.ts';
import { type KvVerified, verifyAll } from './check.ts';
import { createDemotion } from './demotion.ts';
import { restore } from './disk/restore.ts';
import type { KvDisk } from './disk/shelf.ts';
import { createSpill } from './disk/spill.ts';
import type { KvEvents } from './events.ts';
import { face } from './face.ts';
import { createForesight } from './foresight.ts';
import { createHeldPages, type KvBlock } from './held.ts';
import type { Window } from './intake.ts';
import { clearAdapter, type KvDrained } from './moves.ts';
import { createPins } from './pins.ts';
import { createReads, type Reads } from './read.ts';
import { createReturns } from './returns.ts';
import { type KvStats, type KvTenantStats, statsOf, tenantStatsOf } from './stats.ts';
import { createStore, type StoreKv } from './store.ts';

export interface KvOptions {
  readonly pool: Pool;
  readonly pieces: Pieces;
  readonly digests: Digests;
  readonly bodyBytesMax: number;
  /** Of the adapters' memory; more than that KV never takes. */
  readonly share: number;
  /** Of that, and of the memory for what has no room there, for one tenant. */
  readonly quota?: number;
  readonly window: Window;
  /** Memory for what has no room on adapters. */
  readonly coldBytesMax: number;
  /** Where what has no room there goes; default: it is forgotten. */
  readonly disk?: KvDisk;
  /** Blocks that are brought ahead at once; default 0: none. */
  readonly prefetch?: number;
  /** How it begins. */
  readonly course?: Course;
  /** What callers are thought to compute: what comes back from memory slower than that, does not. */
  readonly recomputeTokensPerSecond: number;
  /** Attention looks again at pages that were last found whole so long ago. */
  readonly verifyMs: number;
  /** Of attention, the part after which codecs are compared with what they stand for; see canary.ts. */
  readonly canary: { readonly share: number; readonly random: () => number };
  readonly log: (line: string) => void;
  readonly makeRoom: Parameters<typeof createHeldPages>[0]['makeRoom'];
  readonly now: () => number;
}

export interface Kv extends KvCalls {
  readonly store: StoreKv;
  readonly load: Reads['load'];
  readonly attention: Reads['attention'];
  /** Another strategy, another objective, or both, from now on; nothing leaves by it. */
  setPolicy(next: PolicyBody): void;
  /** What the strategy has found out, of all tenants. */
  policy(): KvPolicy;
  /** What contradicts the invariants of blocks and pages, a line each; none if all is well. */
  check(): string[];
  /** Compares all pages and packages with their seals; what is damaged is forgotten, and told of, a line each. */
  verify(signal: AbortSignal): Promise<KvVerified>;
  /** Off an adapter that takes no new leases. */
  drain(adapter: string, signal: AbortSignal): Promise<KvDrained>;
  /** An adapter's process is gone: forget what was there. */
  dropLost(): void;
  /** What happens to a tenant's blocks. */
  readonly follow: KvEvents['follow'];
  /** Ends all that is followed; the rest goes on. */
  endEvents(): void;
  /** Ends what is over its time; happens by itself, every few seconds. What is over is not found before it is gone either. */
  sweep(): Promise<void>;
  stats(): KvStats;
  tenantStats(tenant: string): KvTenantStats;
  /** Nothing goes on in the background. */
  settled(): Promise<void>;
  close(): Promise<void>;
}

const SWEEP_MS = 5000;
/** What is not on disk at the end gets so long to go there. */
const SAVE_MS_MAX = 4000;

export function openKv(options: KvOptions): Kv {
  const { pool, pieces, now } = options;
  const book = createBook(
    now,
    (block) => {
      const { tier, adapter } = face(block);
      return { tier, adapter };
    },
    (block) => held.disk.noted(block),
  );
  const course: Course = { ...(options.course ?? DEFAULT_COURSE) };
  const held = createHeldPages({
    ...options,
    course,
    moved: book.moved,
    leased: () => demotion.wake(),
    packed: () => spill.wake(),
    tenantsOf: book.stakes.tenantsOf,
    left(block, cause) {
      pins.drop(block);
      book.left(block, cause);
      if (cause === 'expired' || cause === 'cleared') count[cause]++;
    },
  });
  const { blocks } = held;
  const spill = createSpill(held);
  const demotion = createDemotion(held, pieces, spill.ahead);
  /** Software adapters have kernels of their own. */
  const isGpu = (adapter: string): boolean => pool.reportOf(adapter).software === false;
  const canary = createCanary({ held, ...options.canary, isGpu, log: options.log });
  const returns = createReturns({ held, demotion, pieces, recomputeTokensPerSecond: options.recomputeTokensPerSecond });
  const pins = createPins({
    now,
    budget: () => options.share * pool.capacityBytes,
    bytesOf: pagesOf,
    hold: blocks.hold,
  });
  const count = { lost: 0, expired: 0, cleared: 0 };
  const { pack } = demotion;
  const foresight = createForesight({ held, returns, blocksMax: options.prefetch ?? 0, now });
  const reads = createReads({ ...options, held, returns, foresight, canary, isGpu });
  const { load, attention, longest, tokens, tokensOf } = reads;
  const calls = openCalls({ held, returns, pack, book, pins, pool, pieces, longest, face });
  let sweeping: Promise<void> | undefined;
  let closed = false;
  const timer = setInterval(sweep, SWEEP_MS).unref();
  if (options.disk) restoreAll(options.disk);

  function restoreAll({ found }: KvDisk): void {
    const { segments } = held.disk;
    const stored = (block: KvBlock, tenant: string) => void book.stakes.take([block], tenant);
    const count = restore({ found, segments, blocks, stored, now });
    if (count > 0) options.log(`${count} blocks of KV on disk, ${(segments.bytes / 2 ** 20).toFixed(1)} MiB`);
  }

  /** A step for each block. */
  function* expire(): Generator<undefined, void, void> {
    for (const block of blocks.expired()) {
      if (closed) return;
      blocks.remove(block, 'expired');
      yield;
    }
  }

  function sweep(): Promise<void> {
    pins.sweep();
    sweeping ??= inSlices(expire()).finally(() => {
      sweeping = undefined;
    });
    return sweeping;
  }

  return {
    store: createStore({ ...options, held, book, pack }),
    load,
    attention,
    setPolicy({ strategy, objective }) {
      if (objective) course.objective = objective;
      if (strategy) course.strategy = strategy;
      blocks.follow();
    },
    policy: () => kvPolicyAnswer(blocks.report()),
    check: held.faults,
    verify: (signal) => verifyAll(held, signal),
    async drain(adapter, signal) {
      const done = await clearAdapter(adapter, held, pieces, pack, signal);
      // what has come to another adapter before that was told to drain
      for (const { id } of pool.report())
        if (id !== adapter && pool.isDraining(id)) await clearAdapter(id, held, pieces, pack, signal);
      return done;
    },
    dropLost() {
      count.lost += held.dropLost();
    },
    ...calls,
    follow: book.events.follow,
    endEvents: book.events.close,
    sweep,
    stats: () => statsOf({ held, demotion, returns, foresight, pins, canary, tokens, count }),
    tenantStats: (tenant) => tenantStatsOf(held, tenant, tokensOf(tenant)),
    async settled() {
      await canary.idle();
      await demotion.settled();
      await spill.settled();
      await held.disk.settled();
    },
    async close() {
      clearInterval(timer);
      closed = true;
      await sweeping;
      book.events.close();
      await foresight.close();
      await canary.idle();
      await spill.save(pack, AbortSignal.timeout(SAVE_MS_MAX));
      await demotion.close();
      await returns.close();
      await held.disk.settled();
    },
  };
}

/** What a block takes on an adapter, be it there or not. */
function pagesOf({ root, kept }: KvBlock): number {
  const form = (kept.hot ?? kept.cold ?? kept.disk)?.form;
  return form ? pageBytes(root.shape, form) * root.shape.layers : 0;
}
