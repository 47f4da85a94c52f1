// Caches with get and set on numbers as keys, for their speed: ours (an index from key to slot, and the policies that serve requests), and
// lru-cache, lru.min and mnemonist, where they are installed: in the folder that BENCH_CACHES names (one with a node_modules), or
// where they can be found from here. All hold `entriesMax` entries of whatever size.
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { HashIndex } from '../../core/cache/policy/hash-index.ts';
import { NONE } from '../../core/cache/policy/policy.ts';
import { createStrategy, hashOfNumber, type Strategy } from './replay.ts';

export interface KeyCache {
  get(key: number): number | undefined;
  set(key: number, value: number): unknown;
}
export type CreateKeyCache = (entriesMax: number) => KeyCache;

/** How keys find their slots: in the index that trials use, by hash, or in a Map, as peers do whose keys may be anything. */
export type IndexKind = 'hashes' | 'map';
interface KeyIndex {
  find(key: number): number;
  set(key: number, slot: number): void;
  delete(key: number): void;
}

function createIndex(kind: IndexKind): KeyIndex {
  if (kind === 'map') {
    const slots = new Map<number, number>();
    return {
      find: (key) => slots.get(key) ?? NONE,
      set: (key, slot) => void slots.set(key, slot),
      delete: (key) => void slots.delete(key),
    };
  }
  // One to one: no two keys have the same hash.
  const slots = new HashIndex();
  return {
    find: (key) => slots.find(hashOfNumber(key)),
    set: (key, slot) => slots.set(hashOfNumber(key), slot),
    delete: (key) => void slots.delete(hashOfNumber(key)),
  };
}

const anyone = () => true;

export function createOwn(strategy: Exclude<Strategy, 'opt'>, entriesMax: number, kind: IndexKind): KeyCache {
  const { entries, policy } = createStrategy(strategy, entriesMax);
  const index = createIndex(kind);
  const keys: number[] = new Array(entriesMax).fill(0);
  const values: number[] = new Array(entriesMax).fill(0);

  function evict(hash: number): void {
    const slot = policy.victim(hash, 1, anyone);
    if (slot === NONE) throw new Error(`${strategy} names nobody, and ${entries.count} entries are held`);
    policy.evict(slot);
    entries.drop(slot, true);
    index.delete(keys[slot] as number);
  }

  function add(key: number): number {
    const hash = hashOfNumber(key);
    if (entries.count >= entriesMax) evict(hash);
    const slot = entries.add(hash, 1, 1);
    index.set(key, slot);
    keys[slot] = key;
    policy.admit(slot);
    return slot;
  }

  function use(slot: number): number {
    entries.use(slot);
    policy.hit(slot);
    return slot;
  }

  return {
    get(key) {
      const slot = index.find(key);
      if (slot === NONE) return undefined;
      use(slot);
      return values[slot];
    },
    set(key, value) {
      const slot = index.find(key);
      values[slot === NONE ? add(key) : use(slot)] = value;
    },
  };
}

export interface Peer {
  readonly name: string;
  readonly version: string;
  readonly create: CreateKeyCache;
}

interface Shapes {
  readonly LRUCache: new (options: { max: number }) => KeyCache;
  readonly LRUMap: new (max: number) => KeyCache;
  readonly createLRU: (options: { max: number }) => KeyCache;
}
const PEERS: Readonly<Record<string, (module: Shapes) => CreateKeyCache>> = {
  'lru-cache':
    ({ LRUCache }) =>
    (max) =>
      new LRUCache({ max }),
  'lru.min':
    ({ createLRU }) =>
    (max) =>
      createLRU({ max }),
  mnemonist:
    ({ LRUMap }) =>
    (max) =>
      new LRUMap(max),
};

/** A string says why one is missing. */
export function findPeers(folder: string | undefined): (Peer | string)[] {
  const require = createRequire(folder === undefined ? import.meta.url : join(folder, 'from-here.js'));
  return Object.entries(PEERS).map(([name, adapt]) => {
    try {
      const create = adapt(require(name) as Shapes);
      const version = versionOf(require, name);
      return { name, version, create };
    } catch (error) {
      return `${name}: ${error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error)}`;
    }
  });
}

/** Not every package lets its package.json be asked for. */
function versionOf(require: NodeJS.Require, name: string): string {
  try {
    return (require(`${name}/package.json`) as { version: string }).version;
  } catch {
    return 'of unknown version';
  }
}
