// Migrations: applied once whoever races, never waited for without end, and in step with the schema.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { generateDrizzleJson, generateMigration } from 'drizzle-kit/api';
import { type BundledServer, startBundled } from '../../db/bundled.ts';
import { connectBundled } from '../../db/connect.ts';
import { migrateTables, pendingMigrations } from '../../db/migrate.ts';
import * as schema from '../../db/schema.ts';
import { tempFolder } from './folders.ts';

type Journal = { entries: { idx: number; when: number; tag: string }[] };
type Snapshot = Parameters<typeof generateMigration>[0];

function readMeta<T>(name: string): T {
  return JSON.parse(readFileSync(new URL(`../../db/migrations/meta/${name}`, import.meta.url), 'utf8')) as T;
}
const { entries } = readMeta<Journal>('_journal.json');

describe('migrateTables()', () => {
  const folder = tempFolder();
  let server: BundledServer;
  before(async () => {
    server = await startBundled({ dataDir: folder.path, log: () => undefined });
  });
  after(async () => {
    await server.stop();
    folder.remove();
  });

  test('applies each migration once when two connections race, and nothing when it comes again', async () => {
    const pools = [connectBundled(server.address, 1), connectBundled(server.address, 1)];
    await Promise.all(pools.map(({ client }) => migrateTables(client)));
    await Promise.all(pools.map(({ client }) => migrateTables(client)));
    const [first] = pools;
    assert(first);
    const applied = await first.client`select created_at from drizzle.__drizzle_migrations order by id`;
    assert.deepEqual(
      applied.map((row) => Number(row.created_at)),
      entries.map(({ when }) => when),
    );
    await Promise.all(pools.map(({ client }) => client.end()));
  });

  test('gives up with a way out when another node holds the lock', async () => {
    const { client } = connectBundled(server.address, 2);
    let release = (): void => undefined;
    const released = new Promise<void>((done) => {
      release = done;
    });
    const holding = client.begin(async (transaction) => {
      await transaction`select pg_advisory_xact_lock(4208117261)`;
      await assert.rejects(migrateTables(client, 100), /more than 0\.1 s.*pg_locks/);
      release();
    });
    await released;
    await holding;
    await migrateTables(client, 100);
    await client.end();
  });

  test('refuses tables that a newer version has migrated, and changes nothing', async () => {
    const { client } = connectBundled(server.address, 1);
    assert.equal(await pendingMigrations(client), 0);
    const newest = entries.at(-1)?.when ?? 0;
    await client`insert into drizzle.__drizzle_migrations (hash, created_at) values ('of the future', ${newest + 1})`;
    await assert.rejects(migrateTables(client), /migrated by a newer Blatam.*Use the version that wrote it/);
    await client`delete from drizzle.__drizzle_migrations where created_at > ${newest}`;
    await client`delete from drizzle.__drizzle_migrations where created_at = ${newest}`;
    assert.equal(await pendingMigrations(client), 1);
    await client.end();
  });
});

describe('migrations/', () => {
  test('are in step with schema.ts', async () => {
    const newest = readMeta<Snapshot>(`${String(entries.length - 1).padStart(4, '0')}_snapshot.json`);
    const wanted = generateDrizzleJson(schema, newest.id);
    assert.deepEqual(await generateMigration(newest, wanted), []);
  });

  test('have times that grow, because older ones than the last applied are passed over', () => {
    const times = entries.map(({ when }) => when);
    assert.deepEqual(
      times,
      [...new Set(times)].sort((a, b) => a - b),
    );
  });
});
