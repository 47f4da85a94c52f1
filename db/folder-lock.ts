// One process per data folder. The lock is a listening socket, so the system itself lets go of it when we die, by
// whatever means; nothing stale has to be judged on Linux, where it has a name outside the file system.
//
// It is named after the folder's identity, not its path. It does not see a process in another container (another
// network namespace) or on another machine: a folder shared like that needs a server of its own and DATABASE_URL.
import { rmSync, statSync } from 'node:fs';
import { connect, createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface FolderLock {
  release(): Promise<void>;
}

/** `owner`: what of us locks it; each owner has a lock of its own on the same folder. */
export async function lockFolder(folder: string, owner: 'core' | 'postgres'): Promise<FolderLock> {
  const { dev, ino } = statSync(folder, { bigint: true });
  const name = `blatam-${owner}-${dev}-${ino}`;
  const onLinux = process.platform === 'linux';
  const path = onLinux ? `\0${name}` : join(tmpdir(), `${name}.lock`);
  if (!onLinux && !(await answers(path))) rmSync(path, { force: true });
  const server = createServer((socket) => socket.destroy());
  try {
    await listen(server, path);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw cause;
    throw new Error(
      `${folder} is in use by another process that runs Blatam: stop that one, or give this one a data folder of its own.`,
      { cause },
    );
  }
  server.unref();
  return { release: () => new Promise((done) => server.close(() => done())) };
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((done, fail) => {
    server.once('error', fail);
    server.listen(path, () => {
      server.off('error', fail);
      done();
    });
  });
}

function answers(path: string): Promise<boolean> {
  return new Promise((done) => {
    const socket = connect(path, () => {
      socket.destroy();
      done(true);
    });
    socket.once('error', () => done(false));
  });
}
