// The names that each tenant holds, to be listed in order. A sorted array is made when somebody lists after a change:
// writing stays O(1), and paging through a list that does not change sorts once.

export interface Names {
  add(tenant: string, key: string): void;
  delete(tenant: string, key: string): void;
  /** Keys that begin with `prefix` and come after `after`, in order of their code units. */
  from(tenant: string, prefix: string, after: string): Generator<string, void, void>;
}

export function createNames(): Names {
  const tenants = new Map<string, { keys: Set<string>; sorted: string[] | undefined }>();

  return {
    add(tenant, key) {
      const names = tenants.get(tenant) ?? { keys: new Set<string>(), sorted: undefined };
      tenants.set(tenant, names);
      if (names.keys.has(key)) return;
      names.keys.add(key);
      names.sorted = undefined;
    },
    delete(tenant, key) {
      const names = tenants.get(tenant);
      if (!names?.keys.delete(key)) return;
      names.sorted = undefined;
      if (names.keys.size === 0) tenants.delete(tenant);
    },
    *from(tenant, prefix, after) {
      const names = tenants.get(tenant);
      if (!names) return;
      names.sorted ??= [...names.keys].sort();
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

function firstAtLeast(sorted: readonly string[], key: string): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((sorted[middle] as string) < key)
      low = middle + 1; // low <= middle < high
    else high = middle;
  }
  return low;
}
