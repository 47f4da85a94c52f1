// What was on adapters when this stopped, so that it comes back there first: a small file with the keys in the order of their last
// use, the latest first, written every minute and at the end, and read once after the start. It holds names, no tensors; a file
// that is not there, cannot be read or is not whole is none. What it names is brought back in the background (bring.ts), a few at a
// time, up to a share of the adapters' memory and only into free room; the rest stays where it is. Its order is that of recency again.
import { readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { z } from 'zod';
import { parseJson } from '../contract/json.ts';
import { pageBytesFor, pagesFor } from '../gpu/pages.ts';
import { type Bring, isAbsent } from './bring.ts';
import type { Entry } from './entry.ts';

const EVERY_MS = 60_000;
const ABREAST = 4;
const KEYS_MAX = 10_000;
const FILE_BYTES_MAX = 16 << 20;
/** How often one entry waits for others who need the pieces, and how long each time. */
const PATIENCE = 100;
const PAUSE_MS = 100;

const fileSchema = z.object({ format: z.literal(1), latest: z.array(z.tuple([z.string(), z.string()])).max(KEYS_MAX) });

export interface HeatOptions {
  readonly path: string;
  /** Of what is brought back, in bytes of pages. */
  readonly bytesMax: number;
  /** With pages, least recently used first. */
  readonly hot: () => readonly Entry[];
  readonly find: (tenant: string, key: string) => Entry | undefined;
  readonly bring: Bring;
  /** It was the latest to be used, of those named until now. */
  readonly recall: (entry: Entry) => void;
  readonly log: (line: string) => void;
}

export interface Heat {
  /** Resolves once nothing more is brought back. */
  readonly warmed: Promise<number>;
  /** What is hot now is written: the file names nothing else when it resolves, and is gone if it cannot be written. */
  renew(): Promise<void>;
  /** What is hot now is written, and nothing is brought any more. */
  close(): Promise<void>;
}

export function startHeat(options: HeatOptions): Heat {
  const { path, hot, log } = options;
  const closing = new AbortController();
  let last = '';
  let writing = Promise.resolve();
  let warming = true;

  async function write(): Promise<void> {
    const latest = hot()
      .slice(-KEYS_MAX)
      .reverse()
      .map(({ record: { tenant, key } }) => [tenant, key]);
    const text = JSON.stringify({ format: 1, latest });
    if (text === last) return;
    await writeFile(`${path}.new`, text, { mode: 0o600 });
    await rename(`${path}.new`, path);
    last = text;
  }
  const writeInTurn = (): Promise<void> => {
    writing = writing.then(write).catch((error: unknown) => log(`${path} cannot be written: ${String(error)}`));
    return writing;
  };
  // While it warms up, what is hot says less than the file.
  const timer = setInterval(() => warming || void writeInTurn(), EVERY_MS).unref();

  const warmed = warmUp(options, closing.signal)
    .catch((error: unknown) => {
      log(`not brought back to the adapters: ${String(error)}`);
      return 0;
    })
    .finally(() => {
      warming = false;
    });
  return {
    warmed,
    renew() {
      last = '';
      const removed = writing.then(async () => {
        for (const name of [path, `${path}.new`]) await rm(name, { force: true }); // a full disk takes that
      });
      writing = removed.catch(() => {});
      return removed.then(writeInTurn);
    },
    async close() {
      clearInterval(timer);
      const wasWarming = warming;
      closing.abort(new Error('the cache is closed'));
      await warmed;
      if (!wasWarming) await writeInTurn();
    },
  };
}

/** How many were brought back. */
async function warmUp(options: HeatOptions, signal: AbortSignal): Promise<number> {
  const { find, bring, bytesMax } = options;
  const all = await readNames(options.path);
  const names = all.values();
  /** The latest come first, and would be the oldest by that. */
  const recall = () => {
    for (const [tenant, key] of all.toReversed()) {
      const entry = find(tenant, key);
      if (entry) options.recall(entry);
    }
  };
  recall();
  let left = bytesMax;
  let count = 0;
  const next = async (): Promise<void> => {
    for (const [tenant, key] of names) {
      const entry = find(tenant, key);
      if (!entry || !isAbsent(entry)) continue;
      left -= bytesOnAdapter(entry);
      if (left < 0 || signal.aborted) return;
      for (let tries = 0; tries < PATIENCE; tries++) {
        const end = await bring(entry, signal);
        if (end === 'noRoom') return;
        if (end === 'brought') count++;
        if (end !== 'crowded') break;
        await new Promise((resolve) => setTimeout(resolve, PAUSE_MS).unref());
        signal.throwIfAborted();
      }
    }
  };
  await Promise.all(Array.from({ length: ABREAST }, () => next().catch(() => {}))); // what fails is read when it is asked for
  if (count > 0) recall();
  return count;
}

function bytesOnAdapter({ record: { bytes } }: Entry): number {
  const pageBytes = pageBytesFor(bytes);
  return pagesFor(bytes, pageBytes) * pageBytes;
}

async function readNames(path: string): Promise<readonly (readonly [tenant: string, key: string])[]> {
  try {
    if ((await stat(path)).size > FILE_BYTES_MAX) return [];
    return fileSchema.safeParse(parseJson(await readFile(path, 'utf8'))).data?.latest ?? [];
  } catch {
    return []; // there is none, or it cannot be read: nothing is lost by that
  }
}
