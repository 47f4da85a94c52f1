// Each policy against what it says of itself: LRU and LFU against plain models, request by request; the others by what sets them
// apart; the parts they are made of; and the adaptive one on loads where the best is known.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { belady } from '../../../../bench/lib/belady.ts';
import { madeTraces, zipfKeys } from '../../../../bench/lib/made-traces.ts';
import { hashOfNumber, replay } from '../../../../bench/lib/replay.ts';
import { traceOf } from '../../../../bench/lib/traces.ts';
import { type Adaptive, createAdaptive } from '../../../../core/cache/policy/adaptive.ts';
import { Entries } from '../../../../core/cache/policy/entries.ts';
import { Ghosts } from '../../../../core/cache/policy/ghosts.ts';
import { HashIndex } from '../../../../core/cache/policy/hash-index.ts';
import { Past } from '../../../../core/cache/policy/past.ts';
import { POLICIES, POLICY_NAMES, type PolicyName } from '../../../../core/cache/policy/policies.ts';
import { NONE } from '../../../../core/cache/policy/policy.ts';
import { Ranking } from '../../../../core/cache/policy/ranking.ts';
import { Sketch } from '../../../../core/cache/policy/sketch.ts';
import { createTrial } from '../../../../core/cache/policy/trial.ts';
import { seeded } from '../../../support/seeded.ts';

const trialOf = (name: PolicyName, bytesMax: number, past = 0) => {
  const entries = new Entries(bytesMax, past);
  return createTrial(
    entries,
    POLICIES[name](entries, () => 'hits'),
  );
};

const requests = (count: number, keys: number) => {
  const random = seeded();
  return Array.from({ length: count }, () => Math.floor(keys * random.next() ** 3));
};

test('lru hits what the plain model hits, sizes and all', () => {
  const trial = trialOf('lru', 500);
  const held = new Map<number, number>();
  for (const key of requests(20_000, 400)) {
    const bytes = 1 + (key % 9);
    const known = held.delete(key);
    held.set(key, bytes);
    const sum = () => [...held.values()].reduce((a, b) => a + b, 0);
    for (const oldest of [...held.keys()]) if (sum() > 500) held.delete(oldest);
    assert.equal(trial.ask(hashOfNumber(key), bytes, 1), known);
  }
});

test('lfu hits what the plain model hits, counting uses across stays', () => {
  const trial = trialOf('lfu', 100, 10_000);
  const uses = new Map<number, number>();
  const used = new Map<number, number>();
  const held = new Set<number>();
  requests(30_000, 400).forEach((key, now) => {
    uses.set(key, (uses.get(key) ?? 0) + 1);
    const known = held.has(key);
    if (!known && held.size === 100) {
      const order = (a: number, b: number) =>
        (uses.get(a) ?? 0) - (uses.get(b) ?? 0) || (used.get(a) ?? 0) - (used.get(b) ?? 0);
      held.delete([...held].reduce((a, b) => (order(a, b) < 0 ? a : b)));
    }
    held.add(key);
    used.set(key, now);
    assert.equal(trial.ask(hashOfNumber(key), 1, 1), known, `request ${now}`);
  });
});

test('a scan that is never repeated costs lru its hits, and those that resist scans little', () => {
  const hot = requests(20_000, 60);
  const scanned = hot.flatMap((key, i) =>
    i % 200 === 0 ? Array.from({ length: 300 }, (_, j) => 1000 + i * 300 + j) : key,
  );
  const hitsOf = (name: PolicyName) => {
    const trial = trialOf(name, 100, 100_000);
    return scanned.reduce((hits, key) => hits + Number(trial.ask(hashOfNumber(key), 1, 1)), 0);
  };
  const lru = hitsOf('lru');
  for (const name of ['arc', 's3fifo', 'wtinylfu', 'lfu', 'gdsf'] as const) assert.ok(hitsOf(name) > lru, name);
});

test('gdsf names one of the lowest rank, whoever was used meanwhile', () => {
  const entries = new Entries(400);
  const gdsf = POLICIES.gdsf(entries, () => 'hits');
  const held = new Map<number, { slot: number; uses: number; clock: number; bytes: number }>();
  let clock = 0;
  const rankOf = (key: number) => {
    const { uses, clock: then, bytes } = held.get(key) ?? { uses: 0, clock: 0, bytes: 1 };
    return then + uses / bytes;
  };
  for (const key of requests(20_000, 400)) {
    const bytes = 1 + (key % 9);
    const known = held.get(key);
    if (known) {
      Object.assign(known, { uses: known.uses + 1, clock });
      entries.use(known.slot);
      gdsf.hit(known.slot);
      continue;
    }
    while (entries.bytesHeld + bytes > entries.bytesMax) {
      const slot = gdsf.victim(hashOfNumber(key), bytes, () => true);
      const [left] = [...held].find(([, one]) => one.slot === slot) ?? assert.fail(`nobody is in slot ${slot}`);
      assert.equal(rankOf(left), Math.min(...[...held.keys()].map(rankOf)));
      clock = Math.max(clock, rankOf(left));
      gdsf.evict(slot);
      entries.drop(slot, true);
      held.delete(left);
    }
    const slot = entries.add(hashOfNumber(key), bytes, 1);
    gdsf.admit(slot);
    held.set(key, { slot, uses: 1, clock, bytes });
  }
});

test('gdsf keeps what is worth its bytes: small ones for hits, dear ones for cost', () => {
  const entries = new Entries(100);
  const small = POLICIES.gdsf(entries, () => 'hits');
  const [large, little] = [entries.add(1, 50, 500), entries.add(2, 10, 1)];
  for (const slot of [large, little]) small.admit(slot);
  assert.equal(
    small.victim(3, 1, () => true),
    large,
  );
  const dear = POLICIES.gdsf(entries, () => 'cost');
  for (const slot of [large, little]) dear.admit(slot);
  assert.equal(
    dear.victim(3, 1, () => true),
    little,
  );
});

test('sieve spares whom was used since the hand came by, once', () => {
  const entries = new Entries(3);
  const sieve = POLICIES.sieve(entries);
  const [a, b, c] = [entries.add(1, 1, 1), entries.add(2, 1, 1), entries.add(3, 1, 1)];
  for (const slot of [a, b, c]) sieve.admit(slot);
  sieve.hit(a);
  assert.equal(
    sieve.victim(4, 1, () => true),
    b,
  );
  sieve.evict(b);
  entries.drop(b, true);
  assert.equal(
    sieve.victim(4, 1, () => true),
    c,
  );
  sieve.evict(c);
  entries.drop(c, true);
  assert.equal(
    sieve.victim(4, 1, () => true),
    a,
  );
});

test('HashIndex finds what a Map finds, through removals', () => {
  const random = seeded();
  const index = new HashIndex();
  const map = new Map<number, number>();
  for (let i = 0; i < 50_000; i++) {
    const hash = random.below(300) * 128; // homes that collide
    if (random.below(2) === 0) {
      index.set(hash, i);
      map.set(hash, i);
    } else {
      index.delete(hash);
      map.delete(hash);
    }
    const other = random.below(300) * 128;
    assert.equal(index.find(other), map.get(other) ?? NONE);
    assert.equal(index.count, map.size);
  }
});

test('Ghosts drops the oldest, and one who comes again is the youngest', () => {
  const ghosts = new Ghosts();
  for (let hash = 0; hash < 200; hash++) ghosts.add(hash, 2);
  ghosts.add(0, 3);
  ghosts.dropOldest();
  assert.ok(ghosts.has(0) && !ghosts.has(1) && ghosts.has(2));
  assert.ok(ghosts.take(2) && !ghosts.take(2));
  assert.deepEqual([ghosts.count, ghosts.bytesHeld], [198, 197 * 2 + 3]);
});

test('Past remembers uses as it grows, and who left last, in order', () => {
  const past = new Past(1 << 20);
  const entries = new Entries(1000);
  const hashes = Array.from({ length: 100_000 }, (_, key) => hashOfNumber(key));
  for (const [i, hash] of hashes.entries()) past.leave(hash, 10, 1 + (i % 100), entries);
  const right = hashes.filter((hash, i) => past.uses(hash) === 1 + (i % 100)).length;
  assert.ok(right > 0.97 * hashes.length, `${right} of ${hashes.length}`);
  const last: number[] = [];
  past.latest(300, (hash) => last.push(hash));
  assert.deepEqual(last, hashes.slice(-30));
  for (let i = 0; i < 100; i++) entries.add(i, 1, 1); // more slots, a longer ring
  past.leave(7, 10, 1, entries);
  past.latest(30, (hash) => last.push(hash));
  assert.deepEqual(last.slice(30), [...hashes.slice(-2), 7]);
});

test('Past has no table as long as nobody has left', () => {
  const before = process.memoryUsage().arrayBuffers;
  const all = Array.from({ length: 1000 }, () => new Past(1 << 18));
  assert.ok(process.memoryUsage().arrayBuffers - before < 1000 * 4096, 'a thousand take less than 4 KiB each');
  assert.equal(
    all.reduce((sum, past) => sum + past.uses(7), 0),
    0,
  );
});

test('Sketch never says too little, halves when told, and keeps its counts as it grows', () => {
  const sketch = new Sketch();
  sketch.fit(1000);
  for (let key = 0; key < 500; key++) sketch.raise(hashOfNumber(key), key % 16);
  const counts = () => Array.from({ length: 500 }, (_, key) => sketch.count(hashOfNumber(key)));
  const before = counts();
  for (const [key, count] of before.entries()) assert.ok(count >= key % 16);
  assert.ok(before.filter((count, key) => count === key % 16).length > 450);
  sketch.raise(hashOfNumber(15), 3);
  sketch.fit(4000);
  assert.deepEqual(counts(), before);
  sketch.halve();
  assert.deepEqual(
    counts(),
    before.map((count) => count >> 1),
  );
});

test('Ranking has the lowest first, the longer unused among equals, and takes ranks below all others', () => {
  const random = seeded();
  const entries = new Entries(1e9);
  const ranking = new Ranking(entries);
  const held = new Map<number, { rank: number; used: number }>();
  const pinned = new Set<number>();
  const mayLeave = (slot: number) => !pinned.has(slot);
  const order = ([, a]: [number, { rank: number; used: number }], [, b]: [number, { rank: number; used: number }]) =>
    a.rank - b.rank || a.used - b.used;
  for (let step = 0; step < 20_000; step++) {
    const floor = step / 10;
    const rank =
      random.below(50) === 0 ? random.next() : floor + (random.below(2) ? random.below(9) : 9 * random.next());
    const [some] = [...held.keys()].slice(random.below(held.size + 1));
    if (held.size < 60 && random.below(2) === 0) {
      const slot = entries.add(step, 1, 1);
      ranking.add(slot, rank);
      held.set(slot, { rank, used: step });
    } else if (some !== undefined && random.below(3) > 0) {
      const higher = Math.max(rank, ranking.rank(some));
      ranking.raise(some, higher);
      held.set(some, { rank: higher, used: step });
      if (pinned.size < 20 && random.below(8) === 0) pinned.add(some);
    } else {
      const free = [...held].filter(([slot]) => mayLeave(slot)).sort(order);
      const slot = ranking.lowest(mayLeave);
      assert.equal(slot, free[0]?.[0] ?? NONE, `SEED=${random.seed}, step ${step}`);
      if (slot === NONE || random.below(4) === 0) continue;
      ranking.remove(slot);
      entries.drop(slot, true);
      held.delete(slot);
      if (random.below(20) === 0) pinned.clear();
    }
  }
  const slots: number[] = [];
  ranking.lowestFirst((slot) => slots.push(slot));
  assert.deepEqual(
    slots,
    [...held].sort(order).map(([slot]) => slot),
  );
});

test('belady is at least as good as every policy, and exact on a loop', () => {
  for (const trace of madeTraces(20_000))
    for (const capacity of [50, 500]) {
      const best = replay(trace, capacity, 'opt').hits;
      for (const name of POLICY_NAMES) assert.ok(best >= replay(trace, capacity, name).hits, `${trace.name} ${name}`);
    }
  const loop = traceOf(
    'loop',
    new Uint32Array(1000).map((_, i) => i % 10),
  );
  // Who is never asked for again takes no place, so five of ten in every round are kept.
  const hits = belady(loop, 5).reduce((a, b) => a + b, 0);
  assert.ok(Math.abs(hits - 500) < 20, `${hits}`);
});

test('adaptive comes near the best of the single policies, or above it, where the load shifts', () => {
  for (const trace of madeTraces(60_000)) {
    const best = Math.max(...POLICY_NAMES.map((name) => replay(trace, 600, name).hitRatio));
    const own = replay(trace, 600, 'adaptive').hitRatio;
    assert.ok(own > best - 0.03, `${trace.name}: ${own} to ${best}`);
  }
});

test('adaptive tells the pattern, who is in charge and the hit ratio of each shadow', () => {
  const reportOn = (keys: ArrayLike<number>) => {
    const entries = new Entries(300, 10_000);
    const policy: Adaptive = createAdaptive(entries, () => 'hits', { experts: ['lru', 'wtinylfu-climber', 'lfu'] });
    const trial = createTrial(entries, policy);
    for (const key of Array.from(keys)) trial.ask(hashOfNumber(key), 1, 1);
    return policy.report();
  };
  const loop = reportOn(Array.from({ length: 20_000 }, (_, i) => i % 1000));
  assert.equal(loop.pattern, 'sequential');
  assert.ok(loop.changes > 0);
  assert.ok((loop.experts.find(({ name }) => name === loop.inCharge)?.hitRatio ?? 0) > 0.1);
  assert.equal(reportOn(zipfKeys(20_000, 5000, 0.7, 5)).pattern, 'random');
  assert.equal(reportOn([1, 2, 3]).pattern, undefined);
});

test('shadows of adaptive follow the room: a loop that fits from now on is hit in each', () => {
  const entries = new Entries(50);
  const policy: Adaptive = createAdaptive(entries, () => 'hits', { experts: ['lru', 'arc'] });
  const trial = createTrial(entries, policy);
  const loop = (rounds: number) => {
    for (let i = 0; i < rounds * 200; i++) trial.ask(hashOfNumber(i % 200), 1, 1);
    return policy.report().experts.map(({ hitRatio }) => hitRatio ?? Number.NaN);
  };
  for (const ratio of loop(20)) assert.ok(ratio < 0.01, `${ratio} of a loop of four times the room`);
  entries.bytesMax = 250;
  for (const ratio of loop(100)) assert.ok(ratio > 0.9, `${ratio} of a loop that fits`);
});

test('adaptive with objective bytes keeps more bytes hit than with objective hits', () => {
  const random = seeded();
  const asked = Array.from({ length: 60_000 }, () => Math.floor(1000 * random.next() ** 2));
  const bytesHit = (objective: 'hits' | 'bytes') => {
    const entries = new Entries(20_000, 10_000);
    const trial = createTrial(
      entries,
      createAdaptive(entries, () => objective),
    );
    return asked.reduce((sum, key) => {
      const bytes = key % 2 === 0 ? 10 : 400;
      return sum + (trial.ask(hashOfNumber(key), bytes, 1) ? bytes : 0);
    }, 0);
  };
  assert.ok(bytesHit('bytes') > bytesHit('hits'));
});
