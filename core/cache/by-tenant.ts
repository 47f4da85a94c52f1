// Something for each tenant, of so many tenants: where there would be more, the one that was asked for longest ago is dropped.
// What a tenant has of it is bounded by itself, so that nobody sees in his own how busy others are.

export interface ByTenant<T> {
  /** Made where there is none. Just used. */
  of(tenant: string): T;
  /** Undefined where there is none. */
  known(tenant: string): T | undefined;
  all(): Iterable<T>;
}

export function createByTenant<T>(
  tenantsMax: number,
  make: (tenant: string) => T,
  drop: (dropped: T) => void = () => {},
): ByTenant<T> {
  const tenants = new Map<string, T>();
  return {
    of(tenant) {
      const found = tenants.get(tenant) ?? make(tenant);
      tenants.delete(tenant);
      tenants.set(tenant, found);
      const [oldest] = tenants;
      if (tenants.size > tenantsMax && oldest) {
        tenants.delete(oldest[0]);
        drop(oldest[1]);
      }
      return found;
    },
    known: (tenant) => tenants.get(tenant),
    all: () => tenants.values(),
  };
}
