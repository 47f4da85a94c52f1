// What every command of the command line gets, and how it says that it works: its words and options, progress on a terminal,
// JSON on demand, exit codes.

import type { Writable } from 'node:stream';
import { parseArgs } from 'node:util';
import { Failure, faultCode, type Passing } from './cli-files.ts';
import { size } from './cli-words.ts';
import type { Client } from './client.ts';

export interface Io {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly stdin: AsyncIterable<Uint8Array>;
  readonly stdout: Writable;
  readonly stderr: { write(text: string): unknown; readonly isTTY?: boolean };
  /** Ends what is under way. */
  readonly signal: AbortSignal;
}

const OPTIONS = {
  ttl: { type: 'string' },
  priority: { type: 'string' },
  durability: { type: 'string' },
  codec: { type: 'string' },
  model: { type: 'string' },
  salt: { type: 'string' },
  'codec-k': { type: 'string' },
  'codec-v': { type: 'string' },
  rope: { type: 'string' },
  'rope-scale': { type: 'string' },
  'rope-pairs': { type: 'string' },
  'rope-dims': { type: 'string' },
  'with-rope': { type: 'boolean' },
  dtype: { type: 'string' },
  explain: { type: 'boolean' },
  pin: { type: 'string' },
  prefix: { type: 'string' },
  all: { type: 'boolean' },
  after: { type: 'string' },
  out: { type: 'string' },
  strategy: { type: 'string' },
  tenant: { type: 'string' },
  yes: { type: 'boolean' },
  'public-key': { type: 'string' },
  objective: { type: 'string' },
  scopes: { type: 'string' },
  prefixes: { type: 'string' },
  models: { type: 'string' },
  addresses: { type: 'string' },
  overlap: { type: 'string' },
  force: { type: 'boolean' },
  'no-safety': { type: 'boolean' },
  data: { type: 'string' },
  json: { type: 'boolean' },
  url: { type: 'string' },
  'key-file': { type: 'string' },
  help: { type: 'boolean', short: 'h' },
  version: { type: 'boolean' },
} as const;

export type Options = ReturnType<typeof parse>['values'];

export interface Call {
  readonly connect: () => Promise<Client>;
  readonly words: readonly string[];
  readonly options: Options;
  readonly io: Io;
}

export interface Command {
  readonly words: readonly string[];
  readonly wordsMin: number;
  readonly options: readonly string[];
  /** Options that it does not go without. */
  readonly needs?: readonly string[];
  readonly run: (call: Call) => Promise<void>;
}

const PROGRESS_BYTES_MIN = 8 * 1024 * 1024;
const PROGRESS_EVERY_MS = 100;

export const EXIT = { done: 0, failed: 1, usage: 2, missing: 4 } as const;

export const usage = (message: string): Failure => new Failure(`${message} See npx blatam --help.`, EXIT.usage);

export function parse(argv: readonly string[]) {
  try {
    return parseArgs({ args: [...argv], options: OPTIONS, allowPositionals: true });
  } catch (thrown) {
    if (!faultCode(thrown)?.startsWith('ERR_PARSE_ARGS')) throw thrown;
    throw usage(`${(thrown as Error).message.split('. ')[0]?.replace(/\.$/, '')}.`);
  }
}

export const json = (value: unknown): string => `${JSON.stringify(value)}\n`;

/** Runs `work`, with a line on a terminal while many bytes pass. */
export async function progress<T>(
  { stderr, signal }: Io,
  label: string,
  total: number,
  work: (passing: Passing) => Promise<T>,
): Promise<T> {
  if (!stderr.isTTY || total < PROGRESS_BYTES_MIN) return work(() => signal.throwIfAborted());
  let passed = 0;
  let shownAt = Number.NEGATIVE_INFINITY;
  try {
    return await work((bytes) => {
      signal.throwIfAborted();
      passed += bytes;
      if (performance.now() - shownAt < PROGRESS_EVERY_MS) return;
      shownAt = performance.now();
      stderr.write(`\r\x1b[K${label} ${Math.floor((100 * passed) / total)} % of ${size(total)}`);
    });
  } finally {
    stderr.write('\r\x1b[K');
  }
}
