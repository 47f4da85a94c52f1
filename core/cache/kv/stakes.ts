// Who has stored which blocks. Without a salt that is the scope's tenant; under a salt several may have stored the same, and
// what one of them is told or clears is what it has stored itself.
// Invariant: whoever has stored a block has stored those before it. A block bears a bit for each tenant, by the tenant's place
// among those of its root: 31 at most have a stake under one salt, model and layout; who comes after them reads and stores
// like all others, and has none.
import type { Block, Root } from './blocks.ts';

const TENANTS_MAX = 31;

interface Holding {
  readonly root: Root;
  /** By their bits. */
  readonly tenants: string[];
  /** Blocks of the root that anybody has a stake in. */
  blocks: number;
}

type Staked = Pick<Block<unknown>, 'root' | 'stakes'>;

export interface Stakes {
  /** The tenant has stored these; those of them in which it had no stake yet. */
  take<B extends Staked>(chain: readonly B[], tenant: string): B[];
  has(block: Staked, tenant: string): boolean;
  /** The tenant wants it no more; true where others do. */
  leave(block: Staked, tenant: string): boolean;
  tenantsOf(block: Staked): string[];
  /** It is out of the index, and nobody's any more. */
  drop(block: Staked): void;
  /** Under which the tenant has stored. */
  rootsOf(tenant: string): Root[];
}

export function createStakes(): Stakes {
  const holdings = new Map<string, Holding>();
  const ofTenant = new Map<string, Set<Holding>>();

  const holdingOf = (root: Root): Holding | undefined => holdings.get(root.hash.toString('hex'));
  const bitOf = (holding: Holding | undefined, tenant: string): number => {
    const place = holding?.tenants.indexOf(tenant) ?? -1;
    return place < 0 ? 0 : 1 << place;
  };

  /** The tenant's bit under a root, given where there is one left. */
  function join(root: Root, tenant: string): { holding: Holding; bit: number } {
    const holding = holdingOf(root) ?? { root, tenants: [], blocks: 0 };
    holdings.set(root.hash.toString('hex'), holding);
    const own = ofTenant.get(tenant) ?? new Set();
    if (bitOf(holding, tenant) === 0 && holding.tenants.length < TENANTS_MAX) {
      holding.tenants.push(tenant);
      ofTenant.set(tenant, own.add(holding));
    }
    return { holding, bit: bitOf(holding, tenant) };
  }

  function forget(holding: Holding): void {
    holdings.delete(holding.root.hash.toString('hex'));
    for (const tenant of holding.tenants) {
      const own = ofTenant.get(tenant);
      own?.delete(holding);
      if (own?.size === 0) ofTenant.delete(tenant);
    }
  }

  function setStakes(block: Staked, stakes: number): void {
    const holding = holdingOf(block.root);
    if (!holding) return;
    holding.blocks += Number(stakes !== 0) - Number(block.stakes !== 0);
    block.stakes = stakes;
    if (holding.blocks === 0) forget(holding);
  }

  return {
    take(chain, tenant) {
      const [first] = chain;
      if (!first) return [];
      const { bit } = join(first.root, tenant);
      const fresh = chain.filter(({ stakes }) => (stakes & bit) === 0 && bit !== 0);
      for (const block of fresh) setStakes(block, block.stakes | bit);
      return fresh;
    },
    has: ({ root, stakes }, tenant) => (stakes & bitOf(holdingOf(root), tenant)) !== 0,
    leave(block, tenant) {
      setStakes(block, block.stakes & ~bitOf(holdingOf(block.root), tenant));
      return block.stakes !== 0;
    },
    tenantsOf({ root, stakes }) {
      return holdingOf(root)?.tenants.filter((_, place) => stakes & (1 << place)) ?? [];
    },
    drop: (block) => setStakes(block, 0),
    rootsOf: (tenant) => [...(ofTenant.get(tenant) ?? [])].map(({ root }) => root),
  };
}
