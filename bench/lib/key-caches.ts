// Caches with get and set on numbers as keys, for their speed: ours (a Map from key to slot, and the policies that serve requests), and
// lru-cache, lru.min and mnemonist, where they are installed: in the folder that BENCH_CACHES names (one with a node_modules), or
// where they can be found from here. All hold `entriesMax` entries of whatever size.
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { NONE } from '../../core/cache/policy/policy.ts';
import { createStrategy, hashOfNumber, type Strategy } from './replay.ts';

export interface KeyCache {
  get(key: number): number | undefined;
  set(key: number, value: number): unknown;
}
export type CreateKeyCache = (entriesMax: number) => KeyCache;

const anyone = () => true;

export function createOwn(strategy: Exclude<Strategy, 'opt'>, entriesMax: number): KeyCache {
  const { entries, policy } = createStrategy(strategy, entriesMax);
  const slots = new Map<number, number>();
  const keys = new Float64Array(entriesMax);
  const values: number[] = new Array(entriesMax).fill(0);

  function evict(hash: number): void {
    const slot = policy.victim(hash, 1, anyone);
    if (slot === NONE) throw new Error(`${strategy} names nobody, and ${entries.count} entries are held`);
    policy.evict(slot);
    entries.drop(slot, true);
    slots.delete(keys[slot] as number);
  }

  function add(key: number): number {
    const hash = hashOfNumber(key);
    if (entries.count >= entriesMax) evict(hash);
    const slot = entries.add(hash, 1, 1);
    slots.set(key, slot);
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
      const slot = slots.get(key);
      if (slot === undefined) return undefined;
      use(slot);
      return values[slot];
    },
    set(key, value) {
      const slot = slots.get(key);
      values[slot === undefined ? add(key) : use(slot)] = value;
    },
  };
}

export interface Peer {
  readonly name: string;
  readonly version: string;
  readonly create: CreateKeyCache;
}

interface Shapes {
  readonly LRUCache: new (options: { max: number } | number) => KeyCache;
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
    ({ LRUCache }) =>
    (max) =>
      new LRUCache(max),
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
