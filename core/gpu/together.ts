// Several things at once on adapters, all of them over before anybody goes on: what is under way may still read or write the
// pages and pieces that a failure would give back. Pure.

/** What they give, in order; else the first failure, once all are over. */
export async function together<T extends readonly Promise<unknown>[] | []>(
  all: T,
): Promise<{ -readonly [I in keyof T]: Awaited<T[I]> }> {
  await Promise.allSettled(all);
  return Promise.all(all);
}
