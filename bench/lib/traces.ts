// Traces of requests, for the cache's benchmark: files as they are published, told by their names (made ones: made-traces.ts).
// NAME.u32(.gz): a little-endian u32 for each request's key, keys numbered by first use; NAME.sizes.u32(.gz) beside it:
// the request's bytes (a key's first counts); NAME.jsonl(.gz): a request a line, `hash_ids` its chained blocks.
import { existsSync, readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { gunzipSync } from 'node:zlib';

export interface Trace {
  readonly name: string;
  readonly keys: Uint32Array;
  /** By key; undefined where all are alike. */
  readonly bytes: Float64Array | undefined;
  /** How many keys there are. */
  readonly distinct: number;
  /** Where requests begin, if each is a chain of keys: those behind the first that is missing are no hits. */
  readonly chains: Uint32Array | undefined;
}

const FORMAT = /(?:\.(u32|jsonl))(?:\.gz)?$/;

export function readTrace(path: string): Trace {
  const format = FORMAT.exec(path)?.[1];
  if (!format) throw new Error(`${path} is no trace by its name: it should end in .u32, .u32.gz, .jsonl or .jsonl.gz`);
  const name = basename(path).replace(FORMAT, '');
  return format === 'jsonl' ? readChains(name, path) : readKeys(name, path);
}

function readKeys(name: string, path: string): Trace {
  const keys = readWords(path);
  const besides = path.replace(/\.u32(\.gz)?$/, '.sizes.u32');
  const sizes = [besides, `${besides}.gz`].find((file) => existsSync(file));
  return traceOf(name, keys, sizes === undefined ? undefined : readWords(sizes));
}

function readChains(name: string, path: string): Trace {
  const keys: number[] = [];
  const chains: number[] = [];
  for (const line of readFile(path).toString('utf8').split('\n')) {
    if (line.trim() === '') continue;
    const { hash_ids } = JSON.parse(line) as { hash_ids?: number[] };
    if (!hash_ids) throw new Error(`a line of ${path} has no hash_ids: ${line.slice(0, 100)}`);
    chains.push(keys.length);
    for (const id of hash_ids) keys.push(id);
  }
  return { ...traceOf(name, Uint32Array.from(keys)), chains: Uint32Array.from(chains) };
}

/** Keys are numbered anew by first use; sizes are one for each request. */
export function traceOf(name: string, given: Uint32Array, sizes?: Uint32Array): Trace {
  if (sizes && sizes.length !== given.length)
    throw new Error(`${name} has ${given.length} requests and ${sizes.length} sizes`);
  const numbers = new Map<number, number>();
  const bytes: number[] = [];
  const keys = given.map((key, i) => {
    const known = numbers.get(key);
    if (known !== undefined) return known;
    numbers.set(key, bytes.length);
    return bytes.push(Math.max(1, sizes?.[i] ?? 1)) - 1;
  });
  const own = sizes ? Float64Array.from(bytes) : undefined;
  return { name, keys, bytes: own, distinct: bytes.length, chains: undefined };
}

const readFile = (path: string): Buffer => {
  const file = readFileSync(path);
  return path.endsWith('.gz') ? gunzipSync(file) : file;
};

function readWords(path: string): Uint32Array {
  const file = readFile(path);
  if (file.length % 4 !== 0) throw new Error(`${path} is ${file.length} bytes long, no whole number of u32`);
  return new Uint32Array(file.length / 4).map((_, i) => file.readUInt32LE(4 * i));
}
