// What the edge on Cloudflare's runtime has of its own, bundled as wrangler would, with wrangler.toml's date and variables, served
// by the real workerd before a real core: settings that are wrong, and its size. What cannot be seen here is Cloudflare's network: its cache, its limits of memory, time
// and body, the many isolates that each remember nonces of their own, and how it rewrites URLs before a Worker sees them.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { after, before, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { type BuildOptions, build } from 'esbuild';
import { adminKey, type Blatam, call, codeOf, ROOT, signed, startBlatam, temporaryFolder } from '../support/blatam.ts';
import { connectionWalk, WALK_BODY_BYTES_MAX } from '../support/edge-walk.ts';
import { until } from '../support/until.ts';

const START_MS_MAX = 30_000;
const BUNDLE_BYTES_MAX = 300_000;
const INTERNAL_SECRET = randomBytes(32).toString('base64');
const toml = readFileSync(join(ROOT, 'wrangler.toml'), 'utf8');
const [top = '', vars = ''] = toml.split(/^\[vars\]$/m);
const { main = '', compatibility_date: compatibilityDate = '' } = assignments(top);

type Bindings = Readonly<Record<string, string | number>>;

/** `name = "text"`, all that wrangler.toml has. */
function assignments(text: string): Record<string, string> {
  return Object.fromEntries([...text.matchAll(/^(\w+) = "([^"]*)"$/gm)].map(([, name, value]) => [name, value]));
}

async function bundle(more: Pick<BuildOptions, 'minify'> = {}): Promise<string> {
  const { outputFiles, metafile } = await build({
    entryPoints: [join(ROOT, main)],
    bundle: true,
    write: false,
    metafile: true,
    format: 'esm',
    target: 'es2024',
    platform: 'browser', // a built-in module of Node is an error
    conditions: ['workerd', 'worker', 'browser'],
    logLevel: 'silent',
    ...more,
  });
  const imports = Object.values(metafile.outputs).flatMap((output) => output.imports);
  assert.deepEqual(imports, [], 'everything is in the bundle');
  const [code] = outputFiles;
  return code?.text ?? assert.fail('no bundle');
}

/** One service with its own socket for each set of bindings. */
function configOf(edges: Readonly<Record<string, Bindings>>): string {
  const text = JSON.stringify; // its escapes are Cap'n Proto's too
  const services = Object.entries(edges).map(([name, bindings]) => {
    const bound = Object.entries(bindings).map(
      ([key, value]) =>
        `(name = ${text(key)}, ${typeof value === 'string' ? 'text' : 'json'} = ${text(String(value))})`,
    );
    return `(name = ${text(name)}, worker = (
      modules = [(name = "worker.js", esModule = embed "worker.js")],
      compatibilityDate = ${text(compatibilityDate)},
      bindings = [${bound.join(', ')}]
    ))`;
  });
  const sockets = Object.keys(edges).map(
    (name) => `(name = ${text(name)}, address = "127.0.0.1:0", http = (), service = ${text(name)})`,
  );
  return `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "internet", network = (allow = ["public", "private"])), ${services.join(',\n')}],
  sockets = [${sockets.join(',\n')}]
);`;
}

/** Runs workerd; resolves with the URL of each of `edges` once all of them listen. */
async function startWorkerd(edges: Readonly<Record<string, Bindings>>) {
  writeFileSync(join(folder, 'worker.js'), await bundle());
  writeFileSync(join(folder, 'config.capnp'), configOf(edges));
  const child = spawn(join(ROOT, 'node_modules/.bin/workerd'), ['serve', 'config.capnp', '--control-fd=3'], {
    cwd: folder,
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr] as Readable[])
    stream.setEncoding('utf8').on('data', (more: string) => {
      output += more;
    });
  const timer = setTimeout(() => child.kill('SIGKILL'), START_MS_MAX);
  const urls: Record<string, string> = {};
  for await (const line of createInterface(child.stdio[3] as Readable)) {
    const { event, socket, port } = JSON.parse(line) as { event: string; socket: string; port: number };
    if (event === 'listen') urls[socket] = `http://127.0.0.1:${port}`;
    if (Object.keys(urls).length === Object.keys(edges).length) break;
  }
  clearTimeout(timer);
  return { child, urls, output: () => output };
}

const folder = temporaryFolder();
/** A core that lets the first who asks wait for ever, and knows no key. */
let asked = 0;
const slow = createServer((_request, answer) => {
  asked += 1;
  if (asked > 1) answer.writeHead(404).end();
});
let core: Blatam;
let child: ChildProcess | undefined;
let urls: Record<string, string>;
let output: () => string;
const urlOf = (name: string) => urls[name] ?? assert.fail(`workerd does not serve ${name}:\n${output()}`);

before(async () => {
  core = await startBlatam({ environment: { INTERNAL_SECRET } });
  await once(slow.listen(0, '127.0.0.1'), 'listening');
  const asDeployed = { ...assignments(vars), INTERNAL_SECRET };
  const edge = { ...asDeployed, CORE_URLS: core.core };
  ({ child, urls, output } = await startWorkerd({
    edge: { ...edge, BODY_BYTES_MAX: WALK_BODY_BYTES_MAX, EDGE_KEY_SECONDS: 5 }, // unquoted in wrangler.toml
    slow: { ...asDeployed, CORE_URLS: `http://127.0.0.1:${(slow.address() as AddressInfo).port}` },
    unset: asDeployed,
    malformed: { ...edge, BODY_BYTES_MAX: 'a-lot' },
    malformedSecret: { ...edge, INTERNAL_SECRET: 'hunter2' },
    misspelt: { ...edge, EDGE_KEY_SECOND: '5' },
  }));
});
after(async () => {
  if (child?.exitCode === null) {
    child.kill('SIGKILL'); // it holds nothing, and SIGTERM would wait for what never ends
    await once(child, 'exit');
  }
  slow.close().closeAllConnections();
  await core?.stop();
  rmSync(folder, { recursive: true, force: true });
});

connectionWalk(() => ({ edge: urlOf('edge'), core, key: adminKey(core.dataDir) }), 'reset');

test('a caller who leaves while its key is looked up takes no other caller with it', { timeout: 10_000 }, async () => {
  const url = `${urlOf('slow')}/v1/tensors/x`;
  const key = adminKey(core.dataDir);
  const leaver = new AbortController();
  const left = fetch(url, { headers: await signed(key, 'GET', url), signal: leaver.signal });
  left.catch(() => {});
  await until(() => asked === 1, 'the core is asked for the key');
  leaver.abort();
  await assert.rejects(left, { name: 'AbortError' });
  assert.equal(await codeOf(await call(key, 'GET', url)), 'signature_invalid');
});

test('the bundle is under 300 KB, compressed', async () => {
  const bytes = gzipSync(await bundle({ minify: true })).length;
  assert.ok(bytes < BUNDLE_BYTES_MAX, `${bytes} B`);
});

test('/metrics on Workers says that there are none', async () => {
  const answer = await fetch(`${urlOf('edge')}/metrics`);
  assert.equal(answer.status, 404);
  assert.match(await answer.text(), /keeps no metrics/);
});

for (const [name, settings, secret] of [
  ['unset', ['CORE_URLS', 'INTERNAL_SECRET'], INTERNAL_SECRET],
  ['malformed', ['BODY_BYTES_MAX'], 'a-lot'],
  ['malformedSecret', ['INTERNAL_SECRET'], 'hunter2'],
  ['misspelt', ['EDGE_KEY_SECOND', 'EDGE_KEY_SECONDS'], INTERNAL_SECRET],
] as const)
  test(`settings that are ${name}: every answer names ${settings.join(' and ')}, not what is set`, async () => {
    for (const path of ['/healthz', '/v1/tensors/x']) {
      const answer = await fetch(urlOf(name) + path);
      const document = (await answer.json()) as Record<string, string>;
      assert.deepEqual([answer.status, document.code], [500, 'internal']);
      assert.equal(document.requestId, answer.headers.get('x-request-id'));
      for (const setting of settings) assert.match(document.detail ?? '', new RegExp(`\\b${setting}\\b`));
      assert.ok(!JSON.stringify(document).includes(secret));
      const logged = new RegExp(`${document.requestId} cannot start: .*${settings[0]}`);
      await until(() => logged.test(output()), `the log says ${logged}`);
    }
    assert.equal((await fetch(urlOf(name), { method: 'HEAD' })).status, 500);
  });

test('no secret is in what workerd printed', () => {
  for (const secret of [INTERNAL_SECRET, 'hunter2', adminKey(core.dataDir).secret])
    assert.ok(!output().includes(secret));
});
