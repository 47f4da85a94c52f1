// A server to be measured: started with a folder of its own in the temporary folder, ready once it says so, stopped by its
// process id, the folder gone with it. `closeChildren` is for whoever is interrupted.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const READY_MS_MAX = 60_000;
const STOP_MS_MAX = 12_000;
const OUTPUT_CHARS_MAX = 20_000;

export interface Child {
  readonly pid: number;
  readonly folder: string;
  /** What it had written when it was ready. */
  readonly output: string;
  close(): Promise<void>;
}

export interface ChildOptions {
  readonly name: string;
  readonly command: string;
  readonly words: (folder: string) => readonly string[];
  readonly environment: (folder: string) => Readonly<Record<string, string | undefined>>;
  /** What its standard output says once it serves. */
  readonly ready: RegExp;
}

const running = new Set<Child>();

export async function startChild(options: ChildOptions): Promise<Child> {
  const folder = mkdtempSync(join(realpathSync(tmpdir()), `blatam-bench-${options.name}-`));
  const child = spawn(options.command, options.words(folder), {
    env: options.environment(folder),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const close = async () => {
    await stop(child);
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  };
  try {
    const output = await untilReady(child, options);
    const started: Child = {
      pid: child.pid ?? -1,
      folder,
      output,
      async close() {
        running.delete(started);
        await close();
      },
    };
    running.add(started);
    return started;
  } catch (error) {
    await close();
    throw error;
  }
}

export async function closeChildren(): Promise<void> {
  await Promise.all([...running].map((child) => child.close()));
}

function untilReady(child: ChildProcess, { name, ready }: ChildOptions): Promise<string> {
  let output = '';
  return new Promise((resolve, reject) => {
    const fail = (why: string) => reject(new Error(`${name} ${why}. It said:\n${output.trim() || '(nothing)'}`));
    const timer = setTimeout(() => fail(`was not ready in ${READY_MS_MAX} ms`), READY_MS_MAX);
    const listen = (text: string) => {
      output = (output + text).slice(-OUTPUT_CHARS_MAX);
      if (!ready.test(output)) return;
      clearTimeout(timer);
      resolve(output);
    };
    child.stdout?.setEncoding('utf8').on('data', listen);
    child.stderr?.setEncoding('utf8').on('data', listen);
    child.once('error', (error) => fail(`could not be started: ${error.message}`));
    child.once('exit', (code, signal) => {
      clearTimeout(timer);
      fail(`ended (${signal ?? `exit ${code}`}) before it was ready`);
    });
  });
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MS_MAX);
  child.kill('SIGTERM');
  await gone;
  clearTimeout(timer);
}
