// One key cache in a thread of its own, so that its code is compiled for it alone, as it is for whoever has but one; ours would
// otherwise be compiled for nine policies at once, and a peer's for one. A turn is a get for each key, and a set where that
// found nothing; the same cache goes on from turn to turn, and has had some turns when the first is asked for.
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { createOwn, findPeers, type IndexKind, type KeyCache } from './key-caches.ts';
import { zipfKeys } from './made-traces.ts';
import { isStrategy } from './replay.ts';

export interface KeyCacheTask {
  readonly name: string;
  readonly entries: number;
  /** Of ours. */
  readonly index: IndexKind;
  /** Where peers are looked for. */
  readonly folder: string | undefined;
}
export interface Turn {
  /** For a request. */
  readonly ns: number;
  readonly hitRatio: number;
}
export interface KeyCacheThread {
  turn(): Promise<Turn>;
  close(): Promise<void>;
}

/** Keys of a zipf law, ten times as many as entries. */
const KEYS_PER_ENTRY = 10;
const REQUESTS_MIN = 300_000;
/** Until it is full, and its code compiled. */
const TURNS_BEFORE = 3;

export function startKeyCache(task: KeyCacheTask): KeyCacheThread {
  const thread = new Worker(new URL(import.meta.url), { workerData: task });
  return {
    turn: () =>
      new Promise((resolve, reject) => {
        thread.once('error', reject);
        thread.once('message', (turn: Turn) => {
          thread.off('error', reject);
          resolve(turn);
        });
        thread.postMessage('turn');
      }),
    close: async () => void (await thread.terminate()),
  };
}

function create({ name, entries, index, folder }: KeyCacheTask): KeyCache {
  if (isStrategy(name) && name !== 'opt') return createOwn(name, entries, index);
  const peer = findPeers(folder).find((one) => typeof one !== 'string' && one.name === name);
  if (peer === undefined || typeof peer === 'string') throw new Error(`there is no cache named ${name} in ${folder}`);
  return peer.create(entries);
}

function takeTurn(cache: KeyCache, keys: Uint32Array): Turn {
  let hits = 0;
  const before = performance.now();
  for (let i = 0; i < keys.length; i++) {
    const key = keys[i] as number;
    if (cache.get(key) === undefined) cache.set(key, i);
    else hits++;
  }
  return { ns: (1e6 * (performance.now() - before)) / keys.length, hitRatio: hits / keys.length };
}

if (!isMainThread) {
  const task = workerData as KeyCacheTask;
  const cache = create(task);
  const requests = Math.max(REQUESTS_MIN, KEYS_PER_ENTRY * task.entries);
  const keys = zipfKeys(requests, KEYS_PER_ENTRY * task.entries, 1, task.entries);
  for (let turn = 0; turn < TURNS_BEFORE; turn++) takeTurn(cache, keys);
  parentPort?.on('message', () => parentPort?.postMessage(takeTurn(cache, keys)));
}
