// Starting and stopping, as whoever runs it sees them.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readFileSync, rmSync, statSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { coreSettings } from '../../core/config.ts';
import { edgeSettings } from '../../edge/config.ts';
import {
  adminKey,
  type BlatamOptions,
  call,
  ROOT,
  spawnBlatam,
  startBlatam,
  temporaryFolder,
  tensorFile,
} from '../support/blatam.ts';

async function run(options: BlatamOptions): Promise<{ code: number | null; output: string }> {
  const { child, dataDir, output } = spawnBlatam(options);
  const [code] = (await once(child, 'close')) as [number | null];
  if (!options.dataDir) rmSync(dataDir, { recursive: true, force: true });
  return { code, output: output() };
}

test('--help lists every setting with its default', async () => {
  const { code, output } = await run({ extra: ['--help'] });
  assert.equal(code, 0);
  for (const [name, { default: fallback }] of Object.entries({ ...coreSettings, ...edgeSettings }))
    assert.ok(output.includes(`${name}=${fallback}`), name);
});

for (const [name, environment, pattern] of [
  ['a malformed value', { EDGE_PORT: 'many' }, /^cannot start: EDGE_PORT=many: must be a whole number.*\n$/],
  [
    'a kernel that there is not',
    { GPU_KERNELS_WARM: 'copy,hadamrad' },
    /^cannot start: GPU_KERNELS_WARM: there is no kernel hadamrad; there is .*\n$/,
  ],
  ['a value out of range', { CORE_PORT: '70000' }, /^cannot start: CORE_PORT=70000: must be from 0 to 65535.*\n$/],
  [
    'an unknown setting of ours',
    { CORE_SPEED: 'fast' },
    /^cannot start: CORE_SPEED is set, but there is no such setting.*\n$/,
  ],
  [
    'a misspelt setting',
    { GPU_MEMORY_MB: '256' },
    /^cannot start: GPU_MEMORY_MB is set.*did you mean GPU_MEMORY_MIB\?\n$/,
  ],
  [
    'a secret that is too short, unseen',
    { INTERNAL_SECRET: 'c2hvcnQ=' },
    /^cannot start: INTERNAL_SECRET=…: must be base64.*\n$/,
  ],
] as const)
  test(`${name} stops the start with one clear line`, async () => {
    const { code, output } = await run({ environment });
    assert.equal(code, 1);
    assert.match(output, pattern);
  });

test('the first start makes a key file that only its owner reads, later starts keep it; SIGTERM ends with 0', async () => {
  const first = await startBlatam();
  const path = join(first.dataDir, 'admin-key.json');
  assert.equal(statSync(path).mode & 0o777, 0o600);
  const text = readFileSync(path, 'utf8');
  const file = tensorFile(100_000);
  assert.equal(
    (await call(adminKey(first.dataDir), 'PUT', `${first.edge}/v1/tensors/kept`, { body: file })).status,
    201,
  );
  await first.kill('SIGTERM');
  assert.deepEqual(await first.exited, { code: 0, signal: null });
  assert.equal(existsSync(join(first.dataDir, 'core.pid')), false, 'the pid is nobody now');

  const second = await startBlatam({ dataDir: first.dataDir });
  assert.equal(readFileSync(path, 'utf8'), text);
  assert.equal(readFileSync(join(second.dataDir, 'core.pid'), 'utf8'), `${second.pid}\n`);
  const got = await call(adminKey(second.dataDir), 'GET', `${second.edge}/v1/tensors/kept`);
  assert.deepEqual(new Uint8Array(await got.arrayBuffer()), file);
  await second.stop();
});

test('SIGTERM lets a request finish, flushes what was answered from memory, and ends within 10 s', async () => {
  const blatam = await startBlatam();
  const key = adminKey(blatam.dataDir);
  const back = tensorFile(3 << 20);
  const large = tensorFile(64 << 20);
  assert.equal((await call(key, 'PUT', `${blatam.edge}/v1/tensors/back?durability=back`, { body: back })).status, 201);
  const putting = call(key, 'PUT', `${blatam.edge}/v1/tensors/large`, { body: large });
  await new Promise((resolve) => setTimeout(resolve, 60));
  const begun = performance.now();
  const stopping = blatam.kill('SIGTERM');
  assert.equal((await putting).status, 201);
  await stopping;
  assert.ok(performance.now() - begun < 10_000);
  assert.deepEqual(await blatam.exited, { code: 0, signal: null });
  const next = await startBlatam({ dataDir: blatam.dataDir });
  for (const [name, file] of [
    ['back', back],
    ['large', large],
  ] as const) {
    const got = await call(key, 'GET', `${next.edge}/v1/tensors/${name}`);
    assert.equal(Buffer.compare(new Uint8Array(await got.arrayBuffer()), file), 0, name);
  }
  await next.stop();
});

test('a second core on the same folder is refused, and the first is not disturbed', async () => {
  const first = await startBlatam();
  const second = await run({ dataDir: first.dataDir });
  assert.equal(second.code, 1);
  assert.match(second.output, /cannot start: .* is in use by another process/);
  assert.equal((await fetch(`${first.edge}/readyz`)).status, 200);
  await first.stop();
});

test('a taken port stops the start with one clear line, and nothing is left running', async () => {
  const taken = createServer().listen(0, '127.0.0.1');
  await once(taken, 'listening');
  const { port } = taken.address() as { port: number };
  const dataDir = temporaryFolder();
  const { code, output } = await run({ dataDir, environment: { EDGE_PORT: String(port) } });
  taken.close();
  assert.equal(code, 1);
  assert.match(output, new RegExp(`cannot start: port ${port} on 127.0.0.1 is taken; set EDGE_PORT`));
  assert.ok(!existsSync(join(dataDir, 'postgres', 'postmaster.pid')), 'the database was stopped');
  rmSync(dataDir, { recursive: true, force: true });
});

test('a machine without an adapter starts, says why it is not ready, and still serves what is on disk', async () => {
  const first = await startBlatam();
  const key = adminKey(first.dataDir);
  const file = tensorFile(2 << 20);
  await call(key, 'PUT', `${first.edge}/v1/tensors/kept`, { body: file });
  await first.kill('SIGTERM');
  const without = await startBlatam({ dataDir: first.dataDir, environment: { GPU_ADAPTERS: '/nowhere/icd.json' } });
  const ready = await fetch(`${without.edge}/readyz`);
  assert.equal(ready.status, 503);
  assert.match(await ready.text(), /adapters: .*offers no adapter/);
  const got = await call(key, 'GET', `${without.edge}/v1/tensors/kept`);
  assert.equal(Buffer.compare(new Uint8Array(await got.arrayBuffer()), file), 0);
  const put = await call(key, 'PUT', `${without.edge}/v1/tensors/new`, { body: file });
  assert.equal(put.status, 503);
  await without.stop();
});

test('SIGTERM and SIGINT to npm stop what npm start started', async () => {
  for (const signals of [['SIGTERM'], ['SIGINT', 'SIGINT']] as const) {
    const dataDir = temporaryFolder();
    const environment = { ...process.env, EDGE_PORT: '0', CORE_PORT: '0', GPU_MEMORY_MIB: '128', DATA_DIR: dataDir };
    const npm = spawn('npm', ['start'], { cwd: ROOT, env: environment, stdio: ['ignore', 'pipe', 'inherit'] });
    let output = '';
    npm.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
    const closed = once(npm, 'close'); // also: nobody holds its output any more
    while (!/ready,? in/.test(output)) await new Promise((resolve) => setTimeout(resolve, 20));
    for (const signal of signals) npm.kill(signal);
    const [code] = (await closed) as [number | null];
    assert.equal(code, 0, output);
    assert.ok(!existsSync(join(dataDir, 'postgres', 'postmaster.pid')), 'the database was stopped');
    rmSync(dataDir, { recursive: true, force: true });
  }
});

test('SIGTERM while callers stall on both listeners and another goes on asking: no more work, exit 0', async () => {
  const blatam = await startBlatam();
  const stalled = await Promise.all([blatam.edge, blatam.core].map((base) => halfRequest(base)));
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const ask = () =>
    new Promise<boolean>((resolve) => {
      const sent = request(`${blatam.edge}/healthz`, { agent }, (answer) => {
        answer.resume().on('end', () => resolve(true));
      });
      sent.on('error', () => resolve(false));
      sent.end();
    });
  assert.equal(await ask(), true);
  const stopping = blatam.kill('SIGTERM');
  await new Promise((resolve) => setTimeout(resolve, 300));
  let answered = 0;
  for (let i = 0; i < 20; i++) if (await ask()) answered++;
  assert.ok(answered <= 1, `${answered} requests were answered on a connection that should have been closed`);
  await stopping;
  assert.deepEqual(await blatam.exited, { code: 0, signal: null });
  assert.match(blatam.output(), /stopped in/);
  agent.destroy();
  for (const socket of stalled) socket.destroy();
  rmSync(blatam.dataDir, { recursive: true, force: true });
});

/** A request whose body never comes. */
async function halfRequest(base: string): Promise<Socket> {
  const { hostname, port } = new URL(base);
  const socket = connect(Number(port), hostname);
  socket.on('error', () => {});
  await once(socket, 'connect');
  socket.write('PUT /v1/tensors/x HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n');
  return socket;
}

test('a data folder that cannot be made stops the start with one clear line', async () => {
  for (const dataDir of ['/proc/nothing/here', join(ROOT, 'README.md')]) {
    const { code, output } = await run({ dataDir });
    assert.equal(code, 1);
    assert.match(output, /^cannot start: DATA_DIR: \S+ cannot be made a folder \(\w+\)\n$/);
  }
});

test('an adapter process inherits none of our secrets', {
  skip: process.platform !== 'linux' && 'needs /proc',
}, async () => {
  const secret = randomBytes(32).toString('base64');
  const blatam = await startBlatam({ environment: { MASTER_KEY: secret, INTERNAL_SECRET: secret } });
  const answer = await call(adminKey(blatam.dataDir), 'GET', `${blatam.edge}/v1/adapters`);
  const { adapters } = (await answer.json()) as { adapters: { pid: number }[] };
  for (const { pid } of adapters) {
    const environment = readFileSync(`/proc/${pid}/environ`, 'utf8');
    assert.ok(environment.includes('PATH='));
    assert.ok(!environment.includes(secret));
  }
  await blatam.stop();
});
