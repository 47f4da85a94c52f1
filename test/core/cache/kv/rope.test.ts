// K that is stored before its rotary embedding, on a real adapter: it comes back as it was or embedded, attention over it is
// attention over the embedded K, the parameters are part of what a chain is, and coding it so costs less than coding it after.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DIM, heavyValues, normal, outlierKeys } from '../../../../bench/lib/kv-data.ts';
import { floatsOf } from '../../../../core/codec/means.ts';
import type { Rope, RopeAsked } from '../../../../core/contract/kv.ts';
import { Problem } from '../../../../core/contract/problems.ts';
import { joinParts, parseTensors, tensorBytes, tensorParts } from '../../../../core/contract/tensors.ts';
import { rope as embedded } from '../../../../shaders/references.ts';
import { bodyOf, type Engine, patience, startEngine } from '../../../support/engine.ts';
import { seeded } from '../../../support/seeded.ts';

const OWNER = { tenant: 'tenant', model: 'model' };
const EXACT = { firstBlocks: 0, lastBlocks: 0 };

interface Sequence {
  readonly tokens: Int32Array;
  readonly layers: number;
  readonly kvHeads: number;
  readonly dim: number;
  /** [layers, kvHeads, tokens, dim] */
  readonly k: Float16Array;
  readonly v: Float16Array;
}

const random = seeded();
const bytesOf = ({ buffer, byteOffset, byteLength }: ArrayBufferView) => new Uint8Array(buffer, byteOffset, byteLength);
const tokensOf = (n: number) => Int32Array.from({ length: n }, () => random.below(1000));

/** Uniform; K with large means in some channels. */
function sequence(layers: number, kvHeads: number, n: number, dim: number): Sequence {
  const count = layers * kvHeads * n * dim;
  const means = Float32Array.from({ length: dim }, () => (random.below(16) === 0 ? 6 : 0));
  const k = Float16Array.from({ length: count }, (_, i) => random.next() * 4 - 2 + (means[i % dim] ?? 0));
  const v = Float16Array.from({ length: count }, () => random.next() * 4 - 1);
  return { tokens: tokensOf(n), layers, kvHeads, dim, k, v };
}

function store(
  engine: Engine,
  given: Sequence,
  rope?: RopeAsked,
  [codecK, codecV]: readonly [string, string] = ['raw', 'raw'],
) {
  const { tokens, layers, kvHeads, dim, k, v } = given;
  const shape = [layers, kvHeads, tokens.length, dim];
  const file = joinParts(
    tensorParts([
      { name: 'tokens', dtype: 'I32', shape: [tokens.length], data: bytesOf(tokens) },
      { name: 'k', dtype: 'F16', shape, data: bytesOf(k) },
      { name: 'v', dtype: 'F16', shape, data: bytesOf(v) },
    ]),
  );
  const body = { chunks: bodyOf(file), length: file.length };
  return engine.kv.store({ ...OWNER, rope, codecK, codecV, body, digest: undefined, signal: patience() });
}

async function load(engine: Engine, tokens: Int32Array, rope?: boolean) {
  const found = await engine.kv.load({ ...OWNER, tokens, dtype: 'F32', rope, signal: patience() });
  const parts: Uint8Array[] = [];
  for await (const { piece, length } of found.read(patience())) {
    parts.push(Uint8Array.from(piece.bytes.subarray(0, length)));
    piece.release();
  }
  const file = Buffer.concat(parts);
  const layout = parseTensors(file);
  const [k, v] = layout.tensors.map((tensor) => floatsOf(tensorBytes(file, layout, tensor), 'F32'));
  if (!k || !v) throw new Error('no k and v');
  return { k, v, said: layout.metadata.rope };
}

interface Asked {
  readonly heads: number;
  readonly queries: number;
  readonly layer: number;
  readonly window?: number;
}

async function attend(engine: Engine, tokens: Int32Array, q: Float32Array, asked: Asked) {
  const { heads, queries, layer, window } = asked;
  const file = joinParts(
    tensorParts([
      { name: 'tokens', dtype: 'I32', shape: [tokens.length], data: bytesOf(tokens) },
      { name: 'q', dtype: 'F32', shape: [heads, queries, q.length / heads / queries], data: bytesOf(q) },
    ]),
  );
  const body = { chunks: bodyOf(file), length: file.length };
  const rest = { layer, window, causal: true, digest: undefined, signal: patience() };
  const answer = await engine.kv.attention({ ...OWNER, body, ...rest });
  const layout = parseTensors(answer);
  const [lse, o] = layout.tensors.map((info) => floatsOf(tensorBytes(answer, layout, info), 'F32'));
  if (!o || !lse) throw new Error('no o and lse');
  return { o, lse };
}

/** In f64, over K as it is given here: outputs and log-sum-exps. */
function reference(
  k: ArrayLike<number>,
  v: ArrayLike<number>,
  q: Float32Array,
  given: Sequence,
  asked: Asked,
  n: number,
) {
  const { kvHeads, dim } = given;
  const { heads, queries, layer, window = n } = asked;
  const o = new Float64Array(q.length);
  const lse = new Float64Array(heads * queries);
  for (let row = 0; row < heads * queries; row++) {
    const kv = (layer * kvHeads + Math.floor((Math.floor(row / queries) * kvHeads) / heads)) * n * dim;
    const here = n - queries + (row % queries);
    const first = Math.max(0, here + 1 - window);
    const scores = Array.from({ length: here + 1 - first }, (_, at) => {
      let sum = 0;
      for (let i = 0; i < dim; i++) sum += (q[row * dim + i] ?? 0) * (k[kv + (first + at) * dim + i] ?? 0);
      return sum / Math.sqrt(dim);
    });
    const most = scores.reduce((a, b) => Math.max(a, b));
    const sum = scores.reduce((all, score) => all + Math.exp(score - most), 0);
    lse[row] = most + Math.log(sum);
    for (const [at, score] of scores.entries())
      for (let i = 0; i < dim; i++)
        o[row * dim + i] =
          (o[row * dim + i] ?? 0) + (Math.exp(score - most) / sum) * (v[kv + (first + at) * dim + i] ?? 0);
  }
  return { o, lse };
}

function distance(found: ArrayLike<number>, wanted: ArrayLike<number>): number {
  let [error, size] = [0, 0];
  for (let i = 0; i < wanted.length; i++) {
    error += ((found[i] ?? 0) - (wanted[i] ?? 0)) ** 2;
    size += (wanted[i] ?? 0) ** 2;
  }
  assert.equal(found.length, wanted.length);
  return Math.sqrt(error / size);
}

const queriesOf = (count: number) => Float32Array.from({ length: count }, () => random.next() * 2 - 1);

/** Loads both ways and asks, of the first `n` tokens, and compares with the loaded K embedded in f64. */
async function agrees(engine: Engine, given: Sequence, rope: Rope, n: number, asked: Asked, what: string) {
  const tokens = given.tokens.slice(0, n);
  const { k, v, said } = await load(engine, tokens);
  const wanted = embedded(k, rope, given.dim, (vector) => vector % n);
  const applied = await load(engine, tokens, true);
  assert.deepEqual([said, applied.said], ['before', 'applied']);
  assert.deepEqual(applied.v, v);
  assert.ok(distance(applied.k, wanted) < 4e-7, `${what}: K off by ${distance(applied.k, wanted)}`);
  const q = queriesOf(asked.heads * asked.queries * given.dim);
  const { o, lse } = await attend(engine, tokens, q, asked);
  const truth = reference(wanted, v, q, given, asked, n);
  assert.ok(distance(o, truth.o) < 4e-6, `${what}: outputs off by ${distance(o, truth.o)}`);
  assert.ok(distance(lse, truth.lse) < 2e-6, `${what}: lse off by ${distance(lse, truth.lse)}`);
  return k;
}

test('attention() and load() embed K that was stored before its rotary embedding', async (t) => {
  const engine = await startEngine(t, { kv: { window: { firstBlocks: 1, lastBlocks: 1 } } });
  for (const { dim, n, codecs, rope, ...asked } of [
    { dim: 128, n: 64 * 5, codecs: ['tq4', 'tq4'], rope: { theta: 5e5 }, heads: 4, queries: 1, layer: 1 },
    {
      ...({ dim: 64, n: 64 * 4 - 11, codecs: ['tcq4f', 'q8r'], heads: 2, queries: 5, layer: 0 } as const),
      rope: { theta: 1e4, pairs: 'neighbours', scale: 8 },
    },
    { dim: 80, n: 200, codecs: ['q8r', 'raw'], rope: { theta: 1e6, dims: 32 }, heads: 6, queries: 3, layer: 1 },
    { dim: 96, n: 64 * 4, codecs: ['q8r', 'tq4'], rope: { theta: 1e4 }, heads: 2, queries: 16, layer: 0, window: 100 },
  ] as const) {
    const given = sequence(2, 2, Math.ceil(n / 64) * 64, dim);
    await store(engine, given, rope, codecs);
    const whole: Rope = { scale: 1, pairs: 'halves', dims: dim, ...rope };
    const k = await agrees(engine, given, whole, n, asked, `${codecs.join(' ')} ${dim}`);
    if (n === given.tokens.length) assert.ok(distance(k, given.k) < 0.11, 'K comes back as it was stored');
  }
  await engine.assertIdle();
});

test('load() embeds K of heads that end within a piece', async (t) => {
  const engine = await startEngine(t, { kv: { window: EXACT } });
  const given = sequence(1, 4, 64 * 70, 128);
  await store(engine, given, { theta: 1e4 });
  const { k } = await load(engine, given.tokens, true);
  const rope: Rope = { theta: 1e4, scale: 1, pairs: 'halves', dims: 128 };
  const wanted = embedded(given.k, rope, 128, (vector) => vector % given.tokens.length);
  assert.ok(distance(k, wanted) < 4e-7, `off by ${distance(k, wanted)}`);
});

test('attention() stages many pages in parts, load() cuts long heads, and both know late positions', async (t) => {
  const engine = await startEngine(t, { kv: { window: EXACT } });
  const n = 64 * (120 * 8 + 5);
  const given = sequence(1, 2, n, 64);
  await store(engine, given, { theta: 1e4 });
  const asked = { heads: 2, queries: 2, layer: 0 };
  const rope: Rope = { theta: 1e4, scale: 1, pairs: 'halves', dims: 64 };
  const k = await agrees(engine, given, rope, n, asked, 'all');
  assert.equal(distance(k, given.k), 0);
  await agrees(engine, given, rope, n, { ...asked, window: 500 }, 'a window');
  await engine.assertIdle();
});

test('store() keeps chains of other rotary embeddings apart, and K as it comes from all of them', async (t) => {
  const engine = await startEngine(t, { kv: { window: EXACT } });
  const given = sequence(1, 1, 128, 64);
  const hashes = new Set<string>();
  const ropes: (RopeAsked | undefined)[] = [
    undefined,
    { theta: 1e4 },
    { theta: 5e5 },
    { theta: 1e4, scale: 2 },
    { theta: 1e4, pairs: 'neighbours' },
    { theta: 1e4, dims: 32 },
  ];
  for (const rope of ropes) {
    const { deduplicatedTokens, blocks } = await store(engine, given, rope);
    assert.equal(deduplicatedTokens, 0);
    for (const { hash } of blocks) hashes.add(hash);
  }
  assert.equal(hashes.size, 2 * ropes.length);
  const spelledOut = { theta: 1e4, scale: 1, pairs: 'halves', dims: 64 } as const;
  assert.equal((await store(engine, given, spelledOut)).deduplicatedTokens, 128);
  await engine.assertIdle();
});

test('load() leaves K that was stored as it comes, whatever is asked', async (t) => {
  const engine = await startEngine(t, { kv: { window: EXACT } });
  const given = sequence(1, 2, 64, 64);
  await store(engine, given);
  const { k, said } = await load(engine, given.tokens, true);
  assert.deepEqual([k, said], [Float32Array.from(given.k), undefined]);
});

test('store() refuses a rotary embedding of more channels than a head has', async (t) => {
  const engine = await startEngine(t, { kv: { window: EXACT } });
  await assert.rejects(
    store(engine, sequence(1, 1, 64, 64), { theta: 1e4, dims: 72 }),
    (error) => error instanceof Problem && error.code === 'kv_malformed' && /ropeDims is 72/.test(error.message),
  );
  await engine.assertIdle();
});

test('K with large channels costs attention less coded before its rotary embedding than after', async (t) => {
  const engine = await startEngine(t, { kv: { window: EXACT } });
  const n = 512;
  const rope: Rope = { theta: 5e5, scale: 1, pairs: 'halves', dims: DIM };
  const base = { layers: 1, kvHeads: 1, dim: DIM };
  const before = Float16Array.from(outlierKeys(5, n).values);
  const after = Float16Array.from(embedded(before, rope, DIM, (vector) => vector));
  const v = Float16Array.from(heavyValues(6, n).values);
  const [first, second] = [tokensOf(n), tokensOf(n)];
  const given = { ...base, tokens: first, k: before, v };
  await store(engine, given, { theta: 5e5 }, ['tcq4', 'raw']);
  await store(engine, { ...base, tokens: second, k: after, v }, undefined, ['tcq4', 'raw']);
  const asked = { heads: 32, queries: 1, layer: 0 };
  const q = Float32Array.from({ length: asked.heads * DIM }, normal(7));
  const truth = reference(
    embedded(before, rope, DIM, (vector) => vector),
    v,
    q,
    given,
    asked,
    n,
  );
  const [early, late] = [await attend(engine, first, q, asked), await attend(engine, second, q, asked)];
  const [kept, lost] = [distance(early.o, truth.o), distance(late.o, truth.o)];
  t.diagnostic(`relative error of outputs: ${kept.toFixed(4)} before, ${lost.toFixed(4)} after`);
  assert.ok(kept < 0.85 * lost, `${kept} before, ${lost} after`);
});
