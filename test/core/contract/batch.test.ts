// Frames of batches: what is framed comes back, and no bytes at all make anything but entries or a Problem.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BATCH_BYTES_MAX, filesOf, frameHead, openFrame, readPuts } from '../../../core/contract/batch.ts';
import { Problem } from '../../../core/contract/problems.ts';
import { joinParts } from '../../../core/contract/tensors.ts';
import { seeded } from '../../support/seeded.ts';

const ROUNDS = Number(process.env.FUZZ_ROUNDS ?? 5000);
const random = seeded();

function batch(count: number): { frame: Uint8Array; files: Uint8Array[] } {
  const files = Array.from({ length: count }, () => random.bytes(random.below(40)));
  const put = files.map(({ length }, i) => ({ key: `k/${i}`, bytes: length }));
  return { frame: joinParts([frameHead({ put }), ...files]), files };
}

test('readPuts() gives back what was framed, with defaults', (t) => {
  t.diagnostic(`SEED=${random.seed}`);
  for (const count of [1, 2, 512]) {
    const { frame, files } = batch(count);
    const puts = readPuts(frame);
    assert.deepEqual(
      puts.map(({ file }) => file),
      files,
    );
    assert.deepEqual(puts[0]?.entry, {
      key: 'k/0',
      bytes: files[0]?.length,
      priority: 50,
      durability: 'through',
    });
  }
});

test('filesOf() counts before it cuts', () => {
  const file = new Uint8Array(10);
  assert.deepEqual(
    filesOf(file, [4, 0, 6]).map(({ length }) => length),
    [4, 0, 6],
  );
  assert.throws(() => filesOf(file, [4, 5]), { code: 'body_malformed' });
  assert.throws(() => filesOf(file, [4, 7]), { code: 'body_malformed' });
  assert.throws(() => filesOf(file, [BATCH_BYTES_MAX, 1]), { code: 'body_too_large', status: 413 });
  assert.throws(() => filesOf(file, [Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER]), { code: 'body_too_large' });
});

test(`frames that were damaged anywhere are read as they stand, or are a Problem (${ROUNDS} rounds)`, (t) => {
  t.diagnostic(`SEED=${random.seed}`);
  let refused = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const { frame } = batch(1 + random.below(4));
    const cut = random.below(4) === 0 ? frame.slice(0, random.below(frame.length)) : frame;
    for (let i = random.below(4); i >= 0; i--) if (cut.length > 0) cut[random.below(cut.length)] = random.below(256);
    try {
      const puts = readPuts(cut);
      assert.equal(
        puts.reduce((sum, { file }) => sum + file.length, 0),
        openFrame(cut).files.length,
      );
    } catch (error) {
      assert.ok(error instanceof Problem, String(error));
      assert.ok([413, 422].includes(error.status));
      refused++;
    }
  }
  assert.ok(refused > 0 && refused < ROUNDS);
});
