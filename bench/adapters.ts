// What adapters do together and alone: runs over leased pages, and PUT and GET through the cache in this process, on one
// adapter, on two of different drivers, and on two processes of one; how long a run takes there and back; what waiting costs.
//
// The work is a fixed list that each adapter takes from as it gets done, two at a time, so that a faster one does more.
// `x one` is the rate by that of the best single adapter of the row. Software adapters use several cores each: where there are
// fewer than four, two of them only share the cores, and the target of 1.6 is not measured but told.
// Checksums of runs are compared with the reference, and bodies with what was put, else there is no result.
// GPU_ADAPTERS=first,second replaces the pair: by default SwiftShader from npm, and what the system offers.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { openCache } from '../core/cache/cache.ts';
import { openDigests } from '../core/cache/digest.ts';
import { joinParts, tensorParts } from '../core/contract/tensors.ts';
import { PAGE_BYTES } from '../core/gpu/arena.ts';
import type { GpuLease } from '../core/gpu/gpu-lease.ts';
import { openPieces, type Pieces, privatePiece } from '../core/gpu/pieces.ts';
import { openPool, type Pool } from '../core/gpu/pool.ts';
import { scratch, type Work, type WorkDispatch, type WorkRange } from '../core/gpu/work.ts';
import { openStore } from '../core/store/store.ts';
import { checksum } from '../shaders/references.ts';
import { checksumSteps } from '../shaders/steps.ts';
import { cpuMsOf } from './lib/cpu.ts';
import { describeMachine } from './lib/machine.ts';
import { atLeast, type Check, type Report, type Row, type RunOptions, type Table, WrongAnswer } from './lib/report.ts';
import { median, percentile } from './lib/statistics.ts';

export const title = 'one adapter and two: work, latency, and the cost of waiting';

const MiB = 1 << 20;
const ADAPTER_BYTES = 256 * MiB;
const DEADLINE_MS = 60_000;
const PIECES = 16;
const ABREAST = 2;
const SCALING = 1.6;
const CORES_ASKED = 4;
const IDLE_LEFT = 99;
const LEASES = 100_000;
const BODY_BYTES = MiB;
/** 4 MiB of pages, read eight times: a run that computes rather than travels. */
const PAGES = 64;
const PASSES = 8;
const TENANT = 'bench';

interface Lengths {
  readonly rounds: number;
  readonly runs: number;
  readonly bodies: number;
  readonly trips: number;
  readonly idleMs: number;
  readonly pendingMs: number;
}
const LENGTHS: Lengths = { rounds: 7, runs: 64, bodies: 64, trips: 500, idleMs: 10_000, pendingMs: 5000 };
const QUICK: Lengths = { rounds: 2, runs: 12, bodies: 16, trips: 100, idleMs: 2000, pendingMs: 1000 };

export async function run({ quick, log }: RunOptions): Promise<Report> {
  await using opened = new AsyncDisposableStack();
  const folder = mkdtempSync(join(tmpdir(), 'blatam-bench-adapters-'));
  opened.defer(() => rmSync(folder, { recursive: true, force: true }));
  const pieces = await openPieces({ count: PIECES, shared: true });
  const lengths = quick ? QUICK : LENGTHS;
  const [first = 'swiftshader', second = 'system'] = sourcesAsked();
  const notes: string[] = [];
  const measured = new Map<string, Rates>();
  const others: Table[] = [];
  const checks: Check[] = [];
  for (const sources of [[first], [second], [first, second], [first, first]]) {
    const name = sources.join(' + ');
    log(`${name} …`);
    const pool = await openPool({ ...poolOptions(folder, pieces), adapters: sources });
    try {
      const missing = pool.report().find(({ state }) => state !== 'ready');
      if (missing) {
        notes.push(`${name}: ${missing.reason ?? missing.state}.`);
        continue;
      }
      measured.set(name, await measureRates(pool, pieces, folder, lengths));
      if (sources.length > 1) continue;
      const { name: adapter = '' } = pool.report()[0] ?? {};
      notes.push(`${name}: ${adapter}.`);
      const { table, checks: more } = await measureWaiting(pool, adapter, lengths);
      others.push(table, await measureLeases(pool, adapter));
      checks.push(...more);
    } finally {
      await pool.close();
    }
  }
  const { table, factors } = tellRates(measured);
  const { cores } = describeMachine();
  for (const [name, { runs }] of factors)
    checks.unshift(
      atLeast(
        `${name}, runs, by the best one alone, on ${cores} cores`,
        SCALING,
        cores < CORES_ASKED ? null : runs,
        'x',
      ),
    );
  if (cores < CORES_ASKED)
    notes.push(
      `${cores} cores: two software adapters share what one of them uses already, so ${SCALING} x is not asked.`,
    );
  return { tables: [table, ...others], checks, notes };
}

function sourcesAsked(): readonly string[] {
  const { GPU_ADAPTERS = 'auto' } = process.env;
  return GPU_ADAPTERS === 'auto' ? [] : GPU_ADAPTERS.split(',');
}

const poolOptions = (dataDir: string, pieces: Pieces) => ({
  ...{ dataDir, pieces, memoryBytes: ADAPTER_BYTES, deadlineMs: DEADLINE_MS, environment: process.env },
  ...{ log: () => {}, onLost: (adapter: string) => process.stderr.write(`${adapter} was lost\n`) },
});

// ---- rates

/** MiB a second, one for each round. */
interface Rates {
  readonly runs: readonly number[];
  readonly put: readonly number[];
  readonly get: readonly number[];
}

async function measureRates(pool: Pool, pieces: Pieces, folder: string, lengths: Lengths): Promise<Rates> {
  await using opened = new AsyncDisposableStack();
  const desks = await Promise.all(pool.report().map(({ id }) => openDesk(pool, id)));
  const path = mkdtempSync(join(folder, 'cache-'));
  const store = await openStore(path, () => {});
  const digests = openDigests(pieces);
  opened.defer(() => digests.close());
  const cache = openCache({
    ...{ pool, pieces, digests, store, bodyBytesMax: 64 * MiB, entriesMax: 10_000 },
    ...{ now: Date.now, log: () => {} },
  });
  opened.defer(() => cache.close());
  const bodies = Array.from({ length: lengths.bodies }, (_, i) => bodyOf(i));
  const signal = AbortSignal.timeout(600_000);
  const put = (body: Uint8Array, i: number) =>
    cache.put({
      ...{ tenant: TENANT, key: `k${i}`, body: { chunks: whole(body), length: body.length } },
      ...{ digest: undefined, ttlSeconds: undefined, priority: 50, durability: 'none', signal },
    });
  const get = async (body: Uint8Array, i: number) => {
    const parts: Uint8Array[] = [];
    for await (const { piece, length } of cache.get(TENANT, `k${i}`)?.read(signal) ?? []) {
      parts.push(piece.bytes.slice(0, length));
      piece.release();
    }
    if (Buffer.compare(Buffer.concat(parts), body) !== 0) throw new WrongAnswer(`GET of k${i} is not what was put`);
  };
  const rates: { runs: number[]; put: number[]; get: number[] } = { runs: [], put: [], get: [] };
  for (let round = 0; round <= lengths.rounds; round++) {
    const works = Array.from({ length: lengths.runs }, (_, i) => i).values();
    const runs = await timed(() =>
      Promise.all(desks.flatMap((desk) => Array.from({ length: ABREAST }, () => consume(works, desk.work)))),
    );
    const each = (does: (body: Uint8Array, i: number) => Promise<unknown>) => {
      const all = bodies.entries();
      const one = ([i, body]: [number, Uint8Array]) => does(body, i);
      return timed(() => Promise.all(Array.from({ length: 2 * ABREAST }, () => consume(all, one))));
    };
    const [putMs, getMs] = [await each(put), await each(get)];
    if (round === 0) continue; // pipelines are compiled, memory is there
    rates.runs.push((lengths.runs * PASSES * PAGES * PAGE_BYTES) / MiB / (runs / 1000));
    rates.put.push((lengths.bodies * BODY_BYTES) / MiB / (putMs / 1000));
    rates.get.push((lengths.bodies * BODY_BYTES) / MiB / (getMs / 1000));
  }
  for (const desk of desks) desk.close();
  return rates;
}

async function* whole(body: Uint8Array): AsyncGenerator<Uint8Array, void, void> {
  yield body;
}

async function timed(does: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await does();
  return performance.now() - began;
}

async function consume<T>(list: Iterator<T> & Iterable<T>, does: (one: T) => Promise<unknown>): Promise<void> {
  for (const one of list) await does(one);
}

function bodyOf(serial: number): Uint8Array {
  const data = noise(BODY_BYTES, serial + 1);
  return joinParts(tensorParts([{ name: 'x', dtype: 'U8', shape: [data.length], data }]));
}

function noise(bytes: number, seed: number): Uint8Array {
  const words = new Uint32Array(bytes / 4);
  let state = Math.imul(seed, 0x9e37_79b9) || 1;
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[i] = state;
  }
  return new Uint8Array(words.buffer);
}

/** Pages on one adapter, and work over them whose answer is known. */
async function openDesk(pool: Pool, adapter: string) {
  const lease = pool.lease({ adapter, pageBytes: PAGE_BYTES });
  const size = PAGES * PAGE_BYTES;
  if (!lease.grow(size)) throw new Error(`${adapter} has no room for ${size} bytes`);
  const bytes = noise(size, 77);
  await lease.write(0, privatePiece(bytes), size);
  const wanted = Buffer.from(checksum(bytes).buffer, 0, 16);
  return {
    async work(): Promise<void> {
      const hash = privatePiece(new Uint8Array(16));
      await lease.run(summed(lease, size, hash));
      if (Buffer.compare(hash.bytes, wanted) !== 0) throw new WrongAnswer(`${adapter} has another checksum`);
    },
    close: () => lease.release(),
  };
}

/** Pages side by side into scratch, and from there their checksum, level by level; all of it several times over. */
function summed(lease: GpuLease, size: number, hash: ReturnType<typeof privatePiece>): Work {
  const whole: WorkRange = { at: scratch(0), offset: 0, size };
  const level = (i: number): WorkRange => ({ at: scratch(1 + (i % 2)), offset: 0, size: 4 * MiB });
  const copies = Array.from({ length: lease.pages }, (_, i): WorkDispatch => {
    const { binding, byteOffset, byteLength } = lease.range(i);
    const source = { at: binding, offset: byteOffset, size: byteLength };
    const target = { at: scratch(0), offset: i * byteLength, size: byteLength };
    return { kernel: 'copy', bindings: { source, target }, parameters: { words: byteLength / 4 } };
  });
  const steps = checksumSteps(size);
  const levels = steps.map((parameters, i): WorkDispatch => {
    const bindings = { source: i === 0 ? whole : level(i - 1), target: level(i) };
    return { kernel: 'checksum', bindings, parameters: { ...parameters } };
  });
  return {
    dispatches: Array.from({ length: PASSES }, () => [...copies, ...levels]).flat(),
    downloads: [{ piece: hash, from: 0, range: { ...level(steps.length - 1), size: 16 } }],
  };
}

function tellRates(measured: ReadonlyMap<string, Rates>) {
  const rows: Row[] = [];
  const factors = new Map<string, { readonly runs: number }>();
  const kinds = ['runs', 'put', 'get'] as const;
  for (const [name, rates] of measured) {
    const alone = name.split(' + ').flatMap((source) => measured.get(source) ?? []);
    const values = kinds.map((kind) => median(rates[kind]));
    const ratios = kinds.map((kind, i) => {
      const best = Math.max(...alone.map((one) => median(one[kind])));
      return alone.length > 1 ? (values[i] ?? Number.NaN) / best : null;
    });
    if (ratios[0] !== null && ratios[0] !== undefined) factors.set(name, { runs: ratios[0] });
    rows.push({ name, values: values.flatMap((value, i) => [value, ratios[i] ?? null]) });
  }
  const columns = ['runs', 'PUT', 'GET'].flatMap((name) => [
    { name, unit: 'MiB/s' },
    { name: 'x one', unit: '' },
  ]);
  return { table: { title: 'work over pages, and 1 MiB tensors through the cache', columns, rows }, factors };
}

// ---- waiting

async function measureWaiting(pool: Pool, adapter: string, lengths: Lengths) {
  const { id, pid = 0 } = pool.report()[0] ?? {};
  if (id === undefined) throw new Error('there is no adapter');
  const range = (at: number): WorkRange => ({ at: scratch(at), offset: 0, size: 4 * MiB });
  const bindings = { source: { ...range(0), size: 64 }, target: { ...range(1), size: 64 } };
  const trip: Work = { dispatches: [{ kernel: 'copy', bindings, parameters: { words: 16 } }] };
  const ms: number[] = [];
  for (let i = -20; i < lengths.trips; i++) {
    const one = await timed(() => pool.run(id, trip));
    if (i >= 0) ms.push(one);
  }
  await sleep(3000); // its memory is cleared in the background
  const idle = await sharesDuring([process.pid, pid], () => sleep(lengths.idleMs));
  const product: WorkDispatch = {
    kernel: 'matmul',
    bindings: { left: range(0), right: range(1), target: range(2) },
    parameters: { rows: 256, inner: 256, columns: 256 },
  };
  await pool.run(id, { dispatches: [product] });
  const once = (await timed(() => pool.run(id, { dispatches: Array(8).fill(product) }))) / 8;
  const times = Math.max(8, Math.min(1024, Math.round(lengths.pendingMs / once)));
  const work = { dispatches: Array<WorkDispatch>(times).fill(product) };
  const pending = await sharesDuring([process.pid], () => pool.run(id, work));
  const columns = [
    ...['median', 'p25', 'p75', 'p99'].map((name) => ({ name: `run, ${name}`, unit: 'ms' })),
    ...['core, idle', 'adapter, idle', 'core, a run pending'].map((name) => ({ name, unit: '% of a core' })),
  ];
  const [coreIdle = null, adapterIdle = null] = idle;
  const values = [median(ms), ...[0.25, 0.75, 0.99].map((p) => percentile(ms, p)), coreIdle, adapterIdle];
  const rows = [{ name: 'alone', values: [...values, pending[0] ?? null] }];
  const left = (what: string, share: number | null) =>
    atLeast(`${adapter}, ${what}, of a core left`, IDLE_LEFT, share === null ? null : 100 - share, '%');
  const checks = [left('core, idle', coreIdle), left('adapter, idle', adapterIdle)];
  return { table: { title: `${adapter}: waiting`, columns, rows }, checks };
}

/** Percent of one core that each process has used. */
async function sharesDuring(pids: readonly number[], does: () => Promise<unknown>): Promise<(number | null)[]> {
  const before = pids.map(cpuMsOf);
  const took = await timed(does);
  return pids.map((pid, i) => {
    const [from, to] = [before[i] ?? null, cpuMsOf(pid)];
    return from === null || to === null ? null : ((to - from) / took) * 100;
  });
}

/** Memory after many pages have come and gone; the second time shows what is kept, the first also what is set up once. */
async function measureLeases(pool: Pool, adapter: string): Promise<Table> {
  const { pid = 0 } = pool.report()[0] ?? {};
  const bytes = privatePiece(new Uint8Array(4096));
  const rows: Row[] = [];
  for (const name of ['first', 'then']) {
    const before = [rssMiB(process.pid), rssMiB(pid)];
    const ms = await timed(async () => {
      for (let i = 0; i < LEASES; i++) {
        const lease = pool.lease({ pageBytes: 4096 });
        if (!lease.grow((1 + (i % 8)) * 4096)) throw new Error('pages that were given back are not free');
        if (i % 100 === 0) await lease.write(0, bytes, 4096);
        lease.release();
      }
    });
    const grown = [rssMiB(process.pid), rssMiB(pid)].map((after, i) => minus(after, before[i] ?? null));
    rows.push({ name: `${name} ${LEASES}`, values: [(ms * 1000) / LEASES, ...grown] });
  }
  const columns = [
    { name: 'each', unit: 'us' },
    { name: 'core grew', unit: 'MiB' },
    { name: 'adapter grew', unit: 'MiB' },
  ];
  return { title: `${adapter}: leases taken and given back, one in a hundred written`, columns, rows };
}

const minus = (a: number | null, b: number | null): number | null => (a === null || b === null ? null : a - b);

/** Null where there is no /proc. */
function rssMiB(pid: number): number | null {
  try {
    const line = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
    return line ? Number(line[1]) / 1024 : null;
  } catch {
    return null;
  }
}
