// Adapters killed, crashed, hung and lost at random moments, one or both at a time, while eight clients write, read, delete
// and compute, call some of it off, and an operator moves and drains: no wrong byte, and at the end every page, piece,
// process, descriptor and byte of memory is accounted for. What a write that was answered may lose by that, with the core
// alive: `through` and `back` nothing, at no moment; `none`, which is on the adapter alone, the whole of it, and only if an
// adapter was lost since; once gone it stays gone. FAULT_ROUNDS sets how many rounds of faults, SEED which and when.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readdirSync, readlinkSync } from 'node:fs';
import { after, test } from 'node:test';
import { setTimeout as pause, setImmediate as soon } from 'node:timers/promises';
import { Problem } from '../../../core/contract/problems.ts';
import { joinParts, tensorParts } from '../../../core/contract/tensors.ts';
import { type Piece, privatePiece } from '../../../core/gpu/pieces.ts';
import { scratch, type WorkDispatch, type WorkRange } from '../../../core/gpu/work.ts';
import { checksum } from '../../../shaders/references.ts';
import { checksumSteps } from '../../../shaders/steps.ts';
import { adapterProcesses, collectGarbage, hasProc, statusMiB, twoSources } from '../../support/adapters.ts';
import { assertSameBytes } from '../../support/bytes.ts';
import { type Engine, patience, readAll, startEngine, TENANT } from '../../support/engine.ts';
import { seeded } from '../../support/seeded.ts';
import { until } from '../../support/until.ts';

const ROUNDS = Number(process.env.FAULT_ROUNDS ?? 24);
const CLIENTS = 8;
const KEYS = 6;
const SIZES = [0, 500, 5_000, 70_000, 300_000, 300_000, 1 << 20, 5 << 20] as const;
const DURABILITIES = ['through', 'back', 'none'] as const;
const PAGES = [1024, 16 << 10, 64 << 10] as const;
/** What a client may be told while adapters die; anything else is a fault of ours. */
const EXCUSES = ['adapter_lost', 'adapter_unavailable', 'adapter_failed', 'capacity_exhausted', 'tensor_unknown'];
const DEADLINE_MS = 2000;
const CALLED_OFF = new Error('called off');

const random = seeded();
const sources = await twoSources();
const noise = random.bytes(8 << 20);

/** What is done to an adapter. A hung one is one that is stopped: it answers nothing, and is killed for it. */
const FAULTS = {
  kill: (_, pid) => process.kill(pid, 'SIGKILL'),
  crash: (_, pid) => process.kill(pid, 'SIGSEGV'),
  hang: (_, pid) => process.kill(pid, 'SIGSTOP'),
  /** Its device is destroyed, as a driver's reset does. */
  lose: ({ cache }, _, id) => void cache.restart(id, patience()).catch(excuse),
} as const satisfies Record<string, (engine: Engine, pid: number, id: string) => unknown>;
/** A hang costs everybody the deadline: rarer. */
const KINDS = ['kill', 'kill', 'crash', 'crash', 'lose', 'lose', 'hang'] as const;
/** Between two rounds of faults, at most. */
const ANSWERS_MAX = 40;

test(`faults of adapters at random moments, ${sources.map((source) => source.split('/').at(-1)).join(' and ')}`, async (t) => {
  t.diagnostic(`SEED=${random.seed} FAULT_ROUNDS=${ROUNDS}`);
  const pausesMs = { first: 20, max: 200, calmAfter: 1000 };
  const engine = await startEngine(t, { pool: { adapters: sources, deadlineMs: DEADLINE_MS, pausesMs } });
  const world = createWorld(engine);
  const began = performance.now();
  await session(world, Math.ceil(ROUNDS / 4));
  const early = await resources(world);
  await session(world, ROUNDS - Math.ceil(ROUNDS / 4));
  const late = await resources(world);
  const counted = [...world.counts].map(([what, times]) => `${times} x ${what}`).join(', ');
  t.diagnostic(`${Math.round((performance.now() - began) / 1000)} s: ${counted}`);
  t.diagnostic(`${engine.pool.report().map(({ id, restarts }) => `${id} restarted ${restarts} x`)}`);
  t.diagnostic(`${early.MiB} MiB, then ${late.MiB}; ${early.descriptors.length} descriptors`);
  assert.equal(engine.cache.stats().evictions, 0, 'the files are too large for this test');
  for (const { processes } of [early, late]) assert.equal(processes, hasProc ? sources.length : 0);
  assert.deepEqual(late.descriptors, early.descriptors);
  assert.ok(!(late.MiB > early.MiB + 100), `${early.MiB} MiB have become ${late.MiB}`);
});

// ---- what there is

interface World {
  readonly engine: Engine;
  readonly keys: readonly Key[];
  /** What was done, and how often. */
  readonly counts: Map<string, number>;
  /** What clients have got done. */
  answered: number;
}

/** A file as it is remembered; undefined: nothing is there. */
type Version = { readonly digest: string; readonly fleetingSince: number | undefined } | undefined;

/** Changed by one client; what that was last told is what must be there. */
interface Key {
  readonly name: string;
  readonly owner: number;
  /** Several where the last change failed. */
  allowed: Version[];
  /** All that was ever put there, in order. */
  readonly history: Version[];
}

function createWorld(engine: Engine): World {
  const keys = Array.from({ length: CLIENTS * KEYS }, (_, i) => {
    const [owner, place] = [i % CLIENTS, Math.floor(i / CLIENTS)];
    return { name: `client-${owner}/${place}`, owner, allowed: [undefined], history: [] };
  });
  return { engine, keys, counts: new Map(), answered: 0 };
}

const count = ({ counts }: World, what: string): void => void counts.set(what, (counts.get(what) ?? 0) + 1);
const losses = ({ engine }: World): number => engine.pool.report().reduce((sum, { restarts }) => sum + restarts, 0);
const digestOf = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** Swallows what adapters that die, or a client who calls off, may lead to. */
function excuse(error: unknown): void {
  if (error === CALLED_OFF || (error instanceof Problem && EXCUSES.includes(error.code))) return;
  throw error;
}

// ---- a session: clients, an operator and faults, and then calm

async function session(world: World, rounds: number): Promise<void> {
  let isOver = false;
  const working = [
    ...Array.from({ length: CLIENTS }, (_, i) => client(world, i, () => isOver)),
    operator(world, () => isOver),
  ];
  const failed = Promise.all(working);
  const faults = (async () => {
    for (let round = 0; round < rounds && !isOver; round++) {
      const wanted = world.answered + random.below(ANSWERS_MAX);
      await until(() => isOver || world.answered >= wanted, 'the clients get something done', 60_000);
      await pause(random.below(50));
      strike(world);
    }
  })();
  try {
    await Promise.race([faults, failed]);
  } finally {
    isOver = true;
  }
  await failed;
  await calm(world);
}

function strike(world: World): void {
  for (const { pid, id } of world.engine.pool.report()) {
    if (pid === undefined || random.below(2) === 0) continue;
    const kind = random.pick(KINDS);
    try {
      FAULTS[kind](world.engine, pid, id);
      count(world, kind);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error; // it went by itself
    }
  }
}

/** Both adapters serve, nothing is under way, and everything is there and nothing else. */
async function calm(world: World): Promise<void> {
  const { engine, keys } = world;
  for (const { id } of engine.pool.report()) {
    engine.pool.resume(id);
    await until(() => engine.pool.reportOf(id).state === 'ready', `${id} serves`, 60_000);
    // One that is stopped looks like one that serves, until it is asked.
    for (let works = false; !works; await pause(50))
      works = await compute(world, id).then(
        () => true,
        (error: unknown) => {
          excuse(error);
          return false;
        },
      );
  }
  for (const key of keys) await check(world, key, patience());
  await until(() => engine.pool.report().every(({ queue }) => queue === 0), 'nothing is asked any more');
  await engine.assertIdle();
}

interface Resources {
  readonly processes: number;
  readonly descriptors: readonly string[];
  readonly MiB: number;
}

async function resources({ engine }: World): Promise<Resources> {
  if (!hasProc) return { processes: 0, descriptors: [], MiB: Number.NaN };
  await engine.store.settle(); // payloads that nobody needs are removed
  collectGarbage();
  return {
    processes: adapterProcesses().length,
    descriptors: descriptors(),
    MiB: Math.round(statusMiB(process.pid, 'RssAnon')),
  };
}

/** What is open, by kind: numbers differ from process to process. */
function descriptors(): string[] {
  const kinds = readdirSync('/proc/self/fd').map((name) => {
    try {
      return readlinkSync(`/proc/self/fd/${name}`).replace(/\[\d+\]/, '');
    } catch {
      return ''; // the one that lists them
    }
  });
  return kinds.filter((kind) => kind !== '').sort();
}

// ---- who works

async function client(world: World, number: number, isOver: () => boolean): Promise<void> {
  const mine = world.keys.filter(({ owner }) => owner === number) as [Key];
  while (!isOver()) {
    const signal = random.below(8) === 0 ? soonCalledOff() : patience();
    const what = random.pick(['change', 'change', 'check', 'look', 'compute'] as const);
    try {
      if (what === 'change') await change(world, random.pick(mine), signal);
      if (what === 'check') await check(world, random.pick(mine), signal);
      if (what === 'look') await look(world, random.pick(world.keys as [Key]), signal);
      if (what === 'compute') await compute(world, undefined, signal);
      count(world, what);
      world.answered++;
    } catch (error) {
      excuse(error);
      count(world, `${what} failed (${error instanceof Problem ? error.code : 'called off'})`);
      await pause(5);
    }
  }
}

function soonCalledOff(): AbortSignal {
  const controller = new AbortController();
  setTimeout(() => controller.abort(CALLED_OFF), random.below(40));
  return controller.signal;
}

async function operator(world: World, isOver: () => boolean): Promise<void> {
  const { cache, pool } = world.engine;
  while (!isOver()) {
    await pause(random.below(150));
    const id = random.pick(pool.report().map(({ id }) => id) as [string]);
    try {
      if (random.below(2) === 0)
        await cache.move(TENANT, { prefix: `client-${random.below(CLIENTS)}/` }, id, patience());
      else await cache.drain(id, patience());
      count(world, 'move or drain');
    } catch (error) {
      excuse(error);
    } finally {
      pool.resume(id);
    }
  }
}

/** Puts another file, or deletes what there is. */
async function change(world: World, key: Key, signal: AbortSignal): Promise<void> {
  const { engine } = world;
  const bytes = random.below(6) === 0 ? undefined : file();
  const durability = random.pick(DURABILITIES);
  const fleetingSince = durability === 'none' ? losses(world) : undefined;
  const next: Version = bytes && { digest: digestOf(bytes), fleetingSince };
  key.allowed = [...key.allowed, next];
  key.history.push(next);
  if (bytes) await engine.put(key.name, bytes, { durability, signal });
  else await engine.cache.delete(TENANT, key.name);
  key.allowed = [next];
}

let files = 0;
/** Like no other, unless it is empty. */
function file(): Uint8Array {
  const size = random.pick(SIZES);
  const data = noise.slice(random.below(noise.length - size)).subarray(0, size);
  if (size > 8) new DataView(data.buffer).setUint32(4, ++files);
  return joinParts(tensorParts([{ name: 'x', dtype: 'U8', shape: [size], data }]));
}

/** Reads a key of its own: what it finds is what stays. */
async function check(world: World, key: Key, signal: AbortSignal): Promise<void> {
  key.allowed = [await readOneOf(world, key, () => key.allowed, signal)];
}

/** Reads a key that somebody else may be changing. */
async function look(world: World, key: Key, signal: AbortSignal): Promise<void> {
  const { allowed, history } = key;
  const known = history.length;
  await readOneOf(world, key, () => [...allowed, ...history.slice(known)], signal);
}

async function readOneOf(world: World, key: Key, versions: () => Version[], signal: AbortSignal): Promise<Version> {
  const found = world.engine.cache.get(TENANT, key.name);
  const bytes = found && (await readAll(found, signal));
  const digest = bytes && digestOf(bytes);
  await soon(); // a lost adapter is counted in the same turn
  const allowed = versions();
  const version = allowed.find((each) => each?.digest === digest);
  if (version || (!bytes && allowed.some(mayBeGone(world)))) return version;
  const told = allowed.map((each) => each?.digest ?? 'nothing').join(' or ');
  assert.fail(`${key.name} holds ${digest ?? 'nothing'}, and should hold ${told}, SEED=${random.seed}`);
}

const mayBeGone = (world: World) => (version: Version) =>
  !version || (version.fleetingSince !== undefined && losses(world) > version.fleetingSince);

/** Bytes into pages, twice over in different ways, and a checksum of what is there. */
async function compute(world: World, adapter?: string, signal = patience()): Promise<void> {
  const { pool } = world.engine;
  const lease = pool.lease({ pageBytes: random.pick(PAGES), ...(adapter === undefined ? {} : { adapter }) });
  try {
    const size = (1 + random.below(3)) * lease.pageBytes;
    if (!lease.grow(size)) return; // others have all of it
    const bytes = noise.slice(random.below(noise.length - size)).subarray(0, size);
    const pages = Array.from({ length: lease.pages }, (_, i): WorkRange => {
      const { binding, byteOffset, byteLength } = lease.range(i);
      return { at: binding, offset: byteOffset, size: byteLength };
    });
    const piece = privatePiece(bytes);
    if (random.below(2) === 0) await lease.write(0, piece, size);
    else await lease.run({ uploads: pages.map((range, i) => ({ piece, from: i * range.size, range })) }, { signal });
    const back = privatePiece(new Uint8Array(size));
    const hash = privatePiece(new Uint8Array(16));
    await lease.run(summed(pages, size, back, hash), { signal });
    assertSameBytes(back.bytes, bytes, 'pages through a kernel');
    assertSameBytes(hash.bytes, new Uint8Array(checksum(bytes).buffer, 0, 16), 'their checksum');
  } finally {
    lease.release();
  }
}

/** Pages to scratch 0, from there level by level between two others; the copy and the checksum come down. */
function summed(pages: readonly WorkRange[], size: number, back: Piece, hash: Piece) {
  const whole: WorkRange = { at: scratch(0), offset: 0, size };
  const levels = checksumSteps(size).map((parameters, i): WorkDispatch => {
    const between = (n: number): WorkRange => ({ at: scratch(1 + (n % 2)), offset: 0, size: 1 << 20 });
    const bindings = { source: i === 0 ? whole : between(i - 1), target: between(i) };
    return { kernel: 'checksum', bindings, parameters: { ...parameters } };
  });
  const copies = pages.map((source, i): WorkDispatch => {
    const target = { at: scratch(0), offset: i * source.size, size: source.size };
    return { kernel: 'copy', bindings: { source, target }, parameters: { words: source.size / 4 } };
  });
  return {
    dispatches: [...copies, ...levels],
    downloads: [
      { piece: back, from: 0, range: whole },
      { piece: hash, from: 0, range: { at: scratch(1 + ((levels.length - 1) % 2)), offset: 0, size: 16 } },
    ],
  };
}

after(() => assert.deepEqual(adapterProcesses(), [], 'a process outlives its pool'));
