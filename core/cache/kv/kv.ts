// The KV of token sequences: stored as blocks of 64 tokens in coded pages on adapters, found again by the longest held
// beginning, given back as tensors, and attended over where it lies. What is not read for a while goes to memory, compressed, and
// comes back as soon as it is (demotion.ts, returns.ts). What an adapter loses that is not there is gone, and is stored
// again by whoever needs it.
// Each page has a seal (seals.ts): load and moves look at all they read, attention at what nobody has for a while.
// Invariants: whoever reads a block holds it, so that it cannot leave; nothing of one scope is ever found from another.

import { attend } from '../../codec/attention.ts';
import { BLOCK_TOKENS, pageBytes } from '../../codec/pages.ts';
import type { KvDtype, KvShape, KvStoreAnswer, RopeAsked } from '../../contract/kv.ts';
import type { KvNumberedEvent } from '../../contract/kv-calls.ts';
import type { PolicyAnswer, PolicyBody } from '../../contract/policy.ts';
import { problem } from '../../contract/problems.ts';
import { DTYPES, joinParts, type TensorShape, tensorHeader, tensorParts } from '../../contract/tensors.ts';
import type { Pieces } from '../../gpu/pieces.ts';
import type { Pool } from '../../gpu/pool.ts';
import { together } from '../../gpu/together.ts';
import { type Course, DEFAULT_COURSE } from '../course.ts';
import type { Digests } from '../digest.ts';
import type { Drained } from '../drain.ts';
import { kvPolicyAnswer } from '../policy-report.ts';
import { type Body, pour, type SignedDigest } from '../pour.ts';
import { type Root, scopeOf } from './blocks.ts';
import { createBook } from './book.ts';
import { type KvAsked, type KvCalls, type Longest, openCalls } from './calls.ts';
import { type CanaryStats, createCanary } from './canary.ts';
import { type KvVerified, verifyAll } from './check.ts';
import { createDemotion } from './demotion.ts';
import { drainKv, type KvDrainOptions } from './drain.ts';
import { face, type KvTiers } from './face.ts';
import { createHeldPages, type KvBlock } from './held.ts';
import { type Intake, openIntake, type Window } from './intake.ts';
import { clearAdapter, type KvDrained } from './moves.ts';
import { createPins } from './pins.ts';
import { createQuestions, type QuestionBody } from './question.ts';
import { recode } from './recode.ts';
import { createReturns, type Reading } from './returns.ts';
import { verifyPages } from './seals.ts';

export interface KvOptions {
  readonly pool: Pool;
  readonly pieces: Pieces;
  readonly digests: Digests;
  readonly bodyBytesMax: number;
  /** Of the adapters' memory; more than that KV never takes. */
  readonly share: number;
  readonly window: Window;
  /** Memory for what has no room on adapters. */
  readonly coldBytesMax: number;
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

export interface KvOwner {
  readonly tenant: string;
  readonly salt?: string | undefined;
  readonly model: string;
}

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

export interface KvLoadOptions extends KvOwner {
  readonly tokens: Int32Array;
  readonly dtype: KvDtype;
  /** K after its rotary embedding, where it was stored before; else as it was stored. */
  readonly rope?: boolean | undefined;
  readonly signal: AbortSignal;
}

export interface KvLoaded {
  readonly matchedTokens: number;
  readonly bytes: number;
  /** A safetensors file, once; whoever asks reads to the end or calls `return()`. */
  read(signal: AbortSignal): AsyncGenerator<Drained, void, void>;
}

export interface KvAttentionOptions extends KvOwner, QuestionBody {
  readonly layer: number;
  /** Default 1 / sqrt(head_dim). */
  readonly scale?: number | undefined;
  readonly causal: boolean;
  /** Default: all tokens. */
  readonly window?: number | undefined;
}

/** Of the cold shelf, and the ways there and back. */
export interface KvMemoryStats {
  bytes: number;
  bytesMost: number;
  bytesMax: number;
  packages: number;
  /** Packages that left for others. */
  evictions: number;
  /** Batches that were not packed, as where an adapter was lost. */
  failures: number;
  packed: number;
  packedBytes: number;
  /** By packing. */
  savedBytes: number;
  packMs: number;
  /** Blocks that left their adapter, and those that came back. */
  demotions: number;
  returned: number;
  /** Asked for, and not brought back as that would have taken too long. */
  declined: number;
  returnMs: number;
  nsPerByte: number;
}

export interface KvStats {
  blocks: number;
  /** On adapters. */
  bytes: number;
  /** The most that those have been. */
  bytesMost: number;
  tiers: KvTiers;
  memory: KvMemoryStats;
  evictions: number;
  lost: number;
  /** Blocks that were found damaged, and those that were forgotten as they followed one. */
  damaged: number;
  expired: number;
  cleared: number;
  canary: CanaryStats;
  /** Pins, and what they hold. */
  pinned: { pins: number; blocks: number; bytes: number };
  /** Of blocks of late: the share that was held when it was asked for or stored again, and would have been in other room. */
  hitRatio: PolicyAnswer['kv']['hitRatio'];
  /** Tokens that were asked for, to load or to attend to, and of those the ones held. */
  tokens: { asked: number; matched: number };
}

export interface Kv extends KvCalls {
  store(options: KvStoreOptions): Promise<KvStoreAnswer>;
  load(options: KvLoadOptions): Promise<KvLoaded>;
  /** A safetensors file with `o` and `lse`. */
  attention(options: KvAttentionOptions): Promise<Uint8Array<ArrayBuffer>>;
  /** Another strategy, another objective, or both, from now on; nothing leaves by it. */
  setPolicy(next: PolicyBody): void;
  /** What the strategy has found out, of all tenants. */
  policy(): PolicyAnswer['kv'];
  /** What contradicts the invariants of blocks and pages, a line each; none if all is well. */
  check(): string[];
  /** Compares all pages and packages with their seals; what is damaged is forgotten, and told of, a line each. */
  verify(signal: AbortSignal): Promise<KvVerified>;
  /** Off an adapter that takes no new leases. */
  drain(adapter: string, signal: AbortSignal): Promise<KvDrained>;
  /** An adapter's process is gone: forget what was there. */
  dropLost(): void;
  /** What happens to a tenant's blocks; see events.ts. */
  follow(
    tenant: string,
    after: number | undefined,
    quietMs: number,
    signal: AbortSignal,
  ): AsyncGenerator<KvNumberedEvent | number, void, void>;
  /** Ends all that is followed; the rest goes on. */
  endEvents(): void;
  /** Ends what is over its time; happens by itself, every few seconds. */
  sweep(): void;
  stats(): KvStats;
  /** Nothing goes on in the background. */
  settled(): Promise<void>;
  close(): Promise<void>;
}

const SWEEP_MS = 5000;

/** Blocks that are held, with their pages, and which of the asked tokens those are. */
interface Used extends Omit<Reading, 'count'> {
  readonly root: Root;
  readonly blocks: readonly KvBlock[];
  readonly tokens: number;
}

export function openKv(options: KvOptions): Kv {
  const { pieces, digests } = options;
  const { now } = options;
  const book = createBook(now, (block) => {
    const { tier, adapter } = face(block);
    return { tier, adapter };
  });
  const course: Course = { ...(options.course ?? DEFAULT_COURSE) };
  const held = createHeldPages({
    ...options,
    course,
    moved: book.moved,
    leased: () => demotion.wake(),
    left(block, cause) {
      pins.drop(block);
      book.left(block, cause);
      if (cause === 'expired' || cause === 'cleared') count[cause]++;
    },
  });
  const { blocks } = held;
  const demotion = createDemotion(held, pieces);
  /** Software adapters have kernels of their own. */
  const isGpu = (adapter: string): boolean => options.pool.reportOf(adapter).software === false;
  const canary = createCanary({ held, ...options.canary, isGpu, log: options.log });
  const returns = createReturns({ held, demotion, pieces, recomputeTokensPerSecond: options.recomputeTokensPerSecond });
  const pins = createPins({
    now,
    budget: () => options.share * options.pool.capacityBytes,
    bytesOf: pagesOf,
    hold: blocks.hold,
  });
  const count = { expired: 0, cleared: 0 };
  const calls = openCalls({
    held,
    returns,
    pack: demotion.pack,
    book,
    pins,
    pool: options.pool,
    pieces,
    longest,
    face,
  });
  const timer = setInterval(sweep, SWEEP_MS).unref();
  const questions = createQuestions(pieces, digests);
  let lost = 0;
  const tokens = { asked: 0, matched: 0 };

  async function store(o: KvStoreOptions): Promise<KvStoreAnswer> {
    const scope = scopeOf(o.tenant, o.salt);
    let intake: Intake | undefined;
    try {
      await pour(o.body, {
        ...{ pieces, digests, bytesMax: options.bodyBytesMax, signal: o.signal },
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
        (made && blocks.insert(root, chain.at(-1), own, { hot: made, cold: undefined, grades: intake.grades }, wish));
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
        if (options.pool.isDraining(adapter)) await clearAdapter(adapter, held, pieces, demotion.pack, signal);
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

  function longest(o: KvAsked, fits: (shape: KvShape) => boolean): Longest | undefined {
    const scope = scopeOf(o.tenant, o.salt);
    let best: Longest | undefined;
    for (const root of blocks.layouts(scope, o.model)) {
      if (!fits(root.shape)) continue;
      const match = blocks.match(root, o.tokens);
      if (match.tokens > (best?.match.tokens ?? 0)) best = { root, match };
    }
    return best;
  }

  /** To be read now: as much of the longest beginning as is on adapters, or has come back to them. It is held until `release`. */
  async function used(o: KvAsked, fits: (shape: KvShape) => boolean, signal: AbortSignal): Promise<Used | undefined> {
    const best = longest(o, fits);
    tokens.asked += o.tokens.length;
    if (!best) return undefined;
    blocks.touch(best.match.blocks);
    const { count, pages, release } = await returns.read(best.match.blocks, signal);
    const matched = count < best.match.blocks.length ? count * BLOCK_TOKENS : best.match.tokens;
    tokens.matched += matched;
    return { root: best.root, blocks: best.match.blocks.slice(0, count), tokens: matched, pages, release };
  }

  function sweep(): void {
    pins.sweep();
    for (const block of blocks.expired()) if (!block.removed) blocks.remove(block, 'expired');
  }

  async function load(o: KvLoadOptions): Promise<KvLoaded> {
    const found = await used(o, () => true, o.signal);
    found?.release();
    if (!found || found.tokens === 0)
      throw problem('kv_unknown', `Nothing is held of these ${o.tokens.length} tokens for this model.`, {
        matchedTokens: 0,
      });
    const { root, blocks, tokens } = found;
    const rope = o.rope ? root.rope : undefined;
    const { layers, kvHeads, dim } = root.shape;
    const shape = [layers, kvHeads, tokens, dim];
    const tensors: TensorShape[] = ['k', 'v'].map((name) => ({ name, dtype: o.dtype, shape }));
    const header = tensorHeader(tensors, {
      matched_tokens: String(tokens),
      ...(root.rope ? { rope: rope ? 'applied' : 'before' } : {}),
    });
    const vectors = layers * kvHeads * tokens;
    return {
      matchedTokens: tokens,
      bytes: header.length + (2 * vectors * dim * DTYPES[o.dtype]) / 8,
      async *read(signal) {
        const { pages, release } = await readAgain(blocks, signal);
        try {
          const { shape } = root;
          const verify: KvDrainOptions['verify'] = (layers) => verifyPages(held, blocks, pages, { layers }, signal);
          yield* drainKv({ pieces, header, shape, rope, pages, tokens, dtype: o.dtype, verify, signal });
        } finally {
          release();
        }
      },
    };
  }

  /** What was found a moment ago, all of it. */
  async function readAgain(chain: readonly KvBlock[], signal: AbortSignal): Promise<Reading> {
    const gone = problem('kv_unknown', 'Some of these tokens left just now. Send the request again.');
    if (chain.some(({ removed }) => removed)) throw gone;
    const reading = await returns.read(chain, signal);
    if (reading.count === chain.length) return reading;
    reading.release();
    throw gone;
  }

  function attention(o: KvAttentionOptions): Promise<Uint8Array<ArrayBuffer>> {
    return questions.ask(o, async ({ body, tokens, q }) => {
      const { heads, queries, dim, tokenCount } = body;
      const fits = (shape: KvShape) => shape.dim === dim && heads % shape.kvHeads === 0 && o.layer < shape.layers;
      const found = await used({ ...o, tokens }, fits, o.signal);
      const matchedTokens = found?.tokens ?? 0;
      try {
        if (!found || matchedTokens < tokenCount)
          throw problem(
            'kv_unknown',
            `Of these ${tokenCount} tokens ${matchedTokens} are held with a layer ${o.layer}, head_dim ${dim} and kv_heads that divide ${heads}.`,
            { matchedTokens },
          );
        const { blocks, pages } = found;
        const { layer, causal, scale = 1 / Math.sqrt(dim), window = 0 } = o;
        const query = { layer, heads, q, queries, scale, causal, window };
        const { shape, rope } = found.root;
        const seen = window > 0 ? Math.max(0, tokenCount - queries - window + 1) : 0;
        const first = Math.floor(seen / BLOCK_TOKENS);
        const looked = { layers: { first: layer, last: layer }, staleMs: options.verifyMs };
        const [answer] = await together([
          attend({ shape, rope, pages, tokens: tokenCount, query, isGpu, signal: o.signal }),
          verifyPages(held, blocks.slice(first), pages.slice(first), looked, o.signal),
        ]);
        canary.consider({ root: found.root, blocks, query });
        return joinParts(
          tensorParts([
            { name: 'o', dtype: 'F32', shape: [heads, queries, dim], data: bytesOf(answer.o) },
            { name: 'lse', dtype: 'F32', shape: [heads, queries], data: bytesOf(answer.lse) },
          ]),
        );
      } finally {
        found?.release();
      }
    });
  }

  function memoryStats(): KvMemoryStats {
    const { packed, packedBytes, pageBytes, ms, failures } = demotion.stats();
    const { returned, declined, ms: returnMs, nsPerByte } = returns.stats();
    const { bytes, bytesMost, bytesMax, packages, evictions } = held.shelf;
    return {
      ...{ bytes, bytesMost, bytesMax, packages, evictions, failures },
      ...{ packed, packedBytes, savedBytes: pageBytes - packedBytes, packMs: Math.round(ms) },
      ...{ demotions: held.demotions, returned, declined, returnMs: Math.round(returnMs), nsPerByte },
    };
  }

  return {
    store,
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
      const done = await clearAdapter(adapter, held, pieces, demotion.pack, signal);
      // what has come to another adapter before that was told to drain
      for (const { id } of options.pool.report())
        if (id !== adapter && options.pool.isDraining(id)) await clearAdapter(id, held, pieces, demotion.pack, signal);
      return done;
    },
    dropLost() {
      lost += held.dropLost();
    },
    ...calls,
    follow: book.events.follow,
    endEvents: book.events.close,
    sweep,
    stats: () => ({
      blocks: blocks.size,
      bytes: held.bytes,
      bytesMost: held.bytesMost,
      tiers: held.tiers(),
      memory: memoryStats(),
      evictions: held.evictions,
      lost,
      damaged: held.damages,
      ...count,
      canary: canary.stats(),
      pinned: pins.stats(),
      hitRatio: kvPolicyAnswer(blocks.report()).hitRatio,
      tokens: { ...tokens },
    }),
    async settled() {
      await canary.idle();
      await demotion.settled();
    },
    async close() {
      clearInterval(timer);
      book.events.close();
      await canary.idle();
      await demotion.close();
      await returns.close();
    },
  };
}

/** What a block takes on an adapter, be it there or not. */
function pagesOf({ root, kept }: KvBlock): number {
  const form = (kept.hot ?? kept.cold)?.form;
  return form ? pageBytes(root.shape, form) * root.shape.layers : 0;
}

const bytesOf = ({ buffer, byteOffset, byteLength }: Float32Array): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength);

const lostMeanwhile = (adapter: string) =>
  problem('adapter_lost', `${adapter} was lost while the tensors came in. Send them again.`);
