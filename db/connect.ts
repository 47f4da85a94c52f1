// From an address to a pool of connections, with a limit on everything that can be waited for.
//
// Invariant: no error of this file, and nothing it returns to be shown, holds the password; that is why a url that
// cannot be read safely is refused without being quoted.
// Not here: connecting. The pool connects on its first query.
import postgres, { type Options, type Sql } from 'postgres';
import type { BundledAddress } from './bundled.ts';

export interface Pool {
  readonly client: Sql;
  /** Where it leads, fit to be shown. */
  readonly where: string;
}

const CONNECT_S_MAX = 4;
const IDLE_S_MAX = 300;
const LIFETIME_S_MAX = 3600;
const RECONNECT_S_MAX = 1;

const LIMITS = {
  statement_timeout: 30_000,
  lock_timeout: 10_000,
  idle_in_transaction_session_timeout: 60_000,
};

function options(connectionsMax: number) {
  return {
    max: connectionsMax,
    connect_timeout: CONNECT_S_MAX,
    idle_timeout: IDLE_S_MAX,
    max_lifetime: LIFETIME_S_MAX,
    backoff: (tries: number) => Math.min(0.02 * 2 ** tries, RECONNECT_S_MAX),
    onnotice: () => undefined,
    connection: { application_name: 'blatam', search_path: 'public', ...LIMITS },
  } satisfies Options<Record<string, never>>;
}

export function connectBundled({ socketFolder, port, user, database }: BundledAddress, connectionsMax: number): Pool {
  const path = `${socketFolder}/.s.PGSQL.${port}`;
  const client = postgres({ ...options(connectionsMax), host: socketFolder, path, port, user, database, ssl: false });
  return { client, where: path };
}

/** Takes `postgres://user:password@host:port/database`, several hosts, and a socket's folder as an encoded host. */
export function connectOutside(url: string, connectionsMax: number): Pool {
  const [, authority = '', rest = ''] = /^postgres(?:ql)?:\/\/([^/?#]*)(.*)$/s.exec(url) ?? [];
  const [host = '', userinfo = '', ...more] = authority.split('@').reverse().map(decode);
  // Another @ means that a part of the password stands where hosts, ports or databases are shown.
  if (!host || userinfo === undefined || more.length > 0 || rest.includes('@')) throw unreadable();
  try {
    if (!host.startsWith('/')) return { client: postgres(url, options(connectionsMax)), where: withPort(host) };
    const [, folder = host, port = '5432'] = /^(.*):(\d+)$/.exec(host) ?? [];
    const path = `${folder}/.s.PGSQL.${port}`;
    return { client: postgres(url, { ...options(connectionsMax), host: folder, path }), where: path };
  } catch {
    throw unreadable();
  }
}

function withPort(host: string): string {
  return /:\d+$/.test(host) ? host : `${host}:5432`;
}

function decode(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

function unreadable(): Error {
  return new Error(
    'the database url cannot be read. It should look like postgres://user:password@host:5432/database, ' +
      'with / ? # @ and % in the password written as %2F %3F %23 %40 and %25.',
  );
}
