// How fast tensors come and go: PUT and GET of 1 MiB and 64 MiB through edge and core, beside Redis' SET and GET of the
// same bytes over the same raw client (lib/wire.ts), and beside a memcpy of them. Rivals take turns within each round.
//
// What the clock sees: from before a request's first byte is written until its answer is complete. For Blatam this
// includes checking the signature and the server's own sha-256 of the body. Not in it: the client's HMAC over the head, and
// the client's sha-256 of the body for content-digest, which has a table of its own; Redis' clients do neither.
// Every body is new (a serial number in its data), under two keys in turns, so that equal payloads are never deduplicated.
// Before and after its rounds each contest reads back, by GET, exactly the bytes that it wrote, else it has no result.
// `x Redis` is Redis' median by ours, `of memcpy` is memcpy's median by the row's: more is better.
// One connection, one request at a time: what many callers at once get is not measured here.
import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { type Blatam, type BlatamClient, openBlatamClient, readAdapters, startBlatam } from './lib/blatam.ts';
import { type Bodies, createBodies, type Prepared } from './lib/bodies.ts';
import { temporaryFolderIsMemory } from './lib/machine.ts';
import { memcpyRival } from './lib/memcpy.ts';
import { openRedisClient, type Redis, type RedisClient, redisVersion, startRedis } from './lib/redis.ts';
import {
  atLeast,
  type Check,
  type Column,
  type Report,
  type RunOptions,
  type Table,
  WrongAnswer,
} from './lib/report.ts';
import { type Measured, type Rival, takeTurns } from './lib/rounds.ts';
import { median, percentile } from './lib/statistics.ts';

export const title = 'PUT and GET of 1 MiB and 64 MiB, beside Redis and memcpy';

const MiB = 1 << 20;
const SEED = 20_240_229;

interface Size {
  readonly name: string;
  readonly tensorBytes: number;
  readonly rounds: number;
  readonly roundsQuick: number;
}
const SIZES: readonly Size[] = [
  { name: '64 MiB', tensorBytes: 64 * MiB, rounds: 15, roundsQuick: 5 },
  { name: '1 MiB', tensorBytes: MiB, rounds: 60, roundsQuick: 15 },
];

const CONTESTS = ['put', 'put through', 'get'] as const;
type Contest = (typeof CONTESTS)[number];

const TARGETS: readonly { readonly size: string; readonly contest: Contest; readonly asked: number }[] = [
  { size: '64 MiB', contest: 'put', asked: 0.45 },
  { size: '64 MiB', contest: 'put through', asked: 3 },
  { size: '64 MiB', contest: 'get', asked: 1.5 },
];

const NAMES: Readonly<Record<Contest, { readonly title: string; readonly ours: string; readonly redis: string }>> = {
  put: { title: 'PUT', ours: 'Blatam, durability=none', redis: 'Redis SET, no persistence' },
  'put through': { title: 'durable PUT', ours: 'Blatam, durability=through', redis: 'Redis SET, appendfsync always' },
  get: { title: 'GET', ours: 'Blatam', redis: 'Redis GET, no persistence' },
};

const COLUMNS: readonly Column[] = [
  { name: 'median', unit: 'ms' },
  { name: 'p25', unit: 'ms' },
  { name: 'p75', unit: 'ms' },
  { name: 'rate', unit: 'MiB/s' },
  { name: 'x Redis', unit: '' },
  { name: 'of memcpy', unit: '' },
  { name: 'server CPU', unit: 'ms/MiB' },
  { name: 'adapter CPU', unit: 'ms/MiB' },
];

/** Who takes part: `redis` for what need not last, `durable` for what must. */
interface Rivals {
  readonly blatam: Blatam;
  readonly client: BlatamClient;
  /** The core's process first, then its adapters'. */
  readonly pids: readonly number[];
  readonly redis: RedisRival | undefined;
  readonly durable: RedisRival | undefined;
}
interface RedisRival extends RedisClient {
  readonly pid: number;
}

export async function run({ quick, log }: RunOptions): Promise<Report> {
  await using opened = new AsyncDisposableStack();
  const blatam = await startBlatam();
  opened.defer(blatam.close);
  const client = await openBlatamClient(blatam);
  opened.defer(client.close);
  const adapters = await readAdapters(client);
  const rivals: Rivals = {
    blatam,
    client,
    pids: [blatam.pid, ...adapters.flatMap(({ pid }) => pid ?? [])],
    redis: await openRedis(opened, await startRedis({ appendfsync: 'no persistence' })),
    durable: await openRedis(opened, await startRedis({ appendfsync: 'always' })),
  };

  const tables: Table[] = [];
  const checks: Check[] = [];
  for (const size of SIZES) {
    const bodies = createBodies(size.tensorBytes, SEED);
    for (const contest of CONTESTS) {
      log(`${size.name}, ${NAMES[contest].title} …`);
      const measured = await hold(contest, size, bodies, rivals, quick ? size.roundsQuick : size.rounds);
      const { table, ratio } = tell(contest, size, bodies.bytes, measured);
      tables.push(table);
      for (const target of TARGETS)
        if (target.size === size.name && target.contest === contest)
          checks.push(atLeast(`${table.title}, ours to Redis`, target.asked, ratio, 'x'));
    }
    tables.push(tellHashing(size, bodies));
  }
  return { tables, checks, notes: notesOn(adapters.map(({ name }) => name)) };
}

async function openRedis(opened: AsyncDisposableStack, redis: Redis | undefined): Promise<RedisRival | undefined> {
  if (!redis) return undefined;
  opened.defer(redis.close);
  const client = await openRedisClient(redis);
  opened.defer(client.close);
  return { ...client, pid: redis.pid };
}

// ---- the contests

/** One who stores what it is given: milliseconds for each, and everything back for comparison. */
interface Contestant {
  readonly name: string;
  readonly pids: readonly number[];
  put(prepared: Prepared): Promise<number>;
  get(prepared: Prepared): Promise<number>;
  /** Throws unless it holds exactly this. */
  verify(prepared: Prepared): Promise<void>;
}

async function hold(contest: Contest, size: Size, bodies: Bodies, rivals: Rivals, rounds: number): Promise<Measured[]> {
  const redis = contest === 'put through' ? rivals.durable : rivals.redis;
  const contestants = [
    blatamContestant(contest, size, rivals),
    ...(redis ? [redisContestant(NAMES[contest].redis, size, redis)] : []),
  ];
  const isGet = contest === 'get';
  let asked = 0;
  const verifyAll = async () => {
    for (const prepared of bodies.current) for (const each of contestants) await each.verify(prepared);
  };

  for (let slot = 0; slot < 2; slot++) {
    const prepared = bodies.next();
    for (const each of contestants) await each.put(prepared);
  }
  await verifyAll();
  const measured = await takeTurns({
    rounds,
    begin: () => (isGet ? pick(bodies.current, asked++) : bodies.next()),
    rivals: [
      ...contestants.map(({ name, pids, put, get }): Rival<Prepared> => ({ name, pids, run: isGet ? get : put })),
      memcpyRival(bodies.bytes),
    ],
  });
  await verifyAll();
  return measured;
}

function blatamContestant(contest: Contest, size: Size, { blatam, client, pids }: Rivals): Contestant {
  const durability = contest === 'put through' ? 'through' : 'none';
  const path = (slot: number) => `/v1/tensors/bench/${size.tensorBytes}/${slot}`;
  return {
    name: NAMES[contest].ours,
    pids,
    async put({ slot, body, digest }) {
      const request = await client.sign('PUT', `${path(slot)}?durability=${durability}`, { bytes: body, digest });
      const answer = await client.send(request, 'keep');
      assertStored(answer.body, digest);
      return answer.ms;
    },
    async get({ slot, body }) {
      const { head, bodyBytes, ms } = await client.send(await client.sign('GET', path(slot)), 'count');
      if (bodyBytes !== body.length) throw new WrongAnswer(`GET gave ${bodyBytes} of ${body.length} bytes`);
      const source = head.headers.get('x-cache');
      if (source === 'hot') return ms;
      throw new WrongAnswer(`GET came from ${source}, and the adapter's memory is what is measured`);
    },
    async verify({ slot, body, digest }) {
      const answer = await client.send(await client.sign('GET', path(slot)), 'keep');
      assertEqual(answer.body, body, `Blatam's GET of ${path(slot)}`);
      if (durability === 'through') assertEqual(readPayload(blatam.dataDir, digest), body, 'the file on disk');
    },
  };
}

function redisContestant(name: string, size: Size, redis: RedisRival): Contestant {
  const key = (slot: number) => `bench/${size.tensorBytes}/${slot}`;
  return {
    name,
    pids: [redis.pid],
    put: ({ slot, body }) => redis.set(key(slot), body),
    async get({ slot, body }) {
      const { ms, bytes } = await redis.get(key(slot), 'count');
      if (bytes !== body.length) throw new WrongAnswer(`Redis gave ${bytes} of ${body.length} bytes`);
      return ms;
    },
    async verify({ slot, body }) {
      assertEqual((await redis.get(key(slot), 'keep')).body, body, `Redis' GET of ${key(slot)}`);
    },
  };
}

function pick<T>(list: readonly T[], turn: number): T {
  const found = list[turn % list.length];
  if (found === undefined) throw new Error('there is nothing to choose from');
  return found;
}

function assertStored(body: Uint8Array | undefined, digest: Uint8Array): void {
  const answer = JSON.parse(Buffer.from(body ?? []).toString()) as { digest?: string; deduplicated?: boolean };
  if (answer.digest !== Buffer.from(digest).toString('hex'))
    throw new WrongAnswer(`PUT stored something with the sha-256 ${answer.digest}, which is not what was sent`);
  if (answer.deduplicated !== false) throw new WrongAnswer('PUT found its payload there already; it was to be new');
}

function assertEqual(got: Uint8Array | undefined, wanted: Uint8Array, what: string): void {
  if (!got || Buffer.compare(got, wanted) !== 0) throw new WrongAnswer(`${what} is not what was written`);
}

/** The plain file that a durable PUT leaves, wherever in the data folder. */
function readPayload(dataDir: string, digest: Uint8Array): Uint8Array {
  const name = `${Buffer.from(digest).toString('hex')}.`;
  const cache = join(dataDir, 'cache');
  const path = (readdirSync(cache, { recursive: true }) as string[]).find((each) => basename(each).startsWith(name));
  if (!path) throw new WrongAnswer(`a durable PUT was answered, and there is no ${name}*`);
  return readFileSync(join(cache, path));
}

// ---- what is told of them

function tell(contest: Contest, size: Size, bytes: number, measured: readonly Measured[]) {
  const { title: what, ours, redis } = NAMES[contest];
  const medianOf = (name: string): number | undefined => {
    const found = measured.find((each) => each.name === name);
    return found && median(found.ms);
  };
  const redisMs = medianOf(redis);
  const oursMs = medianOf(ours);
  const memcpyMs = medianOf('memcpy');
  const row = ({ name, ms, cpuMs }: Measured) => {
    const typical = median(ms);
    const perMiB = (total: number | null | undefined) =>
      total === null || total === undefined ? null : total / ms.length / (bytes / MiB);
    const [server, ...adapters] = cpuMs;
    return {
      name,
      values: [
        ...[typical, percentile(ms, 0.25), percentile(ms, 0.75), bytes / MiB / (typical / 1000)],
        name === ours && redisMs !== undefined ? redisMs / typical : null,
        name !== 'memcpy' && memcpyMs !== undefined ? memcpyMs / typical : null,
        perMiB(server),
        adapters.length > 0 ? perMiB(adapters.reduce((sum: number | null, one) => add(sum, one), 0)) : null,
      ],
    };
  };
  const rows = measured.map(row);
  if (redisMs === undefined)
    rows.splice(1, 0, { name: `${redis}: no redis-server on PATH`, values: COLUMNS.map(() => null) });
  const table: Table = { title: `${size.name} ${what}`, columns: COLUMNS, rows };
  return { table, ratio: redisMs !== undefined && oursMs !== undefined ? redisMs / oursMs : null };
}

const add = (a: number | null, b: number | null): number | null => (a === null || b === null ? null : a + b);

function tellHashing(size: Size, { hashMs, bytes }: Bodies): Table {
  const typical = median(hashMs);
  const values = [...[typical, percentile(hashMs, 0.25), percentile(hashMs, 0.75), bytes / MiB / (typical / 1000)]];
  return {
    title: `${size.name} hashing before a PUT, in none of the times above`,
    columns: COLUMNS.slice(0, values.length),
    rows: [{ name: 'client sha-256', values }],
  };
}

function notesOn(adapters: readonly string[]): string[] {
  const version = redisVersion();
  return [
    `Blatam's adapter: ${adapters.join(', ') || 'none'}.`,
    version ? `Redis ${version}.` : 'There is no redis-server on PATH: its rows and all ratios to it are missing.',
    ...(temporaryFolderIsMemory()
      ? ['The temporary folder is in memory, where fsync is free: set TMPDIR to a disk for durable numbers.']
      : []),
  ];
}
