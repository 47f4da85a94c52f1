// Names: whatever came and went in between, a listing is what a sorted set would give.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createNames } from '../../../core/cache/names.ts';
import { seeded } from '../../support/seeded.ts';

test('from() lists like a sorted set over a random walk, by tenant, prefix and place', (t) => {
  const random = seeded();
  t.diagnostic(`SEED=${random.seed}`);
  const names = createNames();
  const model = { a: new Set<string>(), b: new Set<string>() };
  for (let step = 0; step < 4000; step++) {
    const tenant = random.pick<'a' | 'b'>(['a', 'b']);
    const key = `${random.pick(['x/', 'y/', ''])}${random.below(60)}`;
    if (model[tenant].has(key)) {
      model[tenant].delete(key);
      names.delete(tenant, key);
    } else {
      model[tenant].add(key);
      names.add(tenant, key);
    }
    if (random.below(5) > 0) continue;
    const prefix = random.pick(['', 'x/', 'y/', 'z/']);
    const after = random.pick(['', 'x/3', 'y/', '~']);
    const wanted = [...model[tenant]].filter((k) => k.startsWith(prefix) && k > after).sort();
    assert.deepEqual([...names.from(tenant, prefix, after)], wanted);
  }
});

test('from() lists like a sorted set where a few of thousands of names change between listings', (t) => {
  const random = seeded();
  t.diagnostic(`SEED=${random.seed}`);
  const names = createNames();
  const model = new Set<string>();
  const change = (key: string): void => {
    const isThere = model.delete(key);
    if (isThere) names.delete('a', key);
    else {
      model.add(key);
      names.add('a', key);
    }
  };
  for (let i = 0; i < 8000; i++) change(`${random.below(1_000_000)}`);
  // at one place at times, so that chunks fill up and empty
  for (let step = 0; step < 600; step++) {
    for (let i = random.below(8); i > 0; i--) {
      const isNear = step % 200 < 100;
      const known = [...names.from('a', isNear ? '5' : '', `${random.below(1_000_000)}`).take(1)];
      change(
        random.below(2) === 0 && known[0] !== undefined ? known[0] : `${isNear ? '5' : ''}${random.below(100_000)}`,
      );
    }
    if (step % 20 > 0) continue;
    assert.deepEqual([...names.from('a', '', '')], [...model].sort());
    assert.equal(names.count('a'), model.size);
  }
});

test('a tenant without names lists nothing', () => {
  assert.deepEqual([...createNames().from('nobody', '', '')], []);
});
