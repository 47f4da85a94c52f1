// Starting and stopping the bundled server, and what it says when it cannot.
import assert from 'node:assert/strict';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, join, relative } from 'node:path';
import { after, describe, test } from 'node:test';
import { type BundledServer, startBundled } from '../../db/bundled.ts';
import { completeLibraries, makePrivateFolder, nativeFolder, socketFolder } from '../../db/bundled-files.ts';
import { isAlive } from '../../db/bundled-leftover.ts';
import { firstClosed } from '../../db/bundled-user.ts';
import { connectBundled } from '../../db/connect.ts';
import { tempFolder } from './folders.ts';
import { field, serverPid } from './servers.ts';

const log: string[] = [];
const start = (dataDir: string, native?: string): Promise<BundledServer> =>
  startBundled({ dataDir, log: (line) => log.push(line), ...(native ? { native } : {}) });
const ourUid = process.getuid?.() ?? -1;
const serverUid = ourUid === 0 ? 65534 : ourUid;

async function ask(server: BundledServer, setting: string): Promise<unknown> {
  const { client } = connectBundled(server.address, 1);
  const [row] = await client`select current_setting(${setting}) as value`;
  await client.end();
  return row?.value;
}

describe('startBundled()', () => {
  const folder = tempFolder();
  const dataDir = join(folder.path, 'data');
  after(folder.remove);

  test('makes a cluster in an empty place, whatever an earlier try left, and stops', async (t) => {
    mkdirSync(join(dataDir, 'postgres.new-left'), { recursive: true });
    const begin = performance.now();
    const server = await start(dataDir);
    t.diagnostic(`cold start ${Math.round(performance.now() - begin)} ms`);
    assert.equal(field(server.pid, 'Uid'), serverUid);
    assert.deepEqual(readdirSync(dataDir), ['postgres']);
    assert.equal(statSync(server.address.socketFolder).mode & 0o777, 0o700);
    assert.equal(await ask(server, 'listen_addresses'), '');
    assert.equal(await ask(server, 'server_encoding'), 'UTF8');
    assert.equal(await ask(server, 'lc_messages'), 'C');
    await Promise.all([server.stop(), server.stop()]);
    await server.stop();
    assert.equal(isAlive(server.pid), false);
    assert.equal(await server.exited, 'ended with status 0');
    assert.equal(existsSync(server.address.socketFolder), false);
  });

  test('starts on the cluster that is there, at the same address', async (t) => {
    const begin = performance.now();
    const server = await start(dataDir);
    t.diagnostic(`warm start ${Math.round(performance.now() - begin)} ms`);
    assert.equal(server.address.socketFolder, socketFolder(dataDir));
    await server.stop();
    assert.deepEqual(log, []);
  });

  test('refuses a folder that is in use, by any path', async () => {
    const other = join(folder.path, 'other');
    symlinkSync(dataDir, other);
    const server = await start(dataDir);
    await assert.rejects(start(dataDir), /data is in use by another process.*data folder of its own/);
    await assert.rejects(start(other), /is in use/);
    assert.equal(serverPid(dataDir), server.pid);
    await server.stop();
  });

  test('leaves a stranger alone whose process number stands in the note of a dead server', async () => {
    const server = await start(dataDir);
    const path = join(dataDir, 'postgres', 'postmaster.pid');
    const [, ...rest] = readFileSync(path, 'utf8').split('\n');
    await server.stop();
    writeFileSync(path, [process.pid, ...rest].join('\n'));
    const next = await start(dataDir);
    assert.notEqual(next.pid, process.pid);
    await next.stop();
  });

  test('ends a server that does not react, in 8 s', async (t) => {
    const server = await start(dataDir);
    process.kill(server.pid, 'SIGSTOP');
    const begin = performance.now();
    await server.stop();
    const ms = Math.round(performance.now() - begin);
    t.diagnostic(`stop ${ms} ms`);
    assert(ms < 8000, `${ms} ms`);
    assert.equal(isAlive(server.pid), false);
  });

  test('says what the server said when it does not start, and lets go of the folder', async () => {
    const version = join(dataDir, 'postgres', 'PG_VERSION');
    const before = readFileSync(version, 'utf8');
    writeFileSync(version, '9.6\n');
    const failure = start(dataDir);
    await assert.rejects(failure, /did not start: it ended with status 1.*initialized by PostgreSQL version 9\.6/s);
    await assert.rejects(failure, /DATABASE_URL/);
    writeFileSync(version, before);
    await (await start(dataDir)).stop();
  });

  test('gives up a start when it is told to', async () => {
    const place = join(folder.path, 'given-up');
    const signal = AbortSignal.timeout(100);
    await assert.rejects(startBundled({ dataDir: place, log: () => undefined, signal }));
    assert.deepEqual(readdirSync(place), []);
  });
});

describe('startBundled() on binaries installed without scripts', () => {
  const folder = tempFolder(0o700);
  const native = join(folder.path, 'package', 'native');
  const links = JSON.parse(readFileSync(join(nativeFolder(), 'pg-symlinks.json'), 'utf8')) as {
    source: string;
    target: string;
  }[];
  const pathOf = (target: string) => join(native, '..', target);
  after(folder.remove);

  test('repairs the links and runs below a private folder, root or not', async () => {
    cpSync(nativeFolder(), native, { recursive: true, filter: (path) => !path.endsWith('.a') });
    for (const { target } of links) rmSync(pathOf(target), { force: true });
    const owner = { uid: serverUid, gid: serverUid };
    assert.equal(firstClosed(native, owner), ourUid === 0 ? folder.path : undefined);
    const server = await start(join(folder.path, 'data'), native);
    assert.equal(field(server.pid, 'Uid'), serverUid);
    assert.equal(await ask(server, 'server_encoding'), 'UTF8');
    await server.stop();
    for (const { target } of links) assert(existsSync(pathOf(target)), target);
  });

  test('finds the libraries by links in the data folder where the package is read-only', async () => {
    // /sys lets nobody make a name, not even root: links that belong there cannot be made.
    const up = relative(join(native, '..'), '/sys');
    const unwritable = links.map(({ source, target }) => ({ source, target: join(up, basename(target)) }));
    writeFileSync(join(native, 'pg-symlinks.json'), JSON.stringify(unwritable));
    for (const { target } of links) rmSync(pathOf(target), { force: true });
    const server = await start(join(folder.path, 'data'), native);
    assert.equal(await ask(server, 'server_encoding'), 'UTF8');
    await server.stop();
    assert.equal(readdirSync(join(folder.path, 'data', 'postgres-libraries')).length, links.length);
  });

  test('completeLibraries() names both places if neither can be written', () => {
    const neither = /neither .*\/sys\/.* nor \/sys\/.* can be written.*npm rebuild/;
    assert.throws(() => completeLibraries(native, '/sys'), neither);
  });
});

test('makePrivateFolder() refuses what somebody else may have put there', (t) => {
  const folder = tempFolder();
  t.after(folder.remove);
  const owner = { uid: serverUid, gid: serverUid };
  const path = join(folder.path, 'sockets');
  symlinkSync(folder.path, path);
  assert.throws(() => makePrivateFolder(path, owner), /should be a folder of uid/);
  rmSync(path);
  makePrivateFolder(path, owner);
  makePrivateFolder(path, owner);
  assert.throws(() => makePrivateFolder(path, { uid: serverUid + 1, gid: 0 }), /belongs to uid \d+; remove it/);
});
