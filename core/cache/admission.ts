// Whether one more entry may come: of the cache, and of a tenant. Entries that are being made count as long as they are not held, so
// that no number is exceeded at any moment, however many come at once.
import { problem } from '../contract/problems.ts';
import { type Entry, idOf } from './entry.ts';
import type { Holdings } from './holdings.ts';

export interface Admission {
  /** Throws where the key would be one too many; said before its body is read. */
  check(tenant: string, key: string): void;
  /** The same for an entry that is about to be held; call the result once it is, or is not to be. */
  enter(entry: Entry): () => void;
}

export interface AdmissionBounds {
  readonly entriesMax: number;
  readonly tenantEntriesMax: number;
}

export function createAdmission(
  holdings: Pick<Holdings, 'size' | 'at' | 'countOf'>,
  { entriesMax, tenantEntriesMax }: AdmissionBounds,
): Admission {
  /** Tenants of entries that are being made, by id. */
  const coming = new Map<string, string>();

  function check(tenant: string, key: string): void {
    const id = idOf(tenant, key);
    if (holdings.at(id) || coming.has(id)) return;
    let [all, own] = [holdings.size, holdings.countOf(tenant)];
    for (const [other, of] of coming) {
      if (holdings.at(other)) continue;
      all++;
      if (of === tenant) own++;
    }
    if (all >= entriesMax)
      throw problem('capacity_exhausted', `The cache holds ${all} entries, its limit (CACHE_ENTRIES_MAX).`);
    if (own >= tenantEntriesMax)
      throw problem('quota_exceeded', `The tenant has ${own} entries, its quota (TENANT_ENTRIES_MAX). Delete some.`);
  }

  return {
    check,
    enter({ id, record: { tenant, key } }) {
      check(tenant, key);
      coming.set(id, tenant);
      return () => coming.delete(id);
    },
  };
}
