// How many requests of one key are under way at once. Pure. Nothing is kept of who has none.

export interface Concurrency {
  /** Undefined where there are `max` already; else how many more may come, and the end of this one, to be called once. */
  enter(whose: string, max: number): { readonly left: number; readonly leave: () => void } | undefined;
}

export function createConcurrency(): Concurrency {
  const counts = new Map<string, number>();
  return {
    enter(whose, max) {
      const count = counts.get(whose) ?? 0;
      if (count >= max) return undefined;
      counts.set(whose, count + 1);
      return {
        left: max - count - 1,
        leave() {
          const now = counts.get(whose) ?? 0;
          if (now > 1) counts.set(whose, now - 1);
          else counts.delete(whose);
        },
      };
    },
  };
}
