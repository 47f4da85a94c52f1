// The commands for the KV of token sequences that bring it and fetch it: `blatam kv store` and `blatam kv load`.
//
// What is stored is a safetensors file with `tokens`, `k` and `v`. What is loaded is asked for by tokens: a list on the command
// line, a text file of whole numbers, or a safetensors file with `tokens`, so that the file that was stored asks for itself.

import { open } from 'node:fs/promises';
import { kvLoadSchema, kvStoreQuerySchema, readStoreBody, TOKENS_MAX } from '../core/contract/kv.ts';
import { Problem } from '../core/contract/problems.ts';
import { DTYPES, type Layout } from '../core/contract/tensors.ts';
import { type Call, EXIT, type Io, json, type Options, progress, usage } from './cli-call.ts';
import {
  assertFree,
  Failure,
  faultCode,
  openTensorFile,
  readTensorsOf,
  receiveFile,
  receiveStream,
} from './cli-files.ts';
import { counted, kvStoreLine, size } from './cli-words.ts';
import type { ClientKv, KvStoreAnswer, KvStoreOptions } from './client.ts';

/** A million tokens in decimal, and what stands between them. */
const TEXT_BYTES_MAX = 16 * 1024 * 1024;
const LIST = /^-?\d+(,-?\d+)*$/;

interface Stored {
  readonly layout: Layout;
  readonly answer: KvStoreAnswer;
}

export async function kvStore({ connect, words, options, io }: Call): Promise<void> {
  const [path = '-'] = words;
  const storeOptions = storeOptionsOf(options);
  const { kv } = await connect();
  const { layout, answer } =
    path === '-' ? await storeStdin(kv, storeOptions, io) : await storeFile(kv, path, storeOptions, io);
  const { shape, dtype, tokenCount } = readStoreBody(layout);
  const tokenBytes = (2 * shape.layers * shape.kvHeads * shape.dim * DTYPES[dtype]) / 8;
  io.stdout.write(options.json ? json(answer) : `${kvStoreLine(storeOptions.model, tokenCount, tokenBytes, answer)}\n`);
}

async function storeStdin(kv: ClientKv, storeOptions: KvStoreOptions, { stdin }: Io): Promise<Stored> {
  const { bytes, layout } = await readTensorsOf(stdin);
  assertKv('stdin', layout);
  return { layout, answer: await kv.storeBody(bytes, storeOptions) };
}

async function storeFile(kv: ClientKv, path: string, storeOptions: KvStoreOptions, io: Io): Promise<Stored> {
  const file = await openTensorFile(path);
  try {
    const { length, layout } = file;
    assertKv(path, layout);
    const digest = await progress(io, 'hashing', length, (passing) => file.digest(passing));
    const answer = await progress(io, 'sending', length, (passing) =>
      kv.storeBody({ stream: () => file.stream(passing), digest, length }, storeOptions),
    );
    return { layout, answer };
  } finally {
    await file.close();
  }
}

export async function kvLoad({ connect, words, options, io }: Call): Promise<void> {
  const { out: path = '-', force = false } = options;
  if (path.trim() === '') throw usage('--out is empty.');
  if (path === '-' && options.json) throw usage('--json and the tensors would both go to stdout.');
  if (path !== '-') await assertFree(path, force);
  const asked = loadOptionsOf(options, await tokensOf(words[0] ?? ''));
  const { model, tokens } = asked;
  const fetched = await (await connect()).kv.loadBody(asked);
  const given = counted(tokens.length, 'token');
  if (fetched === undefined)
    throw new Failure(`nothing is held of these ${given} for ${model}. Store them: npx blatam kv store`, EXIT.missing);
  const bytes = await progress(io, 'receiving', fetched.length, (passing) =>
    path === '-' ? receiveStream(fetched, io.stdout, io.signal, passing) : receiveFile(fetched, path, force, passing),
  );
  if (path === '-') return;
  const { matchedTokens, dtype, shape } = fetched;
  io.stdout.write(
    options.json
      ? json({ model, file: path, bytes, tokens: tokens.length, matchedTokens, dtype, shape })
      : `loaded ${matchedTokens} of ${given} for ${model}: ${size(bytes)} of ${dtype} into ${path}\n`,
  );
}

// ---- what is asked

/** What was not given is not sent: the defaults are the server's. */
function storeOptionsOf({
  model,
  salt,
  'codec-k': codecK,
  'codec-v': codecV,
  ttl,
  priority,
  rope,
  ...more
}: Options): KvStoreOptions {
  const { 'rope-scale': ropeScale, 'rope-pairs': ropePairs, 'rope-dims': ropeDims } = more;
  const parsed = kvStoreQuerySchema.safeParse({
    model,
    salt,
    codecK,
    codecV,
    ttl,
    priority,
    rope,
    ropeScale,
    ropePairs,
    ropeDims,
  });
  if (parsed.success) {
    const { data } = parsed;
    const kept = { ttl: data.ttl, priority: priority === undefined ? undefined : data.priority };
    return { model: data.model, salt, codecK, codecV, ...kept, rope: data.rope };
  }
  const [issue] = parsed.error.issues;
  throw usage(`--${optionOf(issue?.path[0])}: ${issue?.message}.`);
}

function loadOptionsOf({ model, salt, dtype, 'with-rope': rope }: Options, tokens: Int32Array) {
  const parsed = kvLoadSchema.safeParse({ model, salt, dtype, rope, tokens: [...tokens] });
  if (parsed.success) return { model: parsed.data.model, salt, dtype: parsed.data.dtype, rope, tokens };
  const [issue] = parsed.error.issues;
  if (issue?.path[0] === 'tokens') throw new Failure(`the tokens: ${issue.message}.`);
  throw usage(`--${optionOf(issue?.path[0])}: ${issue?.message}.`);
}

export const optionOf = (name: PropertyKey | undefined): string =>
  String(name).replace(/[A-Z]/, (letter) => `-${letter.toLowerCase()}`);

function assertKv(name: string, layout: Layout): void {
  try {
    readStoreBody(layout);
  } catch (cause) {
    if (!(cause instanceof Problem)) throw cause;
    throw new Failure(`${name} holds no KV of a token sequence. ${cause.message}`, EXIT.failed, { cause });
  }
}

export async function tokensOf(word: string): Promise<Int32Array> {
  if (LIST.test(word)) return numbersOf(word, 'the list');
  const text = await textOf(word);
  return text === undefined ? tokensInside(word) : numbersOf(text, word);
}

/** Undefined where it is no text: of a safetensors file, the header's length has zeros that no text has. */
async function textOf(path: string): Promise<string | undefined> {
  const handle = await open(path).catch((cause) => {
    if (faultCode(cause) !== 'ENOENT') throw cause;
    throw new Failure(`there is no file ${path}, and it is no list of tokens as 1,2,3.`, EXIT.failed, { cause });
  });
  try {
    const found = await handle.stat();
    if (!found.isFile()) throw new Failure(`${path} is no regular file. Name one, or give a list as 1,2,3.`);
    const { bytesRead, buffer } = await handle.read(Buffer.alloc(8), 0, 8, 0);
    if (buffer.subarray(0, bytesRead).includes(0)) return undefined;
    if (found.size > TEXT_BYTES_MAX)
      throw new Failure(`${path} has ${size(found.size)}; a text of tokens has ${size(TEXT_BYTES_MAX)} at most.`);
    return await handle.readFile('utf8');
  } finally {
    await handle.close();
  }
}

async function tokensInside(path: string): Promise<Int32Array> {
  const file = await openTensorFile(path);
  try {
    const tokens = file.layout.tensors.find(({ name }) => name === 'tokens');
    const [count = 0] = tokens?.shape ?? [];
    if (tokens?.dtype !== 'I32' || tokens.shape.length !== 1 || count > TOKENS_MAX)
      throw new Failure(`${path} holds no tensor tokens, I32 [n] of ${TOKENS_MAX} at most.`);
    const bytes = await file.read(tokens);
    return new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  } finally {
    await file.close();
  }
}

/** Whole numbers, with commas, brackets or white space between them. */
function numbersOf(text: string, name: string): Int32Array {
  const numbers = text.split(/[\s,[\]]+/).filter((word) => word !== '');
  const odd = numbers.find((word) => !/^-?\d+$/.test(word) || (Number(word) | 0) !== Number(word));
  if (odd !== undefined)
    throw new Failure(`${name} holds ${JSON.stringify(odd.slice(0, 40))}; tokens are whole numbers of 32 bits.`);
  return Int32Array.from(numbers, Number);
}
