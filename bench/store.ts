// How fast the store makes writes last, and how fast it is open again. Writes: 4 KiB values, 64 writers at a time, each write
// synced before it is answered, beside Redis with `appendfsync always` over 64 connections, and beside a file to which each
// write is appended and synced alone, all on one disk, in turns. Ours is the store below HTTP; Redis answers over a socket.
// Reopening: entries of 100 bytes, in a process of its own, by checkpoint and journal, and from the packs alone.
import { execFileSync } from 'node:child_process';
import { createHash, randomFillSync } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { StoredRecord } from '../core/store/records.ts';
import { openStore, type Store } from '../core/store/store.ts';
import { temporaryFolderIsMemory } from './lib/machine.ts';
import { openRedisClient, redisVersion, startRedis } from './lib/redis.ts';
import { atLeast, atMost, type Report, type RunOptions, type Table, WrongAnswer } from './lib/report.ts';
import { type Measured, type Rival, takeTurns } from './lib/rounds.ts';
import { median, percentile } from './lib/statistics.ts';

export const title = 'durable writes beside Redis and one sync a write, and reopening a large store';

const WRITERS = 64;
const VALUE_BYTES = 4096;
const REOPEN_CHILD = fileURLToPath(new URL('lib/reopen-child.ts', import.meta.url));
const KEPT_FOR_EACH_TURN = 10;

export async function run({ quick, log }: RunOptions): Promise<Report> {
  const folder = mkdtempSync(join(tmpdir(), 'blatam-bench-store-'));
  try {
    const writes = await measureWrites(folder, quick, log);
    const reopening = await measureReopening(folder, quick ? 50_000 : 1_000_000, log);
    return {
      tables: [...writes.tables, ...reopening.tables],
      checks: [...writes.checks, ...reopening.checks],
      notes: [
        `Redis ${redisVersion() ?? 'is not here'}, appendfsync always, over loopback; values of ${VALUE_BYTES} bytes, ${WRITERS} writers.`,
        ...(temporaryFolderIsMemory() ? ['The temporary folder is memory: a sync costs nothing there.'] : []),
      ],
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

type Part = Pick<Report, 'tables' | 'checks'>;

async function measureWrites(folder: string, quick: boolean, log: (line: string) => void): Promise<Part> {
  const store = await openStore(join(folder, 'store'), log);
  const plain = await open(join(folder, 'plain'), 'w');
  const redis = await startRedis({ appendfsync: 'always' });
  const clients = redis ? await Promise.all(Array.from({ length: WRITERS }, () => openRedisClient(redis))) : [];
  const writes = WRITERS * (quick ? 10 : 40);
  let serial = 0;
  const rivals: Rival<Uint8Array[]>[] = [
    {
      name: 'Blatam, group commit',
      pids: [],
      run: (values) => timed(values, WRITERS, (value, i) => put(store, `k${i % (writes * KEPT_FOR_EACH_TURN)}`, value)),
    },
    {
      name: 'one sync a write',
      pids: [],
      run: async (values) => {
        const few = values.slice(0, WRITERS); // as many as it takes to know
        const ms = await timed(few, 1, async (value) => {
          await plain.write(value);
          await plain.datasync();
        });
        return (ms / few.length) * values.length;
      },
    },
    ...(redis
      ? [
          {
            name: 'Redis, appendfsync always',
            pids: [redis.pid],
            run: (values: Uint8Array[]) =>
              timed(values, WRITERS, async (value, i) => void (await clients[i % WRITERS]?.set(`k${i}`, value))),
          },
        ]
      : []),
  ];
  try {
    const begin = () =>
      Array.from({ length: writes }, () => {
        const value = randomFillSync(new Uint8Array(VALUE_BYTES));
        new DataView(value.buffer).setUint32(0, serial++);
        return value;
      });
    log(`${writes} writes a turn`);
    const measured = await takeTurns({ rounds: quick ? 3 : 10, begin, rivals });
    return tell(measured, writes);
  } finally {
    for (const client of clients) client.close();
    await redis?.close();
    await plain.close();
    await store.close();
  }
}

function tell(measured: readonly Measured[], writes: number): Part {
  const perSecond = (ms: number | undefined) => (ms === undefined ? null : (writes / ms) * 1000);
  const of = (name: string) => measured.find((one) => one.name.startsWith(name));
  const ours = of('Blatam');
  const ratioTo = (name: string) => {
    const other = of(name);
    return ours && other ? median(other.ms) / median(ours.ms) : null;
  };
  const table: Table = {
    title: 'durable writes',
    columns: [
      { name: 'median', unit: 'writes/s' },
      { name: 'slow quarter', unit: 'writes/s' },
      { name: 'x one sync a write', unit: '' },
      { name: 'x Redis', unit: '' },
    ],
    rows: measured.map(({ name, ms }) => ({
      name,
      values: [
        perSecond(median(ms)),
        perSecond(percentile(ms, 0.75)),
        relative(of('one sync'), ms),
        relative(of('Redis'), ms),
      ],
    })),
  };
  return {
    tables: [table],
    checks: [
      atLeast('group commit over one sync a write', 5, ratioTo('one sync'), 'x'),
      atLeast('group commit over Redis', 1, ratioTo('Redis'), 'x'),
    ],
  };
}

const relative = (other: Measured | undefined, ms: readonly number[]): number | null =>
  other ? median(other.ms) / median(ms) : null;

async function measureReopening(folder: string, entries: number, log: (line: string) => void): Promise<Part> {
  const path = join(folder, 'large');
  const store = await openStore(path, log);
  log(`${entries} entries are written`);
  await timed(
    Array.from({ length: entries }, (_, i) => i),
    4096,
    (i) => put(store, `model/layer/${i}`, smallValue(i)),
  );
  await store.close();
  const byJournal = reopen(path, entries);
  rmSync(join(path, 'journal'), { recursive: true });
  const fromPacks = reopen(path, entries);
  const byCheckpoint = reopen(path, entries);
  const row = (name: string, { ms, cpuMs, rssBytes }: Reopened) => ({
    name,
    values: [ms / 1000, cpuMs / 1000, (ms * 1000) / entries, rssBytes / entries],
  });
  const table: Table = {
    title: `reopening ${entries.toLocaleString('en')} entries`,
    columns: [
      { name: 'time', unit: 's' },
      { name: 'processors', unit: 's' },
      { name: 'each', unit: 'µs' },
      { name: 'memory each', unit: 'bytes' },
    ],
    rows: [
      row('by checkpoint and journal', byJournal),
      row('by checkpoint', byCheckpoint),
      row('from the packs alone', fromPacks),
    ],
  };
  const isMillion = entries === 1_000_000; // of fewer nothing can be said: what a start costs in any case would weigh more
  const seconds = isMillion ? byJournal.ms / 1000 : null;
  return { tables: [table], checks: [atMost('a million entries reopen', 10, seconds, 's')] };
}

interface Reopened {
  readonly ms: number;
  readonly cpuMs: number;
  readonly rssBytes: number;
}

function reopen(path: string, entries: number): Reopened {
  const said = execFileSync(process.execPath, ['--expose-gc', REOPEN_CHILD, path], { encoding: 'utf8' });
  const found = JSON.parse(said) as Reopened & { entries: number };
  if (found.entries !== entries) throw new WrongAnswer(`${found.entries} of ${entries} entries came back`);
  return found;
}

function smallValue(i: number): Uint8Array {
  const value = new Uint8Array(100);
  new DataView(value.buffer).setUint32(0, i);
  return value;
}

async function put(store: Store, key: string, bytes: Uint8Array): Promise<void> {
  const record: StoredRecord = {
    ...{ tenant: 'bench', key, digest: createHash('sha256').update(bytes).digest('hex'), bytes: bytes.length },
    ...{ codec: 'raw', dtype: 'U8', shape: [bytes.length], tensors: 1, priority: 50, createdAt: Date.now() },
    expiresAt: null,
  };
  const writer = await store.begin(false);
  await writer.write(bytes, bytes.length, 0);
  await writer.commit(record);
}

/** Milliseconds for all, so many at a time. */
async function timed<T>(
  values: readonly T[],
  abreast: number,
  work: (value: T, i: number) => Promise<void>,
): Promise<number> {
  const begun = performance.now();
  let next = 0;
  const worker = async (lane: number): Promise<void> => {
    for (let i = next++; i < values.length; i = next++)
      await work(values[i] as T, abreast === WRITERS ? lane + WRITERS * Math.floor(i / WRITERS) : i);
  };
  await Promise.all(Array.from({ length: abreast }, (_, lane) => worker(lane)));
  return performance.now() - begun;
}
