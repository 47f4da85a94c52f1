// Tenants and the keys they sign with.
//
// Invariant: a key that is revoked or expired, by the database's clock, is not found. Secrets pass through sealed.
// Not here: making, sealing and caching keys.
import { and, eq, gt, isNull, or, sql } from 'drizzle-orm';
import { databaseCause, type Query } from './query.ts';
import { keys, tenants } from './schema.ts';

export type Key = typeof keys.$inferSelect;
export type NewKey = typeof keys.$inferInsert;

/** True if the tenant is new; an existing one keeps its name. */
export async function ensureTenant(query: Query, tenant: { id: string; name: string }): Promise<boolean> {
  const made = await query.insert(tenants).values(tenant).onConflictDoNothing().returning({ id: tenants.id });
  return made.length > 0;
}

/** False if the key's id is taken; that key stays as it is. */
export async function insertKey(query: Query, key: NewKey): Promise<boolean> {
  try {
    const made = await query.insert(keys).values(key).onConflictDoNothing().returning({ keyid: keys.keyid });
    return made.length > 0;
  } catch (error) {
    throw databaseCause(error);
  }
}

export async function findKey(query: Query, keyid: string): Promise<Key | undefined> {
  const usable = and(isNull(keys.revokedAt), or(isNull(keys.expiresAt), gt(keys.expiresAt, sql`now()`)));
  const [key] = await query
    .select()
    .from(keys)
    .where(and(eq(keys.keyid, keyid), usable))
    .limit(1);
  return key;
}

/** All that ever were, usable or not: zero only before the first one was made. */
export function countKeys(query: Query): Promise<number> {
  return query.$count(keys);
}
