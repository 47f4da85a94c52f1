// The KV of token sequences on real adapters: what comes back is what went in, as exactly as its codec says; attention over
// it is what it would be over the loaded tensors; blocks are stored once, stay exact as long as they are to, and leave in
// their order; nothing of one tenant is found by another.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { KvStoreOptions } from '../../../../core/cache/kv/store.ts';
import { floatsOf } from '../../../../core/codec/means.ts';
import type { KvDtype } from '../../../../core/contract/kv.ts';
import { Problem } from '../../../../core/contract/problems.ts';
import {
  joinParts,
  parseTensors,
  type TensorData,
  tensorBytes,
  tensorHeader,
  tensorParts,
} from '../../../../core/contract/tensors.ts';
import { SLAB_BYTES } from '../../../../core/gpu/arena.ts';
import type { GpuLease } from '../../../../core/gpu/gpu-lease.ts';
import { SOURCE, takeAll } from '../../../support/adapters.ts';
import { bodyOf as chunksOf, type Engine, patience, startEngine } from '../../../support/engine.ts';
import { type Seeded, seeded } from '../../../support/seeded.ts';

const OWNER = { tenant: 'tenant', model: 'model' };
const EXACT = { firstBlocks: 0, lastBlocks: 0 };

interface Sequence {
  readonly tokens: Int32Array;
  readonly dtype: KvDtype;
  readonly shape: readonly [layers: number, heads: number, tokens: number, dim: number];
  readonly k: Uint8Array;
  readonly v: Uint8Array;
}

const bytesOf = ({ buffer, byteOffset, byteLength }: ArrayBufferView) => new Uint8Array(buffer, byteOffset, byteLength);

/** Normal values; K with a mean in each channel, of which some are large. */
function sequence(random: Seeded, shape: Sequence['shape'], dtype: KvDtype = 'F16', vocabulary = 1000): Sequence {
  const [layers, heads, n, dim] = shape;
  const normal = () => Math.sqrt(-2 * Math.log(1 - random.next())) * Math.cos(2 * Math.PI * random.next());
  const means = Float32Array.from(
    { length: layers * heads * dim },
    () => normal() * (random.below(20) === 0 ? 8 : 0.5),
  );
  const count = layers * heads * n * dim;
  const meanAt = (i: number) => means[Math.floor(i / (n * dim)) * dim + (i % dim)] ?? 0;
  const k = Float32Array.from({ length: count }, (_, i) => normal() + meanAt(i));
  const v = Float32Array.from({ length: count }, normal);
  const tokens = Int32Array.from({ length: n }, () => random.below(vocabulary));
  return { tokens, dtype, shape, k: narrowed(k, dtype), v: narrowed(v, dtype) };
}

function narrowed(values: Float32Array, dtype: KvDtype): Uint8Array {
  if (dtype === 'F32') return bytesOf(values);
  if (dtype === 'F16') return bytesOf(Float16Array.from(values));
  return bytesOf(Uint16Array.from(new Uint32Array(values.buffer), (bits) => bits >>> 16));
}

/** The last `held` tokens' K and V of a sequence, all its tokens. */
function fileOf({ tokens, dtype, shape, k, v }: Sequence, tokensFirst = true, held = shape[2]): Uint8Array {
  const [layers, heads, n, dim] = shape;
  const own = [layers, heads, held, dim];
  const rowBytes = k.length / layers / heads;
  const last = (bytes: Uint8Array): Uint8Array =>
    Buffer.concat(
      Array.from({ length: layers * heads }, (_, row) =>
        bytes.subarray((row + (n - held) / n) * rowBytes, (row + 1) * rowBytes),
      ),
    );
  const tensors: TensorData[] = [
    { name: 'tokens', dtype: 'I32', shape: [n], data: bytesOf(tokens) },
    { name: 'k', dtype, shape: own, data: last(k) },
    { name: 'v', dtype, shape: own, data: last(v) },
  ];
  const parts = tensorParts(tensors); // tokens come first where K and V have 16 bits, else last
  assert.equal(tokensFirst, dtype !== 'F32');
  return joinParts(parts);
}

const prefix = ({ tokens, dtype, shape, k, v }: Sequence, n: number): Sequence => {
  const [layers, heads, all, dim] = shape;
  const rowBytes = k.length / layers / heads;
  const first = (bytes: Uint8Array): Uint8Array =>
    Buffer.concat(
      Array.from({ length: layers * heads }, (_, row) => bytes.subarray(row * rowBytes, (row + n / all) * rowBytes)),
    );
  return { tokens: tokens.slice(0, n), dtype, shape: [layers, heads, n, dim], k: first(k), v: first(v) };
};

function store(engine: Engine, file: Uint8Array, more: Partial<KvStoreOptions> = {}) {
  const body = { chunks: chunksOf(file), length: file.length };
  return engine.kv.store({
    ...OWNER,
    codecK: 'raw',
    codecV: 'raw',
    body,
    digest: undefined,
    signal: patience(),
    ...more,
  });
}

async function load(
  engine: Engine,
  tokens: Int32Array,
  dtype: KvDtype,
  owner: { tenant: string; salt?: string } = OWNER,
) {
  const found = await engine.kv.load({ ...OWNER, ...owner, tokens, dtype, signal: patience() });
  const parts: Uint8Array[] = [];
  for await (const { piece, length } of found.read(patience())) {
    parts.push(Uint8Array.from(piece.bytes.subarray(0, length)));
    piece.release();
  }
  const file = Buffer.concat(parts);
  assert.equal(file.length, found.bytes);
  const layout = parseTensors(file);
  assert.equal(layout.metadata.matched_tokens, String(found.matchedTokens));
  const [k, v] = layout.tensors.map((tensor) => Uint8Array.from(tensorBytes(file, layout, tensor)));
  if (!k || !v) throw new Error('no k and v');
  return { matchedTokens: found.matchedTokens, shape: layout.tensors[0]?.shape, k, v };
}

function relativeError(found: Uint8Array, wanted: Uint8Array, dtype: KvDtype): number {
  const [a, b] = [floatsOf(found, dtype), floatsOf(wanted, dtype)];
  assert.equal(a.length, b.length);
  let error = 0;
  let size = 0;
  for (const [i, value] of b.entries()) {
    error += ((a[i] ?? 0) - value) ** 2;
    size += value ** 2;
  }
  return error / size;
}

const code = (wanted: string) => (error: unknown) => error instanceof Problem && error.code === wanted;

test('store() and load() keep every bit of raw, in every dtype and dimension, whatever the count', async (t) => {
  const random = seeded();
  const engine = await startEngine(t, { kv: { window: EXACT } });
  for (const [dtype, dim, n] of [
    ['F16', 64, 64],
    ['BF16', 80, 65],
    ['F32', 96, 200],
    ['F16', 128, 1000],
    ['F32', 256, 128],
  ] as const) {
    const given = sequence(random, [3, 2, n, dim], dtype);
    const stored = await store(engine, fileOf(given, dtype !== 'F32'));
    const whole = n - (n % 64);
    assert.deepEqual([stored.storedTokens, stored.deduplicatedTokens, stored.blocks.length], [whole, 0, whole / 64]);
    const held = prefix(given, whole);
    const found = await load(engine, given.tokens, dtype);
    assert.equal(found.matchedTokens, whole);
    assert.deepEqual(found.shape, held.shape);
    assert.ok(Buffer.compare(found.k, held.k) === 0 && Buffer.compare(found.v, held.v) === 0, `${dtype} ${dim} ${n}`);
    const again = await store(engine, fileOf(given, dtype !== 'F32'));
    assert.deepEqual([again.storedTokens, again.deduplicatedTokens], [whole, whole]);
  }
  await engine.assertIdle();
});

test('store() keeps raw bits that are no numbers, in every dtype', async (t) => {
  const random = seeded();
  const engine = await startEngine(t, { kv: { window: EXACT } });
  for (const dtype of ['F32', 'F16', 'BF16'] as const) {
    const given = sequence(random, [1, 2, 64, 64], dtype);
    const any = { ...given, k: random.bytes(given.k.length), v: random.bytes(given.v.length) };
    await store(engine, fileOf(any, dtype !== 'F32'));
    const found = await load(engine, any.tokens, dtype);
    assert.ok(Buffer.compare(found.k, any.k) === 0 && Buffer.compare(found.v, any.v) === 0, dtype);
  }
});

test('store() codes K and V as asked, and load() gives them back within their error', async (t) => {
  const random = seeded();
  const engine = await startEngine(t, { kv: { window: EXACT } });
  const bounds = { q8r: 6e-5, tq4: 0.0115, tcq4: 0.0055 } as const;
  for (const [codecK, codecV] of [
    ['q8r', 'tq4'],
    ['tcq4', 'q8r'],
    ['tq4', 'f16'],
  ] as const) {
    const given = sequence(random, [2, 2, 128, 128]);
    const { blocks } = await store(engine, fileOf(given), { codecK, codecV });
    assert.deepEqual(
      blocks.map((block) => [block.codecK, block.codecV]),
      [
        [codecK, codecV],
        [codecK, codecV],
      ],
    );
    const found = await load(engine, given.tokens, 'F16');
    // what the mean of K would add to its size is not counted for it
    const k = relativeError(found.k, given.k, 'F16');
    const v = relativeError(found.v, given.v, 'F16');
    assert.ok(k < bounds[codecK] * 1.2, `K as ${codecK}: ${k}`);
    assert.ok(codecV === 'f16' ? v === 0 : v < bounds[codecV], `V as ${codecV}: ${v}`);
  }
  await engine.assertIdle();
});

test('store() keeps both ends in 16 bits, and codes what others follow', async (t) => {
  const random = seeded();
  const engine = await startEngine(t, { kv: { window: { firstBlocks: 1, lastBlocks: 2 } } });
  const given = sequence(random, [2, 1, 64 * 8, 64]);
  const asked = { codecK: 'tq4', codecV: 'tq4' };
  const forms = async (n: number, held = n) => {
    const { blocks } = await store(engine, fileOf(prefix(given, n), true, held), asked);
    return blocks.map(({ codecK, codecV }) => (codecK === codecV ? codecK : `${codecK} ${codecV}`)).join(' ');
  };
  assert.equal(await forms(64 * 4), 'f16 tq4 f16 f16');
  assert.equal(await forms(64 * 5, 64), 'f16 tq4 tq4 f16 f16');
  assert.equal(await forms(64 * 8), 'f16 tq4 tq4 tq4 tq4 tq4 f16 f16');
  const found = await load(engine, given.tokens, 'F16');
  assert.equal(found.matchedTokens, 64 * 8);
  assert.ok(relativeError(found.k, given.k, 'F16') < 0.01);
  await assert.rejects(
    store(engine, fileOf(prefix(sequence(random, given.shape), 64 * 3), true, 64)),
    code('kv_unknown'),
  );
  await engine.assertIdle();
});

test('load() finds a beginning, of a block too, and nothing of another tenant, salt or model', async (t) => {
  const random = seeded();
  const engine = await startEngine(t, { kv: { window: EXACT } });
  const given = sequence(random, [1, 2, 192, 64]);
  await store(engine, fileOf(given), { codecK: 'q8r', codecV: 'q8r', salt: 'shared' });
  const other = given.tokens.slice();
  other[150] = 7777;
  for (const [tokens, matched] of [
    [given.tokens, 192],
    [given.tokens.subarray(0, 100), 100],
    [other, 128],
    [given.tokens.subarray(0, 1), 1],
  ] as const) {
    const found = await load(engine, tokens, 'F32', { tenant: 'another', salt: 'shared' });
    assert.equal(found.matchedTokens, matched);
    const wanted = floatsOf(prefix(given, matched).k, 'F16');
    assert.ok(relativeError(found.k, bytesOf(wanted), 'F32') < 1e-4, `${matched} tokens`);
  }
  for (const owner of [{ tenant: 'tenant' }, { tenant: 'another' }, { tenant: 'tenant', salt: 'other' }])
    await assert.rejects(load(engine, given.tokens, 'F16', owner), code('kv_unknown'));
  const elsewhere = { ...OWNER, salt: 'shared', model: 'other' };
  await assert.rejects(
    engine.kv.load({ ...elsewhere, tokens: given.tokens, dtype: 'F16', signal: patience() }),
    code('kv_unknown'),
  );
});

/** Attention over loaded tensors, in f64. */
function reference(
  k: Float32Array,
  v: Float32Array,
  q: Float32Array,
  o: {
    heads: number;
    kvHeads: number;
    dim: number;
    n: number;
    queries: number;
    causal: boolean;
    window: number;
    layer: number;
  },
) {
  const { heads, kvHeads, dim, n, queries, layer } = o;
  const out = new Float64Array(heads * queries * dim);
  const lse = new Float64Array(heads * queries);
  for (let head = 0; head < heads; head++)
    for (let query = 0; query < queries; query++) {
      const kv = (layer * kvHeads + Math.floor((head * kvHeads) / heads)) * n * dim;
      const row = head * queries + query;
      const here = n - queries + query;
      const scores = Array.from({ length: n }, (_, token) => {
        if ((o.causal && token > here) || (o.window > 0 && token + o.window <= here)) return Number.NEGATIVE_INFINITY;
        let sum = 0;
        for (let i = 0; i < dim; i++) sum += (q[row * dim + i] ?? 0) * (k[kv + token * dim + i] ?? 0);
        return sum / Math.sqrt(dim);
      });
      const most = Math.max(...scores);
      const weights = scores.map((score) => Math.exp(score - most));
      const sum = weights.reduce((a, b) => a + b, 0);
      lse[row] = most + Math.log(sum);
      for (const [token, weight] of weights.entries())
        for (let i = 0; i < dim; i++)
          out[row * dim + i] = (out[row * dim + i] ?? 0) + (weight / sum) * (v[kv + token * dim + i] ?? 0);
    }
  return { out, lse };
}

const distance = (found: Float32Array, wanted: Float64Array): number => {
  const error = wanted.reduce((sum, value, i) => sum + ((found[i] ?? 0) - value) ** 2, 0);
  return Math.sqrt(error / wanted.reduce((sum, value) => sum + value ** 2, 0));
};

interface Asked {
  readonly n: number;
  readonly queries: number;
  readonly causal: boolean;
  readonly window: number;
}

/** Asks for attention over the first `n` tokens of what is held, and compares it with what load() gives. */
async function attends(engine: Engine, random: Seeded, { tokens: all, shape }: Sequence, asked: Asked, what: string) {
  const { n, queries, causal, window } = asked;
  const [, kvHeads, , dim] = shape;
  const [heads, layer] = [kvHeads * 2, 1];
  const tokens = all.slice(0, n);
  const q = Float32Array.from({ length: heads * queries * dim }, () => random.next() * 2 - 1);
  const file = joinParts(
    tensorParts([
      { name: 'tokens', dtype: 'I32', shape: [n], data: bytesOf(tokens) },
      { name: 'q', dtype: 'F32', shape: [heads, queries, dim], data: bytesOf(q) },
    ]),
  );
  const body = { chunks: chunksOf(file), length: file.length };
  const rest = { layer, causal, ...(window > 0 ? { window } : {}), digest: undefined, signal: patience() };
  const answer = await engine.kv.attention({ ...OWNER, body, ...rest });
  const layout = parseTensors(answer);
  const tensor = (name: string) => {
    const info = layout.tensors.find((each) => each.name === name);
    if (!info) throw new Error(`no ${name}`);
    return floatsOf(tensorBytes(answer, layout, info), 'F32');
  };
  const { k, v } = await load(engine, tokens, 'F32');
  const wanted = reference(floatsOf(k, 'F32'), floatsOf(v, 'F32'), q, {
    ...{ heads, kvHeads, dim, n, queries, causal, window, layer },
  });
  assert.ok(distance(tensor('o'), wanted.out) < 4e-6, `${what}: outputs off by ${distance(tensor('o'), wanted.out)}`);
  assert.ok(distance(tensor('lse'), wanted.lse) < 2e-6, `${what}: lse off by ${distance(tensor('lse'), wanted.lse)}`);
}

test('attention() over held pages is attention over what load() gives', async (t) => {
  const random = seeded();
  const engine = await startEngine(t, { kv: { window: { firstBlocks: 1, lastBlocks: 1 } } });
  for (const { codecK, codecV, dim, ...asked } of [
    { codecK: 'tq4', codecV: 'tq4', dim: 128, n: 64 * 5, queries: 1, causal: true, window: 0 },
    { codecK: 'tcq4f', codecV: 'q8r', dim: 64, n: 64 * 4 - 11, queries: 5, causal: true, window: 0 },
    { codecK: 'raw', codecV: 'tq4', dim: 80, n: 200, queries: 3, causal: false, window: 0 },
    { codecK: 'q8r', codecV: 'raw', dim: 96, n: 64 * 4, queries: 16, causal: true, window: 100 },
    { codecK: 'tq4', codecV: 'q8r', dim: 64, n: 64 * 5, queries: 300, causal: true, window: 0 },
    { codecK: 'q8r', codecV: 'tq4', dim: 64, n: 64 * 4 - 30, queries: 130, causal: false, window: 0 },
  ]) {
    const given = sequence(random, [2, 2, Math.ceil(asked.n / 64) * 64, dim]);
    await store(engine, fileOf(given), { codecK, codecV });
    await attends(engine, random, given, asked, `${codecK} ${codecV}`);
  }
  await engine.assertIdle();
});

/** Takes all that is free on an adapter. */
function fill({ pool }: Engine, adapter: string): GpuLease[] {
  const { freeSlabs, classes } = pool.reportOf(adapter).memory;
  const wanted = [...classes, { pageBytes: SLAB_BYTES, freePages: freeSlabs }];
  return wanted.map(({ pageBytes, freePages }) => {
    const lease = pool.lease({ adapter, pageBytes });
    assert.ok(lease.grow(freePages * pageBytes));
    return lease;
  });
}

test('attention() merges what lies on two adapters', async (t) => {
  const random = seeded();
  const engine = await startEngine(t, { pool: { adapters: [SOURCE, SOURCE] }, kv: { window: EXACT } });
  const given = sequence(random, [2, 2, 64 * 6, 64]);
  const asked = { codecK: 'q8r', codecV: 'q8r' };
  const [first] = (await store(engine, fileOf(prefix(given, 64 * 3)), asked)).blocks;
  const ballast = fill(engine, first?.adapter ?? '');
  const { blocks } = await store(engine, fileOf(given, true, 64 * 3), asked);
  assert.equal(new Set(blocks.map(({ adapter }) => adapter)).size, 2);
  await attends(engine, random, given, { n: 64 * 6, queries: 2, causal: true, window: 0 }, 'two adapters');
  for (const lease of ballast) lease.release();
  await engine.assertIdle();
});

test('blocks leave last ones first, the oldest first, within the share of memory', async (t) => {
  const random = seeded();
  const engine = await startEngine(t, { kv: { window: EXACT, share: 0.02 } }); // of 128 MiB
  const old = sequence(random, [1, 2, 64 * 10, 128]);
  await store(engine, fileOf(old));
  for (let i = 0; i < 8; i++) await store(engine, fileOf(sequence(random, [1, 2, 64 * 4, 128])));
  const { bytes, evictions } = engine.kv.stats();
  assert.ok(bytes <= 0.02 * engine.pool.capacityBytes && evictions > 0);
  const found = await load(engine, old.tokens, 'F16').then(
    ({ matchedTokens }) => matchedTokens,
    () => 0,
  );
  assert.ok(found < 640 && found % 64 === 0);
  await assert.rejects(store(engine, fileOf(sequence(random, [64, 4, 64, 256]))), code('capacity_exhausted'));
  await engine.assertIdle();
});

test('what an adapter loses is forgotten, and stored again', async (t) => {
  const random = seeded();
  const engine = await startEngine(t, { kv: { window: EXACT } });
  const given = sequence(random, [1, 2, 128, 64]);
  await store(engine, fileOf(given));
  await engine.killAdapter();
  await assert.rejects(load(engine, given.tokens, 'F16'), code('kv_unknown'));
  assert.equal(engine.kv.stats().bytes, 0);
  const { deduplicatedTokens } = await store(engine, fileOf(given));
  assert.equal(deduplicatedTokens, 0);
  assert.equal(Buffer.compare((await load(engine, given.tokens, 'F16')).k, given.k), 0);
  await engine.assertIdle();
});

test('drain() brings blocks to another adapter, and they are read and attended to from there', async (t) => {
  const random = seeded();
  const engine = await startEngine(t, { pool: { adapters: [SOURCE, SOURCE] }, kv: { window: EXACT } });
  const given = sequence(random, [2, 2, 64 * 6, 64]);
  const { blocks } = await store(engine, fileOf(given));
  const adapter = blocks[0]?.adapter ?? '';
  assert.ok(
    blocks.every((block) => block.adapter === adapter),
    'a chain stays together while there is room',
  );
  const reading = (await engine.kv.load({ ...OWNER, tokens: given.tokens, dtype: 'F16', signal: patience() })).read(
    patience(),
  );
  const first = await reading.next();
  engine.pool.drain(adapter);
  const drained = await engine.kv.drain(adapter, patience());
  assert.deepEqual([drained.moved, drained.left], [6, 0]);
  for (let next = first; !next.done; next = await reading.next()) next.value.piece.release();
  assert.equal(engine.pool.reportOf(adapter).state, 'drained');
  const found = await load(engine, given.tokens, 'F16');
  assert.ok(Buffer.compare(found.k, given.k) === 0 && Buffer.compare(found.v, given.v) === 0);
  const [again] = (await store(engine, fileOf(given))).blocks;
  assert.notEqual(again?.adapter, adapter);
  await engine.assertIdle();
});

test('a drain that is called off gives back what it took, and a drain under stores leaves nothing there', async (t) => {
  const random = seeded();
  const engine = await startEngine(t, { pool: { adapters: [SOURCE, SOURCE] }, kv: { window: EXACT } });
  const given = sequence(random, [1, 2, 64 * 4, 64]);
  const [first] = (await store(engine, fileOf(given))).blocks;
  const adapter = first?.adapter ?? '';
  const { bytes } = engine.kv.stats();
  engine.pool.drain(adapter);
  const pieces = await takeAll(engine.pieces);
  await assert.rejects(engine.kv.drain(adapter, AbortSignal.timeout(50)));
  for (const piece of pieces) piece.release();
  assert.equal(engine.kv.stats().bytes, bytes);
  engine.pool.resume(adapter);
  const storing = Array.from({ length: 4 }, () => store(engine, fileOf(sequence(random, [1, 2, 64 * 2, 64]))));
  engine.pool.drain(adapter);
  await engine.kv.drain(adapter, patience());
  await Promise.all(storing);
  assert.equal(engine.pool.reportOf(adapter).state, 'drained');
  await engine.assertIdle();
});

test('store() of tokens between K and V keeps whole blocks, if those it knew of leave meanwhile', async (t) => {
  const random = seeded();
  const engine = await startEngine(t, { kv: { window: EXACT } });
  const given = sequence(random, [1, 2, 64 * 3, 64]);
  const [first] = (await store(engine, fileOf(given))).blocks;
  const adapter = first?.adapter ?? '';
  const [n, { dtype, shape, k, v }] = [given.tokens.length, given];
  const header = tensorHeader([
    { name: 'k', dtype, shape },
    { name: 'tokens', dtype: 'I32', shape: [n] },
    { name: 'v', dtype, shape },
  ]);
  const length = header.length + k.length + 4 * n + v.length;
  async function* chunks() {
    yield joinParts([header, k, bytesOf(given.tokens)]);
    engine.pool.drain(adapter);
    assert.equal((await engine.kv.drain(adapter, patience())).left, 3, 'there is no other adapter');
    engine.pool.resume(adapter);
    yield v;
  }
  const stored = await store(engine, header, { body: { chunks: chunks(), length } });
  assert.deepEqual([stored.storedTokens, stored.deduplicatedTokens], [n, 0]);
  const found = await load(engine, given.tokens, 'F16');
  assert.ok(Buffer.compare(found.k, k) === 0 && Buffer.compare(found.v, v) === 0);
  await engine.assertIdle();
});

test('a block of a fresh chain leaves before the one it follows', async (t) => {
  const random = seeded();
  const engine = await startEngine(t, { kv: { window: EXACT, share: 0.005 } }); // room for 5 blocks of 128 KiB
  const given = sequence(random, [1, 4, 64 * 4, 128]);
  await store(engine, fileOf(given));
  await store(engine, fileOf(sequence(random, [1, 4, 64 * 3, 128])));
  assert.equal((await load(engine, given.tokens, 'F16')).matchedTokens, 64 * 2);
  await engine.assertIdle();
});
