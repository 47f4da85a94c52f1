// A tenant's rows, gone. The audit log stays: it is append-only, and tells what was done and by whom, this included; what it holds
// of a tenant is its id, the ids of its keys and their scopes, never a secret. A key that it tells as deleted does
// not come back with a backup.
//
// Invariant: the rows are out of the tables' files when it resolves (VACUUM FULL), so far as the database lets us. What it keeps of
// its past for its own recovery (write-ahead log) is overwritten by and by, in its own time.
import { and, eq, ne, sql } from 'drizzle-orm';
import { appendAudit } from './audit.ts';
import { databaseCause, type Query } from './query.ts';
import { keys, tenants } from './schema.ts';

/** But for one key, which stays with its tenant. */
export async function eraseTenant(
  query: Query,
  tenant: string,
  keptKeyid: string,
): Promise<{ keyids: readonly string[]; tenants: number }> {
  try {
    const done = await query.transaction(async (transaction) => {
      const gone = await transaction
        .delete(keys)
        .where(and(eq(keys.tenant, tenant), ne(keys.keyid, keptKeyid)))
        .returning({ keyid: keys.keyid });
      for (const { keyid: subject } of gone)
        await appendAudit(transaction, { tenant, actor: 'erasure', action: 'key.deleted', subject, detail: {} });
      const left = await transaction.$count(keys, eq(keys.tenant, tenant));
      const keyids = gone.map(({ keyid }) => keyid);
      if (left > 0) return { keyids, tenants: 0 };
      const own = await transaction.delete(tenants).where(eq(tenants.id, tenant)).returning({ id: tenants.id });
      return { keyids, tenants: own.length };
    });
    await query.execute(sql`vacuum full keys`);
    await query.execute(sql`vacuum full tenants`);
    return done;
  } catch (error) {
    throw databaseCause(error);
  }
}
