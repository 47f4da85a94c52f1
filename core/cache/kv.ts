// The KV of token sequences: stored as blocks of 64 tokens in coded pages on adapters, found again by the longest held
// beginning, given back as tensors, and attended over where it lies. Lives on adapters only: what an adapter loses is gone,
// and is stored again by whoever needs it.
// Invariants: whoever reads a block holds it, so that it cannot leave; nothing of one scope is ever found from another.

import { attend } from '../codec/attention.ts';
import { BLOCK_TOKENS } from '../codec/pages.ts';
import type { KvBlock as KvBlockAnswer, KvDtype, KvShape, KvStoreAnswer, RopeAsked } from '../contract/kv.ts';
import { problem } from '../contract/problems.ts';
import { DTYPES, joinParts, type TensorShape, tensorHeader, tensorParts } from '../contract/tensors.ts';
import type { Pieces } from '../gpu/pieces.ts';
import type { Pool } from '../gpu/pool.ts';
import { type Match, type Root, scopeOf } from './blocks.ts';
import type { Digests } from './digest.ts';
import type { Drained } from './drain.ts';
import { drainKv } from './kv-drain.ts';
import { createHeldPages, type Held, type KvBlock } from './kv-held.ts';
import { type Intake, openIntake, type Window } from './kv-intake.ts';
import { clearAdapter, type KvDrained } from './kv-moves.ts';
import { createQuestions, type QuestionBody } from './kv-question.ts';
import { recode } from './kv-recode.ts';
import { type Body, pour, type SignedDigest } from './pour.ts';

export interface KvOptions {
  readonly pool: Pool;
  readonly pieces: Pieces;
  readonly digests: Digests;
  readonly bodyBytesMax: number;
  /** Of the adapters' memory; more than that KV never takes. */
  readonly share: number;
  readonly window: Window;
  readonly makeRoom: Parameters<typeof createHeldPages>[0]['makeRoom'];
}

export interface KvOwner {
  readonly tenant: string;
  readonly salt?: string | undefined;
  readonly model: string;
}

export interface KvStoreOptions extends KvOwner {
  readonly codecK: string;
  readonly codecV: string;
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

export interface KvStats {
  blocks: number;
  bytes: number;
  evictions: number;
  lost: number;
  /** Tokens that were asked for, to load or to attend to, and of those the ones held. */
  tokens: { asked: number; matched: number };
}

export interface Kv {
  store(options: KvStoreOptions): Promise<KvStoreAnswer>;
  load(options: KvLoadOptions): KvLoaded;
  /** A safetensors file with `o` and `lse`. */
  attention(options: KvAttentionOptions): Promise<Uint8Array<ArrayBuffer>>;
  /** What contradicts the invariants of blocks and pages, a line each; none if all is well. */
  check(): string[];
  /** Off an adapter that takes no new leases. */
  drain(adapter: string, signal: AbortSignal): Promise<KvDrained>;
  /** An adapter's process is gone: forget what was there. */
  dropLost(): void;
  stats(): KvStats;
}

export function openKv(options: KvOptions): Kv {
  const { pieces, digests } = options;
  const held = createHeldPages(options);
  const { blocks } = held;
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
      return await keep(intake, o.signal);
    } finally {
      intake?.drop();
    }
  }

  /** The body is in: its blocks become those of its sequence. */
  async function keep(intake: Intake, signal: AbortSignal): Promise<KvStoreAnswer> {
    const { root, tokens } = intake;
    const chain: KvBlock[] = [];
    let before = 0;
    for (let at = 0; at + BLOCK_TOKENS <= tokens.length; at += BLOCK_TOKENS) {
      const own = tokens.subarray(at, at + BLOCK_TOKENS);
      let known = blocks.find(root, chain.at(-1), own);
      if (known?.pages.lease.lost) {
        blocks.remove(known);
        known = undefined;
      }
      const made = known ? undefined : intake.pagesOf(chain.length);
      if (made?.lease.lost) {
        held.release(made.lease);
        throw lostMeanwhile(made.lease.adapter);
      }
      const block = known ?? (made && blocks.insert(root, chain.at(-1), own, made));
      if (!block) break;
      if (known) before++;
      chain.push(block);
    }
    if (chain.length === 0 && intake.cutShort) throw intake.cutShort.fault;
    if (chain.length === 0 && tokens.length >= BLOCK_TOKENS) throw lostMeanwhile('An adapter');
    blocks.touch(chain);
    const release = blocks.hold(chain);
    try {
      await seal(chain, signal);
      for (const adapter of new Set(chain.map(({ pages }) => pages.lease.adapter)))
        if (options.pool.isDraining(adapter)) await clearAdapter(adapter, held, pieces, signal);
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
      await recode(block, block.pages.wanted, held, signal);
  }

  function longest(o: KvOwner & { tokens: Int32Array }, fits: (shape: KvShape) => boolean) {
    const scope = scopeOf(o.tenant, o.salt);
    let best: { root: Root; match: Match<Held> } | undefined;
    for (const root of blocks.layouts(scope, o.model)) {
      if (!fits(root.shape)) continue;
      const match = blocks.match(root, o.tokens);
      if (match.tokens > (best?.match.tokens ?? 0)) best = { root, match };
    }
    tokens.asked += o.tokens.length;
    tokens.matched += best?.match.tokens ?? 0;
    return best;
  }

  function load(o: KvLoadOptions): KvLoaded {
    const found = longest(o, () => true);
    if (!found)
      throw problem('kv_unknown', `Nothing is held of these ${o.tokens.length} tokens for this model.`, {
        matchedTokens: 0,
      });
    const { root, match } = found;
    const rope = o.rope ? root.rope : undefined;
    const { layers, kvHeads, dim } = root.shape;
    const shape = [layers, kvHeads, match.tokens, dim];
    const tensors: TensorShape[] = ['k', 'v'].map((name) => ({ name, dtype: o.dtype, shape }));
    const header = tensorHeader(tensors, {
      matched_tokens: String(match.tokens),
      ...(root.rope ? { rope: rope ? 'applied' : 'before' } : {}),
    });
    const vectors = layers * kvHeads * match.tokens;
    return {
      matchedTokens: match.tokens,
      bytes: header.length + (2 * vectors * dim * DTYPES[o.dtype]) / 8,
      async *read(signal) {
        const { pages, release } = held.read(match.blocks);
        try {
          const { shape } = root;
          yield* drainKv({ pieces, header, shape, rope, pages, tokens: match.tokens, dtype: o.dtype, signal });
        } finally {
          release();
        }
      },
    };
  }

  function attention(o: KvAttentionOptions): Promise<Uint8Array<ArrayBuffer>> {
    return questions.ask(o, async ({ body, tokens, q }) => {
      const { heads, queries, dim, tokenCount } = body;
      const fits = (shape: KvShape) => shape.dim === dim && heads % shape.kvHeads === 0 && o.layer < shape.layers;
      const found = longest({ ...o, tokens }, fits);
      const matchedTokens = found?.match.tokens ?? 0;
      if (!found || matchedTokens < tokenCount)
        throw problem(
          'kv_unknown',
          `Of these ${tokenCount} tokens ${matchedTokens} are held with a layer ${o.layer}, head_dim ${dim} and kv_heads that divide ${heads}.`,
          { matchedTokens },
        );
      const { pages, release } = held.read(found.match.blocks);
      try {
        const { layer, causal, scale = 1 / Math.sqrt(dim), window = 0 } = o;
        const query = { layer, heads, q, queries, scale, causal, window };
        const { shape, rope } = found.root;
        const answer = await attend({ shape, rope, pages, tokens: tokenCount, query, isGpu, signal: o.signal });
        return joinParts(
          tensorParts([
            { name: 'o', dtype: 'F32', shape: [heads, queries, dim], data: bytesOf(answer.o) },
            { name: 'lse', dtype: 'F32', shape: [heads, queries], data: bytesOf(answer.lse) },
          ]),
        );
      } finally {
        release();
      }
    });
  }

  /** Software adapters have kernels of their own. */
  const isGpu = (adapter: string): boolean => options.pool.reportOf(adapter).software === false;

  return {
    store,
    load,
    attention,
    check: held.faults,
    async drain(adapter, signal) {
      const done = await clearAdapter(adapter, held, pieces, signal);
      // what has come to another adapter before that was told to drain
      for (const { id } of options.pool.report())
        if (id !== adapter && options.pool.isDraining(id)) await clearAdapter(id, held, pieces, signal);
      return done;
    },
    dropLost() {
      lost += held.dropLost();
    },
    stats: () => ({ blocks: blocks.size, bytes: held.bytes, evictions: held.evictions, lost, tokens: { ...tokens } }),
  };
}

const bytesOf = ({ buffer, byteOffset, byteLength }: Float32Array): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength);

const lostMeanwhile = (adapter: string) =>
  problem('adapter_lost', `${adapter} was lost while the tensors came in. Send them again.`);

/** A block as callers see it. */
function face({ hash, tokens, pages }: KvBlock): KvBlockAnswer {
  const { form, lease } = pages;
  return {
    hash,
    tokens: tokens.length,
    tier: 'hot',
    codecK: form.k,
    codecV: form.v,
    adapter: lease.adapter,
    storedBytes: lease.bytes,
  };
}
