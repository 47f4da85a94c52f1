#!/usr/bin/env node
// The command line: `blatam put | get | ls | rm | stats | adapters | kv … | keys … | backup …`, over the client.
//
// Answers go to stdout, everything else to stderr; an error is one line that says what was tried, what was found and what
// to do. Exit codes: 0 done, 1 refused or failed, 2 used wrongly, 4 not held. `main` takes all of its surroundings
// and never throws; only what stands below it at the end touches the process. An interrupt ends what is under way, removes
// the file that was half received, and then ends the process as the interrupt would have.

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { keySchema, putQuerySchema } from '../core/contract/messages.ts';
import { backupCreate, backupDrill, backupList, backupRestore, backupVerify } from './cli-backup.ts';
import { cachePolicy } from './cli-cache.ts';
import { type Call, type Command, EXIT, type Io, json, type Options, parse, progress, usage } from './cli-call.ts';
import { erase } from './cli-erase.ts';
import {
  assertFree,
  Failure,
  faultCode,
  openTensorFile,
  readTensorsOf,
  receiveFile,
  receiveStream,
  writeTo,
} from './cli-files.ts';
import { audit, keysCreate, keysList, keysRevoke, keysRotate } from './cli-keys.ts';
import { kvLoad, kvStore } from './cli-kv.ts';
import { kvClear, kvEvents, kvLookup, kvPin, kvUnpin } from './cli-kv-calls.ts';
import { isOffline, runOffline } from './cli-offline.ts';
import { adapterRows, entryRows, HELP, plain, putLine, size, statsRows } from './cli-words.ts';
import { BlatamError, type Client, createClient, type PutOptions, type TensorEntry, TransferError } from './client.ts';

const COMMANDS: Readonly<Record<string, Command>> = {
  put: { words: ['KEY', 'FILE'], wordsMin: 2, options: ['ttl', 'priority', 'durability', 'codec'], run: put },
  get: { words: ['KEY', 'FILE'], wordsMin: 1, options: ['force'], run: get },
  ls: { words: ['PREFIX'], wordsMin: 0, options: [], run: ls },
  rm: { words: ['KEY'], wordsMin: 1, options: [], run: rm },
  stats: { words: [], wordsMin: 0, options: [], run: stats },
  adapters: { words: [], wordsMin: 0, options: [], run: adapters },
  'cache stats': { words: [], wordsMin: 0, options: [], run: stats },
  'cache policy': { words: [], wordsMin: 0, options: ['strategy', 'objective'], run: cachePolicy },
  'backup create': { words: [], wordsMin: 0, options: [], run: backupCreate },
  'backup list': { words: [], wordsMin: 0, options: [], run: backupList },
  'backup verify': { words: ['ID'], wordsMin: 1, options: [], run: backupVerify },
  'backup drill': { words: ['ID'], wordsMin: 0, options: [], run: backupDrill },
  'backup restore': { words: ['ID'], wordsMin: 1, options: ['yes', 'no-safety', 'data'], run: backupRestore },
  erase: {
    ...{ words: ['verify', 'RECEIPT'], wordsMin: 0, run: erase },
    options: ['tenant', 'model', 'salt', 'prefix', 'yes', 'out', 'force', 'public-key'],
  },
  'kv store': {
    ...{ words: ['FILE'], wordsMin: 1, run: kvStore },
    options: [
      ...['model', 'salt', 'codec-k', 'codec-v', 'ttl', 'priority'],
      ...['rope', 'rope-scale', 'rope-pairs', 'rope-dims'],
    ],
    needs: ['model'],
  },
  'kv load': {
    ...{ words: ['TOKENS'], wordsMin: 1, run: kvLoad },
    ...{ options: ['model', 'salt', 'dtype', 'with-rope', 'out', 'force'], needs: ['model', 'out'] },
  },
  'kv lookup': {
    ...{ words: ['TOKENS'], wordsMin: 1, run: kvLookup },
    ...{ options: ['model', 'salt', 'explain'], needs: ['model'] },
  },
  'kv pin': {
    ...{ words: ['TOKENS'], wordsMin: 1, run: kvPin },
    ...{ options: ['model', 'salt', 'ttl'], needs: ['model', 'ttl'] },
  },
  'kv unpin': { words: ['TOKENS'], wordsMin: 0, options: ['model', 'salt', 'pin'], run: kvUnpin },
  'kv clear': { words: [], wordsMin: 0, options: ['model', 'salt', 'prefix', 'all'], run: kvClear },
  'kv events': { words: [], wordsMin: 0, options: ['after'], run: kvEvents },
  'keys create': {
    ...{ words: ['NAME'], wordsMin: 1, run: keysCreate, needs: ['scopes'] },
    options: ['scopes', 'tenant', 'ttl', 'prefixes', 'models', 'addresses', 'out', 'force'],
  },
  'keys list': { words: [], wordsMin: 0, options: ['tenant'], run: keysList },
  'keys rotate': { words: ['KEYID'], wordsMin: 1, options: ['overlap', 'out', 'force'], run: keysRotate },
  'keys revoke': { words: ['KEYID'], wordsMin: 1, options: [], run: keysRevoke },
  audit: { words: [], wordsMin: 0, options: ['after'], run: audit },
};
const EVERYWHERE = ['url', 'key-file', 'json'];
const URL_DEFAULT = 'http://127.0.0.1:8000';
const ROWS_AT_ONCE = 1000;

export async function main(argv: readonly string[], io: Io): Promise<number> {
  let tried = '';
  let keyFile = '';
  try {
    const [program, ...rest] = argv;
    if (isOffline(program)) return await runOffline(program, rest, io.env);
    const { values: options, positionals } = parse(argv);
    if (options.help) return say(io, HELP);
    if (options.version) return say(io, `${await version()}\n`);
    const { name, command, words } = commandOf(positionals, options);
    tried = [name, words[0]].filter((word) => word).join(' ');
    keyFile = keyFileOf(options, io);
    await command.run({ connect: () => connect(keyFile, options, io), words, options, io });
    return EXIT.done;
  } catch (thrown) {
    const line = io.signal.aborted ? 'interrupted.' : explain(thrown, keyFile);
    io.stderr.write(`${['blatam', tried, line].filter((part) => part).join(': ')}\n`);
    return thrown instanceof Failure ? thrown.exitCode : EXIT.failed;
  }
}

function say(io: Io, text: string): number {
  io.stdout.write(text);
  return EXIT.done;
}

async function version(): Promise<string> {
  const text = await readFile(new URL('../package.json', import.meta.url), 'utf8');
  return `blatam ${(JSON.parse(text) as { version: string }).version}`;
}

// ---- what is asked

function commandOf(positionals: readonly string[], options: Options) {
  const names = Object.keys(COMMANDS);
  const [first, second] = positionals;
  if (first === undefined) throw usage(`Name a command: ${names.join(', ')}.`);
  const group = names.filter((each) => each.startsWith(`${first} `)).map((each) => each.slice(first.length + 1));
  if (group.length > 0 && second === undefined) throw usage(`${first} needs one of ${group.join(', ')}.`);
  const name = group.length > 0 ? `${first} ${second}` : first;
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (command === undefined) throw usage(`There is no command ${name}; there are ${names.join(', ')}.`);
  const words = positionals.slice(group.length > 0 ? 2 : 1);
  assertFits(name, command, words, options);
  return { name, command, words };
}

function assertFits(name: string, command: Command, words: readonly string[], options: Options): void {
  if (words.length < command.wordsMin) throw usage(`${name} needs ${command.words.slice(words.length).join(' and ')}.`);
  if (words.length > command.words.length)
    throw usage(`${name} takes nothing ${command.words.length > 0 ? `after ${command.words.at(-1)}` : 'more'}.`);
  for (const option of Object.keys(options))
    if (![...EVERYWHERE, ...command.options].includes(option)) throw usage(`${name} takes no --${option}.`);
  for (const needed of command.needs ?? [])
    if (!Object.hasOwn(options, needed)) throw usage(`${name} needs --${needed}.`);
}

const keyFileOf = (options: Options, { env }: Io): string =>
  options['key-file'] || env.BLATAM_KEY_FILE || join(env.DATA_DIR || './data', 'admin-key.json');

async function connect(keyFile: string, options: Options, io: Io): Promise<Client> {
  const key = await readKey(keyFile);
  try {
    return createClient({ url: options.url || io.env.BLATAM_URL || URL_DEFAULT, ...key, signal: io.signal });
  } catch (thrown) {
    if (thrown instanceof RangeError) throw usage(thrown.message);
    throw thrown;
  }
}

async function readKey(path: string): Promise<{ keyid: string; secret: string }> {
  const text = await readFile(path, 'utf8').catch((cause) => {
    const found =
      faultCode(cause) === 'ENOENT' ? 'there is no key file' : `${faultCode(cause)}: cannot read the key file`;
    const todo = 'Start the server first (npm start), or name one with --key-file or BLATAM_KEY_FILE.';
    throw new Failure(`${found} ${path}. ${todo}`, EXIT.failed, { cause });
  });
  try {
    const { keyid, secret } = JSON.parse(text);
    if (typeof keyid === 'string' && typeof secret === 'string') return { keyid, secret };
  } catch {} // not JSON: no key file either
  throw new Failure(`${path} is no key file: it has no keyid and secret. Name another with --key-file.`);
}

function keyOf(words: readonly string[]): string {
  const parsed = keySchema.safeParse(words[0]);
  if (parsed.success) return parsed.data;
  throw usage(`The key is malformed: ${parsed.error.issues[0]?.message}.`);
}

function putOptionsOf({ ttl, priority, durability, codec }: Options): PutOptions {
  const given = Object.entries({ ttl, priority, durability, codec }).filter(([, value]) => value !== undefined);
  const names = new Set(given.map(([name]) => name));
  for (const [name, value] of given) if (value?.trim() === '') throw usage(`--${name} is empty.`);
  const parsed = putQuerySchema.safeParse(Object.fromEntries(given));
  // What was not given is not sent: the defaults are the server's.
  if (parsed.success) return Object.fromEntries(Object.entries(parsed.data).filter(([name]) => names.has(name)));
  const [issue] = parsed.error.issues;
  throw usage(`--${issue?.path.join('.')}: ${issue?.message}.`);
}

// ---- the commands

async function put({ connect, words, options, io }: Call): Promise<void> {
  const key = keyOf(words);
  const path = words[1] ?? '-';
  const putOptions = putOptionsOf(options);
  const client = await connect();
  const answer =
    path === '-'
      ? await client.put(key, (await readTensorsOf(io.stdin)).bytes, putOptions)
      : await putFile(client, key, path, putOptions, io);
  io.stdout.write(options.json ? json(answer) : `${putLine(key, answer)}\n`);
}

async function putFile(client: Client, key: string, path: string, putOptions: PutOptions, io: Io) {
  const file = await openTensorFile(path);
  try {
    const { length } = file;
    const digest = await progress(io, 'hashing', length, (passing) => file.digest(passing));
    return await progress(io, 'sending', length, (passing) =>
      client.put(key, { stream: () => file.stream(passing), digest, length }, putOptions),
    );
  } finally {
    await file.close();
  }
}

async function get({ connect, words, options, io }: Call): Promise<void> {
  const key = keyOf(words);
  const path = words[1] ?? fileNameOf(key);
  const { force = false } = options;
  if (path === '-' && options.json) throw usage('--json and the tensors would both go to stdout.');
  if (path !== '-') await assertFree(path, force);
  const fetched = await (await connect()).get(key);
  if (fetched === undefined) throw missing(key);
  const bytes = await progress(io, 'receiving', fetched.length ?? 0, (passing) =>
    path === '-' ? receiveStream(fetched, io.stdout, io.signal, passing) : receiveFile(fetched, path, force, passing),
  );
  if (path === '-') return;
  const { etag: digest, cache } = fetched;
  io.stdout.write(
    options.json ? json({ key, file: path, bytes, digest, cache }) : `fetched ${key}: ${size(bytes)} into ${path}\n`,
  );
}

const fileNameOf = (key: string): string =>
  `${key
    .split('/')
    .at(-1)
    ?.replace(/\.safetensors$/, '')}.safetensors`;

async function ls({ connect, words, options, io }: Call): Promise<void> {
  const [prefix = ''] = words;
  let count = 0;
  let page: TensorEntry[] = [];
  const show = async () => {
    await writeTo(io.stdout, options.json ? page.map(json).join('') : entryRows(page), io.signal);
    page = [];
  };
  for await (const entry of (await connect()).listAll(prefix)) {
    count += 1;
    if (page.push(entry) === ROWS_AT_ONCE) await show();
  }
  if (page.length > 0) await show();
  if (count === 0 && !options.json) io.stderr.write(`nothing is held${prefix && ` under ${prefix}`}\n`);
}

async function rm({ connect, words, options, io }: Call): Promise<void> {
  const key = keyOf(words);
  if (!(await (await connect()).delete(key))) throw missing(key);
  io.stdout.write(options.json ? json({ key, deleted: true }) : `removed ${key}\n`);
}

async function stats({ connect, options, io }: Call): Promise<void> {
  const found = await (await connect()).stats();
  io.stdout.write(options.json ? json(found) : statsRows(found));
}

async function adapters({ connect, options, io }: Call): Promise<void> {
  const found = await (await connect()).adapters();
  if (options.json) io.stdout.write(json({ adapters: found }));
  else if (found.length > 0) io.stdout.write(adapterRows(found));
  else io.stderr.write('there are no adapters\n');
}

const missing = (key: string): Failure =>
  new Failure(`there is no tensor ${key}. See what is held: npx blatam ls`, EXIT.missing);

// ---- what went wrong

const HINTS: Readonly<Record<string, (keyFile: string) => string>> = {
  signature_invalid: (keyFile) => ` Is ${keyFile} a key of this server? See --key-file.`,
  signature_stale: () => " Set this machine's clock.",
  digest_mismatch: () => ' Did the file change meanwhile? Try again.',
};

function explain(thrown: unknown, keyFile: string): string {
  if (thrown instanceof Failure) return plain(thrown.message);
  if (thrown instanceof BlatamError) {
    const { status, code, detail, requestId } = thrown;
    const request = requestId === undefined ? '' : ` (request ${requestId})`;
    return plain(`refused with ${status} ${code}: ${detail}${HINTS[code]?.(keyFile) ?? ''}${request}`);
  }
  if (thrown instanceof TransferError) return plain(`${thrown.message}${adviceOn(thrown)}`);
  if (thrown instanceof Error && 'syscall' in thrown) return plain(thrown.message); // the system's own words
  return `this is a fault of blatam itself: ${thrown instanceof Error ? thrown.stack : thrown}`;
}

function adviceOn({ fault }: TransferError): string {
  if (fault === 'unreachable') return ' Is it running? Start it with npm start, or name another with --url.';
  if (fault === 'damaged') return ' Try again; if it stays so, what the server holds is damaged.';
  return fault === 'unreadable' ? '' : ' Try again.';
}

// ---- the process

function interruptible(): AbortSignal {
  const controller = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const)
    process.once(name, () => {
      controller.abort();
      process.stdin.destroy();
      process.once('exit', () => process.kill(process.pid, name));
    });
  return controller.signal;
}

if (import.meta.main) {
  process.stdout.on('error', (error) => {
    if (faultCode(error) === 'EPIPE') process.exit(EXIT.done); // whoever reads has enough
    throw error;
  });
  const { env, stdin, stdout, stderr } = process;
  process.exitCode = await main(process.argv.slice(2), { env, stdin, stdout, stderr, signal: interruptible() });
}
