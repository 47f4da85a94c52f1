// Every strategy alike: whatever is asked for, held, wanted and taken out at random, only a leaf that nobody holds is named, and one is as
// long as there is one. Then what each is for. SEED and CACHE_ROUNDS as elsewhere.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chainTrace, madeChains } from '../../../../bench/lib/made-chains.ts';
import { replayPrefix } from '../../../../bench/lib/replay-prefix.ts';
import { NONE, OBJECTIVES, type Objective } from '../../../../core/cache/policy/policy.ts';
import { createEviction, TREE_STRATEGIES } from '../../../../core/cache/prefix/eviction.ts';
import { HASH_WORDS } from '../../../../core/cache/prefix/records.ts';
import { PrefixTree } from '../../../../core/cache/prefix/tree.ts';
import { type Seeded, seeded } from '../../../support/seeded.ts';

const ROUNDS = Number(process.env.CACHE_ROUNDS ?? 3000);
const ROOM = 60;
const NO_TOKENS = new Int32Array(0);

/** A cache of chains without content, and beside it what it is to hold, as a plain set. */
function open(strategy: string, portfolio = {}) {
  const tree = new PrefixTree(0);
  const root = tree.root();
  const held = new Set<number>();
  const blocks = { objective: 'hits' as Objective };
  const eviction = createEviction({
    tree,
    strategy,
    objective: () => blocks.objective,
    capacity: () => ROOM,
    bytesOf: () => 1,
    blockTokens: 64,
    portfolio: { interval: 10, intervalBlocksMin: 20, ...portfolio },
  });

  function takeOut(slot: number, isEvicted: boolean): void {
    const before = tree.placeOf(slot);
    eviction.leaves(slot, isEvicted);
    tree.remove(slot);
    held.delete(slot);
    if (before >= 0) eviction.freed(before);
  }

  function check(): void {
    assert.equal(tree.count, held.size);
    const slot = eviction.victim();
    const free = [...held].filter((one) => tree.isFree(one));
    if (slot === NONE) assert.equal(free.length, 0, 'nobody is named, and somebody may leave');
    else assert.ok(free.includes(slot), `slot ${slot} is named, and must not leave`);
    const lowest = Math.min(...free.map((one) => tree.priority(one)));
    if (slot !== NONE) assert.equal(tree.priority(slot), lowest, 'one who is wanted more is named first');
  }

  /** A chain of numbers; answers how many were held. */
  function ask(numbers: readonly number[]): number {
    const names = new Uint32Array(HASH_WORDS * numbers.length);
    for (let i = 0, all = 1; i < numbers.length; i++)
      for (let word = 0; word < HASH_WORDS; word++)
        names[HASH_WORDS * i + word] = all = Math.imul(all ^ (numbers[i] ?? 0), 0x9e37_79b1) ^ (all >>> 13);
    const slots = new Int32Array(numbers.length);
    const found = tree.match(root, names, NO_TOKENS, slots);
    for (let i = 0; i < found; i++) tree.hold(slots[i] as number);
    let length = found;
    for (; length < numbers.length; length++) {
      check();
      const slot = tree.count < ROOM ? NONE : eviction.victim();
      if (tree.count >= ROOM && slot === NONE) break;
      if (slot !== NONE) takeOut(slot, true);
      const added = tree.add(length === 0 ? root : (slots[length - 1] as number), names, length, NO_TOKENS);
      tree.hold(added);
      eviction.came(added);
      held.add(added);
      slots[length] = added;
    }
    eviction.asked(slots, length, found);
    for (let i = 0; i < length; i++) {
      tree.release(slots[i] as number);
      eviction.freed(slots[i] as number);
    }
    assert.ok(tree.count <= ROOM);
    return found;
  }
  return { tree, eviction, held, ask, check, takeOut, blocks };
}

const someChain = (random: Seeded): number[] =>
  Array.from({ length: 1 + random.below(12) }, () => 1 + Math.floor(3 * random.next() ** 2));

for (const strategy of TREE_STRATEGIES)
  test(`${strategy} names only leaves that nobody holds, whatever happens`, () => {
    const random = seeded();
    const { tree, eviction, held, ask, check, takeOut, blocks } = open(strategy, { shadowBlocksMax: 40 });
    const kept: number[] = [];
    try {
      for (let round = 0; round < ROUNDS; round++) {
        const dice = random.below(100);
        const slot = [...held][random.below(Math.max(1, held.size))] ?? NONE;
        if (dice < 80 || slot === NONE) ask(someChain(random));
        else if (dice < 84 && kept.length < 5) {
          for (let at = slot; at >= 0; at = tree.placeOf(at)) {
            tree.hold(at);
            kept.push(at);
          }
        } else if (dice < 88) {
          for (const one of kept.splice(0)) if (tree.release(one) === 0) eviction.freed(one);
        } else if (dice < 92) {
          if (tree.isFree(slot)) takeOut(slot, false);
        } else if (dice < 96) {
          for (let at = slot; at >= 0; at = tree.placeOf(at))
            eviction.prefer(at, Math.max(tree.priority(at), random.below(3)));
        } else if (dice < 98) blocks.objective = random.pick(OBJECTIVES as [Objective, ...Objective[]]);
        else for (const one of eviction.leaving()) if (random.below(3) === 0) takeOut(one, true);
        check();
      }
    } catch (error) {
      throw new Error(`SEED=${random.seed}`, { cause: error });
    }
  });

test('leaving() offers all that can leave, one behind the other, and keeps those that are spared', () => {
  const { eviction, held, ask, takeOut } = open('lru');
  ask([1, 2, 3]);
  ask([1, 4]);
  const spared = [...eviction.leaving()];
  assert.equal(spared.length, 2);
  const count = held.size;
  let out = 0;
  for (const slot of eviction.leaving()) {
    takeOut(slot, true);
    out++;
  }
  assert.equal(out, count);
});

test('lru names leaves in the order of their last use, lfu those used least', () => {
  for (const [strategy, first] of [
    ['lru', 1],
    ['lfu', 2],
  ] as const) {
    const { eviction, tree, ask } = open(strategy);
    for (const number of [1, 3, 1, 3, 2]) ask([number]);
    const numbers = [1, 3, 2]; // by slot
    const left: number[] = [];
    const slots = new Map([...Array(3).keys()].map((slot) => [slot, numbers[slot]]));
    for (const slot of eviction.leaving()) left.push(slots.get(slot) ?? 0);
    assert.equal(tree.count, 3);
    assert.equal(left[0], first, strategy);
  }
});

test('setStrategy() changes who leaves and keeps everybody; an unknown name says which there are', () => {
  const { eviction, held, ask } = open('lru');
  for (let i = 0; i < 3; i++) ask([1]);
  ask([2]);
  const count = held.size;
  for (const strategy of TREE_STRATEGIES) {
    eviction.setStrategy(strategy);
    assert.equal(eviction.report().strategy, strategy);
    assert.equal(held.size, count);
  }
  eviction.setStrategy('lru');
  assert.equal(eviction.report().inCharge, 'lru');
  assert.throws(() => eviction.setStrategy('arc'), /no strategy 'arc' for prefixes; there is adaptive, lru/);
  assert.equal(eviction.strategy, 'lru');
});

test('a chain that is asked for again and again at once is used once', () => {
  const { eviction, tree, ask } = open('lfu');
  ask([1, 2]);
  for (let i = 0; i < 100; i++) ask([1, 2]);
  assert.equal(tree.records.get(0, 11), 1);
  assert.equal(eviction.report().ratios.now, undefined);
});

test('shadows are bounded, whatever the size of the cache', () => {
  const random = seeded();
  const make = (capacity: number) => {
    const trace = chainTrace('any', 4000, [{ next: () => [random.below(2000), 5000 + random.below(90_000)] }]);
    const tree = new PrefixTree(0);
    const options = { tree, strategy: 'adaptive', objective: () => 'hits' as const, bytesOf: () => 1, blockTokens: 64 };
    const eviction = createEviction({ ...options, capacity: () => capacity, portfolio: { shadowBlocksMax: 256 } });
    const root = tree.root();
    const { keys, chains = new Uint32Array() } = trace;
    for (const start of chains) {
      const slots = new Int32Array(2);
      let found = 0;
      const names = new Uint32Array(2 * HASH_WORDS).map((_, i) =>
        Math.imul((keys[start + (i >> 2)] ?? 0) + 1 + (i & 3), 0x85eb_ca77),
      );
      for (let i = 0; i < 2; i++) {
        const there = tree.named(names, i);
        if (there !== NONE && found === i) found++;
        slots[i] = there === NONE ? tree.add(i === 0 ? root : (slots[0] as number), names, i, NO_TOKENS) : there;
        if (there === NONE) eviction.came(slots[i] as number);
      }
      eviction.asked(slots, 2, found);
    }
    return eviction.bytesBeside;
  };
  const [small, large] = [make(250), make(250_000)];
  assert.ok(
    large < 2 * small,
    `${large} bytes beside a large cache, ${small} beside a small one (SEED=${random.seed})`,
  );
});

test('adaptive is at most 0.3 points below lru on made traces, and above it where a half-life helps', () => {
  const gains = madeChains(6000).flatMap((trace) =>
    [0.01].map((capacity) => {
      const [lru, adaptive] = ['lru', 'adaptive'].map((strategy) => replayPrefix(trace, capacity, strategy).hitRatio);
      return { name: `${trace.name} at ${capacity}`, gain: 100 * ((adaptive ?? 0) - (lru ?? 0)) };
    }),
  );
  for (const { name, gain } of gains) assert.ok(gain > -0.3, `${name}: ${gain} points`);
  assert.ok(gains.some(({ gain }) => gain > 3));
});

test('report() tells of each expert, who is in charge, and of half and twice the room', () => {
  const { eviction, ask } = open('adaptive');
  const random = seeded();
  for (let i = 0; i < 400; i++) ask([1, 2, random.below(10), random.below(30)]);
  const { strategy, experts, inCharge, ratios, pattern } = eviction.report();
  assert.equal(strategy, 'adaptive');
  assert.ok(experts.some(({ name, hitRatio }) => name === inCharge && hitRatio !== undefined && hitRatio > 0));
  assert.equal(experts.length, TREE_STRATEGIES.length - 2); // neither adaptive itself nor lfu
  const { now = 0, atHalf = 0, atTwice = 0 } = ratios;
  assert.ok(atHalf < now && now < atTwice, `${atHalf} ${now} ${atTwice} (SEED=${random.seed})`);
  assert.ok(['sequential', 'random', 'mixed'].includes(pattern ?? ''));
});
