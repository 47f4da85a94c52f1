// What the hit ratio would be with other room, told by shadows on a sample of the keys: right to a few points, whatever the strategy.
// And the sample itself.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createRandom, zipfKeys } from '../../../bench/lib/made-traces.ts';
import { hashOfNumber } from '../../../bench/lib/replay.ts';
import { createPolicy, DEFAULT_COURSE, policyFor } from '../../../core/cache/course.ts';
import { createCurve, SIZES } from '../../../core/cache/curve.ts';
import { ADAPTIVE_DEFAULTS, type Adaptive, BEGINNER } from '../../../core/cache/policy/adaptive.ts';
import { Entries } from '../../../core/cache/policy/entries.ts';
import { hashOf } from '../../../core/cache/policy/hash.ts';
import { POLICIES } from '../../../core/cache/policy/policies.ts';
import type { CreatePolicy } from '../../../core/cache/policy/policy.ts';
import { createSample } from '../../../core/cache/policy/sample.ts';
import { createTrial } from '../../../core/cache/policy/trial.ts';
import type { Strategy } from '../../../core/contract/policy.ts';

const KEYS = 40_000;
const CAPACITY = 6000;
const hashes = Array.from(zipfKeys(150_000, KEYS, 0.7, 11), hashOfNumber);

function createFull(create: CreatePolicy, bytesMax: number) {
  const entries = new Entries(bytesMax);
  const trial = createTrial(
    entries,
    create(entries, () => 'hits'),
  );
  let hits = 0;
  return { ask: (hash: number) => trial.ask(hash, 1, 1) && ++hits > 0, ratio: () => hits / hashes.length };
}

for (const strategy of ['lru', 'adaptive'] satisfies Strategy[])
  test(`ratios() of half, same and twice the room are right to a few points: ${strategy}`, () => {
    const create: CreatePolicy = POLICIES[strategy === 'adaptive' ? BEGINNER : strategy];
    const full = Object.entries(SIZES).map(([name, share]) => ({ name, cache: createFull(create, CAPACITY * share) }));
    const curve = createCurve(strategy, () => CAPACITY);
    for (const hash of hashes) {
      let isHeld = false;
      for (const { name, cache } of full) if (cache.ask(hash) && name === 'same') isHeld = true;
      curve.read(hash, isHeld ? 1 : undefined, isHeld);
      if (!isHeld) curve.put(hash, 1);
    }
    const ratios = curve.ratios();
    for (const { name, cache } of full) {
      const told = ratios[name as keyof typeof SIZES] ?? Number.NaN;
      assert.ok(Math.abs(told - cache.ratio()) < 0.05, `${name}: ${told} for ${cache.ratio()}`);
    }
  });

test('follow() begins anew: nothing is said before there were some reads', () => {
  const curve = createCurve('lru', () => CAPACITY);
  for (const hash of hashes.slice(0, 1000)) curve.read(hash, 1, true);
  assert.equal(curve.ratios().now, 1);
  curve.follow('lfu');
  assert.deepEqual(curve.ratios(), { now: null, half: null, same: null, double: null });
});

test('the expert that begins is one: alone among few tensors, and in charge first among many', () => {
  const entries = new Entries(1000);
  assert.equal(policyFor(DEFAULT_COURSE, entries), BEGINNER);
  assert.equal(ADAPTIVE_DEFAULTS.experts[0], BEGINNER);
  assert.equal((createPolicy('adaptive', DEFAULT_COURSE, entries) as Adaptive).report().inCharge, BEGINNER);
});

test('Sample halves: half of the half before, by the highest bits', () => {
  const sample = createSample();
  const isIn = (hash: number) => (hash & sample.hashBits) === 0;
  let left = hashes.slice(0, 1 << 16).map((_, at) => hashOfNumber(at));
  for (let halvings = 1; halvings <= 6; halvings++) {
    const before = left.length;
    sample.halve();
    left = left.filter(isIn);
    assert.equal(sample.share, 2 ** -halvings);
    assert.ok(Math.abs(left.length / before - 0.5) < 0.05, `${left.length} of ${before}`);
    assert.ok(left.every((hash) => hash >>> (32 - halvings) === 0));
  }
});

test('hashOf() is a signed word, in which every bit is as likely', () => {
  const random = createRandom(3);
  const words = Array.from({ length: 4096 }, () => hashOf(`tenant\0runs/${Math.floor(random() * 1e9)}/layer`));
  for (const word of words) assert.equal(word, word | 0);
  for (let bit = 0; bit < 32; bit++) {
    const ones = words.filter((word) => ((word >>> bit) & 1) === 1).length;
    assert.ok(Math.abs(ones / words.length - 0.5) < 0.05, `bit ${bit}: ${ones}`);
  }
});
