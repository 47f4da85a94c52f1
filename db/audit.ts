// The audit log: who did what to what.
//
// Invariant: entries are only added; the database itself refuses the rest (migrations/). Numbers grow, with gaps.
// A number is given before its entry becomes visible: an entry added inside a long transaction can appear below
// one that was already listed. Who follows the log therefore adds entries in statements of their own.
// Not here: deciding what is worth an entry; secrets do not belong into `detail`.
import { and, asc, eq, gt } from 'drizzle-orm';
import type { Query } from './query.ts';
import { audit } from './schema.ts';

export type AuditEntry = typeof audit.$inferSelect;
export type NewAuditEntry = Omit<typeof audit.$inferInsert, 'id' | 'at'>;

const LIST_MAX = 1000;

/** Returns the entry as it was kept. */
export async function appendAudit(query: Query, entry: NewAuditEntry): Promise<AuditEntry> {
  const [kept] = await query.insert(audit).values(entry).returning();
  if (!kept) throw new Error('the database took an audit entry and returned none');
  return kept;
}

/** Entries above `after` in order, `limit` at most, never more than 1000; `after` 0 starts at the beginning. Of one tenant, or all. */
export function listAudit(query: Query, after: number, limit: number, tenant?: string): Promise<AuditEntry[]> {
  const bounded = Math.max(1, Math.min(Math.trunc(limit), LIST_MAX));
  const wanted = and(gt(audit.id, after), tenant === undefined ? undefined : eq(audit.tenant, tenant));
  return query.select().from(audit).where(wanted).orderBy(asc(audit.id)).limit(bounded);
}
