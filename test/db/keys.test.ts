// Tenants and keys, against the real server.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { eq } from 'drizzle-orm';
import { type Database, openDatabase } from '../../db/client.ts';
import {
  countKeys,
  countUsableKeys,
  ensureTenant,
  findKey,
  insertKey,
  listKeys,
  revokeKey,
  rotateKey,
} from '../../db/keys.ts';
import { keys } from '../../db/schema.ts';
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

const secret = Uint8Array.from({ length: 256 }, (_, i) => i);
const key = { tenant: 'acme', sealedSecret: secret, scopes: ['cache:read', 'with "quotes", {braces}'] };

describe('keys', () => {
  test('ensureTenant() makes a tenant once and keeps its name', async () => {
    assert.equal(await countKeys(database.query), 0);
    assert.equal(await ensureTenant(database.query, { id: 'acme', name: 'Acme' }), true);
    assert.equal(await ensureTenant(database.query, { id: 'acme', name: 'Other' }), false);
    const [tenant] = await database.query.query.tenants.findMany();
    assert.equal(tenant?.name, 'Acme');
  });

  test('insertKey() and findKey() carry a key unchanged', async () => {
    const expiresAt = new Date(Date.now() + 3_600_000);
    assert.ok(await insertKey(database.query, { ...key, keyid: 'k1', expiresAt, note: 'ünï' }));
    const found = await findKey(database.query, 'k1');
    assert(found);
    assert.deepEqual(Uint8Array.from(found.sealedSecret), secret);
    assert.deepEqual(found.scopes, key.scopes);
    assert.deepEqual(found.expiresAt, expiresAt);
    assert.equal(found.note, 'ünï');
    assert.equal(found.revokedAt, null);
    assert(Math.abs(found.createdAt.getTime() - Date.now()) < 60_000);
  });

  test('insertKey() does not replace a key', async () => {
    assert.equal(await insertKey(database.query, { ...key, keyid: 'k1', scopes: [] }), undefined);
    assert.deepEqual((await findKey(database.query, 'k1'))?.scopes, key.scopes);
  });

  test('findKey() does not find what is unknown, expired or revoked; countKeys() counts them', async () => {
    await insertKey(database.query, { ...key, keyid: 'expired', expiresAt: new Date(Date.now() - 1000) });
    await insertKey(database.query, { ...key, keyid: 'revoked' });
    assert(await findKey(database.query, 'revoked'));
    await database.query.update(keys).set({ revokedAt: new Date() }).where(eq(keys.keyid, 'revoked'));
    for (const keyid of ['unknown', 'expired', 'revoked'])
      assert.equal(await findKey(database.query, keyid), undefined);
    assert.equal(await countKeys(database.query), 3);
  });

  test('insertKey() fails for an unknown tenant, without quoting the secret', async () => {
    const sealedSecret = new TextEncoder().encode('sealed-secret');
    const failure = insertKey(database.query, { ...key, sealedSecret, tenant: 'nobody', keyid: 'k2' });
    await assert.rejects(failure, (error: Error) => {
      assert.match(error.message, /foreign key/);
      assert(!`${error.stack}`.includes('sealed-secret'));
      return true;
    });
  });

  test('a transaction takes back what it did', async () => {
    const failure = database.query.transaction(async (transaction) => {
      assert.ok(await insertKey(transaction, { ...key, keyid: 'k3' }));
      throw new Error('on purpose');
    });
    await assert.rejects(failure, /on purpose/);
    assert.equal(await findKey(database.query, 'k3'), undefined);
  });

  test('rotateKey() keeps the secret so far for the overlap, and changes only a key that works', async () => {
    const fresh = Uint8Array.of(9, 9, 9);
    const rotated = await rotateKey(database.query, 'k1', fresh, 60);
    assert.ok(Math.abs((rotated?.previousUntil?.getTime() ?? 0) - Date.now() - 60_000) < 60_000);
    const found = await findKey(database.query, 'k1');
    assert.deepEqual([...(found?.sealedSecret ?? [])], [...fresh]);
    assert.deepEqual([...(found?.previousSecret ?? [])], [...secret]);
    for (const keyid of ['unknown', 'expired', 'revoked'])
      assert.equal(await rotateKey(database.query, keyid, fresh, 60), undefined);
  });

  test('revokeKey() ends a key once; listKeys() tells of all in pages, and of no secret', async () => {
    await insertKey(database.query, { ...key, keyid: 'k4' });
    assert.deepEqual([await revokeKey(database.query, 'k4'), await revokeKey(database.query, 'k4')], [true, false]);
    assert.equal(await findKey(database.query, 'k4'), undefined);
    const all = await listKeys(database.query, { tenant: 'acme', after: '', limit: 1000 });
    assert.deepEqual(
      all.map(({ keyid }) => keyid),
      ['expired', 'k1', 'k4', 'revoked'],
    );
    assert.ok(all.every((each) => !('sealedSecret' in each) && !('previousSecret' in each)));
    const page = await listKeys(database.query, { tenant: undefined, after: 'expired', limit: 2 });
    assert.deepEqual(page, all.slice(1, 3));
    assert.deepEqual(await listKeys(database.query, { tenant: 'nobody', after: '', limit: 10 }), []);
    assert.equal(await countUsableKeys(database.query, 'acme'), 1);
  });
});
