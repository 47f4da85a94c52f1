// What the files of queries by subject share: the type of what they query through, and how they fail.
//
// Not here: connections; a `Query` is a pool or a transaction, and the functions cannot tell.
import { DrizzleQueryError } from 'drizzle-orm/errors';
import type { PostgresJsDatabase } from 'drizzle-orm/postgres-js';
import type * as schema from './schema.ts';

export type Query = PostgresJsDatabase<typeof schema>;

/** Drizzle's own message quotes every parameter, sealed secrets too; the driver's error beneath does not. */
export function databaseCause(error: unknown): Error {
  const cause = error instanceof DrizzleQueryError ? error.cause : error;
  return cause instanceof Error ? cause : new Error(String(cause));
}
