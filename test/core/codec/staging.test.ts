// What is staged for attention, as numbers: groups of pages fit into scratch, runs into their bounds, and no dispatch reads
// and writes one buffer. Whether the result is right is tried on adapters: test/core/cache/kv/rope.test.ts.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Form } from '../../../core/codec/pages.ts';
import { partBytes } from '../../../core/codec/pages.ts';
import { stagedAt, stagedForm, stagedPagesMax, staging } from '../../../core/codec/staging.ts';
import { ROPE_WIDTH_MAX } from '../../../core/contract/kv.ts';
import { SLAB_BYTES } from '../../../core/gpu/arena.ts';
import { SCRATCH_BYTES, scratch, WORK_BOUNDS, type WorkRange } from '../../../core/gpu/work.ts';
import { planAttention, SCRATCH_PAGES_AT } from '../../../shaders/attention.ts';

const SHAPES = [
  { layers: 2, kvHeads: 1, dim: 64 },
  { layers: 2, kvHeads: 8, dim: 128 },
  { layers: 2, kvHeads: 3, dim: 80 },
  { layers: 2, kvHeads: ROPE_WIDTH_MAX / 256, dim: 256 },
  { layers: 2, kvHeads: 1024, dim: 80 },
];
const FORMS: Form[] = [
  { k: 'tq4', v: 'tq4' },
  { k: 'f16', v: 'f32' },
  { k: 'tcq2e', v: 'tcq2e' },
];
const ROPE = { theta: 1e4, scale: 1, pairs: 'halves' } as const;

test('a run with staged pages stays within its bounds and within scratch, whatever the heads', () => {
  let tried = 0;
  for (const shape of SHAPES)
    for (const form of FORMS) {
      if (partBytes(shape, form.k) + partBytes(shape, form.v) > SLAB_BYTES) continue; // is never stored
      const { kvHeads, dim, layers } = shape;
      const count = stagedPagesMax(shape, form);
      assert.ok(count >= 1);
      assert.ok(stagedAt(shape, form, count) <= SCRATCH_BYTES, `${JSON.stringify(shape)} ${form.k} ${form.v}`);
      const pages = Array.from({ length: count }, (_, index) => ({
        page: { binding: 0, byteOffset: index * SLAB_BYTES, byteLength: SLAB_BYTES },
        ...{ index, position: index * 64 },
      }));
      const means = { values: new Float32Array(layers * kvHeads * dim) };
      const queries = 128;
      const [run] = planAttention({
        ...{ heads: kvHeads, kvHeads, dim, queries, position: count * 64 - 1, begin: 0, end: count * 64 + queries },
        ...{ causal: true, window: 0, scale: 1, biased: false, gpu: false },
        keys: stagedForm(form).k,
        values: stagedForm(form).v,
        pages: pages.map(({ index, position }) => ({
          at: { scratch: 3 },
          offset: stagedAt(shape, form, index),
          position,
        })),
      });
      assert.ok(run && run.pages.length === count);
      const free = run.table.offset + run.table.size;
      const { uploads, dispatches } = staging(
        { shape, form, rope: { ...ROPE, dims: dim }, means, layer: 1 },
        pages,
        free,
      );
      assert.ok(dispatches.length + run.steps.length <= WORK_BOUNDS.dispatches, `${dispatches.length} dispatches`);
      assert.ok(uploads.every(({ range }) => range.at === scratch(0) && range.offset >= free));
      for (const { kernel, bindings } of dispatches) {
        const ranges = Object.entries<WorkRange>(bindings);
        const target = ranges.find(([name]) => name === 'target' || name === 'transformed')?.[1];
        assert.ok(target && ranges.every(([, range]) => range === target || range.at !== target.at), kernel);
        for (const [, { at, offset, size }] of ranges)
          assert.ok(offset % 256 === 0 && (at === 0 || offset + size <= SCRATCH_BYTES), kernel);
        if (target.at === scratch(3)) assert.ok(target.offset >= SCRATCH_PAGES_AT);
      }
      tried++;
    }
  assert.ok(tried >= 10, `${tried} tried`);
});
