// Who the bundled server runs as. PostgreSQL refuses to be root: where we are, it becomes the user that its data
// belongs to, or `nobody`; else it is the user that we are.
//
// Below a private folder (a checkout in root's home) that user could not walk to its own files. Then it is lent the
// one capability for that, by setpriv. `no_setuid_fixup` is needed with it: PostgreSQL looks for its programs by
// access(2), which otherwise ignores the capabilities of everybody but root.
//
// Not here: changing a folder's permissions or owner. Access lists (ACLs) are not read; they only make us use setpriv
// where it would not have been necessary.
import { existsSync, readFileSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Owner } from './bundled-files.ts';

export interface ServerUser {
  readonly owner: Owner;
  /** For `spawn`: empty where the command's prefix changes the user. */
  readonly spawnAs: { readonly uid?: number; readonly gid?: number };
  /** Words that go before the command. */
  readonly prefix: readonly string[];
}

const NOBODY: Owner = { uid: 65534, gid: 65534 };
const SETPRIV = ['/usr/bin/setpriv', '/bin/setpriv', '/usr/sbin/setpriv'];
/** Numbers as in linux/capability.h. */
const SETPCAP = 8n;
/** Smallest first: containers often lack the first one. */
const LENDABLE = [
  { name: 'dac_read_search', bit: 2n },
  { name: 'dac_override', bit: 1n },
];

/** Chooses the user for the cluster in `cluster` (which need not exist yet), who has to reach all of `paths`. */
export function serverUser(cluster: string, paths: readonly string[]): ServerUser {
  const us: Owner = { uid: process.getuid?.() ?? -1, gid: process.getgid?.() ?? -1 };
  const found = existsSync(cluster) ? statSync(cluster) : undefined;
  if (us.uid !== 0) {
    if (found && found.uid !== us.uid) {
      throw new Error(
        `${cluster} belongs to uid ${found.uid}, we are uid ${us.uid}: start as that user, or run chown -R ${us.uid} ${cluster}`,
      );
    }
    return { owner: us, spawnAs: {}, prefix: [] };
  }
  if (found?.uid === 0) {
    throw new Error(
      `${cluster} belongs to root, and PostgreSQL refuses to run as root. Run: chown -R ${NOBODY.uid}:${NOBODY.gid} ${cluster}`,
    );
  }
  const owner = found ? { uid: found.uid, gid: found.gid } : NOBODY;
  const closed = paths.map((path) => firstClosed(path, owner)).find((path) => path !== undefined);
  if (closed === undefined) return { owner, spawnAs: owner, prefix: [] };
  return { owner, spawnAs: {}, prefix: setprivPrefix(owner, closed) };
}

/** The topmost folder on the way to `path` that `user` cannot pass. */
export function firstClosed(path: string, user: Owner): string | undefined {
  const parent = dirname(path);
  const above = parent === path ? undefined : firstClosed(parent, user);
  if (above !== undefined || !existsSync(path)) return above;
  const { uid, gid, mode } = statSync(path);
  const execute = uid === user.uid ? 0o100 : gid === user.gid ? 0o010 : 0o001;
  return mode & execute ? undefined : path;
}

function setprivPrefix(owner: Owner, closed: string): readonly string[] {
  const setpriv = SETPRIV.find((path) => existsSync(path));
  const permitted = permittedCapabilities();
  const mayLend = (permitted >> SETPCAP) & 1n;
  const lent = LENDABLE.find(({ bit }) => mayLend && (permitted >> bit) & 1n);
  if (!setpriv || !lent) {
    throw new Error(
      `PostgreSQL must run as uid ${owner.uid}, who cannot enter ${closed}, and ` +
        `${setpriv ? 'this process has no capability to lend (setpcap, and dac_read_search or dac_override)' : `there is no ${SETPRIV[0]}`}. ` +
        `Run chmod o+x ${closed}, move the folder, run as an ordinary user, or set DATABASE_URL.`,
    );
  }
  return [
    setpriv,
    `--reuid=${owner.uid}`,
    `--regid=${owner.gid}`,
    '--clear-groups',
    '--securebits=+no_setuid_fixup',
    `--inh-caps=+${lent.name}`,
    `--ambient-caps=+${lent.name}`,
    '--',
  ];
}

function permittedCapabilities(): bigint {
  if (process.platform !== 'linux') return 0n;
  const line = /^CapPrm:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'));
  return BigInt(`0x${line?.[1] ?? '0'}`);
}
