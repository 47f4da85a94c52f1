// The audit log, against the real server: it keeps what it is given and refuses everything but more.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { eq, sql } from 'drizzle-orm';
import { appendAudit, listAudit } from '../../db/audit.ts';
import { type Database, openDatabase } from '../../db/client.ts';
import { databaseCause } from '../../db/query.ts';
import { audit } from '../../db/schema.ts';
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

describe('audit', () => {
  test('appendAudit() keeps an entry as it is given', async () => {
    const entry = {
      tenant: 'acme',
      actor: 'key:k1',
      action: 'key.revoke',
      subject: 'key:k2',
      detail: { why: ['lost'] },
    };
    const kept = await appendAudit(database.query, entry);
    assert.deepEqual(kept, { ...entry, id: kept.id, at: kept.at });
    assert(Math.abs(kept.at.getTime() - Date.now()) < 60_000);
    const bare = await appendAudit(database.query, { actor: 'system', action: 'start', subject: 'node' });
    assert.equal(bare.tenant, null);
    assert.deepEqual(bare.detail, {});
    assert(bare.id > kept.id);
  });

  test('listAudit() goes on after an entry, in order, within a limit', async () => {
    for (let i = 0; i < 5; i++) await appendAudit(database.query, { actor: 'a', action: 'count', subject: `${i}` });
    const [first, ...others] = await listAudit(database.query, 0, 1000);
    assert(first);
    assert.equal(others.length, 6);
    assert.deepEqual(await listAudit(database.query, first.id, 3), others.slice(0, 3));
    assert.equal((await listAudit(database.query, 0, -1)).length, 1);
    assert.deepEqual(await listAudit(database.query, 0, 1000, 'acme'), [first]);
  });

  const refused: [string, () => Promise<unknown>][] = [
    ['an update', async () => database.query.update(audit).set({ actor: 'x' }).where(eq(audit.action, 'count'))],
    ['an update of nothing', async () => database.query.update(audit).set({ actor: 'x' }).where(eq(audit.id, -1))],
    ['a delete', async () => database.query.delete(audit).where(eq(audit.action, 'count'))],
    ['a truncation', async () => database.query.execute(sql`truncate audit`)],
    [
      'an update while replication is replayed',
      () =>
        database.query.transaction(async (transaction) => {
          await transaction.execute(sql`set local session_replication_role = replica`);
          await transaction.update(audit).set({ actor: 'x' });
        }),
    ],
  ];
  for (const [what, attempt] of refused) {
    test(`refuses ${what}`, async () => {
      const before = await listAudit(database.query, 0, 1000);
      await assert.rejects(attempt, (error) => /audit is append-only/.test(databaseCause(error).message));
      assert.deepEqual(await listAudit(database.query, 0, 1000), before);
    });
  }
});
