// What left, for whom it was: the last 4,096 blocks of each of 64 tenants, by their hashes, with when and why, and the 64 roots
// that they were last of. Only what a tenant has stored itself stands in its part, and only its own pushes that out.
import type { KvCause } from '../../contract/kv-calls.ts';
import { createByTenant } from '../by-tenant.ts';
import type { Block, Root } from './blocks.ts';

const BLOCKS_MAX = 4096;
const ROOTS_MAX = 64;
const TENANTS_MAX = 64;

export interface Left {
  readonly when: number;
  readonly cause: KvCause;
}

export interface KvHistory {
  note(tenant: string, block: Pick<Block<unknown>, 'hash' | 'root'>, left: Left): void;
  /** It is there again. */
  forget(tenant: string, hash: string): void;
  find(tenant: string, hash: string): Left | undefined;
  roots(tenant: string): Root[];
}

export function createHistory(): KvHistory {
  const tenants = createByTenant(TENANTS_MAX, () => ({
    blocks: new Map<string, Left>(),
    roots: new Map<string, Root>(),
  }));
  return {
    note(tenant, { hash, root }, left) {
      const { blocks, roots } = tenants.of(tenant);
      putLast(blocks, hash, left, BLOCKS_MAX);
      putLast(roots, root.hash.toString('hex'), root, ROOTS_MAX);
    },
    forget: (tenant, hash) => void tenants.known(tenant)?.blocks.delete(hash),
    find: (tenant, hash) => tenants.known(tenant)?.blocks.get(hash),
    roots: (tenant) => [...(tenants.known(tenant)?.roots.values() ?? [])],
  };
}

function putLast<T>(map: Map<string, T>, key: string, value: T, max: number): void {
  map.delete(key);
  map.set(key, value);
  const [oldest] = map.keys();
  if (map.size > max && oldest !== undefined) map.delete(oldest);
}
