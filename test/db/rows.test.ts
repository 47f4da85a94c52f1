// Rows of all tables, saved and brought back, against the real server.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { eq } from 'drizzle-orm';
import { appendAudit } from '../../db/audit.ts';
import { type Database, openDatabase } from '../../db/client.ts';
import { ensureTenant, findKey, insertKey } from '../../db/keys.ts';
import { addRows, readRows, type SavedRow } from '../../db/rows.ts';
import { keys, tenants } from '../../db/schema.ts';
import { tempFolder } from './folders.ts';

const folder = tempFolder();
let database: Database;
before(async () => {
  database = await openDatabase({ dataDir: folder.path, log: () => undefined });
});
after(async () => {
  await database.close();
  folder.remove();
});

async function saved(): Promise<Record<string, SavedRow[]>> {
  const all: Record<string, SavedRow[]> = {};
  await readRows(database.query, async (table, rows) => {
    all[table] = [...(all[table] ?? []), ...(JSON.parse(JSON.stringify(rows)) as SavedRow[])];
  });
  return all;
}

const key = (keyid: string) => ({ keyid, tenant: 'acme', sealedSecret: Buffer.from([0, 1, 255]), scopes: ['a', 'b'] });

test('readRows() tells all rows of one moment, and addRows() brings back what is missing as it was', async () => {
  await ensureTenant(database.query, { id: 'acme', name: 'Acme "ünï"' });
  const expiresAt = new Date(Date.now() + 3_600_000);
  await insertKey(database.query, { ...key('k1'), expiresAt });
  for (let i = 0; i < 1500; i++) await appendAudit(database.query, { actor: 'a', action: 'tested', subject: `${i}` });
  const before = await saved();
  assert.deepEqual([before.tenants?.length, before.keys?.length, before.audit?.length], [1, 1, 1500]);
  await database.query.delete(keys);
  await database.query.delete(tenants);
  assert.equal(await addRows(database.query, 'tenants', before.tenants ?? []), 1);
  assert.equal(await addRows(database.query, 'keys', before.keys ?? []), 1);
  assert.deepEqual({ ...(await saved()), audit: [] }, { ...before, audit: [] });
  assert.deepEqual((await findKey(database.query, 'k1'))?.expiresAt, expiresAt);
});

test('a snapshot has nothing of what is written while it is read', async () => {
  const seen: number[] = [];
  await readRows(database.query, async (table, rows) => {
    if (table === 'tenants') await insertKey(database.query, key('late'));
    if (table === 'keys') seen.push(rows.length);
  });
  assert.deepEqual(seen, [1]);
  await database.query.delete(keys).where(eq(keys.keyid, 'late'));
});

test('addRows() revives no key: one that is there keeps its state, one that is known as revoked stays away', async () => {
  await insertKey(database.query, key('revoked'));
  await insertKey(database.query, key('removed'));
  const { keys: rows = [] } = await saved();
  await database.query.update(keys).set({ revokedAt: new Date() }).where(eq(keys.keyid, 'revoked'));
  await database.query.delete(keys).where(eq(keys.keyid, 'removed'));
  await appendAudit(database.query, { actor: 'a', action: 'key.revoked', subject: 'removed' });
  assert.equal(await addRows(database.query, 'keys', rows), 0);
  assert.equal(await findKey(database.query, 'revoked'), undefined);
  assert.equal(await findKey(database.query, 'removed'), undefined);
});

test('columns that this version does not have are left out', async () => {
  assert.equal(await addRows(database.query, 'tenants', [{ id: 'new', name: 'New', colour: 'green' }]), 1);
});
