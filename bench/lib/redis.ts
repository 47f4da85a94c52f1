// The rival: redis-server from PATH on a free loopback port with an empty folder, as its makers ship it but for three
// things, all in its favour or asked for: no snapshots, no rewriting of its log in the background, and the log itself as
// `appendfsync` says. Where there is no redis-server, the answer is undefined and its numbers are missing.
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { startChild } from './child.ts';
import { WrongAnswer } from './report.ts';
import { getCommand, respDialect, setCommand } from './resp.ts';
import { openWire } from './wire.ts';

export interface Redis {
  readonly port: number;
  readonly pid: number;
  close(): Promise<void>;
}

/** Undefined if there is none. */
export function redisVersion(): string | undefined {
  try {
    const said = execFileSync('redis-server', ['--version'], { encoding: 'utf8' });
    return /v=(\S+)/.exec(said)?.[1] ?? 'of unknown version';
  } catch {
    return undefined;
  }
}

export async function startRedis(o: { appendfsync: 'no persistence' | 'always' }): Promise<Redis | undefined> {
  if (redisVersion() === undefined) return undefined;
  const port = await findFreePort();
  const log = o.appendfsync === 'always' ? ['--appendonly', 'yes', '--appendfsync', 'always'] : ['--appendonly', 'no'];
  const child = await startChild({
    name: 'redis',
    command: 'redis-server',
    words: (folder) => [
      ...['--bind', '127.0.0.1', '--port', String(port), '--dir', folder, '--save', ''],
      ...['--auto-aof-rewrite-percentage', '0', ...log],
    ],
    environment: () => process.env,
    ready: /Ready to accept connections/,
  });
  return { port, pid: child.pid, close: child.close };
}

export interface RedisClient {
  /** Milliseconds. */
  set(key: string, value: Uint8Array): Promise<number>;
  get(key: string, body: 'keep' | 'count'): Promise<{ ms: number; bytes: number; body: Uint8Array | undefined }>;
  close(): void;
}

export async function openRedisClient({ port }: Redis): Promise<RedisClient> {
  const wire = await openWire(port, respDialect);
  return {
    async set(key, value) {
      const { head, ms } = await wire.exchange(setCommand(key, value), 'count');
      if (head === '+OK') return ms;
      throw new WrongAnswer(`Redis answered SET with ${head}`);
    },
    async get(key, keeping) {
      const { head, bodyBytes, body, ms } = await wire.exchange(getCommand(key), keeping);
      if (head === `$${bodyBytes}`) return { ms, bytes: bodyBytes, body };
      throw new WrongAnswer(`Redis answered GET with ${head}`);
    },
    close: wire.close,
  };
}

/** Free a moment ago; redis-server cannot choose one by itself. */
async function findFreePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}
