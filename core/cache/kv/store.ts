// Sequences on their way in: a body is poured through an intake, and its blocks join those that are held.
// Invariant: what is answered as stored is held, from the first block on; where an adapter is lost meanwhile, what came before it is
// held all the same, and is the tenant's. Blocks that enough others follow are coded for good before the answer.
import { BLOCK_TOKENS } from '../../codec/pages.ts';
import type { KvStoreAnswer, RopeAsked } from '../../contract/kv.ts';
import { problem } from '../../contract/problems.ts';
import type { Pieces } from '../../gpu/pieces.ts';
import type { Pool } from '../../gpu/pool.ts';
import type { Digests } from '../digest.ts';
import { type Body, pour, type SignedDigest } from '../pour.ts';
import { scopeOf } from './blocks.ts';
import type { KvBook } from './book.ts';
import type { KvOwner } from './calls.ts';
import type { Demotion } from './demotion.ts';
import { face } from './face.ts';
import type { HeldPages, KvBlock } from './held.ts';
import { type Intake, openIntake, type Window } from './intake.ts';
import { clearAdapter } from './moves.ts';
import { recode } from './recode.ts';

export interface KvStoreOptions extends KvOwner {
  readonly codecK: string;
  readonly codecV: string;
  /** Seconds. */
  readonly ttl?: number | undefined;
  readonly priority?: number | undefined;
  /** K comes as it was before this. */
  readonly rope?: RopeAsked | undefined;
  readonly body: Body;
  readonly digest: SignedDigest | undefined;
  readonly signal: AbortSignal;
}

export interface StoringOptions {
  readonly held: HeldPages;
  readonly book: Pick<KvBook, 'stored'>;
  readonly pack: Demotion['pack'];
  readonly pool: Pick<Pool, 'isDraining'>;
  readonly pieces: Pieces;
  readonly digests: Digests;
  readonly bodyBytesMax: number;
  readonly window: Window;
  readonly now: () => number;
}

export type StoreKv = (options: KvStoreOptions) => Promise<KvStoreAnswer>;

export function createStore(options: StoringOptions): StoreKv {
  const { held, pieces, digests, now, book } = options;
  const { blocks } = held;

  async function store(o: KvStoreOptions): Promise<KvStoreAnswer> {
    const scope = scopeOf(o.tenant, o.salt);
    let intake: Intake | undefined;
    try {
      await pour(o.body, {
        ...{ pieces: pieces.of(o.tenant), digests, bytesMax: options.bodyBytesMax, signal: o.signal },
        digest: o.digest,
        sinks: async () => (intake ? [intake.take] : []),
        // Asked as soon as the header is read, before anything behind it is taken.
        cut(layout, offset) {
          intake ??= openIntake(layout, { ...o, rope: o.rope, held, scope, window: options.window });
          return intake.cut(offset);
        },
      });
      if (!intake) throw new Error('a body was read whose header was not');
      await intake.seal();
      return await keep(intake, o);
    } finally {
      intake?.drop();
    }
  }

  /** The body is in: its blocks become those of its sequence. */
  async function keep(intake: Intake, { tenant, ttl, priority = 50, signal }: KvStoreOptions): Promise<KvStoreAnswer> {
    const { root, tokens } = intake;
    const wish = { priority, expiresAt: ttl === undefined ? Number.POSITIVE_INFINITY : now() + ttl * 1000 };
    const chain: KvBlock[] = [];
    let before = 0;
    let lostOn: string | undefined;
    for (let at = 0; at + BLOCK_TOKENS <= tokens.length; at += BLOCK_TOKENS) {
      const own = tokens.subarray(at, at + BLOCK_TOKENS);
      let known = blocks.find(root, chain.at(-1), own);
      if (known?.kept.hot?.lease.lost && !held.cool(known)) {
        blocks.remove(known, 'lost');
        known = undefined;
      }
      const made = known ? undefined : intake.pagesOf(chain.length);
      if (made?.lease.lost) {
        held.release(made.lease);
        lostOn = made.lease.adapter;
        break; // what came before it is held, and is the tenant's
      }
      if (known) blocks.want(known, wish);
      const block =
        known ??
        (made &&
          blocks.insert(root, chain.at(-1), own, { hot: made, cold: undefined, tenant, grades: intake.grades }, wish));
      if (!block) break;
      if (known) before++;
      chain.push(block);
    }
    if (chain.length === 0 && intake.cutShort) throw intake.cutShort.fault;
    if (chain.length === 0 && tokens.length >= BLOCK_TOKENS) throw lostMeanwhile(lostOn ?? 'An adapter');
    blocks.touch(chain, wish);
    book.stored(chain, tenant);
    if (lostOn !== undefined) throw lostMeanwhile(lostOn);
    const release = blocks.hold(chain);
    try {
      await seal(chain, signal);
      for (const adapter of new Set(chain.flatMap(({ kept }) => kept.hot?.lease.adapter ?? [])))
        if (options.pool.isDraining(adapter)) await clearAdapter(adapter, held, pieces, options.pack, signal);
      return {
        storedTokens: chain.length * BLOCK_TOKENS,
        deduplicatedTokens: before * BLOCK_TOKENS,
        blocks: chain.map(face),
      };
    } finally {
      release();
    }
  }

  /** What has enough blocks behind it is no longer kept exact. */
  async function seal(chain: readonly KvBlock[], signal: AbortSignal): Promise<void> {
    const { firstBlocks, lastBlocks } = options.window;
    for (const block of chain.slice(firstBlocks, Math.max(0, chain.length - lastBlocks)))
      if (block.kept.hot) await recode(block, block.kept.hot.wanted, held, signal);
  }

  return store;
}

const lostMeanwhile = (adapter: string) =>
  problem('adapter_lost', `${adapter} was lost while the tensors came in. Send them again.`);
