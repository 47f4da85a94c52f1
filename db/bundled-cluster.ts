// The place that a bundled server works in, and the cluster in it: what PostgreSQL calls all its data together.
//
// Invariant: a cluster is made and written out beside its place, then renamed, so half a cluster never counts.
// Not here: the server itself.
import { randomUUID } from 'node:crypto';
import { readdirSync, renameSync, rmSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { completeLibraries, makePrivateFolder, nativeFolder, socketFolder, syncFolder } from './bundled-files.ts';
import { spawnGuarded } from './bundled-process.ts';
import { type ServerUser, serverUser } from './bundled-user.ts';

export const USER = 'blatam';
/** How to write out a whole folder: opening every file one by one takes seconds. */
export const SYNC_METHOD = process.platform === 'linux' ? 'syncfs' : 'fsync';
const INIT_MS_MAX = 120_000;

/** All that the steps of a start need to know. */
export interface Place {
  readonly native: string;
  readonly cluster: string;
  readonly sockets: string;
  readonly user: ServerUser;
  readonly env: Readonly<Record<string, string>>;
}

export function preparePlace(dataDir: string, native = nativeFolder()): Place {
  const cluster = join(dataDir, 'postgres');
  const sockets = socketFolder(dataDir);
  const libraries = completeLibraries(native, join(dataDir, 'postgres-libraries'));
  const reached = [join(native, 'bin'), join(native, 'lib'), join(native, 'share'), dirname(sockets), dataDir];
  const user = serverUser(cluster, [...reached, ...(libraries ? [libraries] : [])]);
  makePrivateFolder(sockets, user.owner);
  const searched = process.platform === 'darwin' ? 'DYLD_LIBRARY_PATH' : 'LD_LIBRARY_PATH';
  const env = {
    PATH: '/usr/local/bin:/usr/bin:/bin',
    LC_ALL: 'C',
    TZ: 'UTC',
    ...(libraries ? { [searched]: libraries } : {}),
  };
  return { native, cluster, sockets, user, env };
}

export async function createCluster({ native, cluster, user, env }: Place, signal?: AbortSignal): Promise<void> {
  signal?.throwIfAborted();
  const folder = dirname(cluster);
  const prefix = `${basename(cluster)}.new-`;
  for (const name of readdirSync(folder)) {
    if (name.startsWith(prefix)) rmSync(join(folder, name), { recursive: true, force: true, maxRetries: 3 });
  }
  const fresh = join(folder, `${prefix}${randomUUID()}`);
  makePrivateFolder(fresh, user.owner);
  const words = ['-D', fresh, `--username=${USER}`, '--auth-local=trust', '--auth-host=reject', '--encoding=UTF8'];
  words.push('--locale-provider=builtin', '--builtin-locale=C.UTF-8', '--locale=C', `--sync-method=${SYNC_METHOD}`);
  const command = [...user.prefix, join(native, 'bin', 'initdb'), ...words];
  const initdb = spawnGuarded(command, { ...user.spawnAs, env });
  const giveUp = AbortSignal.any([AbortSignal.timeout(INIT_MS_MAX), ...(signal ? [signal] : [])]);
  giveUp.addEventListener('abort', initdb.release, { once: true });
  const how = await initdb.exited;
  giveUp.removeEventListener('abort', initdb.release);
  try {
    giveUp.throwIfAborted();
    if (how !== 'ended with status 0') throw new Error(`initdb ${how}. It said:\n${initdb.tail()}`);
    renameSync(fresh, cluster);
    syncFolder(folder);
  } catch (cause) {
    rmSync(fresh, { recursive: true, force: true });
    throw new Error(`cannot make a PostgreSQL cluster in ${cluster}: ${(cause as Error).message}`, { cause });
  }
}
