// The access log of a real server: who asked for what, from tensors that the core sends itself to what is refused, and nothing that
// proves who somebody is. While nobody reads standard output, requests are answered as before.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { after, before, test } from 'node:test';
import {
  adminKey,
  type Blatam,
  call,
  type KeyFile,
  signed,
  spawnBlatam,
  startBlatam,
  tensorFile,
} from '../support/blatam.ts';
import { judgeExposition } from '../support/exposition.ts';
import { until } from '../support/until.ts';

type Line = Readonly<Record<string, unknown>>;

let blatam: Blatam;
let key: KeyFile;

before(async () => {
  blatam = await startBlatam({ environment: { ACCESS_LOG: 'on' } });
  key = adminKey(blatam.dataDir);
});
after(() => blatam?.stop());

const linesOf = (output: string): Line[] =>
  output.split('\n').flatMap((line) => (line.startsWith('{') && line.endsWith('}') ? [JSON.parse(line) as Line] : []));

async function lineOf(answer: Response): Promise<Line> {
  const requestId = answer.headers.get('x-request-id');
  const find = () => linesOf(blatam.output()).find((line) => line.requestId === requestId);
  await until(() => find() !== undefined, 'its line is out');
  return find() ?? {};
}

test('a line tells who asked for what, how it ended, and the trace that it came with', async () => {
  const traceId = randomBytes(16).toString('hex');
  const headers = { traceparent: `00-${traceId}-00f067aa0ba902b7-01`, authorization: 'Basic c2VjcmV0LXdvcmQ=' };
  const url = `${blatam.edge}/v1/tensors/logged`;
  const body = tensorFile(100_000);
  const created = Math.floor(Date.now() / 1000);
  const nonce = `once-${randomBytes(8).toString('hex')}`;
  const put = await call(key, 'PUT', `${url}?ttl=4321`, { body, headers, nonce, created });
  assert.equal(put.status, 201);
  const got = await call(key, 'GET', url, { headers });
  assert.equal((await got.arrayBuffer()).byteLength, body.length);
  const none = await call(key, 'GET', `${blatam.edge}/v1/tensors/none`);
  const stranger = await fetch(`${url}?token=secret-word`);
  const [first, second, third, fourth] = await Promise.all([put, got, none, stranger].map(lineOf));
  assert.ok(first && second && third && fourth);
  const { time, ms, ...rest } = second;
  assert.ok(Number.isFinite(Date.parse(String(time))) && typeof ms === 'number');
  assert.deepEqual(rest, {
    ...{ method: 'GET', path: '/v1/tensors/logged', status: 200, bytes: body.length, keyid: key.keyid },
    ...{ tenant: rest.tenant, address: '127.0.0.1', requestId: got.headers.get('x-request-id'), traceId },
  });
  assert.equal(typeof rest.tenant, 'string');
  assert.deepEqual([first.method, first.path, first.status], ['PUT', '/v1/tensors/logged?ttl=…', 201]);
  assert.deepEqual([third.status, third.traceId], [404, String(third.requestId).replaceAll('-', '')]);
  assert.deepEqual([fourth.status, fourth.path, 'keyid' in fourth], [401, '/v1/tensors/logged?token=…', false]);
  const { signature = '', 'signature-input': input = '' } = await signed(key, 'PUT', `${url}?ttl=4321`, {
    body,
    nonce,
    created,
  });
  for (const secret of ['4321', 'secret-word', 'c2VjcmV0', nonce, signature, input, key.secret])
    assert.ok(!linesOf(blatam.output()).some((line) => JSON.stringify(line).includes(secret)), secret);
});

test('the metrics of edge and core are what Prometheus reads', async () => {
  for (const url of [blatam.edge, blatam.core]) judgeExposition(await (await fetch(`${url}/metrics`)).text());
});

test('while nobody reads standard output, requests are answered, and lines are dropped and counted', async () => {
  const { child, dataDir, output } = spawnBlatam({ environment: { ACCESS_LOG: 'on' } });
  try {
    await until(() => /edge on (\S+),[\s\S]*ready/.test(output()) || child.exitCode !== null, 'it is up', 60_000);
    const [, edge = ''] = /edge on (\S+),/.exec(output()) ?? [];
    child.stdout?.pause();
    const dropped = async () => {
      const text = await (await fetch(`${edge}/metrics`)).text();
      return Number(/^blatam_edge_access_log_dropped_total (\d+)$/m.exec(text)?.[1]);
    };
    const flood = async () => {
      for (let i = 0; i < 100; i++) assert.equal((await fetch(`${edge}/${'x'.repeat(500)}`)).status, 404);
      return (await dropped()) > 0;
    };
    await until(flood, 'lines are dropped', 120_000);
    child.stdout?.resume();
    await until(async () => {
      const id = (await fetch(`${edge}/healthz`)).headers.get('x-request-id');
      return linesOf(output()).length > 0 && output().includes(`${id}`);
    }, 'it goes on');
  } finally {
    child.kill('SIGTERM');
    await once(child, 'exit');
    rmSync(dataDir, { recursive: true, force: true });
  }
});
