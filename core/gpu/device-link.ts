// The core's end of one adapter process: starts it, speaks frames with it, and says when it is gone.
// A process that has work and answers nothing for the length of a deadline hangs, and is killed. When it ends, by whatever
// cause, each waiting request fails with `adapter_lost`, its arena is lost, and `lost` resolves; this link is then over
// (pool.ts starts the next). Copies of a payload on this side: none where pieces are shared, else one into the socket or
// out of it.
import { type ChildProcess, spawn } from 'node:child_process';
import type { Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { type Problem, problem } from '../contract/problems.ts';
import type { Candidate } from './adapters.ts';
import { type Arena, createArena, type Run } from './arena.ts';
import { type DeviceHello, type DeviceSettings, EXIT_NO_ADAPTER } from './device-words.ts';
import { createFrameReader, decodeJson, encodeHead, encodeTransfer, type Head, INLINE, Op } from './frames.ts';
import { PIECE_BYTES, type Piece, type Pieces } from './pieces.ts';

const START_MS_MAX = 30_000;
const WATCH_MS = 500;
const STDERR_CHARS_MAX = 4000;

export interface DeviceLink {
  readonly pid: number;
  readonly hello: DeviceHello;
  readonly arena: Arena;
  /** Requests not yet answered. */
  readonly queue: number;
  /** Milliseconds with at least one request pending, since the start. */
  readonly busyMs: number;
  /** Resolves with the reason once the process is gone. */
  readonly lost: Promise<string>;
  /** The first `length` bytes of the piece into the runs; resolves when the piece may be reused. */
  write(piece: Piece, length: number, runs: readonly Run[]): Promise<void>;
  /** The runs into the first bytes of the piece. */
  read(piece: Piece, length: number, runs: readonly Run[]): Promise<void>;
  close(): Promise<void>;
}

export interface LinkOptions {
  readonly candidate: Candidate;
  readonly pieces: Pieces;
  readonly bindings: number;
  readonly deadlineMs: number;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly log: (line: string) => void;
  /** Gives up a process that has not greeted yet. */
  readonly signal: AbortSignal;
}

interface Pending {
  readonly since: number;
  /** Where the bytes belong that an answer brings inline. */
  readonly place: Uint8Array | undefined;
  resolve(): void;
  reject(reason: Problem): void;
}

/** There is no adapter behind this candidate: not a crash, and nothing to make noise about. */
export class NoAdapter extends Error {}

export async function startDevice(options: LinkOptions): Promise<DeviceLink> {
  const child = spawnDevice(options);
  const stderr = follow(child, options.log);
  const ended = new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('exit', (code, signal) => resolve(explain(code, signal, stderr.lastWords())));
  });
  // Where no more files may be open, there is not even a pipe.
  if (!child.stdio)
    throw new Error(`no process could be started for adapter ${options.candidate.name}: ${await ended}`);
  const socket = child.stdio[3] as Socket;
  const pending = new Map<number, Pending>();
  let greeted: (hello: DeviceHello) => void;
  const greeting = new Promise<DeviceHello>((resolve) => {
    greeted = resolve;
  });
  let arena: Arena | undefined;
  let nextId = 1;
  let busySince = 0;
  let busyMs = 0;
  /** A long queue is no hang: what counts is that nothing at all is answered. */
  let answeredAt = 0;

  function settle(id: number): Pending | undefined {
    const found = pending.get(id);
    pending.delete(id);
    if (found && pending.size === 0) busyMs += performance.now() - busySince;
    return found;
  }
  const receive = createFrameReader(
    {
      place: (head) => (head.op === Op.done ? pending.get(head.id)?.place : undefined),
      frame(head: Head, payload: Uint8Array) {
        if (head.op === Op.hello) return greeted(decodeJson(payload) as DeviceHello);
        const request = settle(head.id);
        answeredAt = performance.now();
        if (head.op === Op.done) return request?.resolve();
        const { message } = decodeJson(payload) as { message: string };
        request?.reject(problem('adapter_failed', `Adapter ${options.candidate.name} refused the work: ${message}`));
      },
    },
    PIECE_BYTES,
  );
  socket.on('data', (chunk) => {
    try {
      receive(chunk);
    } catch (error) {
      options.log(`adapter ${options.candidate.name} (process ${child.pid}) is killed: ${String(error)}`);
      socket.destroy();
      child.kill('SIGKILL');
    }
  });
  socket.on('error', () => child.kill('SIGKILL'));

  const watch = setInterval(() => {
    const [oldest] = pending.values();
    if (!oldest || performance.now() - Math.max(oldest.since, answeredAt) < options.deadlineMs) return;
    options.log(
      `adapter ${options.candidate.name} (process ${child.pid}) has not answered in ${options.deadlineMs} ms; it is killed`,
    );
    child.kill('SIGKILL');
  }, WATCH_MS).unref();

  const lost = ended.then((reason) => {
    clearInterval(watch);
    socket.destroy(); // what it still holds must not land in a piece that is somebody else's by now
    arena?.lose();
    for (const id of [...pending.keys()])
      settle(id)?.reject(
        problem('adapter_lost', `Adapter ${options.candidate.name} was lost (${reason}). Send the request again.`),
      );
    return reason;
  });

  function ask(op: number, piece: Piece, length: number, runs: readonly Run[]): Promise<void> {
    if (child.exitCode !== null || child.signalCode !== null || !socket.writable)
      return Promise.reject(
        problem('adapter_lost', `Adapter ${options.candidate.name} was lost. Send the request again.`),
      );
    const shared = piece.index >= 0 && options.pieces.descriptor !== undefined;
    const transfer = encodeTransfer({ piece: shared ? piece.index : INLINE, runs });
    const inline = op === Op.write && !shared ? padded(piece.bytes, length) : undefined;
    const id = nextId;
    nextId = nextId === 0xffff_ffff ? 1 : nextId + 1;
    if (pending.size === 0) busySince = performance.now();
    return new Promise((resolve, reject) => {
      const place = op === Op.read && !shared ? piece.bytes : undefined;
      pending.set(id, { since: performance.now(), place, resolve, reject });
      socket.cork();
      socket.write(encodeHead(op, id, transfer.length + (inline?.length ?? 0)));
      socket.write(transfer);
      if (inline) socket.write(inline);
      socket.uncork();
    });
  }

  const hello = await firstOf(greeting, ended, child, options);
  stderr.speak();
  arena = createArena(hello.bindings);
  return {
    pid: child.pid ?? -1,
    hello,
    arena,
    get queue() {
      return pending.size;
    },
    get busyMs() {
      return busyMs + (pending.size > 0 ? performance.now() - busySince : 0);
    },
    lost,
    write: (piece, length, runs) => ask(Op.write, piece, length, runs),
    read: (piece, length, runs) => ask(Op.read, piece, length, runs),
    async close() {
      socket.end();
      const timer = setTimeout(() => child.kill('SIGKILL'), 2000);
      await lost;
      clearTimeout(timer);
    },
  };
}

function spawnDevice(o: LinkOptions): ChildProcess {
  const { descriptor, count } = o.pieces;
  const { loader } = o.candidate;
  const settings: DeviceSettings = {
    bindings: o.bindings,
    pieces: descriptor === undefined ? 0 : count,
    ...(loader ? { loader } : {}),
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

function explain(code: number | null, signal: string | null, lastWords: string): string {
  if (code === EXIT_NO_ADAPTER) return 'no adapter';
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
        if (reason === 'no adapter') throw new NoAdapter(`${candidate.name} offers no adapter`);
        throw new Error(`the process of adapter ${candidate.name} ended before it was ready (${reason})`);
      }),
    ]);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', giveUp);
  }
}

/** A GPU copies whole words: up to three bytes more, which nobody reads back. */
function padded(bytes: Uint8Array, length: number): Uint8Array {
  const rounded = (length + 3) & ~3;
  if (rounded <= bytes.length) return bytes.subarray(0, rounded);
  const copy = new Uint8Array(rounded);
  copy.set(bytes.subarray(0, length));
  return copy;
}
