// The index of blocks against a plain model: a set of texts, each the whole beginning of a sequence. SEED and CACHE_ROUNDS as elsewhere.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NONE } from '../../../../core/cache/policy/policy.ts';
import { bytesOfHash, chainHashes, hexOfHash } from '../../../../core/cache/prefix/hashes.ts';
import { HASH_WORDS } from '../../../../core/cache/prefix/records.ts';
import { PrefixTree } from '../../../../core/cache/prefix/tree.ts';
import { seeded } from '../../../support/seeded.ts';

const ROUNDS = Number(process.env.CACHE_ROUNDS ?? 3000);
const SIZE = 3;
const BYTES_PER_BLOCK_MAX = 110;

const tokensOf = (text: string): Int32Array => Int32Array.from(text, (letter) => letter.charCodeAt(0));
const namesOf = (salt: string, text: string): Uint32Array => chainHashes(Buffer.from(salt), tokensOf(text), SIZE);

function open() {
  const tree = new PrefixTree(SIZE);
  const roots = new Map<string, number>();
  const rootOf = (salt: string): number => {
    const root = roots.get(salt) ?? tree.root();
    roots.set(salt, root);
    return root;
  };

  /** The slots of all whole blocks of the text, those that are new added. */
  function insert(salt: string, text: string): number[] {
    const [names, tokens] = [namesOf(salt, text), tokensOf(text)];
    const slots: number[] = [];
    for (let block = 0; block < names.length / HASH_WORDS; block++) {
      const place = slots.at(-1) ?? rootOf(salt);
      const found = tree.find(place, names, block, tokens);
      slots.push(found === NONE ? tree.add(place, names, block, tokens) : found);
    }
    return slots;
  }

  function match(salt: string, text: string): number[] {
    const names = namesOf(salt, text);
    const slots = new Int32Array(names.length / HASH_WORDS);
    return [...slots.subarray(0, tree.match(rootOf(salt), names, tokensOf(text), slots))];
  }
  return { tree, rootOf, insert, match };
}

test('chainHashes() names a block by all that came before it, and by whose it is', () => {
  const [abc, xbc] = [namesOf('one', 'aaabbbccc'), namesOf('one', 'xxxbbbccc')];
  assert.equal(abc.length, 3 * HASH_WORDS);
  assert.equal(hexOfHash(abc, 1).length, 32);
  assert.equal(Buffer.from(bytesOfHash(abc, 1)).toString('hex'), hexOfHash(abc, 1));
  assert.notEqual(hexOfHash(abc, 1), hexOfHash(xbc, 1));
  assert.notEqual(hexOfHash(abc, 0), hexOfHash(namesOf('two', 'aaa'), 0));
  assert.equal(hexOfHash(abc, 1), hexOfHash(namesOf('one', 'aaabbb'), 1));
});

test('find() takes no other tokens, no other place and no other root for the right ones, whatever the name', () => {
  const { tree, rootOf, insert } = open();
  const [first = NONE] = insert('one', 'aaabbb');
  const names = namesOf('one', 'aaabbb');
  assert.equal(tree.find(rootOf('one'), names, 0, tokensOf('aaabbb')), first);
  assert.equal(tree.find(rootOf('one'), names, 0, tokensOf('aax')), NONE);
  assert.equal(tree.find(rootOf('two'), names, 0, tokensOf('aaabbb')), NONE);
  assert.equal(tree.find(first, names, 0, tokensOf('aaabbb')), NONE);
  assert.equal(tree.named(names, 0), first);
});

test('match() goes on where a chain has forked, whichever way came last', () => {
  const { insert, match, tree } = open();
  const long = insert('one', 'aaabbbcccddd');
  const fork = insert('one', 'aaabbbxxxddd');
  assert.deepEqual(match('one', 'aaabbbcccddd'), long);
  assert.deepEqual(match('one', 'aaabbbxxxddd'), fork);
  for (const slot of fork.slice(2).reverse()) tree.remove(slot);
  assert.deepEqual(match('one', 'aaabbbxxxddd'), fork.slice(0, 2));
  assert.deepEqual(match('one', 'aaabbbcccddd'), long);
});

test('beginningWith() finds one that goes on like this, behind this place only', () => {
  const { tree, rootOf, insert } = open();
  const [a = NONE, b = NONE] = insert('one', 'aaabcdxyz');
  const [, other = NONE] = insert('one', 'aaabce');
  const begins = (place: number, text: string, willDo = (_: number) => true) =>
    tree.beginningWith(place, tokensOf(text), willDo);
  assert.equal(begins(a, 'bcd'), b);
  assert.equal(begins(a, 'bc'), other);
  assert.equal(
    begins(a, 'bc', (slot) => slot !== other),
    b,
  );
  assert.equal(begins(a, 'x'), NONE);
  assert.equal(begins(rootOf('one'), 'b'), NONE);
  assert.equal(begins(rootOf('two'), 'a'), NONE);
  assert.deepEqual([...tree.behind(a)].sort(), [b, other].sort());
});

test('remove() refuses one that others follow, dropRoot() one that blocks stand behind', () => {
  const { tree, rootOf, insert } = open();
  const [a = NONE, b = NONE] = insert('one', 'aaabbb');
  assert.throws(() => tree.remove(a), /others follow it/);
  assert.throws(() => tree.dropRoot(rootOf('one')), /blocks stand behind/);
  tree.remove(b);
  tree.remove(a);
  tree.dropRoot(rootOf('one'));
  assert.equal(tree.root(), rootOf('one'));
});

test('a branch is what goes on without another beside it', () => {
  const { tree, insert } = open();
  const branches = (text: string) => insert('one', text).map((slot) => tree.records.get(slot, 10));
  const [a, b] = branches('aaabbb');
  assert.equal(a, b);
  const [, , c] = branches('aaabbbccc');
  assert.equal(c, a);
  const [, x] = branches('aaaxxx');
  assert.notEqual(x, a);
});

test('an index of a hundred thousand blocks has at most 110 bytes for each, tokens apart', () => {
  const tree = new PrefixTree(0);
  const root = tree.root();
  const random = seeded();
  const count = 100_000;
  const names = new Uint32Array(HASH_WORDS * count).map(() => random.below(2 ** 32));
  for (let block = 0, place = root; block < count; block++)
    place = tree.add(block % 100 === 0 ? root : place, names, block, new Int32Array(0));
  assert.equal(tree.count, count);
  const leavesMost = 8 + 12 * 1.25; // places by slot, and a heap of all
  assert.ok(tree.bytes / count + leavesMost <= BYTES_PER_BLOCK_MAX, `${tree.bytes / count} bytes`);
  assert.equal(tree.records.tokenBytes, 0);
});

test('any order of adding, finding, holding and removing agrees with a set of texts', () => {
  const random = seeded();
  const { tree, insert, match } = open();
  const held = new Map<string, number>();
  const texts = Array.from({ length: 60 }, () =>
    Array.from({ length: 1 + random.below(6) }, () => 'xyz'[random.below(3)]?.repeat(SIZE)).join(''),
  );
  const anything = () => `${random.below(2)}:${random.pick(texts as [string, ...string[]])}`;
  const beginnings = (whole: string) => {
    const [salt = '', text = ''] = whole.split(':');
    return Array.from({ length: text.length / SIZE }, (_, i) => `${salt}:${text.slice(0, SIZE * (i + 1))}`);
  };
  for (let round = 0; round < ROUNDS; round++) {
    const whole = anything();
    const [salt = '', text = ''] = whole.split(':');
    const deed = random.below(10);
    if (deed < 4) for (const [i, slot] of insert(salt, text).entries()) held.set(beginnings(whole)[i] ?? '', slot);
    else if (deed < 8) {
      const leaf = [...held].find(([, slot]) => tree.isFree(slot) && random.below(4) === 0);
      if (leaf) {
        tree.remove(leaf[1]);
        held.delete(leaf[0]);
      }
    } else if (deed === 8) {
      const slot = held.get(whole);
      if (slot !== undefined && tree.holders(slot) < 3) tree.hold(slot);
    } else for (const slot of held.values()) if (tree.holders(slot) > 0) tree.release(slot);
    const expected = beginnings(anything());
    const missing = expected.findIndex((one) => !held.has(one));
    const [otherSalt = '', otherText = ''] = (expected.at(-1) ?? '').split(':');
    const found = match(otherSalt, otherText);
    const known = expected.slice(0, missing === -1 ? expected.length : missing).map((one) => held.get(one));
    assert.deepEqual(found, known, `SEED=${random.seed}`);
    assert.equal(tree.count, held.size, `SEED=${random.seed}`);
    for (const [one, slot] of round % 50 === 0 ? held : []) {
      const following = [...held].filter(([other]) => other.length === one.length + SIZE && other.startsWith(one));
      assert.deepEqual(
        [...tree.behind(slot)].sort(),
        following.map(([, other]) => other).sort(),
        `SEED=${random.seed}`,
      );
      assert.equal(tree.depth(slot), (one.length - 2) / SIZE - 1);
      assert.equal(String.fromCharCode(...tree.records.tokens(slot)), one.slice(-SIZE));
    }
  }
});
