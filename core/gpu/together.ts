// Several things at once on adapters, all of them over before anybody goes on: what is under way may still read or write the
// pages and pieces that a failure would give back. Pure.

/** What they give, in order; else the first failure, once all are over. */
export async function together<T>(all: readonly Promise<T>[]): Promise<T[]> {
  const settled = await Promise.allSettled(all);
  return settled.map((each) => {
    if (each.status === 'rejected') throw each.reason;
    return each.value;
  });
}
