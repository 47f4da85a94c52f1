// The database, whichever it is: without a url the bundled server is started, with one the server there is used, and
// nothing else differs. It is open when it answers and its tables are up to date.
//
// Invariant: opening and closing end in bounded time, and an error names the server but never the password. If the
// bundled server dies it is started again; queries in flight fail, later ones work.
// Not here: what is asked (keys.ts, audit.ts); retries.
import { drizzle } from 'drizzle-orm/postgres-js';
import { type KeptServer, keepBundled } from './bundled-restart.ts';
import { connectBundled, connectOutside, type Pool } from './connect.ts';
import { migrateTables } from './migrate.ts';
import { databaseCause, type Query } from './query.ts';
import * as schema from './schema.ts';

export interface DatabaseOptions {
  /** `postgres://…`; unset: the bundled server. */
  readonly url?: string | undefined;
  /** Where the bundled server keeps its data, in a folder `postgres`. */
  readonly dataDir: string;
  readonly log: (line: string) => void;
  /** Connections held at most. */
  readonly poolMax?: number | undefined;
}

export interface Database {
  readonly query: Query;
  readonly kind: 'bundled' | 'outside';
  /** Resolves if the server answers within 5 s. */
  ping(): Promise<void>;
  /** Ends connections and the bundled server; may be called again. */
  close(): Promise<void>;
}

const POOL_MAX = 10;
const PING_MS_MAX = 5000;
const CLOSE_S_MAX = 3;
const ADVICE =
  ' Check DATABASE_URL, and that this server runs and lets this machine in; unset it to use the bundled PostgreSQL.';
/** For other programs on the bundled server: a backup, somebody with psql. */
const SPARE_CONNECTIONS = 20;

export async function openDatabase({ url, dataDir, log, poolMax = POOL_MAX }: DatabaseOptions): Promise<Database> {
  if (!Number.isInteger(poolMax) || poolMax < 1 || poolMax > 200) {
    throw new Error(`a pool of ${poolMax} database connections is asked for; it must be a whole number from 1 to 200.`);
  }
  if (url !== undefined) return await openPool(connectOutside(url, poolMax), undefined, log);
  const server = await keepBundled({ dataDir, log, connectionsMax: poolMax + SPARE_CONNECTIONS });
  return await openPool(connectBundled(server.address, poolMax), server, log);
}

async function openPool(pool: Pool, server: KeptServer | undefined, log: (line: string) => void): Promise<Database> {
  const { client, where } = pool;
  const query = drizzle({ client, schema });
  const ping = async (): Promise<void> => {
    const answer = client`select 1`.execute();
    await inTime(answer, PING_MS_MAX, `the database at ${where} did not answer within ${PING_MS_MAX / 1000} s`);
  };
  let closing: Promise<void> | undefined;
  const close = (): Promise<void> => {
    closing ??= client.end({ timeout: CLOSE_S_MAX }).finally(() => server?.stop());
    return closing;
  };
  let doing = 'reach';
  try {
    await ping();
    doing = 'migrate';
    await migrateTables(client);
  } catch (error) {
    await close().catch((failure: Error) => log(failure.message));
    const cause = databaseCause(error);
    throw new Error(`cannot ${doing} the database at ${where}: ${inWords(cause)}.${server ? '' : ADVICE}`, { cause });
  }
  return { query, kind: server ? 'bundled' : 'outside', ping, close };
}

/** Node's errors about several addresses have a code and no message. */
function inWords(error: Error): string {
  return error.message || ('code' in error ? String(error.code) : error.name);
}

async function inTime<T>(promise: Promise<T>, msMax: number, otherwise: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, fail) => {
    timer = setTimeout(() => fail(new Error(otherwise)), msMax);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
