// What remains when a process dies without a word: ours, the server's, the guard's. Nothing may be lost or left over.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { sql } from 'drizzle-orm';
import { appendAudit, listAudit } from '../../db/audit.ts';
import { isAlive } from '../../db/bundled-leftover.ts';
import { restartDelayMs } from '../../db/bundled-restart.ts';
import { openDatabase } from '../../db/client.ts';
import { tempFolder } from './folders.ts';
import { field, hasServer, serverPid, until, untilEnded } from './servers.ts';

const HOLDER = fileURLToPath(new URL('./holder.ts', import.meta.url));
const folder = tempFolder();
const dataDir = folder.path;
const log: string[] = [];
const open = () => openDatabase({ dataDir, log: (line) => log.push(line), poolMax: 3 });
const entry = { actor: 'test', action: 'write', subject: 'row' };
after(folder.remove);

async function hold(): Promise<ChildProcess> {
  const child = spawn(process.execPath, [HOLDER, dataDir], { stdio: ['ignore', 'pipe', 'inherit'] });
  const stdout = child.stdout;
  assert(stdout);
  const said = await Promise.race([once(stdout, 'data'), once(child, 'exit')]);
  assert.match(String(said[0]), /holding/);
  return child;
}

describe('openDatabase() with the bundled server', () => {
  test('leaves no server behind when our process is killed, and the rows are there', async (t) => {
    const holder = await hold();
    const pid = serverPid(dataDir);
    holder.kill('SIGKILL');
    t.diagnostic(`the server ended after ${await untilEnded(pid, 5000)} ms`);
    const database = await open();
    assert.equal((await listAudit(database.query, 0, 10)).length, 1);
    await database.close();
  });

  test('starts at once after a kill, while the earlier server still ends', async (t) => {
    const holder = await hold();
    const pid = serverPid(dataDir);
    holder.kill('SIGKILL');
    await once(holder, 'exit');
    const begin = performance.now();
    const database = await open();
    t.diagnostic(`open after SIGKILL of our process ${Math.round(performance.now() - begin)} ms`);
    assert.equal(isAlive(pid), false);
    assert.equal((await listAudit(database.query, 0, 10)).length, 2);
    await database.close();
  });

  test('recovers when the server and our process are killed together', async (t) => {
    const holder = await hold();
    process.kill(serverPid(dataDir), 'SIGKILL');
    holder.kill('SIGKILL');
    await once(holder, 'exit');
    const begin = performance.now();
    const database = await open();
    t.diagnostic(`open after SIGKILL of both ${Math.round(performance.now() - begin)} ms`);
    assert.equal((await listAudit(database.query, 0, 10)).length, 3);
    await database.close();
  });

  test('starts a killed server again: the query in flight fails, later ones work', async (t) => {
    const database = await open();
    const pid = serverPid(dataDir);
    await appendAudit(database.query, entry);
    const inFlight = assert.rejects(Promise.resolve(database.query.execute(sql`select pg_sleep(20)`)));
    await database.query.execute(sql`select 1`);
    process.kill(pid, 'SIGKILL');
    const answers = () =>
      database.ping().then(
        () => true,
        () => false,
      );
    const back = async () => (await answers()) && serverPid(dataDir) !== pid;
    t.diagnostic(`answers ${await until('the server is back', 10_000, back)} ms after SIGKILL of the server`);
    await inFlight;
    assert.equal((await listAudit(database.query, 0, 10)).length, 4);
    assert(log.some((line) => line.includes('ended by signal 9; starting it again')));
    await database.close();
    assert.equal(hasServer(dataDir), false);
  });

  test('replaces a server whose guard was killed', async () => {
    const database = await open();
    const pid = serverPid(dataDir);
    process.kill(field(pid, 'PPid'), 'SIGKILL');
    await untilEnded(pid, 8000);
    await until('the server is back', 10_000, () =>
      database.ping().then(
        () => true,
        () => false,
      ),
    );
    await appendAudit(database.query, entry);
    await database.close();
  });

  test('close() during a restart leaves no server', async () => {
    const database = await open();
    process.kill(serverPid(dataDir), 'SIGKILL');
    await until('the restart begins', 5000, () => log.at(-1)?.includes('starting it again') ?? false);
    await database.close();
    await database.close();
    assert.equal(hasServer(dataDir), false);
    const next = await open();
    assert.equal((await listAudit(next.query, 0, 10)).length, 5);
    await next.close();
  });
});

test('restartDelayMs() grows to 10 s', () => {
  const delays = [0, 1, 2, 7, 8, 9, 2000].map(restartDelayMs);
  assert.deepEqual(delays, [50, 100, 200, 6400, 10_000, 10_000, 10_000]);
});
