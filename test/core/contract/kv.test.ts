// What queries may say: of K's rotary embedding in a store, of an attention's scale; and what is said of what is wrong.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { kvAttentionQuerySchema, kvStoreQuerySchema, ROPE_WIDTH_MAX, readRope } from '../../../core/contract/kv.ts';
import { parseQuery } from '../../../core/contract/messages.ts';
import { Problem } from '../../../core/contract/problems.ts';

const SHAPE = { layers: 2, kvHeads: 8, dim: 128 };
const parse = (query: string) => parseQuery(kvStoreQuerySchema, new URLSearchParams(`model=m&${query}`));

test('kvStoreQuerySchema has no rope unless its theta is given, and readRope() fills in the rest', () => {
  assert.equal(parse('').rope, undefined);
  const { rope } = parse('rope=500000');
  assert.ok(rope);
  assert.deepEqual(readRope(rope, SHAPE), { theta: 500_000, scale: 1, pairs: 'halves', dims: 128 });
  const { rope: other } = parse('rope=1e4&ropeScale=0.5&ropePairs=neighbours&ropeDims=64');
  assert.ok(other);
  assert.deepEqual(readRope(other, SHAPE), { theta: 10_000, scale: 0.5, pairs: 'neighbours', dims: 64 });
});

test('kvStoreQuerySchema refuses a rope that is none, with the path of the fault', () => {
  for (const [query, path] of [
    ['rope=0', 'rope'],
    ['rope=-10000', 'rope'],
    ['rope=Infinity', 'rope'],
    ['rope=NaN', 'rope'],
    ['rope=', 'rope'],
    ['rope=llama', 'rope'],
    ['rope=10000&ropeScale=0', 'ropeScale'],
    ['rope=10000&ropePairs=all', 'ropePairs'],
    ['rope=10000&ropeDims=12', 'ropeDims'],
    ['rope=10000&ropeDims=0', 'ropeDims'],
    ['rope=10000&ropeDims=512', 'ropeDims'],
    ['ropeScale=2', 'ropeScale'],
    ['ropePairs=halves', 'ropePairs'],
    ['ropeDims=64', 'ropeDims'],
  ] as const)
    assert.throws(
      () => parse(query),
      (error) => {
        assert.ok(error instanceof Problem && error.status === 422, query);
        assert.deepEqual([query, (error.extra.faults as { path: string }[])[0]?.path], [query, path]);
        return true;
      },
    );
});

test('readRope() refuses more channels than a head has, and more heads than scratch has room for', () => {
  assert.throws(() => readRope({ theta: 1e4, dims: 136 }, SHAPE), /ropeDims is 136 and head_dim 128/);
  const widest = { layers: 1, kvHeads: ROPE_WIDTH_MAX / 128, dim: 128 };
  assert.equal(readRope({ theta: 1e4 }, widest).dims, 128);
  assert.throws(() => readRope({ theta: 1e4 }, { ...widest, kvHeads: widest.kvHeads + 1 }), /it must be 81920 at most/);
});

test('the scale of an attention is one that 32 bits can tell', () => {
  const scaleOf = (scale: string) => kvAttentionQuerySchema.safeParse({ model: 'm', layer: '0', scale }).data?.scale;
  assert.equal(scaleOf('0.125'), 0.125);
  for (const odd of ['0', '-1', '1e39', 'Infinity', 'NaN', '']) assert.equal(scaleOf(odd), undefined, odd);
});
