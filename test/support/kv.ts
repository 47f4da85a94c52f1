// Sequences of tokens with K and V for tests of the KV, stored, loaded and attended to as callers do; and the leases that
// hold them, so that a test can damage what lies there.
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import type { KvStoreOptions } from '../../core/cache/kv/store.ts';
import { floatsOf } from '../../core/codec/means.ts';
import type { KvDtype } from '../../core/contract/kv.ts';
import { joinParts, parseTensors, tensorBytes, tensorParts } from '../../core/contract/tensors.ts';
import type { GpuLease } from '../../core/gpu/gpu-lease.ts';
import { bodyOf, type Engine, patience } from './engine.ts';
import type { Seeded } from './seeded.ts';

export const OWNER = { tenant: 'tenant', model: 'model' };

export interface Sequence {
  readonly tokens: Int32Array;
  readonly dtype: KvDtype;
  /** [layers, kvHeads, tokens, dim] */
  readonly shape: readonly [layers: number, kvHeads: number, tokens: number, dim: number];
  readonly k: Uint8Array;
  readonly v: Uint8Array;
}

export const bytesOf = ({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength);

export function narrowed(values: Float32Array, dtype: KvDtype): Uint8Array {
  if (dtype === 'F32') return bytesOf(values);
  if (dtype === 'F16') return bytesOf(Float16Array.from(values));
  return bytesOf(Uint16Array.from(new Uint32Array(values.buffer), (bits) => bits >>> 16));
}

/** Values near normal, which entropy coders can do something with. */
export function sequence(random: Seeded, shape: Sequence['shape'], dtype: KvDtype = 'F16'): Sequence {
  const count = shape.reduce((product, n) => product * n, 1);
  const value = () => random.next() + random.next() + random.next() - 1.5;
  const [k, v] = [Float32Array.from({ length: count }, value), Float32Array.from({ length: count }, value)];
  const tokens = Int32Array.from({ length: shape[2] }, () => random.below(100_000));
  return { tokens, dtype, shape, k: narrowed(k, dtype), v: narrowed(v, dtype) };
}

export function storeKv(engine: Engine, given: Sequence, more: Partial<KvStoreOptions> = {}) {
  const { tokens, dtype, shape, k, v } = given;
  const file = joinParts(
    tensorParts([
      { name: 'tokens', dtype: 'I32', shape: [tokens.length], data: bytesOf(tokens) },
      { name: 'k', dtype, shape, data: k },
      { name: 'v', dtype, shape, data: v },
    ]),
  );
  const body = { chunks: bodyOf(file), length: file.length };
  const codecs = { codecK: 'raw', codecV: 'raw' };
  return engine.kv.store({ ...OWNER, ...codecs, body, digest: undefined, signal: patience(), ...more });
}

export async function loadKv(engine: Engine, tokens: Int32Array, dtype: KvDtype) {
  const found = await engine.kv.load({ ...OWNER, tokens, dtype, signal: patience() });
  const parts: Uint8Array[] = [];
  for await (const { piece, length } of found.read(patience())) {
    parts.push(Uint8Array.from(piece.bytes.subarray(0, length)));
    piece.release();
  }
  const file = Buffer.concat(parts);
  const layout = parseTensors(file);
  const [k, v] = layout.tensors.map((tensor) => Uint8Array.from(tensorBytes(file, layout, tensor)));
  if (!k || !v) throw new Error('no k and v');
  return { matchedTokens: found.matchedTokens, k, v };
}

/** The output of one query for each head, over all these tokens. */
export async function attendKv(engine: Engine, { tokens, shape }: Sequence, layer: number, window?: number) {
  const [, kvHeads, , dim] = shape;
  const q = new Float32Array(kvHeads * dim).fill(0.25);
  const file = joinParts(
    tensorParts([
      { name: 'tokens', dtype: 'I32', shape: [tokens.length], data: bytesOf(tokens) },
      { name: 'q', dtype: 'F32', shape: [kvHeads, 1, dim], data: bytesOf(q) },
    ]),
  );
  const body = { chunks: bodyOf(file), length: file.length };
  const asked = { layer, causal: true, window, digest: undefined, signal: patience() };
  const answer = await engine.kv.attention({ ...OWNER, body, ...asked });
  const layout = parseTensors(answer);
  const o = layout.tensors.find(({ name }) => name === 'o');
  assert.ok(o);
  return floatsOf(tensorBytes(answer, layout, o), 'F32');
}

/** The leases of a pool, from now on, in the order in which they were taken. */
export function leasesOf(t: TestContext, { pool }: Engine): readonly GpuLease[] {
  const leases: GpuLease[] = [];
  const { lease } = pool;
  t.mock.method(pool, 'lease', (...asked: Parameters<typeof lease>) => {
    const made = lease(...asked);
    leases.push(made);
    return made;
  });
  return leases;
}

/** Turns one bit of a page over, where it lies. */
export async function flipBit(engine: Engine, lease: GpuLease, page: number, bit: number): Promise<void> {
  const piece = await engine.pieces.take(patience());
  try {
    const at = page * lease.pageBytes;
    await lease.read(at, piece, lease.pageBytes);
    piece.bytes[bit >> 3] = (piece.bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    await lease.write(at, piece, lease.pageBytes);
  } finally {
    piece.release();
  }
}
