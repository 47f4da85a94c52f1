// The bundled PostgreSQL: a real server, from the npm package's binaries, for one data folder.
//
// Its data lies in `${dataDir}/postgres`. It listens on a Unix socket alone, in a folder that only its user can enter;
// that is why nobody is asked for a password. It starts as root and not, with or without the package's install
// scripts, whatever the system's locale is, and it ends when this process does, however that happens.
//
// Invariant: a cluster either is complete or is not at its place; at most one server runs on it.
// Not here: starting it again when it dies (bundled-restart.ts), connections, tables. Not for Windows or musl.
import { existsSync, mkdirSync, realpathSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createCluster, type Place, preparePlace, SYNC_METHOD, USER } from './bundled-cluster.ts';
import { readPidFile, serves, stopLeftover } from './bundled-leftover.ts';
import { type GuardedProcess, spawnGuarded } from './bundled-process.ts';
import { type FolderLock, lockFolder } from './folder-lock.ts';

export interface BundledOptions {
  readonly dataDir: string;
  /** Gets what the server warns of; its ordinary messages are kept for errors only. */
  readonly log: (line: string) => void;
  readonly connectionsMax?: number;
  /** Gives up a start under way. */
  readonly signal?: AbortSignal;
  /** Another folder of binaries than the npm package's. */
  readonly native?: string;
}

export interface BundledAddress {
  readonly socketFolder: string;
  readonly port: number;
  readonly user: string;
  readonly database: string;
}

export interface BundledServer {
  readonly address: BundledAddress;
  /** The server's process. */
  readonly pid: number;
  /** Resolves when the server has ended, with words that say how. */
  readonly exited: Promise<string>;
  /** Ends it within 8 s, fast first; may be called again. */
  stop(): Promise<void>;
}

const PORT = 5432;
const CONNECTIONS_MAX = 40;
/** Long, because a recovery after a crash counts as starting. */
const READY_MS_MAX = 60_000;
const STOP_MS_MAX = 7500;
const POLL_MS = 10;

export async function startBundled(options: BundledOptions): Promise<BundledServer> {
  // Others may pass through a folder that root makes here, else the server's user could not; they cannot list it.
  mkdirSync(options.dataDir, { recursive: true, mode: process.getuid?.() === 0 ? 0o711 : 0o700 });
  const dataDir = realpathSync(options.dataDir);
  const lock = await lockFolder(dataDir, 'postgres');
  let place: Place | undefined;
  try {
    place = preparePlace(dataDir, options.native);
    await stopLeftover(place.cluster);
    if (!existsSync(join(place.cluster, 'PG_VERSION'))) await createCluster(place, options.signal);
    return await runServer(place, options, lock);
  } catch (error) {
    if (place) rmSync(place.sockets, { recursive: true, force: true });
    await lock.release();
    throw error;
  }
}

async function runServer(place: Place, options: BundledOptions, lock: FolderLock): Promise<BundledServer> {
  const { cluster, sockets, user, env } = place;
  const server = spawnGuarded(serverCommand(place, options.connectionsMax), {
    ...user.spawnAs,
    env,
    onLine: warningsTo(options.log),
  });
  const end = async (): Promise<void> => {
    server.release();
    await Promise.race([server.exited, sleep(STOP_MS_MAX, undefined, { ref: false })]);
    // Only if somebody ended the guard: its server is still ours to end.
    await stopLeftover(cluster);
    rmSync(sockets, { recursive: true, force: true });
  };
  try {
    const pid = await untilReady(place, server, options.signal);
    let stopping: Promise<void> | undefined;
    const stop = (): Promise<void> => {
      stopping ??= end().finally(() => lock.release());
      return stopping;
    };
    return { address: address(sockets), pid, exited: server.exited, stop };
  } catch (error) {
    await end().catch((failure: Error) => options.log(failure.message));
    throw error;
  }
}

/** Passes on what an operator should know; a client whose statement failed has been told itself. */
function warningsTo(log: (line: string) => void): (line: string) => void {
  let passing = true;
  return (line) => {
    const level = /^(LOG|ERROR|WARNING|FATAL|PANIC):/.exec(line)?.[1];
    if (level) passing = level !== 'LOG' && level !== 'ERROR';
    if (passing) log(`postgres: ${line.trim()}`);
  };
}

function address(sockets: string): BundledAddress {
  return { socketFolder: sockets, port: PORT, user: USER, database: 'postgres' };
}

function serverCommand({ native, cluster, sockets, user }: Place, connectionsMax = CONNECTIONS_MAX): readonly string[] {
  const settings: Record<string, string> = {
    listen_addresses: '',
    port: `${PORT}`,
    unix_socket_directories: sockets,
    unix_socket_permissions: '0700',
    max_connections: `${connectionsMax}`,
    shared_buffers: '64MB',
    // Not in /dev/shm, which containers make small.
    dynamic_shared_memory_type: 'mmap',
    max_parallel_workers_per_gather: '0',
    max_wal_size: '256MB',
    jit: 'off',
    // Opening every file one by one takes seconds after a crash.
    recovery_init_sync_method: SYNC_METHOD,
    timezone: 'UTC',
    log_timezone: 'UTC',
    log_line_prefix: '',
    log_checkpoints: 'off',
  };
  const words = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
  return [...user.prefix, join(native, 'bin', 'postgres'), '-D', cluster, ...words];
}

/** The server's process number, when the server says that it takes connections. */
async function untilReady({ cluster, sockets }: Place, server: GuardedProcess, signal?: AbortSignal): Promise<number> {
  const socket = join(sockets, `.s.PGSQL.${PORT}`);
  const start = performance.now();
  while (!server.hasExited()) {
    const note = readPidFile(cluster);
    // The note and the socket of a server that was killed lie there until the new one has replaced them.
    if (note?.status === 'ready' && existsSync(socket) && serves(note.pid, cluster)) return note.pid;
    signal?.throwIfAborted();
    if (performance.now() - start > READY_MS_MAX) {
      throw new Error(
        `the bundled PostgreSQL in ${cluster} is not ready after ${READY_MS_MAX / 1000} s. It said:\n${server.tail()}`,
      );
    }
    await sleep(POLL_MS);
  }
  throw new Error(
    `the bundled PostgreSQL in ${cluster} did not start: it ${await server.exited}. It said:\n${server.tail()}\n` +
      'Repair what it says, or set DATABASE_URL to a PostgreSQL server of your own.',
  );
}
