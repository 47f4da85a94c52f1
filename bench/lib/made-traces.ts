// Traces that anybody can make again: loads of every kind that a cache meets, from seeds. Keys that drift, scans, loops, bursts of
// neighbours, sizes over orders of magnitude, and loads that turn into others. The same seed gives the same trace, everywhere. Pure.
import { type Trace, traceOf } from './traces.ts';

type Random = () => number;

/** From 0, below 1: the same for the same seed (splitmix32). */
export function createRandom(seed: number): Random {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x9e37_79b9) >>> 0;
    let word = state;
    word = Math.imul(word ^ (word >>> 16), 0x21f0_aaad);
    word = Math.imul(word ^ (word >>> 15), 0x735a_2d97);
    return ((word ^ (word >>> 15)) >>> 0) / 2 ** 32;
  };
}

/** Numbers from 0 on, the k-th drawn in proportion to 1 / (k + 1)^skew. */
function createZipf(count: number, skew: number, random: Random): () => number {
  const sums = new Float64Array(count);
  let sum = 0;
  for (let k = 0; k < count; k++) sums[k] = sum += (k + 1) ** -skew;
  return () => {
    const wanted = random() * sum;
    let [low, high] = [0, count - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((sums[middle] ?? 0) < wanted) low = middle + 1;
      else high = middle;
    }
    return low;
  };
}

const keysBy = (requests: number, keyAt: (at: number) => number): Uint32Array =>
  Uint32Array.from({ length: requests }, (_, at) => keyAt(at));

export function zipfKeys(requests: number, keys: number, skew: number, seed: number): Uint32Array {
  const draw = createZipf(keys, skew, createRandom(seed));
  return keysBy(requests, draw);
}

/** The hottest keys give way to new ones, one after `life` requests. */
function driftingKeys(requests: number, keys: number, life: number, seed: number): Uint32Array {
  const draw = createZipf(keys, 0.9, createRandom(seed));
  return keysBy(requests, (at) => draw() + Math.floor(at / life));
}

/** Every key after the one before, round and round. */
const loopKeys = (requests: number, keys: number): Uint32Array => keysBy(requests, (at) => at % keys);

const SCAN = 2000;

/** A zipf law, and in a quarter of the time keys that never come again. */
function scannedKeys(requests: number, keys: number, seed: number): Uint32Array {
  const draw = createZipf(keys, 0.9, createRandom(seed));
  let next = keys;
  return keysBy(requests, (at) => (at % (4 * SCAN) < SCAN ? next++ : draw()));
}

/** Half of the requests go round in a loop, half follow a zipf law. */
function loopedZipf(requests: number, keys: number, seed: number): Uint32Array {
  const random = createRandom(seed);
  const draw = createZipf(keys, 1, random);
  let turn = 0;
  return keysBy(requests, () => (random() < 0.5 ? keys + (turn++ % keys) : draw()));
}

const BURSTS = 20;
const BURST_USES = 12;

/** Keys come with their neighbours, are asked for some times within a short while, and mostly never again. */
function burstKeys(requests: number, keys: number, seed: number): Uint32Array {
  const random = createRandom(seed);
  const draw = createZipf(keys, 0.6, random);
  const begin = () => ({ key: 8 * draw(), left: BURST_USES });
  const open = Array.from({ length: BURSTS }, begin);
  return keysBy(requests, () => {
    const at = Math.floor(random() * BURSTS);
    const burst = open[at] ?? begin();
    if (--burst.left === 0) open[at] = begin();
    return burst.key + Math.floor(random() * 8);
  });
}

/** A key's bytes, from a kilobyte to sixteen megabytes; the large ones are as hot as the small ones. */
const sizesOf = (keys: Uint32Array, seed: number): Uint32Array =>
  keys.map((key) => Math.floor(1024 * 2 ** (14 * createRandom(seed + Math.imul(key, 0x85eb_ca6b))() ** 2)));

/** One after the other, each with keys of its own; `turns` times over. */
export function concatenation(turns: number, ...parts: Uint32Array[]): Uint32Array {
  const all = new Uint32Array(turns * parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (let turn = 0; turn < turns; turn++) {
    let base = 0;
    for (const part of parts) {
      all.set(
        part.map((key) => key + base),
        at,
      );
      at += part.length;
      base += part.reduce((most, key) => Math.max(most, key), 0) + 1;
    }
  }
  return all;
}

/** Each of about so many requests. Those whose names begin with `shifting` turn from one load into another. */
export function madeTraces(requests: number, seed = 1): Trace[] {
  const part = (share: number) => Math.floor(requests * share);
  const zipf = zipfKeys(requests, part(1 / 8), 0.9, seed);
  const third = part(1 / 3);
  const phases = [
    zipfKeys(third, third >> 3, 1, seed + 1),
    loopKeys(third, third >> 5),
    scannedKeys(third, third >> 4, seed + 2),
  ];
  const sixth = [
    burstKeys(part(1 / 6), part(1 / 16), seed + 3),
    loopedZipf(part(1 / 6), part(1 / 64), seed + 4),
    driftingKeys(part(1 / 6), part(1 / 32), 40, seed + 5),
  ];
  return [
    traceOf('zipf', zipf),
    traceOf('drift', driftingKeys(requests, part(1 / 8), 30, seed + 6)),
    traceOf('scans', scannedKeys(requests, part(1 / 16), seed + 7)),
    traceOf('loop', loopKeys(requests, part(1 / 32))),
    traceOf('loop+zipf', loopedZipf(requests, part(1 / 40), seed + 8)),
    traceOf('bursts', burstKeys(requests, part(1 / 16), seed + 9)),
    traceOf('sizes', zipf, sizesOf(zipf, seed + 10)),
    traceOf('shifting', concatenation(1, ...phases)),
    traceOf('shifting-twice', concatenation(2, ...sixth)),
  ];
}
