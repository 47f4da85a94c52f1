// The chains of held blocks: what is found, what may leave, and that nothing crosses from one root to another.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Block, createBlocks, rootOf, scopeOf, type Wish } from '../../../../core/cache/kv/blocks.ts';
import { seeded } from '../../../support/seeded.ts';

const SHAPE = { layers: 2, kvHeads: 1, dim: 64 };
const SIZE = 4;
const ROOT = rootOf(scopeOf('one', undefined), 'model', SHAPE, SIZE);

const tokens = (text: string): Int32Array => Int32Array.from(text, (letter) => letter.charCodeAt(0));

const wish = (priority: number, expiresAt = Number.POSITIVE_INFINITY): Wish => ({ priority, expiresAt });

function open() {
  const gone: string[] = [];
  const left: string[] = [];
  const clock = { now: 1000 };
  const blocks = createBlocks<number>({
    blockTokens: SIZE,
    now: () => clock.now,
    gone: (block) => gone.push(textOf(block)),
    left: (block, cause) => left.push(`${textOf(block)} ${cause}`),
  });
  const insert = (text: string, root = ROOT, wished = wish(50)): Block<number>[] => {
    const chain: Block<number>[] = [];
    for (let at = 0; at + SIZE <= text.length; at += SIZE) {
      const own = tokens(text.slice(at, at + SIZE));
      chain.push(blocks.find(root, chain.at(-1), own) ?? blocks.insert(root, chain.at(-1), own, at, wished));
    }
    blocks.touch(chain, wished);
    return chain;
  };
  return { blocks, insert, gone, left, clock };
}

const textOf = (block: Block<number>): string => String.fromCharCode(...block.tokens);
const found = (chain: readonly Block<number>[]): string => chain.map(textOf).join(' ');

test('match() finds the longest held beginning, and the beginning of a last block', () => {
  const { blocks, insert } = open();
  insert('aaaabbbbcccc');
  insert('aaaabbbbdddd');
  assert.equal(found(blocks.match(ROOT, tokens('aaaabbbbddddeeee')).blocks), 'aaaa bbbb dddd');
  assert.deepEqual(blocks.match(ROOT, tokens('aaaabbbbdd')).tokens, 10);
  assert.equal(found(blocks.match(ROOT, tokens('aaaabbbbdd')).blocks), 'aaaa bbbb dddd');
  assert.equal(blocks.match(ROOT, tokens('aaaabbbbde')).tokens, 8);
  assert.equal(blocks.match(ROOT, tokens('aa')).tokens, 2);
  assert.equal(blocks.match(ROOT, tokens('bbbb')).tokens, 0);
  assert.equal(blocks.size, 4);
});

test('rootOf() keeps tenants, salts, models and layouts apart, and joins those who share a salt', () => {
  const { blocks, insert } = open();
  insert('aaaabbbb');
  const others = [
    rootOf(scopeOf('two', undefined), 'model', SHAPE, SIZE),
    rootOf(scopeOf('one', 'salt'), 'model', SHAPE, SIZE),
    rootOf(scopeOf('one', undefined), 'other', SHAPE, SIZE),
    rootOf(scopeOf('one', undefined), 'model', { ...SHAPE, layers: 3 }, SIZE),
    rootOf('model', 'tenant one', SHAPE, SIZE),
  ];
  for (const other of others) assert.equal(blocks.match(other, tokens('aaaabbbb')).tokens, 0);
  const mine = rootOf(scopeOf('one', 'salt'), 'model', SHAPE, SIZE);
  insert('aaaabbbb', mine);
  const theirs = rootOf(scopeOf('two', 'salt'), 'model', SHAPE, SIZE);
  assert.equal(blocks.match(theirs, tokens('aaaabbbb')).tokens, 8);
  assert.deepEqual(
    blocks.layouts(scopeOf('one', undefined), 'model').map(({ shape }) => shape),
    [SHAPE],
  );
});

test('leaving() offers only the last of a chain, the least recently used first', () => {
  const { blocks, insert } = open();
  insert('aaaabbbbcccc');
  insert('aaaadddd');
  const used = blocks.match(ROOT, tokens('aaaabbbbcccc')).blocks;
  blocks.touch(used);
  const release = blocks.hold(used);
  assert.deepEqual([...blocks.leaving()].map(textOf), ['dddd']);
  release();
  const order: string[] = [];
  for (const block of blocks.leaving()) {
    order.push(textOf(block));
    blocks.remove(block, 'evicted');
  }
  assert.deepEqual(order, ['dddd', 'cccc', 'bbbb', 'aaaa']);
  assert.equal(blocks.size, 0);
  assert.deepEqual(blocks.layouts(ROOT.scope, ROOT.model), []);
});

test('remove() takes all that follow, and pages of what is held go with the last holder', () => {
  const { blocks, insert, gone } = open();
  const [first, second] = insert('aaaabbbbcccc');
  assert.ok(first && second);
  const release = blocks.hold([second]);
  blocks.remove(first, 'cleared');
  assert.deepEqual(gone, ['aaaa', 'cccc']);
  assert.equal(blocks.match(ROOT, tokens('aaaabbbb')).tokens, 0);
  release();
  assert.deepEqual(gone, ['aaaa', 'cccc', 'bbbb']);
  insert('aaaa');
  assert.equal(blocks.match(ROOT, tokens('aaaabbbb')).tokens, 4);
});

test('leaving() offers all of a lower priority first, and those before a block are worth no less', () => {
  const { blocks, insert } = open();
  insert('aaaabbbb', ROOT, wish(80));
  insert('ccccdddd', ROOT, wish(20));
  insert('eeee');
  insert('aaaaffff', ROOT, wish(10));
  insert('cccc', ROOT, wish(90));
  const order: string[] = [];
  for (const block of blocks.leaving()) {
    order.push(textOf(block));
    blocks.remove(block, 'evicted');
  }
  assert.deepEqual(order, ['ffff', 'dddd', 'eeee', 'bbbb', 'aaaa', 'cccc']);
});

test('match() finds nothing that has expired, find() does, and touch() prolongs and never shortens', () => {
  const { blocks, insert, clock, left } = open();
  const [first, second] = insert('aaaabbbb', ROOT, wish(50, 2000));
  insert('aaaa', ROOT, wish(50, 3000));
  insert('aaaa', ROOT, wish(50, 1500));
  assert.ok(first && second);
  assert.deepEqual([first.expiresAt, second.expiresAt], [3000, 2000]);
  clock.now = 2000;
  assert.equal(blocks.match(ROOT, tokens('aaaabbbb')).tokens, 4);
  assert.equal(blocks.match(ROOT, tokens('aaaabb')).tokens, 4, 'nor the beginning of one');
  assert.equal(blocks.find(ROOT, first, tokens('bbbb')), second);
  assert.deepEqual([...blocks.expired()], [second]);
  const release = blocks.hold([first, second]);
  assert.deepEqual([...blocks.expired()], [], 'whoever is held waits');
  release();
  insert('aaaabbbb');
  clock.now = 9000;
  assert.equal(blocks.match(ROOT, tokens('aaaabbbb')).tokens, 8, 'used anew, for good');
  assert.deepEqual([...blocks.expired()], []);
  blocks.remove(first, 'cleared');
  assert.deepEqual(left, ['aaaa cleared', 'bbbb cleared']);
});

test('expired() gives the last of a chain first, each alone, and takes up those that come meanwhile', () => {
  const { blocks, insert, clock, left } = open();
  insert('aaaabbbbcccc', ROOT, wish(50, 2000));
  insert('aaaadddd', ROOT, wish(50, 1000));
  insert('eeee', ROOT, wish(50, 90_000));
  clock.now = 3000;
  for (const block of blocks.expired()) assert.equal(blocks.remove(block, 'expired'), 1);
  assert.deepEqual(left.toSorted(), ['aaaa expired', 'bbbb expired', 'cccc expired', 'dddd expired']);
  assert.equal(blocks.size, 1);
  assert.deepEqual([...blocks.expired()], []);
});

test('any order of inserting, matching, holding and leaving agrees with a list of texts', () => {
  const random = seeded();
  const { blocks, insert, gone } = open();
  const held = new Set<string>(); // whole beginnings, in multiples of a block
  const texts = Array.from({ length: 40 }, () =>
    Array.from({ length: 1 + random.below(5) }, () => 'xyz'[random.below(3)]?.repeat(SIZE)).join(''),
  );
  let inserted = 0;
  for (let step = 0; step < 4000; step++) {
    const text = texts[random.below(texts.length)] ?? '';
    const deed = random.below(9);
    if (deed < 3) {
      insert(text);
      for (let end = SIZE; end <= text.length; end += SIZE) {
        if (!held.has(text.slice(0, end))) inserted++;
        held.add(text.slice(0, end));
      }
    } else if (deed < 5) {
      const [leaf] = blocks.leaving();
      if (leaf) {
        let whole = '';
        for (let at: Block<number> | undefined = leaf; at; at = at.parent) whole = textOf(at) + whole;
        blocks.remove(leaf, 'evicted');
        assert.ok(held.delete(whole), `${whole} left, and was not held (SEED=${random.seed})`);
      }
    }
    let longest = 0;
    while (longest + SIZE <= text.length && held.has(text.slice(0, longest + SIZE))) longest += SIZE;
    assert.equal(blocks.match(ROOT, tokens(text)).tokens, longest, `SEED=${random.seed}`);
    assert.equal(blocks.size, held.size);
    assert.equal(inserted - gone.length, held.size);
  }
});
