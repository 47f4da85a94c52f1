// An edge before a core elsewhere as a real process of each runtime that it is written for, on a free port.
// Bun and Deno are started from their platform's package: their own install scripts need not have run.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { ROOT, startBlatam, temporaryFolder } from './blatam.ts';
import { until } from './until.ts';

const START_MS_MAX = 120_000;
const MODULES = join(ROOT, 'node_modules');

export const RUNTIMES = ['node', 'bun', 'deno', 'workerd'] as const;
export type RuntimeName = (typeof RUNTIMES)[number];
type Environment = Readonly<Record<string, string>>;

export interface RunningEdge {
  readonly url: string;
  readonly output: () => string;
  stop(): Promise<{ code: number | null; signal: string | null }>;
}

export function startEdgeOn(runtime: RuntimeName, environment: Environment): Promise<RunningEdge> {
  switch (runtime) {
    case 'node':
      return onNode(environment);
    case 'bun':
      return started([binaryOf('@oven', 'bun', 'bin/bun'), join(ROOT, 'edge/bun.ts')], environment);
    case 'deno':
      return started(
        [binaryOf('@deno', '', 'deno'), 'run', '--allow-net', '--allow-env', join(ROOT, 'edge/deno.ts')],
        environment,
      );
    case 'workerd':
      return byWrangler(environment);
  }
}

async function onNode(environment: Environment): Promise<RunningEdge> {
  const { edge, output, kill, exited, dataDir } = await startBlatam({ environment });
  const stop = async () => {
    await kill('SIGTERM');
    rmSync(dataDir, { recursive: true, force: true });
    return exited;
  };
  return { url: edge, output, stop };
}

/** As a developer does: wrangler.toml's settings unless they are given here, and the secret from a file, or it would be printed. */
async function byWrangler({ INTERNAL_SECRET = '', ...environment }: Environment): Promise<RunningEdge> {
  const state = temporaryFolder();
  const secrets = join(state, 'secrets');
  writeFileSync(secrets, `INTERNAL_SECRET=${INTERNAL_SECRET}\n`, { mode: 0o600 });
  const bound = Object.entries(environment).flatMap(([name, value]) => ['--var', `${name}:${value}`]);
  const fixed = ['--ip', '127.0.0.1', '--port', '0', '--inspector-port', '0', '--show-interactive-dev-session=false'];
  const edge = await started(
    [
      process.execPath,
      join(MODULES, 'wrangler/bin/wrangler.js'),
      'dev',
      ...fixed,
      '--persist-to',
      state,
      '--env-file',
      secrets,
      ...bound,
    ],
    { WRANGLER_SEND_METRICS: 'false', WRANGLER_LOG_PATH: state, CI: '1' },
  );
  const stop = async () => {
    const ended = await edge.stop();
    rmSync(state, { recursive: true, force: true });
    return ended;
  };
  return { ...edge, stop };
}

/** The file of the one package in `scope` that was installed for this machine. */
function binaryOf(scope: string, prefix: string, file: string): string {
  const packages = readdirSync(join(MODULES, scope)).filter((name) => name.startsWith(prefix));
  const found = packages.map((name) => join(MODULES, scope, name, file)).find((path) => existsSync(path));
  if (!found) throw new Error(`no ${file} in node_modules/${scope}: ${packages.join(' ') || 'nothing'}. Run npm ci.`);
  return found;
}

async function started([file = '', ...args]: readonly string[], environment: Environment): Promise<RunningEdge> {
  const child = spawn(file, args, {
    cwd: ROOT,
    env: { ...process.env, EDGE_PORT: '0', ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const output = outputOf(child);
  const address = /(?:edge|Ready) on (http:\S+?),?\s/;
  try {
    await until(() => address.test(output()) || child.exitCode !== null, `${file} listens`, START_MS_MAX);
    const [, url] = address.exec(output()) ?? [];
    if (!url) throw new Error(`${file} ended with ${child.exitCode}`);
    return { url, output, stop: () => ended(child) };
  } catch (cause) {
    child.kill('SIGKILL');
    throw new Error(`no edge by ${file}:\n${output()}`, { cause });
  }
}

function outputOf(child: ChildProcess): () => string {
  let text = '';
  for (const stream of [child.stdout, child.stderr] as Readable[])
    stream.setEncoding('utf8').on('data', (more: string) => {
      text += more;
    });
  return () => text;
}

async function ended(child: ChildProcess): Promise<{ code: number | null; signal: string | null }> {
  if (child.exitCode === null && child.signalCode === null) {
    child.kill('SIGTERM');
    await once(child, 'exit');
  }
  return { code: child.exitCode, signal: child.signalCode };
}
