// Tenants and the keys they sign with.
//
// Invariant: a key that is revoked or expired, by the database's clock, is not found, nor changed. Secrets pass through sealed,
// and a list has none.
// Not here: making, sealing and caching keys; who may do what to which.
import { and, asc, eq, getTableColumns, gt, isNull, or, sql } from 'drizzle-orm';
import { databaseCause, type Query } from './query.ts';
import { keys, tenants } from './schema.ts';

export type Key = typeof keys.$inferSelect;
export type NewKey = typeof keys.$inferInsert;
export type ListedKey = Omit<Key, 'sealedSecret' | 'previousSecret'>;

const LIST_MAX = 1000;
const { sealedSecret: _, previousSecret: __, ...LISTED } = getTableColumns(keys);

const usable = () => and(isNull(keys.revokedAt), or(isNull(keys.expiresAt), gt(keys.expiresAt, sql`now()`)));
const thisOne = (keyid: string) => and(eq(keys.keyid, keyid), usable());

/** True if the tenant is new; an existing one keeps its name. */
export async function ensureTenant(query: Query, tenant: { id: string; name: string }): Promise<boolean> {
  const made = await query.insert(tenants).values(tenant).onConflictDoNothing().returning({ id: tenants.id });
  return made.length > 0;
}

/** Undefined if the key's id is taken; that key stays as it is. */
export async function insertKey(query: Query, key: NewKey): Promise<ListedKey | undefined> {
  try {
    const [made] = await query.insert(keys).values(key).onConflictDoNothing().returning(LISTED);
    return made;
  } catch (error) {
    throw databaseCause(error);
  }
}

export async function findKey(query: Query, keyid: string): Promise<Key | undefined> {
  const [key] = await query.select().from(keys).where(thisOne(keyid)).limit(1);
  return key;
}

/** Usable or not, in order of their ids, those after `after`; of one tenant, or of all. */
export function listKeys(
  query: Query,
  { tenant, after, limit }: { tenant: string | undefined; after: string; limit: number },
): Promise<ListedKey[]> {
  const bounded = Math.max(1, Math.min(Math.trunc(limit), LIST_MAX));
  return query
    .select(LISTED)
    .from(keys)
    .where(and(gt(keys.keyid, after), tenant === undefined ? undefined : eq(keys.tenant, tenant)))
    .orderBy(asc(keys.keyid))
    .limit(bounded);
}

/** The secret so far works beside the new one until then; what was before it does not. */
export async function rotateKey(
  query: Query,
  keyid: string,
  sealedSecret: Uint8Array,
  overlapSeconds: number,
): Promise<ListedKey | undefined> {
  try {
    const [rotated] = await query
      .update(keys)
      .set({
        sealedSecret,
        previousSecret: sql`${keys.sealedSecret}`,
        previousUntil: sql`now() + make_interval(secs => ${overlapSeconds})`,
      })
      .where(thisOne(keyid))
      .returning(LISTED);
    return rotated;
  } catch (error) {
    throw databaseCause(error);
  }
}

/** False if there is no such key, or not any more. */
export async function revokeKey(query: Query, keyid: string): Promise<boolean> {
  const revoked = await query
    .update(keys)
    .set({ revokedAt: sql`now()` })
    .where(thisOne(keyid))
    .returning({ keyid: keys.keyid });
  return revoked.length > 0;
}

/** All that ever were, usable or not: zero only before the first one was made. */
export function countKeys(query: Query): Promise<number> {
  return query.$count(keys);
}

/** Those of a tenant that work. */
export function countUsableKeys(query: Query, tenant: string): Promise<number> {
  return query.$count(keys, and(eq(keys.tenant, tenant), usable()));
}
