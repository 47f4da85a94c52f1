// A set of numbers against the language's own.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createNumberSet } from '../../../core/gpu/number-set.ts';
import { seeded } from '../../support/seeded.ts';

test('holds what the language holds, and finds its lowest, at every capacity', (t) => {
  const random = seeded();
  t.diagnostic(`SEED=${random.seed}`);
  for (const capacity of [1, 2, 31, 32, 33, 1000, 1024, 1025, 16_384, 40_000]) {
    const set = createNumberSet(capacity);
    const model = new Set<number>();
    const lowest = () => (model.size === 0 ? -1 : Math.min(...model));
    for (let step = 0; step < 1500; step++) {
      const n = random.below(capacity);
      if (random.below(300) === 0) {
        const count = random.below(Math.min(capacity, 100) + 1);
        set.fill(count);
        model.clear();
        for (let i = 0; i < count; i++) model.add(i);
      } else if (model.has(n)) {
        set.delete(n);
        model.delete(n);
      } else {
        set.add(n);
        model.add(n);
      }
      assert.equal(set.size, model.size);
      assert.equal(set.has(n), model.has(n));
      if (step % 5 === 0) assert.equal(set.lowest(), lowest());
    }
    set.fill(capacity);
    for (let n = 0; n < capacity; n++) {
      assert.equal(set.lowest(), n);
      set.delete(n);
    }
    assert.equal(set.lowest(), -1);
  }
});

test('add(), delete() and fill() throw for what cannot be', () => {
  const set = createNumberSet(40);
  set.add(39);
  assert.throws(() => set.add(39), /cannot be added/);
  assert.throws(() => set.add(40), /cannot be added/);
  assert.throws(() => set.add(-1), /cannot be added/);
  assert.throws(() => set.delete(3), /cannot be deleted/);
  assert.throws(() => set.delete(64), /cannot be deleted/);
  assert.throws(() => set.fill(41), /cannot hold 41/);
  assert.deepEqual([set.size, set.has(39), set.has(40), set.has(-1)], [1, true, false, false]);
});
