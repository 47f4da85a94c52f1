// For drizzle-kit alone (`npm run db:generate`): compares schema.ts with the newest snapshot below migrations/ and
// writes what changed. It needs no database, and nothing that runs imports this file; migrate.ts applies the result.
//
// Invariant: a migration that was released is never edited. A schema without changes generates nothing.
import { defineConfig } from 'drizzle-kit';

export default defineConfig({
  dialect: 'postgresql',
  schema: './db/schema.ts',
  out: './db/migrations',
});
