// What callers send and get about the KV of token sequences, as zod schemas and checks of safetensors layouts.
// A store brings `tokens` I32 [n] and `k`, `v` [layers, kv_heads, m, head_dim] of the last m tokens, m = n as a rule.
// Pure: edge and core read the same file.
import { z } from 'zod';
import { problem } from './problems.ts';
import { integer } from './settings.ts';
import type { Dtype, Layout, TensorInfo } from './tensors.ts';

export const TOKENS_MAX = 1 << 20;
export const HEAD_DIMS: readonly number[] = [64, 80, 96, 128, 256];
/** Dtypes that K and V come and go in. */
export const KV_DTYPES = ['F32', 'F16', 'BF16'] as const;
export type KvDtype = (typeof KV_DTYPES)[number];
export const LAYERS_MAX = 1024;
export const HEADS_MAX = 1024;
const QUERIES_MAX = 1 << 16;
const TTL_SECONDS_MAX = 10 * 365 * 86_400;
/** Adapters take it in 32 bits, where larger ones are infinite. */
const SCALE_MAX = 1e30;
/** Numbers of K of a token and layer: adapters have room for a block of them in f32. */
export const ROPE_WIDTH_MAX = 81_920;

export const kvName = z
  .string()
  .min(1)
  .max(200)
  .regex(/^[\x20-\x7e]+$/, 'only printable ASCII is allowed');
const isToken = (value: unknown): value is number => typeof value === 'number' && (value | 0) === value;
/** The first fault is the only one told: a million of them would take seconds, and a gigabyte. */
export const kvTokens = z
  .array(z.unknown())
  .min(1)
  .max(TOKENS_MAX)
  .transform((values, context): number[] => {
    if (values.every(isToken)) return values;
    const odd = values.findIndex((value) => !isToken(value));
    context.addIssue({ code: 'custom', path: [odd], message: 'must be a whole number of 32 bits' });
    return z.NEVER;
  });

/** Which channels a rotary embedding turns together: i and i + dims / 2 (Llama, NeoX), or 2 i and 2 i + 1 (GPT-J). */
export const ROPE_PAIRS = ['halves', 'neighbours'] as const;
export type RopePairs = (typeof ROPE_PAIRS)[number];
const THETA_MAX = 1e12;
const ROPE_SCALE_MIN = 1e-3;
const ROPE_SCALE_MAX = 1e6;
const ROPE_DIMS_STEP = 8;

const number = (min: number, max: number) => z.coerce.number().min(min).max(max);

export const kvStoreQuerySchema = z
  .strictObject({
    model: kvName,
    salt: kvName.optional(),
    codecK: z.string().max(64).default('raw'),
    codecV: z.string().max(64).default('raw'),
    /** Seconds after which it is not found any more; without it, it does not expire. */
    ttl: integer(1, TTL_SECONDS_MAX).optional(),
    /** The lowest leave first. */
    priority: integer(0, 100).default(50),
    /** Theta: K comes before its rotary embedding, and is turned whenever it is read; without it, K is taken as it comes. */
    rope: number(1, THETA_MAX).optional(),
    /** Positions are divided by it. */
    ropeScale: number(ROPE_SCALE_MIN, ROPE_SCALE_MAX).optional(),
    ropePairs: z.enum(ROPE_PAIRS).optional(),
    /** How many channels of a head turn, the first; default all. */
    ropeDims: integer(ROPE_DIMS_STEP, Math.max(...HEAD_DIMS))
      .refine((dims) => dims % ROPE_DIMS_STEP === 0, `must be a multiple of ${ROPE_DIMS_STEP}`)
      .optional(),
  })
  .superRefine(({ rope, ...more }, context) => {
    for (const name of ['ropeScale', 'ropePairs', 'ropeDims'] as const)
      if (rope === undefined && more[name] !== undefined)
        context.addIssue({ code: 'custom', path: [name], message: 'says more of rope, which has to be given too' });
  })
  .transform(({ rope: theta, ropeScale: scale, ropePairs: pairs, ropeDims: dims, ...rest }) => ({
    ...rest,
    rope: theta === undefined ? undefined : { theta, scale, pairs, dims },
  }));

export const kvLoadSchema = z.strictObject({
  model: kvName,
  tokens: kvTokens,
  salt: kvName.optional(),
  dtype: z.enum(KV_DTYPES).default('F16'),
  /** K as attention sees it, where it was stored before its rotary embedding. */
  rope: z.boolean().optional(),
});

export const kvAttentionQuerySchema = z.strictObject({
  model: kvName,
  layer: integer(0, LAYERS_MAX - 1),
  salt: kvName.optional(),
  /** Default 1/sqrt(head_dim). */
  scale: z.coerce.number().positive().max(SCALE_MAX).optional(),
  causal: z
    .enum(['true', 'false'])
    .default('true')
    .transform((text) => text === 'true'),
  /** How many of the latest tokens a query sees, itself counted; default all. */
  window: integer(1, TOKENS_MAX).optional(),
});

export const kvBlockSchema = z.object({
  hash: z.string(),
  tokens: z.number(),
  /** On an adapter, exact or coded; or in memory. */
  tier: z.enum(['hot', 'warm', 'cold', 'disk']),
  codecK: z.string(),
  codecV: z.string(),
  /** Null where it is in memory only. */
  adapter: z.string().nullable(),
  storedBytes: z.number(),
});
export const kvStoreAnswerSchema = z.object({
  storedTokens: z.number(),
  deduplicatedTokens: z.number(),
  blocks: z.array(kvBlockSchema),
});
export type KvBlock = z.infer<typeof kvBlockSchema>;
export type KvStoreAnswer = z.infer<typeof kvStoreAnswerSchema>;

/** The shape of a model's KV: with the tokens of a block, its layout. */
export interface KvShape {
  readonly layers: number;
  readonly kvHeads: number;
  readonly dim: number;
}

/** The rotary embedding that K lacks as it is stored: pair i of a token at p turns by p / scale * theta^(-2 i / dims). */
export interface Rope {
  readonly theta: number;
  readonly scale: number;
  readonly pairs: RopePairs;
  /** So many channels of a head turn, the first. */
  readonly dims: number;
}

/** As callers say it: `scale` is 1, `pairs` are halves and `dims` all unless something else is said. */
export type RopeAsked = Pick<Rope, 'theta'> & {
  readonly [name in 'scale' | 'pairs' | 'dims']?: Rope[name] | undefined;
};

/** For K of this shape; throws where there is no such embedding of it. */
export function readRope(asked: RopeAsked, { kvHeads, dim }: KvShape): Rope {
  const { theta, scale = 1, pairs = 'halves', dims = dim } = asked;
  if (dims > dim) throw badShape(`ropeDims is ${dims} and head_dim ${dim}; it must be ${dim} at most`);
  if (kvHeads * dim > ROPE_WIDTH_MAX)
    throw badShape(`kv_heads × head_dim is ${kvHeads * dim}; with rope it must be ${ROPE_WIDTH_MAX} at most`);
  return { theta, scale, pairs, dims };
}

export interface KvStoreBody {
  readonly shape: KvShape;
  readonly dtype: KvDtype;
  readonly tokens: TensorInfo;
  readonly k: TensorInfo;
  readonly v: TensorInfo;
  /** Of the sequence. */
  readonly tokenCount: number;
  /** The tokens whose K and V the body holds: the last of the sequence. */
  readonly heldCount: number;
}

export function readStoreBody(layout: Layout): KvStoreBody {
  const { tokens, k, v } = pick(layout, ['tokens', 'k', 'v']);
  const tokenCount = readTokenCount(tokens);
  const [layers = 0, kvHeads = 0, heldCount = 0, dim = 0] = k.shape;
  if (k.shape.length !== 4 || k.shape.join() !== v.shape.join())
    throw badShape(`k has ${said(k)} and v ${said(v)}; both must be [layers, kv_heads, tokens, head_dim]`);
  if (k.dtype !== v.dtype || !isKvDtype(k.dtype))
    throw badShape(`k is ${k.dtype} and v ${v.dtype}; both must be one of ${KV_DTYPES.join(', ')}`);
  if (!HEAD_DIMS.includes(dim)) throw badShape(`head_dim is ${dim}; it must be one of ${HEAD_DIMS.join(', ')}`);
  if (layers < 1 || layers > LAYERS_MAX || kvHeads < 1 || kvHeads > HEADS_MAX)
    throw badShape(`k has ${said(k)}; layers and kv_heads must be 1 to ${LAYERS_MAX}`);
  if (heldCount < 1 || heldCount > tokenCount)
    throw badShape(
      `k holds ${heldCount} tokens of a sequence of ${tokenCount}; it must hold the last 1 to ${tokenCount}`,
    );
  return { shape: { layers, kvHeads, dim }, dtype: k.dtype, tokens, k, v, tokenCount, heldCount };
}

export interface KvAttentionBody {
  readonly tokens: TensorInfo;
  readonly q: TensorInfo;
  readonly tokenCount: number;
  readonly heads: number;
  readonly queries: number;
  readonly dim: number;
}

export function readAttentionBody(layout: Layout): KvAttentionBody {
  const { tokens, q } = pick(layout, ['tokens', 'q']);
  const tokenCount = readTokenCount(tokens);
  const [heads = 0, queries = 0, dim = 0] = q.shape;
  if (q.dtype !== 'F32' || q.shape.length !== 3 || !HEAD_DIMS.includes(dim))
    throw badShape(`q is ${q.dtype} ${said(q)}; it must be F32 [heads, queries, head_dim]`);
  if (heads < 1 || heads > HEADS_MAX) throw badShape(`q has ${heads} heads; there must be 1 to ${HEADS_MAX}`);
  if (queries < 1 || queries > Math.min(tokenCount, QUERIES_MAX))
    throw badShape(`q has ${queries} queries; they are the last of the ${tokenCount} tokens, ${QUERIES_MAX} at most`);
  return { tokens, q, tokenCount, heads, queries, dim };
}

/** The tensors of these names: all of them, and no other. */
function pick<const N extends string>(layout: Layout, names: readonly N[]): Readonly<Record<N, TensorInfo>> {
  const found = new Map<string, TensorInfo>(layout.tensors.map((tensor) => [tensor.name, tensor]));
  const missing = names.filter((name) => !found.has(name));
  const extra = [...found.keys()].filter((name) => !(names as readonly string[]).includes(name));
  if (missing.length > 0) throw badShape(`the body lacks ${missing.join(' and ')}; it must hold ${names.join(', ')}`);
  if (extra.length > 0)
    throw badShape(`the body also holds ${extra[0]?.slice(0, 64)}; it must hold ${names.join(', ')}`);
  return Object.fromEntries(found) as Record<N, TensorInfo>; // these names and no other: just checked
}

function readTokenCount(tokens: TensorInfo): number {
  const [count = 0] = tokens.shape;
  if (tokens.dtype !== 'I32' || tokens.shape.length !== 1)
    throw badShape(`tokens is ${tokens.dtype} ${said(tokens)}; it must be I32 [n]`);
  if (count < 1 || count > TOKENS_MAX) throw badShape(`tokens has ${count} entries; there must be 1 to ${TOKENS_MAX}`);
  return count;
}

const isKvDtype = (dtype: Dtype): dtype is KvDtype => (KV_DTYPES as readonly string[]).includes(dtype);
const said = ({ shape }: TensorInfo): string => `[${shape.join(', ')}]`;
const badShape = (fault: string) => problem('kv_malformed', `The tensors are not what is asked for: ${fault}.`);
