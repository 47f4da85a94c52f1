// Real adapter processes for tests: a pool over the software adapter from npm where there is one, and what the system says of its processes.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import type { TestContext } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { candidate } from '../../core/gpu/adapters.ts';
import { NoAdapter, startDevice } from '../../core/gpu/device-link.ts';
import { openPieces, type Piece, type Pieces } from '../../core/gpu/pieces.ts';
import { openPool, type Pool, type PoolOptions } from '../../core/gpu/pool.ts';
import { folder } from './folders.ts';

export type Transport = 'ring' | 'socket';

/** npm carries the software adapter for this platform only; elsewhere the system's own must do. */
export const hasSwiftshader = process.platform === 'linux' && process.arch === 'x64';
export const SOURCE = hasSwiftshader ? 'swiftshader' : 'system';

const PIECES = 16;
const made = new Map<Transport, Promise<Pieces>>();
/** Where the software adapter is unpacked, once for each test file. */
export const driverFolder = folder();

const MANIFESTS = '/usr/share/vulkan/icd.d';

/** Mesa's software driver, where the system has it. */
export function lavapipeManifest(): string | undefined {
  const found = existsSync(MANIFESTS) && readdirSync(MANIFESTS).find((name) => name.startsWith('lvp_icd'));
  return found ? `${MANIFESTS}/${found}` : undefined;
}

/** For two adapters: of different drivers where the system has a second one that Dawn takes, else two processes of one. */
export async function twoSources(): Promise<readonly [string, string]> {
  const manifest = lavapipeManifest();
  return [SOURCE, manifest !== undefined && (await isTaken(manifest)) ? manifest : SOURCE];
}

async function isTaken(source: string): Promise<boolean> {
  try {
    const link = await startDevice({
      ...{ candidate: candidate(source, driverFolder), pieces: await piecesFor('ring'), bindings: 1 },
      ...{ deadlineMs: 20_000, environment: process.env, log: () => {}, signal: new AbortController().signal },
    });
    await link.close();
    return true;
  } catch (error) {
    if (error instanceof NoAdapter) return false;
    throw error;
  }
}

/** One set of pieces for each transport and test file: their memory is never given back. */
export function piecesFor(transport: Transport): Promise<Pieces> {
  const pieces = made.get(transport) ?? openPieces({ count: PIECES, shared: transport === 'ring' });
  made.set(transport, pieces);
  return pieces;
}

/** Every piece, so that others wait; fails where one is missing for good. */
export const takeAll = ({ count, take }: Pieces): Promise<Piece[]> =>
  Promise.all(Array.from({ length: count }, () => take(AbortSignal.timeout(10_000))));

export interface TestPool {
  readonly pool: Pool;
  readonly pieces: Pieces;
  /** Each line that was logged. */
  readonly lines: string[];
  /** The adapters that were lost, in order. */
  readonly lost: string[];
  /** The process of an adapter; throws if it has none now. */
  pid(adapter?: number): number;
}

/** Closed with its test. */
export async function startPool(
  t: TestContext,
  options: Partial<PoolOptions> & { transport?: Transport; onLost?: (adapter: string) => void } = {},
): Promise<TestPool> {
  const pieces = await piecesFor(options.transport ?? 'ring');
  const lines: string[] = [];
  const lost: string[] = [];
  const pool = await openPool({
    adapters: [SOURCE],
    dataDir: driverFolder,
    memoryBytes: 128 << 20,
    deadlineMs: 20_000,
    pieces,
    environment: process.env,
    log: (line) => lines.push(line),
    ...options,
    onLost(adapter) {
      lost.push(adapter);
      options.onLost?.(adapter);
    },
  });
  t.after(() => pool.close());
  return {
    pool,
    pieces,
    lines,
    lost,
    pid(adapter = 0) {
      const { pid } = pool.report()[adapter] ?? {};
      if (pid === undefined) throw new Error(`adapter ${adapter} has no process`);
      return pid;
    },
  };
}

/** What follows the name in /proc/<pid>/stat: state, parent, … */
function statOf(pid: number | string): string[] {
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
  return text.slice(text.lastIndexOf(')') + 2).split(' ');
}

/** Whether the system tells of processes as Linux does. */
export const hasProc = existsSync('/proc/self/stat');

/** Processes of adapters that this process has started and that have not ended; none where there is no /proc. */
export function adapterProcesses(): number[] {
  if (!hasProc) return [];
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        const [state, parent] = statOf(pid);
        if (Number(parent) !== process.pid || state === 'Z') return false;
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('device.ts');
      } catch {
        return false; // gone in between
      }
    })
    .map(Number);
}

/** All that can be given back, is. */
export function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  for (let i = 0; i < 3; i++) collect();
}

export const isAlive = (pid: number): boolean => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};

const TICKS_PER_SECOND = 100;
/** Seconds of processor time that a process has used. */
export const cpuSeconds = (pid: number): number => {
  const fields = statOf(pid);
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
};

/** A line of /proc/<pid>/status that counts kB, in MiB. */
export function statusMiB(pid: number, name: 'VmRSS' | 'VmHWM' | 'RssAnon' | 'RssShmem'): number {
  const line = readFileSync(`/proc/${pid}/status`, 'utf8').match(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm'));
  return Number(line?.[1] ?? Number.NaN) / 1024;
}
