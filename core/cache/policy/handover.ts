// From one policy to another over the same entries, nobody leaving: who is held, coldest first, and where the new one remembers
// who left, those who left last. Pure.
import type { Entries } from './entries.ts';
import type { Policy } from './policy.ts';

export function handOver(from: Policy, to: Policy, entries: Entries): void {
  from.coldestFirst(to.adopt);
  const recall = to.recall;
  if (recall) entries.past?.latest(entries.bytesMax, recall);
}
