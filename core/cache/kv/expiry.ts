// What expires, in buckets of some seconds each: to find what is due costs a look at the buckets' numbers, not at all that expires.
// Bookkeeping only: nothing leaves by itself.

const BUCKET_MS = 5000;

export interface Expiry<T> {
  /** It expires then, and no longer when it did `before`; infinite: never. */
  set(one: T, before: number, at: number): void;
  /** Those whose time has come, perhaps with some whose time comes within seconds; they may leave while others are still asked for. */
  due(now: number): Generator<T, void, void>;
}

export function createExpiry<T>(): Expiry<T> {
  const buckets = new Map<number, Set<T>>();
  const bucketOf = (at: number): number => Math.floor(at / BUCKET_MS);

  return {
    set(one, before, at) {
      const [from, to] = [bucketOf(before), bucketOf(at)];
      const left = buckets.get(from);
      if (left?.delete(one) && left.size === 0) buckets.delete(from);
      if (at === Number.POSITIVE_INFINITY) return;
      buckets.set(to, (buckets.get(to) ?? new Set()).add(one));
    },
    *due(now) {
      const last = bucketOf(now);
      for (const [bucket, some] of buckets) if (bucket <= last) yield* some;
    },
  };
}
