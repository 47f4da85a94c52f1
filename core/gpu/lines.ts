// Those who wait for something, a line for each tenant: whose turn it is goes round, one of each after the other, and within a
// line goes the order of coming. What nobody's tenant waits for has a line of its own. No line without anybody in it.

export type Tenant = string | undefined;

export interface Lines<W> {
  readonly size: number;
  sizeOf(tenant: Tenant): number;
  add(tenant: Tenant, waiter: W): void;
  /** Left without having been served. */
  leave(tenant: Tenant, waiter: W): void;
  /** Whose turn it is, of tenants that may; no longer in line. */
  next(may: (tenant: Tenant) => boolean): { readonly tenant: Tenant; readonly waiter: W } | undefined;
}

export function createLines<W>(): Lines<W> {
  const lines = new Map<Tenant, Set<W>>();
  let size = 0;

  function leave(tenant: Tenant, waiter: W): void {
    const line = lines.get(tenant);
    if (!line?.delete(waiter)) return;
    size--;
    if (line.size === 0) lines.delete(tenant);
  }

  return {
    get size() {
      return size;
    },
    sizeOf: (tenant) => lines.get(tenant)?.size ?? 0,
    add(tenant, waiter) {
      const line = lines.get(tenant) ?? new Set();
      lines.set(tenant, line.add(waiter));
      size++;
    },
    leave,
    next(may) {
      for (const [tenant, line] of lines) {
        const [waiter] = line;
        if (waiter === undefined || !may(tenant)) continue;
        lines.delete(tenant); // to the end, for its next turn
        lines.set(tenant, line);
        leave(tenant, waiter);
        return { tenant, waiter };
      }
      return undefined;
    },
  };
}
