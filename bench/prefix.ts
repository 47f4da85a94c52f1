// The index of token blocks (core/cache/prefix/): what a match costs per block beside a walk through a bare `Map`, from a thousand blocks
// to ten million; what it takes in memory; and how many blocks the tree's strategies hit on made traces of chains.
//
// Both sides are given the same names, hashed before. The Map has a number of 53 bits of the name for a key and a slot for a value, the least
// that can be done, and compares nothing; `hex` has the name as a string. The index compares all 128 bits, the place and, in the
// second column, 64 tokens. All walk the same chains, in turns, in one process; times are processor time. Beyond a processor's caches
// most of it is waiting for memory, on both sides: a line a block for the index (its record), four more for its
// tokens. `every block forked` is the worst there is: behind each place stands another block too, which came later, so that each step
// looks at that one's record, at the table and at the right one's record.
// Traces of one's own: `npm run bench -- cache --trace FILE.jsonl.gz`.

import { NONE } from '../core/cache/policy/policy.ts';
import { chainHashes, hexOfHash } from '../core/cache/prefix/hashes.ts';
import { HASH_WORDS } from '../core/cache/prefix/records.ts';
import { PrefixTree } from '../core/cache/prefix/tree.ts';
import { madeChains } from './lib/made-chains.ts';
import { replayPrefix } from './lib/replay-prefix.ts';
import { atLeast, atMost, type Check, type Report, type RunOptions, type Table, WrongAnswer } from './lib/report.ts';
import { median } from './lib/statistics.ts';

export const title = 'prefix match beside a bare Map, and strategies on made traces of chains';

const SIZES = [1e3, 1e4, 1e5, 1e6, 1e7];
const SIZES_QUICK = [1e3, 1e4, 1e5];
/** Beyond, the index alone: payload and strings of ten million blocks are gigabytes. */
const WITH_TOKENS_MAX = 1e6;
const CHAIN = 64;
const BLOCK_TOKENS = 64;
const ROUNDS = 7;
const LOOKUPS = 200_000;
const CAPACITIES = [0.002, 0.01, 0.03];
const BYTES_MAX = 110;
const TO_MAP = 2;
const BELOW_LRU = -0.3;

export async function run({ quick, log }: RunOptions): Promise<Report> {
  const walks: Walks[] = [];
  for (const size of quick ? SIZES_QUICK : SIZES) {
    log(`${size} blocks …`);
    walks.push(measureWalks(size));
  }
  const made = replays(quick ? 3000 : 12_000, log);
  const hash = hashingNs();
  return {
    tables: [walksTable(walks), ...made.tables],
    checks: [
      ...walks.map(({ size, index, map }) => atMost(`index to Map, ${size} blocks`, TO_MAP, index / map, 'x')),
      ...walks
        .filter(({ size }) => size >= 1e5)
        .map((one) => atMost(`index of ${one.size}`, BYTES_MAX, one.bytes, 'bytes a block')),
      ...made.checks,
    ],
    notes: [`Hashing a block of ${BLOCK_TOKENS} tokens, which both sides were spared: ${hash.toFixed(0)} ns.`],
  };
}

interface Walks {
  readonly size: number;
  /** ns a block. */
  readonly index: number;
  readonly tokens: number | null;
  /** Where every block has a twin that came later. */
  readonly forked: number | null;
  readonly map: number;
  readonly hex: number | null;
  readonly bytes: number;
}

/** Names well mixed, as a hash gives them. */
function namesFor(size: number): Uint32Array {
  const names = new Uint32Array(HASH_WORDS * size);
  let state = 1;
  for (let i = 0; i < names.length; i++) {
    state = (state + 0x9e37_79b9) | 0;
    let word = Math.imul(state ^ (state >>> 16), 0x21f0_aaad);
    word = Math.imul(word ^ (word >>> 15), 0x735a_2d97);
    names[i] = word ^ (word >>> 15);
  }
  return names;
}

const numberOf = (names: Uint32Array, block: number): number =>
  (names[HASH_WORDS * block] as number) * 2 ** 21 + ((names[HASH_WORDS * block + 1] as number) >>> 11);

/** With `twins`, another block stands behind each place too, and has come later: no chain goes on where it went on last. */
function fill(
  names: Uint32Array,
  size: number,
  blockTokens: number,
  twins: Uint32Array | undefined,
): { tree: PrefixTree; root: number; tokens: Int32Array } {
  const tree = new PrefixTree(blockTokens);
  const tokens = Int32Array.from({ length: size * blockTokens }, (_, i) => i);
  const root = tree.root();
  for (let block = 0, place = root; block < size; block++) {
    const before = block % CHAIN === 0 ? root : place;
    place = tree.add(before, names, block, tokens);
    if (twins) tree.add(before, twins, block, tokens);
  }
  return { tree, root, tokens };
}

type Walk = (chain: number) => number;

function treeWalk(
  names: Uint32Array,
  size: number,
  blockTokens: number,
  twins?: Uint32Array,
): { walk: Walk; tree: PrefixTree } {
  const { tree, root, tokens } = fill(names, size, blockTokens, twins);
  const slots = new Int32Array(CHAIN);
  /** What one who asks has in hand: the names and tokens of a sequence. Made in the round that is not counted. */
  const sequences = new Map<number, [Uint32Array, Int32Array]>();
  const sequenceOf = (chain: number): [Uint32Array, Int32Array] => {
    const begin = chain * CHAIN;
    const end = Math.min(size, begin + CHAIN);
    const made: [Uint32Array, Int32Array] = [
      names.subarray(HASH_WORDS * begin, HASH_WORDS * end),
      tokens.subarray(begin * blockTokens, end * blockTokens),
    ];
    sequences.set(chain, made);
    return made;
  };
  const walk = (chain: number): number => {
    const [own, ownTokens] = sequences.get(chain) ?? sequenceOf(chain);
    return tree.match(root, own, ownTokens, slots);
  };
  return { walk, tree };
}

function mapWalk<K>(keys: readonly K[]): Walk {
  const map = new Map<K, number>(keys.map((key, block) => [key, block]));
  return (chain) => {
    let block = chain * CHAIN;
    for (const end = Math.min(keys.length, block + CHAIN); block < end; block++)
      if (map.get(keys[block] as K) === undefined) break;
    return block - chain * CHAIN;
  };
}

function measureWalks(size: number): Walks {
  const names = namesFor(size);
  const bare = treeWalk(names, size, 0);
  const leaves = Math.ceil(size / CHAIN);
  const walks: Record<string, Walk> = {
    index: bare.walk,
    map: mapWalk(Array.from({ length: size }, (_, block) => numberOf(names, block))),
  };
  if (size <= WITH_TOKENS_MAX) {
    walks.tokens = treeWalk(names, size, BLOCK_TOKENS).walk;
    walks.forked = treeWalk(
      names,
      size,
      0,
      names.map((word) => ~word),
    ).walk;
    walks.hex = mapWalk(Array.from({ length: size }, (_, block) => hexOfHash(names, block)));
  }
  const times = inTurns(walks, size);
  const found = (name: string) => times.get(name) ?? null;
  return {
    size,
    index: found('index') ?? Number.NaN,
    tokens: found('tokens'),
    forked: found('forked'),
    map: found('map') ?? Number.NaN,
    hex: found('hex'),
    bytes: (bare.tree.bytes + 4 * size + 15 * leaves) / size,
  };
}

/** The same chains for all, in no order; ns a block. */
function inTurns(walks: Readonly<Record<string, Walk>>, size: number): Map<string, number> {
  const chains = Math.ceil(size / CHAIN);
  const order = new Int32Array(Math.ceil(LOOKUPS / CHAIN)).map((_, i) =>
    Number((BigInt(i) * 2654435761n) % BigInt(chains)),
  );
  const expected = order.reduce((sum, chain) => sum + Math.min(CHAIN, size - chain * CHAIN), 0);
  const times = new Map<string, number[]>(Object.keys(walks).map((name) => [name, []]));
  for (let round = 0; round <= ROUNDS; round++)
    for (const [name, walk] of Object.entries(walks)) {
      const before = process.cpuUsage();
      let found = 0;
      for (const chain of order) found += walk(chain);
      const { user, system } = process.cpuUsage(before);
      if (found !== expected) throw new WrongAnswer(`${name} found ${found} of ${expected} blocks`);
      if (round > 0) times.get(name)?.push(((user + system) * 1000) / found);
    }
  return new Map([...times].map(([name, ns]) => [name, median(ns)]));
}

function walksTable(walks: readonly Walks[]): Table {
  return {
    title: 'a walk, per block',
    columns: [
      { name: 'index', unit: 'ns' },
      { name: 'with 64 tokens compared', unit: 'ns' },
      { name: 'every block forked', unit: 'ns' },
      { name: 'Map of numbers', unit: 'ns' },
      { name: 'Map of hex', unit: 'ns' },
      { name: 'index to Map', unit: 'x' },
      { name: 'index', unit: 'bytes' },
    ],
    rows: walks.map((one) => ({
      name: `${one.size} blocks`,
      values: [one.index, one.tokens, one.forked, one.map, one.hex, one.index / one.map, one.bytes],
    })),
  };
}

function hashingNs(): number {
  const tokens = Int32Array.from({ length: 2000 * BLOCK_TOKENS }, (_, i) => i);
  const times = Array.from({ length: ROUNDS }, () => {
    const before = process.cpuUsage();
    if (chainHashes(Buffer.from('root'), tokens, BLOCK_TOKENS)[0] === NONE) throw new WrongAnswer('no hash');
    const { user, system } = process.cpuUsage(before);
    return ((user + system) * 1000) / 2000;
  });
  return median(times);
}

function replays(requests: number, log: (line: string) => void): { tables: Table[]; checks: Check[] } {
  let worst = 0;
  const strategies = ['lru', 'lfu', 'adaptive', 'opt'];
  const rows = madeChains(requests).flatMap((trace) => {
    log(`${trace.name}: ${trace.keys.length} blocks asked for, ${trace.distinct} different`);
    return CAPACITIES.map((capacity) => {
      const replayed = strategies.map((strategy) => replayPrefix(trace, capacity, strategy));
      const [lru, , adaptive] = replayed.map(({ hitRatio }) => 100 * hitRatio);
      worst = Math.min(worst, (adaptive ?? 0) - (lru ?? 0));
      const values = [...replayed.map(({ hitRatio }) => 100 * hitRatio), replayed[2]?.nsPerOp ?? null];
      return { name: `${trace.name} at ${capacity}`, values };
    });
  });
  const columns = [...strategies.map((name) => ({ name, unit: '%' })), { name: 'adaptive, a block', unit: 'ns' }];
  return {
    tables: [{ title: 'block hits', columns, rows }],
    checks: [atLeast('adaptive to lru on made traces, worst gap', BELOW_LRU, worst, 'points')],
  };
}
