// Sequences on their way out: as tensors, or attended to where they lie. What is read is the longest held beginning that is on
// adapters, or comes back to them in time.
// Invariants: whoever reads a block holds it, so that it cannot leave; what is found whole a moment before its answer begins is read
// again for it, all of it or not at all.
import { attend } from '../../codec/attention.ts';
import { BLOCK_TOKENS } from '../../codec/pages.ts';
import type { KvDtype, KvShape } from '../../contract/kv.ts';
import { problem } from '../../contract/problems.ts';
import { DTYPES, joinParts, type TensorShape, tensorHeader, tensorParts } from '../../contract/tensors.ts';
import type { Pieces } from '../../gpu/pieces.ts';
import { together } from '../../gpu/together.ts';
import { createByTenant } from '../by-tenant.ts';
import type { Digests } from '../digest.ts';
import type { Drained } from '../drain.ts';
import { type Root, scopeOf } from './blocks.ts';
import type { KvAsked, KvOwner, Longest } from './calls.ts';
import type { Canary } from './canary.ts';
import { drainKv, type KvDrainOptions } from './drain.ts';
import type { Foresight } from './foresight.ts';
import type { HeldPages, KvBlock } from './held.ts';
import { createQuestions, type QuestionBody } from './question.ts';
import type { Reading, Returns } from './returns.ts';
import { verifyPages } from './seals.ts';

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

/** Blocks that are held, with their pages, and which of the asked tokens those are. */
interface Used extends Omit<Reading, 'count'> {
  readonly root: Root;
  readonly blocks: readonly KvBlock[];
  readonly tokens: number;
}

export interface ReadsOptions {
  readonly held: HeldPages;
  readonly returns: Pick<Returns, 'read'>;
  readonly foresight: Pick<Foresight, 'asked' | 'readTo'>;
  readonly canary: Pick<Canary, 'consider'>;
  readonly isGpu: (adapter: string) => boolean;
  readonly pieces: Pieces;
  readonly digests: Digests;
  /** Attention looks again at pages that were last found whole so long ago. */
  readonly verifyMs: number;
}

export interface Reads {
  load(options: KvLoadOptions): Promise<KvLoaded>;
  /** A safetensors file with `o` and `lse`. */
  attention(options: KvAttentionOptions): Promise<Uint8Array<ArrayBuffer>>;
  /** Of the layouts that fit, the one that has the most of these tokens. */
  longest(asked: KvAsked, fits: (shape: KvShape) => boolean): Longest | undefined;
  /** Asked for, to load or to attend to, and of those the ones held. */
  readonly tokens: Tokens;
  /** By a tenant; of those seen last. */
  tokensOf(tenant: string): Tokens;
}

interface Tokens {
  readonly asked: number;
  readonly matched: number;
}

/** Are counted by themselves. */
const TENANTS_MAX = 10_000;

export function createReads({
  held,
  returns,
  foresight,
  canary,
  isGpu,
  pieces,
  digests,
  verifyMs,
}: ReadsOptions): Reads {
  const { blocks } = held;
  const questions = createQuestions(pieces, digests);
  const tokens = { asked: 0, matched: 0 };
  const own = createByTenant(TENANTS_MAX, () => ({ asked: 0, matched: 0 }));

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
    for (const each of [tokens, own.of(o.tenant)]) each.asked += o.tokens.length;
    if (!best) return undefined;
    blocks.touch(best.match.blocks);
    foresight.asked(best.match.blocks);
    const { count, pages, release } = await returns.read(best.match.blocks, signal);
    const matched = count < best.match.blocks.length ? count * BLOCK_TOKENS : best.match.tokens;
    for (const each of [tokens, own.of(o.tenant)]) each.matched += matched;
    const last = best.match.blocks.at(-1);
    if (last && matched > o.tokens.length - BLOCK_TOKENS) foresight.readTo(last);
    return { root: best.root, blocks: best.match.blocks.slice(0, count), tokens: matched, pages, release };
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
          yield* drainKv({
            pieces: pieces.of(o.tenant),
            header,
            shape,
            rope,
            pages,
            tokens,
            dtype: o.dtype,
            verify,
            signal,
          });
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
        const looked = { layers: { first: layer, last: layer }, staleMs: verifyMs };
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

  const tokensOf = (tenant: string): Tokens => own.known(tenant) ?? { asked: 0, matched: 0 };
  return { load, attention, longest, tokens, tokensOf };
}

const bytesOf = ({ buffer, byteOffset, byteLength }: Float32Array): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength);
