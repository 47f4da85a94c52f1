// A command that cannot outlive us. A shell starts it and holds the far end of a socket pair whose near end only this
// process has: when that closes, because we said so or because we died by whatever means, the command is interrupted
// (PostgreSQL's fast shutdown), after 5 s told to quit (its immediate one), after 2 more killed.
//
// Invariant: `exited` resolves, never rejects, and within 8 s of `release()`. The kept output is bounded.
// Not here: what is started, and what to do when it ends. If somebody kills the shell itself, `exited` resolves while
// the command lives on; the next start finds it (bundled-leftover.ts).
import { type ChildProcess, spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';

export interface GuardedProcess {
  /** Says in words how it ended. */
  readonly exited: Promise<string>;
  hasExited(): boolean;
  /** The last lines of its output. */
  tail(): string;
  /** Asks it to end. */
  release(): void;
}

export interface GuardedOptions {
  readonly uid?: number;
  readonly gid?: number;
  readonly env: Readonly<Record<string, string>>;
  readonly onLine?: (line: string) => void;
}

/**
 * A shell starts what it puts in the background with SIGINT ignored, so the first one may come too early: it is repeated.
 * Signals for the whole process group are not for us: who sends them also ends the parent, in its own order.
 * The watching half is killed as soon as the command has ended, and does nothing more once the waiting half ($$) is
 * gone, so that it never signals a number that is used again.
 */
const GUARD = `
trap '' HUP INT TERM
"$@" 3<&- </dev/null &
command=$!
(
  read -r _ <&3
  for second in 1 2 3 4 5; do
    kill -INT $command; sleep 1
    kill -0 $$ || exit
  done
  kill -QUIT $command; sleep 2
  kill -0 $$ && kill -KILL $command
) >/dev/null 2>&1 &
watcher=$!
wait $command
code=$?
kill -KILL $watcher 2>/dev/null
exit $code
`;
const TAIL_LINES_MAX = 40;
const LINE_CHARS_MAX = 500;
/** The last output may come a little after the end; a forgotten grandchild may hold the pipe for ever. */
const LAST_OUTPUT_MS_MAX = 100;

export function spawnGuarded(command: readonly string[], options: GuardedOptions): GuardedProcess {
  const { env, onLine, ...user } = options;
  const lines: string[] = [];
  const keep = (line: string): void => {
    lines.push(line.slice(0, LINE_CHARS_MAX));
    if (lines.length > TAIL_LINES_MAX) lines.shift();
    onLine?.(line.slice(0, LINE_CHARS_MAX));
  };
  let child: ChildProcess;
  try {
    child = spawn('/bin/sh', ['-c', GUARD, 'guard', ...command], {
      ...user,
      env: { ...env },
      cwd: '/',
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
    });
  } catch (cause) {
    const { message } = cause as Error;
    const become =
      user.uid === undefined
        ? '.'
        : ` as uid ${user.uid}. Let this process become it (setuid, setgid) or start as an ordinary user.`;
    throw new Error(`cannot start ${command[0]}: ${message}${become}`, { cause });
  }
  for (const output of [child.stdout, child.stderr]) if (output) eachLine(output, keep);
  const leash = child.stdio[3];
  leash?.on('error', () => undefined);
  const release = (): void => void leash?.destroy();

  let ended = false;
  const closed = new Promise<void>((done) => child.once('close', () => done()));
  const exited = new Promise<string>((done) => {
    child.once('error', (error) => done(error.message));
    child.once('exit', (code, signal) => done(describeExit(code, signal)));
  }).then(async (how) => {
    ended = true;
    release();
    await Promise.race([closed, sleep(LAST_OUTPUT_MS_MAX)]);
    return how;
  });
  return { exited, hasExited: () => ended, tail: () => lines.join('\n'), release };
}

/** A shell reports a signal as 128 + its number. */
function describeExit(code: number | null, signal: string | null): string {
  if (code === null) return `its guard was ended by ${signal}`;
  return code > 128 ? `ended by signal ${code - 128}` : `ended with status ${code}`;
}

/** A line without an end is cut, not collected without limit. */
function eachLine(stream: NodeJS.ReadableStream, take: (line: string) => void): void {
  let rest = '';
  stream.setEncoding('utf8');
  stream.on('data', (chunk: string) => {
    const parts = (rest + chunk).split('\n');
    rest = (parts.pop() ?? '').slice(0, LINE_CHARS_MAX);
    for (const part of parts) if (part !== '') take(part);
  });
  stream.on('end', () => {
    if (rest !== '') take(rest);
  });
}
