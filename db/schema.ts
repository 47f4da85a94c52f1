// The tables, as drizzle sees them; `npm run db:generate` turns a change here into a file below migrations/.
//
// Invariant: `audit` is append-only. A trigger refuses everything else, and because drizzle has no words for triggers it
// stands in a migration of its own. `audit.tenant` refers to no row: the record outlives what it speaks of.
// Not here: what a sealed secret is. It is opaque bytes, sealed and opened by whoever holds the master key.
import { sql } from 'drizzle-orm';
import { bigint, customType, index, jsonb, pgTable, text, timestamp } from 'drizzle-orm/pg-core';

const bytes = customType<{ data: Uint8Array; driverData: Uint8Array }>({ dataType: () => 'bytea' });
const moment = (name: string) => timestamp(name, { withTimezone: true });

export const tenants = pgTable('tenants', {
  id: text('id').primaryKey(),
  name: text('name').notNull(),
  createdAt: moment('created_at').notNull().defaultNow(),
});

export const keys = pgTable(
  'keys',
  {
    keyid: text('keyid').primaryKey(),
    tenant: text('tenant')
      .notNull()
      .references(() => tenants.id),
    sealedSecret: bytes('sealed_secret').notNull(),
    scopes: text('scopes').array().notNull().default(sql`'{}'::text[]`),
    createdAt: moment('created_at').notNull().defaultNow(),
    /** Null: never. */
    expiresAt: moment('expires_at'),
    revokedAt: moment('revoked_at'),
    note: text('note').notNull().default(''),
    /** What it is for, in its maker's words. */
    name: text('name').notNull().default(''),
    restrictions: jsonb('restrictions').$type<Record<string, string[]>>().notNull().default({}),
    limits: jsonb('limits').$type<Record<string, unknown>>().notNull().default({}),
    /** The secret before the last rotation, and until when it works. */
    previousSecret: bytes('previous_secret'),
    previousUntil: moment('previous_until'),
  },
  (table) => [index('keys_tenant').on(table.tenant)],
);

export const audit = pgTable(
  'audit',
  {
    id: bigint('id', { mode: 'number' }).primaryKey().generatedAlwaysAsIdentity(),
    at: moment('at').notNull().defaultNow(),
    /** Null: no tenant's affair. */
    tenant: text('tenant'),
    actor: text('actor').notNull(),
    action: text('action').notNull(),
    subject: text('subject').notNull(),
    detail: jsonb('detail').$type<Record<string, unknown>>().notNull().default({}),
  },
  (table) => [index('audit_tenant').on(table.tenant, table.id)],
);
