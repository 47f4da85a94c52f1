// The core's end of one adapter process: starts it, speaks frames with it, and says when it is gone.
// What is in flight is bounded (flight.ts), what is beyond waits here. A request that is aborted leaves the line at once; one
// that was sent is called off, and rejects when the process has answered: its piece may be reused from then on, not before.
// A process that hangs is killed (watch.ts). When it ends, by whatever cause, each request fails with `adapter_lost`, its
// arena is lost, and `lost` resolves; this link is then over (pool.ts starts the next).
// Copies of a payload on this side: none where pieces are shared, else none on its way into the socket, and one out of it,
// from the chunk that was received to its place.
import { type ChildProcess, spawn } from 'node:child_process';
import type { Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { type Problem, problem } from '../contract/problems.ts';
import type { Candidate } from './adapters.ts';
import { type Arena, createArena, type Run } from './arena.ts';
import {
  type DeviceHello,
  type DeviceSettings,
  EXIT_NO_ADAPTER,
  type KernelSettings,
  type Refusal,
} from './device-words.ts';
import { createFlight, type Flight, type FlightBounds } from './flight.ts';
import { createFrameReader, decodeJson, encodeHead, encodeTransfer, type Head, INLINE, Op } from './frames.ts';
import { KernelError } from './kernel-choice.ts';
import { PIECE_BYTES, type Piece, type Pieces } from './pieces.ts';
import { createWatch } from './watch.ts';
import { type EncodedWork, encodeWork, padded, type Work } from './work.ts';

const START_MS_MAX = 30_000;
const CLOSE_MS_MAX = 2000;
/** A driver finishes what runs before it lets a device go. */
const RESTART_MS_MAX = 10_000;
const STDERR_CHARS_MAX = 4000;
const FLIGHT: FlightBounds = { framesMax: 256, bytesMax: 64 << 20, lineMax: 65_536 };
/** A run's answer begins with its milliseconds; a refusal has 1000 characters. */
const ANSWER_BYTES_MAX = PIECE_BYTES + (16 << 10);

export interface RequestOptions {
  /** Calls the request off. */
  readonly signal?: AbortSignal | undefined;
}
export interface RunOptions extends RequestOptions {
  /** Tell how long the adapter worked. */
  readonly timed?: boolean;
}
export interface RunReport {
  /** Milliseconds; undefined where it was not asked for, or the adapter has no timestamps. */
  readonly gpuMs: number | undefined;
}

export interface DeviceLink {
  readonly pid: number;
  readonly hello: DeviceHello;
  readonly arena: Arena;
  /** Requests not yet answered, those in line among them. */
  readonly queue: number;
  /** What the process is asked at once: frames, bytes, and who waits in line. */
  readonly flight: Pick<Flight, 'frames' | 'bytes' | 'waiting'>;
  /** Milliseconds with at least one request in flight, since the start. */
  readonly busyMs: number;
  /** Resolves with the reason once the process is gone. */
  readonly lost: Promise<string>;
  /** The first `length` bytes of the piece into the runs; resolves when the piece may be reused. */
  write(piece: Piece, length: number, runs: readonly Run[], options?: RequestOptions): Promise<void>;
  /** The runs into the first bytes of the piece. */
  read(piece: Piece, length: number, runs: readonly Run[], options?: RequestOptions): Promise<void>;
  /** Resolves once the GPU is done; work that is wrong rejects with `kernel_refused`, and costs nobody else anything. */
  run(work: Work, options?: RunOptions): Promise<RunReport>;
  /** Ends the process by way of a lost device, as a driver would; resolves once it is gone. */
  restart(): Promise<void>;
  close(): Promise<void>;
}

export interface LinkOptions extends KernelSettings {
  readonly candidate: Candidate;
  readonly pieces: Pieces;
  readonly bindings: number;
  readonly deadlineMs: number;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly log: (line: string) => void;
  /** Gives up a process that has not greeted yet. */
  readonly signal: AbortSignal;
  readonly flight?: FlightBounds;
}

/** What goes out, and where the answer's bytes belong. */
interface Question {
  readonly op: number;
  readonly parts: readonly Uint8Array[];
  readonly places?: readonly Uint8Array[];
  /** Payload both ways, whether it crosses the socket or not. */
  readonly bytes: number;
}

interface Pending extends Question {
  resolve(): void;
  reject(reason: unknown): void;
}

/** There is no adapter behind this candidate: not a crash, and nothing to make noise about. */
export class NoAdapter extends Error {}

export async function startDevice(options: LinkOptions): Promise<DeviceLink> {
  const { candidate, pieces, log } = options;
  const child = spawnDevice(options);
  const stderr = follow(child, log);
  const ended = new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('exit', (code, signal) => resolve(explain(code, signal, stderr.lastWords())));
  });
  // Where no more files may be open, there is not even a pipe.
  if (!child.stdio) throw new Error(`no process could be started for adapter ${candidate.name}: ${await ended}`);
  const socket = child.stdio[3] as Socket;
  const pending = new Map<number, Pending>();
  /** How those fail that still wait in line. */
  const inLine = new Set<(reason: Problem) => void>();
  const flight = createFlight(options.flight ?? FLIGHT);
  let greeted: (hello: DeviceHello) => void;
  const greeting = new Promise<DeviceHello>((resolve) => {
    greeted = resolve;
  });
  let arena: Arena | undefined;
  let nextId = 1;
  let canary = 0;
  let busySince = 0;
  let busyMs = 0;

  function settle(id: number): Pending | undefined {
    const found = pending.get(id);
    pending.delete(id);
    if (found && pending.size === 0) busyMs += performance.now() - busySince;
    return found;
  }

  const kill = (why: string): void => {
    log(`adapter ${candidate.name} (process ${child.pid}) ${why}; it is killed`);
    child.kill('SIGKILL');
  };
  const watch = createWatch({
    deadlineMs: options.deadlineMs,
    isBusy: () => pending.size > 0,
    sendCanary() {
      canary = takeId();
      send(Op.canary, canary);
    },
    hangs: kill,
  });

  function takeId(): number {
    const id = nextId;
    nextId = nextId === 0xffff_ffff ? 1 : nextId + 1;
    return id;
  }

  function send(op: number, id: number, parts: readonly Uint8Array[] = []): void {
    socket.cork();
    socket.write(
      encodeHead(
        op,
        id,
        parts.reduce((sum, { length }) => sum + length, 0),
      ),
    );
    for (const part of parts) socket.write(part);
    socket.uncork();
  }

  const receive = createFrameReader(
    {
      place: (head) => (head.op === Op.done ? pending.get(head.id)?.places : undefined),
      frame(head: Head, payload: Uint8Array) {
        if (head.op === Op.hello) return greeted(decodeJson(payload) as DeviceHello);
        if (head.id === canary) return watch.sang();
        const request = settle(head.id);
        if (!request) return;
        watch.answered(head.op === Op.done && request.op !== Op.write);
        if (head.op === Op.done) request.resolve();
        else request.reject(refused(request.op, decodeJson(payload) as Refusal));
        flight.leave(request.bytes);
      },
    },
    ANSWER_BYTES_MAX,
  );
  const refused = (op: number, { kind, message }: Refusal): Problem =>
    op === Op.run && kind === 'kernel'
      ? problem('kernel_refused', `Adapter ${candidate.name} cannot run this: ${message}`)
      : problem('adapter_failed', `Adapter ${candidate.name} refused the work: ${message}`);
  socket.on('data', (chunk) => {
    try {
      receive(chunk);
    } catch (error) {
      log(`adapter ${candidate.name} (process ${child.pid}) is killed: ${String(error)}`);
      socket.destroy();
      child.kill('SIGKILL');
    }
  });
  socket.on('error', () => child.kill('SIGKILL'));

  const gone = (reason: string): Problem =>
    problem('adapter_lost', `Adapter ${candidate.name} was lost${reason}. Send the request again.`);
  const lost = ended.then((reason) => {
    watch.stop();
    socket.destroy(); // what it still holds must not land in a piece that is somebody else's by now
    arena?.lose();
    const failure = gone(` (${reason})`);
    for (const fail of [...inLine]) fail(failure);
    for (const id of [...pending.keys()]) settle(id)?.reject(failure);
    return reason;
  });

  /** Sends the question when it is its turn; resolves with the answer. */
  function ask(question: Question, signal: AbortSignal | undefined): Promise<void> {
    if (signal?.aborted) return Promise.reject(signal.reason);
    if (child.exitCode !== null || child.signalCode !== null || !socket.writable) return Promise.reject(gone(''));
    return new Promise((resolve, reject) => {
      let id = 0;
      const end = () => {
        signal?.removeEventListener('abort', onAbort);
        inLine.delete(fail);
      };
      const fail = (reason: unknown) => {
        end();
        // Called off or done all the same: whoever aborted wants no answer, and here it is certain that none comes.
        reject(signal?.aborted ? signal.reason : reason);
      };
      const succeed = () => {
        if (signal?.aborted) return fail(signal.reason);
        end();
        resolve();
      };
      const begin = () => {
        inLine.delete(fail);
        id = takeId();
        if (pending.size === 0) busySince = performance.now();
        pending.set(id, { ...question, resolve: succeed, reject: fail });
        watch.sent();
        send(question.op, id, question.parts);
      };
      const leave = flight.enter(question.bytes, begin);
      if (!leave) return reject(tooMany(candidate.name));
      const onAbort = () => {
        if (leave()) fail(signal?.reason);
        else send(Op.cancel, id);
      };
      if (id === 0) inLine.add(fail);
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }

  const isShared = (piece: Piece): boolean => piece.index >= 0 && pieces.descriptor !== undefined;

  function transfer(op: number, piece: Piece, length: number, runs: readonly Run[]): Question {
    const shared = isShared(piece);
    const head = encodeTransfer({ piece: shared ? piece.index : INLINE, runs });
    if (shared) return { op, parts: [head], bytes: length };
    if (op === Op.write) return { op, parts: [head, padded(piece.bytes, length)], bytes: length };
    return { op, parts: [head], places: [piece.bytes], bytes: length };
  }

  async function run(work: Work, { signal, timed = false }: RunOptions = {}): Promise<RunReport> {
    const { parts, places, bytes } = encoded(work, timed, isShared);
    const clock = new Float64Array(1);
    const answer = [new Uint8Array(clock.buffer), ...places];
    await ask({ op: Op.run, parts, places: answer, bytes }, signal);
    const [ms = Number.NaN] = clock;
    return { gpuMs: Number.isNaN(ms) ? undefined : ms };
  }

  const endWithin = async (ms: number): Promise<void> => {
    const timer = setTimeout(() => child.kill('SIGKILL'), ms);
    await lost;
    clearTimeout(timer);
  };

  const hello = await firstOf(greeting, ended, child, options);
  stderr.speak();
  arena = createArena(hello.bindings);
  return {
    pid: child.pid ?? -1,
    hello,
    arena,
    flight,
    get queue() {
      return pending.size + flight.waiting;
    },
    get busyMs() {
      return busyMs + (pending.size > 0 ? performance.now() - busySince : 0);
    },
    lost,
    write: (piece, length, runs, { signal } = {}) => ask(transfer(Op.write, piece, length, runs), signal),
    read: (piece, length, runs, { signal } = {}) => ask(transfer(Op.read, piece, length, runs), signal),
    run,
    restart() {
      if (socket.writable) send(Op.lose, 0);
      return endWithin(RESTART_MS_MAX);
    },
    close() {
      socket.end();
      return endWithin(CLOSE_MS_MAX);
    },
  };
}

const tooMany = (name: string): Problem =>
  problem('adapter_busy', `Too many requests wait for adapter ${name}. Send the request again later.`);

function encoded(work: Work, timed: boolean, isShared: (piece: Piece) => boolean): EncodedWork {
  try {
    return encodeWork(work, timed, isShared);
  } catch (error) {
    throw error instanceof KernelError ? problem('kernel_refused', error.message) : error;
  }
}

function spawnDevice(o: LinkOptions): ChildProcess {
  const { descriptor, count } = o.pieces;
  const { loader, adapter } = o.candidate;
  const settings: DeviceSettings = {
    bindings: o.bindings,
    pieces: descriptor === undefined ? 0 : count,
    robustness: o.robustness ?? true,
    warm: o.warm ?? [],
    ...(loader ? { loader } : {}),
    ...(adapter ? { name: adapter } : {}),
  };
  return spawn(process.execPath, [fileURLToPath(new URL('./device.ts', import.meta.url)), JSON.stringify(settings)], {
    stdio: ['ignore', 'ignore', 'pipe', 'pipe', ...(descriptor === undefined ? [] : [descriptor])],
    // Huge pages: a software adapter's memory is made at once instead of page by page.
    env: { GLIBC_TUNABLES: 'glibc.malloc.hugetlb=1', ...o.environment, ...o.candidate.environment },
  });
}

/** How runtimes begin the line that matters; a stack and Node's version come behind it. */
const LAST_WORDS = /^(?:\w*Error\b|fatal\b|# Fatal\b)/i;

/** The child's own words: into the log once it is up (a search may fail loudly and rightly), the last ones kept always. */
function follow(child: ChildProcess, log: (line: string) => void): { speak(): void; lastWords(): string } {
  let tail = '';
  let speaking = false;
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    tail = (tail + text).slice(-STDERR_CHARS_MAX);
    if (!speaking) return;
    for (const line of text.split('\n')) if (line.trim()) log(`adapter process ${child.pid}: ${line.slice(0, 500)}`);
  });
  return {
    speak() {
      speaking = true;
    },
    lastWords() {
      const lines = tail.trim().split('\n');
      return (lines.findLast((line) => LAST_WORDS.test(line)) ?? lines.at(-1) ?? '').trim();
    },
  };
}

const NO_ADAPTER = 'no adapter';

function explain(code: number | null, signal: string | null, lastWords: string): string {
  if (code === EXIT_NO_ADAPTER) return `${NO_ADAPTER}${lastWords ? ` (${lastWords})` : ''}`;
  return `${signal ?? `exit ${code}`}${lastWords ? `: ${lastWords}` : ''}`;
}

/** The greeting, or why there is none: the process ended first, or took too long. */
async function firstOf(
  greeting: Promise<DeviceHello>,
  ended: Promise<string>,
  child: ChildProcess,
  { candidate, signal }: LinkOptions,
): Promise<DeviceHello> {
  const giveUp = () => child.kill('SIGKILL');
  const timer = setTimeout(giveUp, START_MS_MAX);
  signal.addEventListener('abort', giveUp);
  if (signal.aborted) giveUp();
  try {
    return await Promise.race([
      greeting,
      ended.then((reason) => {
        if (reason.startsWith(NO_ADAPTER)) throw new NoAdapter(`${candidate.name} offers ${reason}`);
        throw new Error(`the process of adapter ${candidate.name} ended before it was ready (${reason})`);
      }),
    ]);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', giveUp);
  }
}
