// Opening a database that is not ours to start, and what is said when it cannot be opened.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { appendAudit, listAudit } from '../../db/audit.ts';
import { type BundledServer, startBundled } from '../../db/bundled.ts';
import { type Database, openDatabase } from '../../db/client.ts';
import { connectOutside } from '../../db/connect.ts';
import { tempFolder } from './folders.ts';

const folder = tempFolder();
const dataDir = join(folder.path, 'ours');
const open = (url: string, poolMax?: number): Promise<Database> =>
  openDatabase({ url, dataDir, log: () => undefined, poolMax });
after(folder.remove);

async function listenOnLoopback(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

describe('openDatabase() with a url', () => {
  let outside: BundledServer;
  before(async () => {
    outside = await startBundled({ dataDir: join(folder.path, 'outside'), log: () => undefined });
  });
  after(() => outside.stop());

  test('uses a server on a socket, with a single connection too, and starts none', async () => {
    const database = await open(`postgres://blatam@${encodeURIComponent(outside.address.socketFolder)}/postgres`, 1);
    assert.equal(database.kind, 'outside');
    await database.ping();
    await appendAudit(database.query, { actor: 'a', action: 'b', subject: 'c' });
    await Promise.all([database.close(), database.close()]);
    await assert.rejects(database.ping());
    assert.equal(existsSync(dataDir), false);
  });

  test('uses a server on TCP, and finds the rows there', async () => {
    const path = `${outside.address.socketFolder}/.s.PGSQL.${outside.address.port}`;
    const relay = createServer((socket) => {
      const server = connect(path);
      socket.on('error', () => server.destroy());
      server.on('error', () => socket.destroy());
      socket.pipe(server).pipe(socket);
    });
    const database = await open(`postgresql://blatam:unused@127.0.0.1:${await listenOnLoopback(relay)}/postgres`);
    assert.equal((await listAudit(database.query, 0, 10)).length, 1);
    await database.close();
    relay.close();
  });

  test('says which database is missing', async () => {
    const url = `postgres://blatam@${encodeURIComponent(outside.address.socketFolder)}/missing`;
    await assert.rejects(open(url), /cannot reach the database at .*"missing" does not exist.*DATABASE_URL/);
  });
});

describe('openDatabase() that cannot', () => {
  /** One line that shows the address and not the password. */
  async function refusal(url: string, shown: RegExp): Promise<void> {
    await assert.rejects(open(url), (error: Error) => {
      assert.match(error.message, shown);
      assert(!error.message.includes('\n'));
      const all = [error, error.cause].map((e) => (e instanceof Error ? `${e.stack}${JSON.stringify(e)}` : '')).join();
      assert(!/hunter|pa%2Fss/.test(all), all);
      return true;
    });
  }

  test('reach names host and port', async () => {
    const closed = createServer();
    const port = await listenOnLoopback(closed);
    closed.close();
    await once(closed, 'close');
    const shown = new RegExp(
      `cannot reach the database at 127\\.0\\.0\\.1:${port}: .*ECONNREFUSED.*Check DATABASE_URL`,
    );
    await refusal(`postgres://me:hunter2@127.0.0.1:${port}/x`, shown);
  });

  test('find the host says so', () => refusal('postgres://me:hunter2@nowhere.invalid/x', /at nowhere\.invalid:5432: /));

  test('get an answer gives up in time', async () => {
    const silent = createServer(() => undefined);
    const port = await listenOnLoopback(silent);
    const begin = performance.now();
    await refusal(`postgres://me:hunter2@127.0.0.1:${port}/x`, new RegExp(`at 127\\.0\\.0\\.1:${port}: .*TIMEOUT`));
    assert(performance.now() - begin < 9000);
    silent.close();
  });

  const unreadable = [
    '',
    'hunter2',
    'mysql://me:hunter2@host/x',
    'postgres://',
    'postgres://me:12/hunter2@host/x',
    'postgres://me:hunter?2@host/x',
    'postgres://me:hunter#2@host/x',
    'postgres://me:hunter@2,3@host/x',
    'postgres://me:hunter%@host/x',
    'postgres://me:hunter2@ho st/x',
  ];
  for (const url of unreadable) test(`read "${url}" shows how a url looks`, () => refusal(url, /should look like/));

  test('take a pool of that size says so', async () => {
    for (const size of [0, -1, 1.5, 1000, Number.NaN])
      await assert.rejects(open('postgres://host/x', size), /1 to 200/);
  });
});

test('connectOutside() shows a place without user and password', () => {
  const shown = (url: string) => connectOutside(url, 1).where;
  assert.equal(shown('postgres://me:p%40ss@host/x'), 'host:5432');
  assert.equal(shown('postgres://me:p@host:6432/x?sslmode=require'), 'host:6432');
  assert.equal(shown('postgres://one:1,two:2/x'), 'one:1,two:2');
  assert.equal(shown('postgres://me@[::1]:5433/x'), '[::1]:5433');
  assert.equal(shown('postgres://me@%2Frun%2Fpg:6000/x'), '/run/pg/.s.PGSQL.6000');
});
