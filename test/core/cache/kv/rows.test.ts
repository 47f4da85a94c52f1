// Pieces of a body with K and V: whole blocks in each, and every vector in one group.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { groupsOf, nextCut, rowsAt, vectorBytes } from '../../../../core/cache/kv/rows.ts';
import { BLOCK_TOKENS } from '../../../../core/codec/pages.ts';
import { readStoreBody } from '../../../../core/contract/kv.ts';
import { parseHeader, type TensorShape, tensorHeader } from '../../../../core/contract/tensors.ts';
import { PIECE_BYTES } from '../../../../core/gpu/pieces.ts';
import { seeded } from '../../../support/seeded.ts';

const DIMS = [64, 80, 96, 128, 256] as const;
const DTYPES = ['F32', 'F16', 'BF16'] as const;

test('nextCut() and groupsOf() cover every vector once, in pieces of whole blocks', () => {
  const random = seeded();
  for (let round = 0; round < 60; round++) {
    const n = 1 + random.below(round % 2 === 0 ? 700 : 3000);
    const dtype = random.pick(DTYPES);
    const shape = [1 + random.below(4), 1 + random.below(3), n, random.pick(DIMS)];
    const tensors: TensorShape[] = [
      { name: 'tokens', dtype: 'I32', shape: [n] },
      { name: 'k', dtype, shape },
      { name: 'v', dtype, shape },
    ];
    if (random.below(2) === 0) tensors.reverse();
    const header = tensorHeader(tensors);
    const layout = parseHeader(header.subarray(8));
    const body = readStoreBody(layout);
    const bytes = vectorBytes(body);
    const seen = { k: new Set<string>(), v: new Set<string>() };
    const vectors = (shape[0] ?? 0) * (shape[1] ?? 0) * n;
    let pieces = 0;
    for (let offset = 0; offset < layout.totalBytes; pieces++) {
      const end = nextCut(layout, body, offset);
      assert.ok(end > offset && end <= layout.totalBytes, `a piece from ${offset} to ${end}`);
      const rows = rowsAt(layout, body, offset);
      if (rows) {
        const count = (end - offset) / bytes;
        assert.ok(end - offset <= PIECE_BYTES && Number.isInteger(count) && Number.isInteger(rows.first));
        for (const group of groupsOf(body, rows.first, count)) {
          for (let i = 0; i < group.vectors; i++) {
            const token = group.block * BLOCK_TOKENS + i;
            seen[rows.part].add(`${group.layer} ${group.head} ${token}`);
          }
          const whole = Math.min(BLOCK_TOKENS, n - group.block * BLOCK_TOKENS);
          assert.equal(group.vectors, whole, 'a block that is cut');
        }
      }
      offset = end;
    }
    assert.deepEqual([seen.k.size, seen.v.size], [vectors, vectors], `SEED=${random.seed}`);
    assert.ok(pieces <= 4 + 2 * Math.ceil((vectors * bytes) / (PIECE_BYTES - BLOCK_TOKENS * bytes)));
  }
});
