// Tiers of held blocks, and by which strategy blocks leave: against a plain look at all blocks. SEED and CACHE_ROUNDS as elsewhere.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Course, DEFAULT_COURSE } from '../../../../core/cache/course.ts';
import { type Block, createBlocks, rootOf, scopeOf } from '../../../../core/cache/kv/blocks.ts';
import { STRATEGIES } from '../../../../core/contract/policy.ts';
import { seeded } from '../../../support/seeded.ts';

const ROUNDS = Number(process.env.CACHE_ROUNDS ?? 3000);
const SIZE = 2;
const TIERS = ['hot', 'cold'] as const;
const SHAPE = { layers: 1, kvHeads: 1, dim: 64 };
const ROOT = rootOf(scopeOf('one', undefined), 'model', SHAPE, SIZE);

interface Kept {
  tiers: readonly string[];
}
type One = Block<Kept>;

function open(course: Course = { ...DEFAULT_COURSE, strategy: 'lru' }) {
  const blocks = createBlocks<Kept>({
    blockTokens: SIZE,
    now: () => 0,
    gone: () => {},
    left: () => {},
    course,
    tiersOf: ({ tiers }) => tiers,
  });
  const store = (text: string, tiers: readonly string[] = ['hot']): One[] => {
    const chain: One[] = [];
    for (const letter of text) {
      const tokens = new Int32Array(SIZE).fill(letter.charCodeAt(0));
      const found = blocks.find(ROOT, chain.at(-1), tokens);
      chain.push(found ?? blocks.insert(ROOT, chain.at(-1), tokens, { tiers }));
    }
    blocks.touch(chain);
    return chain;
  };
  const move = (block: One, ...tiers: string[]) => {
    block.kept.tiers = tiers;
    blocks.changed(block);
  };
  return { blocks, store, move };
}

const nameOf = (block: One): string =>
  (block.parent ? nameOf(block.parent) : '') + String.fromCharCode(block.tokens[0] ?? 0);
const names = (some: Iterable<One>): string[] => [...some].map(nameOf);

test('leaving() offers of a tier whoever none in it follows, whatever else does', () => {
  const { blocks, store, move } = open();
  const [, b, c] = store('abc');
  assert.ok(b && c);
  store('ax');
  assert.deepEqual(names(blocks.leaving('hot')), ['abc', 'ax']);
  assert.deepEqual(names(blocks.leaving('cold')), []);
  move(c, 'cold');
  assert.deepEqual(names(blocks.leaving('hot')), ['ab', 'ax']);
  assert.deepEqual(names(blocks.leaving('cold')), ['abc']);
  move(b, 'hot', 'cold');
  assert.deepEqual(names(blocks.leaving('hot')), ['ab', 'ax']);
  move(c, 'hot');
  assert.deepEqual(names(blocks.leaving('hot')), ['abc', 'ax']);
  assert.deepEqual(names(blocks.leaving('cold')), ['ab']);
  assert.deepEqual(names(blocks.leaving()), ['abc', 'ax']);
});

test('wouldLeave() goes up a chain as if those behind had left, and changes nothing', () => {
  const { blocks, store } = open();
  const chain = store('abc');
  store('ax');
  for (let i = 0; i < 3; i++) assert.deepEqual(names(blocks.wouldLeave('hot')), ['abc', 'ab', 'ax', 'a']);
  for (const _ of blocks.wouldLeave('hot')) break;
  const release = blocks.hold(chain.slice(0, 2));
  assert.deepEqual(names(blocks.wouldLeave('hot')), ['abc', 'ax']);
  assert.deepEqual(names(blocks.leaving('hot')), ['abc', 'ax']);
  release();
  assert.deepEqual(names(blocks.leaving('hot')), ['abc', 'ax']);
  assert.equal(blocks.size, 4);
});

test('a course that changes takes effect by follow(), and nobody leaves by that', () => {
  const course: Course = { ...DEFAULT_COURSE, strategy: 'lru' };
  const { blocks, store } = open(course);
  for (const text of ['a', 'b', 'a', 'b', 'c']) store(text);
  assert.deepEqual(names(blocks.leaving()), ['a', 'b', 'c']);
  course.strategy = 'lfu';
  blocks.follow();
  assert.equal(blocks.policy, 'lfu');
  assert.deepEqual(names(blocks.leaving()), ['c', 'a', 'b']);
  course.strategy = 'adaptive';
  blocks.follow();
  assert.equal(blocks.report().strategy, 'adaptive');
  assert.equal(blocks.size, 3);
});

test('report() says what shadows would have had, once enough was asked for', () => {
  const { blocks, store } = open({ ...DEFAULT_COURSE, adjustEvery: 20 });
  const random = seeded();
  assert.equal(blocks.report().ratios.now, undefined);
  for (let i = 0; i < 400; i++) store(`sys${'abcdefgh'[random.below(8)]}${'ijklmnop'[random.below(8)]}`);
  const { experts, ratios } = blocks.report();
  assert.ok(experts.every(({ hitRatio = 0 }) => hitRatio > 0.5));
  assert.ok((ratios.now ?? 0) > 0.5);
});

test('any order of storing, moving, holding and leaving agrees with a look at all blocks', () => {
  const random = seeded();
  for (const strategy of STRATEGIES) {
    const { blocks, store, move } = open({ ...DEFAULT_COURSE, strategy });
    const releases: (() => void)[] = [];
    const mayLeave = (tier: string) => {
      const all = [...blocks.all()];
      const isIn = ({ kept }: One) => kept.tiers.includes(tier);
      return all.filter(
        (one) => isIn(one) && one.holders === 0 && !all.some((next) => next.parent === one && isIn(next)),
      );
    };
    for (let round = 0; round < ROUNDS; round++) {
      const all = [...blocks.all()];
      const one = all[random.below(Math.max(1, all.length))];
      const dice = random.below(10);
      if (dice < 4 || !one) store(Array.from({ length: 1 + random.below(5) }, () => 'abc'[random.below(3)]).join(''));
      else if (dice < 6) move(one, ...TIERS.filter(() => random.below(2) === 0));
      else if (dice < 7) {
        const chain: One[] = [];
        for (let at: One | undefined = one; at; at = at.parent) chain.unshift(at);
        releases.push(blocks.hold(chain));
      } else if (dice < 8) releases.shift()?.();
      else if (dice < 9) blocks.remove(one, random.below(2) === 0 ? 'evicted' : 'cleared');
      else
        for (const leaving of blocks.leaving(random.pick(TIERS)))
          if (random.below(3) === 0) move(leaving);
          else if (random.below(2) === 0) blocks.remove(leaving, 'evicted');
      const tier = random.pick(TIERS);
      const found = [...blocks.leaving(tier)];
      assert.deepEqual(names(found).sort(), names(mayLeave(tier)).sort(), `${strategy} SEED=${random.seed}`);
      assert.equal([...blocks.all()].length, blocks.size);
    }
  }
});
