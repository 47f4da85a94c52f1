// The names that each tenant holds, to be listed in order. Changes are set aside and merged when somebody lists: writing
// stays O(1), and paging through a list that does not change costs a search a page.

export interface Names {
  add(tenant: string, key: string): void;
  delete(tenant: string, key: string): void;
  /** How many a tenant has. */
  count(tenant: string): number;
  /** Keys that begin with `prefix` and come after `after`, in order of their code units. */
  from(tenant: string, prefix: string, after: string): Generator<string, void, void>;
}

interface TenantNames {
  /** In order; as of the last listing. */
  sorted: string[];
  /** What has come and gone since. */
  readonly added: Set<string>;
  readonly removed: Set<string>;
}

export function createNames(): Names {
  const tenants = new Map<string, TenantNames>();

  return {
    add(tenant, key) {
      const names = tenants.get(tenant) ?? { sorted: [], added: new Set<string>(), removed: new Set<string>() };
      tenants.set(tenant, names);
      if (!names.removed.delete(key)) names.added.add(key);
    },
    delete(tenant, key) {
      const names = tenants.get(tenant);
      if (!names || names.added.delete(key)) return;
      names.removed.add(key);
    },
    count(tenant) {
      const names = tenants.get(tenant);
      return names ? names.sorted.length + names.added.size - names.removed.size : 0;
    },
    *from(tenant, prefix, after) {
      const names = tenants.get(tenant);
      if (!names) return;
      if (names.added.size > 0 || names.removed.size > 0) settle(names);
      const { sorted } = names;
      const [, start = prefix] = [prefix, after].sort();
      for (let i = firstAtLeast(sorted, start); i < sorted.length; i++) {
        const key = sorted[i] as string; // i is in range
        if (!key.startsWith(prefix)) return;
        if (key > after) yield key;
      }
    },
  };
}

/** Sorts what is new and merges it in: a listing after a few changes costs one pass, not a sort of everything. */
function settle(names: TenantNames): void {
  const added = [...names.added].sort();
  const merged: string[] = [];
  let next = 0;
  for (const key of names.sorted) {
    for (let one = added[next]; one !== undefined && one < key; one = added[++next]) merged.push(one);
    if (!names.removed.has(key)) merged.push(key);
  }
  for (; next < added.length; next++) merged.push(added[next] as string); // next is in range
  names.sorted = merged;
  names.added.clear();
  names.removed.clear();
}

function firstAtLeast(sorted: readonly string[], key: string): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const candidate = sorted[middle] as string; // low <= middle < high
    if (candidate < key) low = middle + 1;
    else high = middle;
  }
  return low;
}
