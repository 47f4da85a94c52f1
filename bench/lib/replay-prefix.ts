// Replays a trace of chains through the index and the eviction that serve KV (core/cache/prefix/), as a cache without content, and counts:
// a request's blocks are hits up to the first that is missing; the others come, as far as there is room beside the request itself.
// `opt` is Belady's choice among the leaves: the one asked for last leaves first. `computeSaved` weighs a block by what computing it costs.

import { NONE } from '../../core/cache/policy/policy.ts';
import { createEviction, TREE_STRATEGIES } from '../../core/cache/prefix/eviction.ts';
import { costOf } from '../../core/cache/prefix/experts.ts';
import { Leaves } from '../../core/cache/prefix/leaves.ts';
import { HASH_WORDS } from '../../core/cache/prefix/records.ts';
import { PrefixTree } from '../../core/cache/prefix/tree.ts';
import { bytesOf, hashOfNumber, isStrategy, type Replayed, replay, STRATEGIES } from './replay.ts';
import type { Trace } from './traces.ts';

export const PREFIX_STRATEGIES: readonly string[] = [...TREE_STRATEGIES, 'opt'];
export const isAnyStrategy = (name: string): boolean => isStrategy(name) || PREFIX_STRATEGIES.includes(name);
export const strategiesFor = ({ chains }: Trace): readonly string[] => (chains ? PREFIX_STRATEGIES : STRATEGIES);

/** Of a trace of chains by its leaves, where the strategy is one for them; else block by block, as if they were entries. */
export function replayAny(trace: Trace, capacity: number, strategy: string): Replayed {
  if (trace.chains && PREFIX_STRATEGIES.includes(strategy)) return replayPrefix(trace, capacity, strategy);
  if (isStrategy(strategy)) return replay(trace, capacity, strategy);
  throw new Error(`'${strategy}' decides among leaves, and ${trace.name} has no chains`);
}

/** Of the traces' blocks. */
const BLOCK_TOKENS = 512;
const NEVER = 2 ** 31 - 1;

/** What decides: told of chains, asked for leaves. */
interface Order {
  came(slot: number): void;
  leaves(slot: number, isEvicted: boolean): void;
  freed(slot: number): void;
  asked(slots: Int32Array, length: number, held: number, at: number): void;
  victim(): number;
}

export function replayPrefix(trace: Trace, capacity: number, strategy: string): Replayed {
  const { keys, chains = new Uint32Array() } = trace;
  const blocksMax = bytesOf(trace, capacity);
  const tree = new PrefixTree(0);
  const order = strategy === 'opt' ? latestNext(trace, tree) : ordered(tree, blocksMax, strategy);
  const ask = createAsk(tree, order, blocksMax);
  const names = namesOf(keys);
  let [hits, saved, all] = [0, 0, 0];
  const before = process.cpuUsage();
  chains.forEach((start, i) => {
    const end = chains[i + 1] ?? keys.length;
    const held = ask(names.subarray(HASH_WORDS * start, HASH_WORDS * end), start);
    hits += held;
    saved += costOfFirst(held);
    all += costOfFirst(end - start);
  });
  const { user, system } = process.cpuUsage(before);
  const requests = keys.length;
  const hitRatio = hits / Math.max(1, requests);
  return {
    ...{ trace: trace.name, capacity, strategy, requests, hits, hitRatio, byteHitRatio: hitRatio },
    nsPerOp: strategy === 'opt' ? null : ((user + system) * 1000) / Math.max(1, requests),
    computeSaved: saved / Math.max(all, Number.MIN_VALUE),
  };
}

function costOfFirst(blocks: number): number {
  let cost = 0;
  for (let i = 0; i < blocks; i++) cost += costOf(i * BLOCK_TOKENS);
  return cost;
}

function ordered(tree: PrefixTree, blocksMax: number, strategy: string): Order {
  const objective = () => 'hits' as const;
  return createEviction({
    tree,
    strategy,
    objective,
    capacity: () => blocksMax,
    bytesOf: () => 1,
    blockTokens: BLOCK_TOKENS,
  });
}

/** Answers how many of the chain's blocks were held. */
function createAsk(tree: PrefixTree, order: Order, blocksMax: number) {
  const none = new Int32Array(0);
  const root = tree.root();
  let slots = new Int32Array(64);

  function evict(): boolean {
    const slot = order.victim();
    if (slot === NONE) return false;
    const before = tree.placeOf(slot);
    order.leaves(slot, true);
    tree.remove(slot);
    if (before >= 0) order.freed(before);
    return true;
  }

  return (names: Uint32Array, at: number): number => {
    const wanted = names.length / HASH_WORDS;
    if (wanted > slots.length) slots = new Int32Array(2 * wanted);
    const held = tree.match(root, names, none, slots);
    for (let i = 0; i < held; i++) tree.hold(slots[i] as number);
    let length = held;
    for (; length < wanted && (tree.count < blocksMax || evict()); length++) {
      const slot = tree.add(length === 0 ? root : (slots[length - 1] as number), names, length, none);
      tree.hold(slot);
      order.came(slot);
      slots[length] = slot;
    }
    order.asked(slots, length, held, at);
    for (let i = length - 1; i >= 0; i--) if (tree.release(slots[i] as number) === 0) order.freed(slots[i] as number);
    return held;
  };
}

function namesOf(keys: Uint32Array): Uint32Array {
  const names = new Uint32Array(HASH_WORDS * keys.length);
  for (let i = 0; i < keys.length; i++)
    for (let word = 0, name = keys[i] as number; word < HASH_WORDS; word++)
      names[HASH_WORDS * i + word] = name = hashOfNumber(name + word);
  return names;
}

/** By the next request for each block, the latest first. */
function latestNext({ keys, distinct }: Trace, tree: PrefixTree): Order {
  const next = new Int32Array(keys.length);
  const later = new Int32Array(distinct).fill(NEVER);
  for (let i = keys.length - 1; i >= 0; i--) {
    const key = keys[i] as number;
    next[i] = later[key] as number;
    later[key] = i;
  }
  const nextOf: number[] = [];
  const leaves = new Leaves({ rank: (slot) => -(nextOf[slot] ?? 0), isFree: (slot) => tree.isFree(slot) });
  return {
    came() {},
    leaves: (slot) => leaves.remove(slot),
    freed(slot) {
      if (tree.isFree(slot)) leaves.add(slot);
    },
    asked(slots, length, _held, at) {
      for (let i = 0; i < length; i++) {
        leaves.remove(slots[i] as number); // its rank falls, which the heap would not see
        nextOf[slots[i] as number] = next[at + i] as number;
      }
    },
    victim: () => leaves.lowest(),
  };
}
