// How many requests the cache's policies hit, on traces and at capacities, and how fast they are. Without `--trace`, on made traces,
// with the speed of get and set beside other caches: same keys, same sizes, in turns. Also draws the picture, results/cache.svg.
//
// The gap of the adaptive policy is to the best of the eight single ones, in points of hit ratio, at the capacities given. `opt` is Belady's
// optimum (lib/belady.ts). Times of replays are processor time of index and policy together; `get/set` is with values too.
//
// Needs nothing but Node. Environment:
//   BENCH_CACHES=/path    a folder in whose node_modules lru-cache, lru.min and mnemonist are looked for
//   BENCH_TRACES=/path    a folder of traces that are replayed too, each alone, and parts of three neighbours one after the other

import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { POLICY_NAMES } from '../core/cache/policy/policies.ts';
import { cachePicture } from './lib/cache-picture.ts';
import { startKeyCache } from './lib/key-cache-thread.ts';
import { findPeers } from './lib/key-caches.ts';
import { concatenation, madeTraces } from './lib/made-traces.ts';
import { type Replayed, STRATEGIES } from './lib/replay.ts';
import { isAnyStrategy, PREFIX_STRATEGIES, replayAny, strategiesFor } from './lib/replay-prefix.ts';
import { atLeast, type Check, type OptionValues, type Report, type RunOptions, type Table } from './lib/report.ts';
import { takeTurns } from './lib/rounds.ts';
import { median } from './lib/statistics.ts';
import { readTrace, type Trace, traceOf } from './lib/traces.ts';

export const title = 'hit ratios of the cache policies on traces, and their speed beside other caches';
export const options = {
  trace:
    'a file NAME.u32(.gz), with NAME.sizes.u32(.gz) beside it if sizes differ, or NAME.jsonl(.gz) of chained blocks; may be given again',
  capacity: 'several, by commas: below 1 a share of all distinct keys or bytes, else entries or bytes (0.001 to 0.3)',
  strategies: `several, by commas, of ${STRATEGIES.join(', ')} (all); for chained blocks also ${PREFIX_STRATEGIES.join(', ')} (these)`,
};

const CAPACITIES = '0.001,0.003,0.01,0.03,0.1,0.3';
const REQUESTS = 400_000;
const REQUESTS_QUICK = 100_000;
const SPEED_ENTRIES = [10_000, 100_000];
const SPEED_ROUNDS = 9;
const SPEED_ROUNDS_QUICK = 3;
const GAP_MEAN = -0.25;
const GAP_WORST = -2;
const GAP_SHIFTING = -0.3;
/** Shorter ones say little of a policy that has to learn. */
const GAP_REQUESTS_MIN = 50_000;
const PICTURE = fileURLToPath(new URL('./results/cache.svg', import.meta.url));

export async function run({ quick, log, values }: RunOptions): Promise<Report> {
  const capacities = readCapacities(text(values, 'capacity') ?? CAPACITIES);
  const asked = text(values, 'strategies');
  const strategies = asked === undefined ? undefined : readStrategies(asked);
  const paths = texts(values, 'trace');
  const traces = paths.length > 0 ? paths.map(readTrace) : ownTraces(quick);
  const lines: Replayed[] = [];
  for (const trace of traces) {
    log(`${trace.name}: ${trace.keys.length} requests, ${trace.distinct} keys`);
    for (const capacity of capacities)
      for (const one of strategies ?? strategiesFor(trace)) lines.push(replayAny(trace, capacity, one));
  }
  const speed = paths.length === 0 ? await measureSpeed(quick, log) : NO_SPEED;
  if (Object.keys(values).length === 0) draw(traces, lines);
  return {
    tables: [...traces.map((trace) => tableOf(trace, capacities, lines)), ...speed.tables],
    checks: [...gapChecks(lines), ...speed.checks],
    notes: speed.notes,
    lines,
  };
}

/** As often as it was given. */
const texts = (values: OptionValues, name: string): string[] => [values[name] ?? []].flat().map(String);
/** What was given last counts. */
const text = (values: OptionValues, name: string): string | undefined => texts(values, name).at(-1);

/** Made ones, and those of a folder: each, and parts of neighbours as loads that turn into others. */
function ownTraces(quick: boolean): Trace[] {
  const folder = process.env.BENCH_TRACES;
  const made = madeTraces(quick ? REQUESTS_QUICK : REQUESTS);
  if (folder === undefined) return made;
  const files = readdirSync(folder).filter((file) => /\.u32(\.gz)?$/.test(file) && !file.includes('.sizes.'));
  const given = files.sort().map((file) => readTrace(join(folder, file)));
  const shifting = given.slice(2).map((last, i) => {
    const parts = [...given.slice(i, i + 2), last];
    const keys = concatenation(1, ...parts.map((part) => part.keys.subarray(0, quick ? PART_QUICK : PART)));
    return traceOf(`shifting: ${parts.map(({ name }) => name).join(', ')}`, keys);
  });
  return [...made, ...given, ...shifting];
}
const PART = 200_000;
const PART_QUICK = 30_000;

function draw(traces: readonly Trace[], lines: readonly Replayed[]): void {
  const panels = traces.map(({ name, keys, distinct }) => {
    const own = Map.groupBy(
      lines.filter(({ trace }) => trace === name),
      ({ strategy }) => strategy,
    );
    const curves = [...own].map(([strategy, replays]) => ({
      strategy,
      points: replays.map(({ capacity, hitRatio }) => [capacity, hitRatio] as const),
    }));
    const size = (count: number) => (count < 10_000 ? String(count) : `${Math.round(count / 1000)}k`);
    return { title: name, subtitle: `${size(keys.length)} requests, ${size(distinct)} keys`, curves };
  });
  mkdirSync(dirname(PICTURE), { recursive: true });
  writeFileSync(
    PICTURE,
    cachePicture(panels, 'Hit ratio over capacity, as a share of all keys or bytes. More is better.'),
  );
}

function readCapacities(given: string): number[] {
  return given.split(',').map((word) => {
    const capacity = Number(word);
    if (word.trim() !== '' && capacity > 0 && Number.isFinite(capacity)) return capacity;
    throw new Error(`--capacity ${given}: '${word}' is no number above 0`);
  });
}

function readStrategies(given: string): string[] {
  return given.split(',').map((name) => {
    if (isAnyStrategy(name)) return name;
    throw new Error(`--strategies ${given}: there is no '${name}'; there is ${STRATEGIES.join(', ')}`);
  });
}

function tableOf({ name, bytes }: Trace, capacities: readonly number[], lines: readonly Replayed[]): Table {
  const own = lines.filter(({ trace }) => trace === name);
  const strategies = [...new Set(own.map(({ strategy }) => strategy))];
  const at = (strategy: string, capacity: number) =>
    own.find((line) => line.strategy === strategy && line.capacity === capacity);
  const percent = (share: number | undefined) => (share === undefined ? null : 100 * share);
  const row = (strategy: string) => {
    const times = own.flatMap((line) => (line.strategy === strategy ? (line.nsPerOp ?? []) : []));
    return [
      ...capacities.map((capacity) => percent(at(strategy, capacity)?.hitRatio)),
      ...(bytes ? capacities.map((capacity) => percent(at(strategy, capacity)?.byteHitRatio)) : []),
      times.length > 0 ? median(times) : null,
    ];
  };
  return {
    title: name,
    columns: [
      ...capacities.map((capacity) => ({ name: `hits at ${capacity}`, unit: '%' })),
      ...(bytes ? capacities.map((capacity) => ({ name: `bytes at ${capacity}`, unit: '%' })) : []),
      { name: 'time', unit: 'ns' },
    ],
    rows: strategies.map((strategy) => ({ name: strategy, values: row(strategy) })),
  };
}

/** Only where the adaptive one and all eight were replayed. */
function gapChecks(lines: readonly Replayed[]): Check[] {
  const gaps = lines
    .filter(({ strategy, requests }) => strategy === 'adaptive' && requests >= GAP_REQUESTS_MIN)
    .flatMap(({ trace, capacity, hitRatio }) => {
      const singles = lines.filter((one) => {
        return one.trace === trace && one.capacity === capacity && isSingle(one.strategy);
      });
      if (singles.length < POLICY_NAMES.length) return [];
      return [{ trace, gap: 100 * (hitRatio - Math.max(...singles.map((one) => one.hitRatio))) }];
    });
  const shifting = gaps.filter(({ trace }) => trace.startsWith('shifting'));
  const mean = (some: typeof gaps) => some.reduce((sum, { gap }) => sum + gap, 0) / some.length;
  const worst = (some: typeof gaps) => Math.min(...some.map(({ gap }) => gap));
  const check = (name: string, asked: number, got: number) =>
    atLeast(`adaptive to the best single policy, ${name}`, asked, got, 'points');
  return [
    ...(gaps.length > 0 ? [check('mean gap', GAP_MEAN, mean(gaps)), check('worst gap', GAP_WORST, worst(gaps))] : []),
    ...(shifting.length > 0
      ? [
          check('shifting traces, mean gap', GAP_SHIFTING, mean(shifting)),
          check('shifting traces, worst gap', GAP_SHIFTING, worst(shifting)),
        ]
      : []),
  ];
}

const isSingle = (strategy: string): boolean => (POLICY_NAMES as readonly string[]).includes(strategy);

// ---- speed

const NO_SPEED = { tables: [], checks: [], notes: [] };

async function measureSpeed(quick: boolean, log: (line: string) => void) {
  const folder = process.env.BENCH_CACHES;
  const found = findPeers(folder);
  const peers = found.flatMap((peer) => (typeof peer === 'string' ? [] : [peer.name]));
  const told: { table: Table; checks: Check[] }[] = [];
  for (const entries of SPEED_ENTRIES) {
    log(`get and set at ${entries} entries …`);
    told.push(await speedAt(entries, peers, folder, quick ? SPEED_ROUNDS_QUICK : SPEED_ROUNDS));
  }
  const notes = found.map((peer) =>
    typeof peer === 'string' ? `Not there: ${peer}.` : `${peer.name} ${peer.version}.`,
  );
  return {
    tables: told.map(({ table }) => table),
    checks: told.flatMap(({ checks }) => checks),
    notes: [...notes, SPEED_NOTE],
  };
}

const SPEED_NOTE =
  'get/set: keys are numbers by a zipf law (skew 1), ten times as many as entries; a get, and a set where it found nothing, so that who hits more sets less. ' +
  'Peers find keys in a Map; ours in the index by hash that replays use, and in the last column in a Map too.';

/** In turns, each in a thread of its own (lib/key-cache-thread.ts). */
async function speedAt(entries: number, peers: readonly string[], folder: string | undefined, rounds: number) {
  const own = STRATEGIES.filter((name) => name !== 'opt');
  const started = [
    ...[...own, ...peers].map((name) => ({ name, thread: startKeyCache({ name, entries, index: 'hashes', folder }) })),
    ...own.map((name) => ({ name: `${name}, Map`, thread: startKeyCache({ name, entries, index: 'map', folder }) })),
  ];
  const hitRatios = new Map<string, number>();
  const rivals = started.map(({ name, thread }) => ({
    ...{ name, pids: [] },
    run: async () => {
      const { ns, hitRatio } = await thread.turn();
      hitRatios.set(name, 100 * hitRatio);
      return ns / 1e6;
    },
  }));
  const measured = await takeTurns({ rounds, begin: () => undefined, rivals });
  for (const { thread } of started) await thread.close();
  const msOf = (name: string) => measured.find((one) => one.name === name)?.ms;
  const ratio = (name: string) => {
    const [base, ms] = [msOf('lru-cache'), msOf(name)];
    return base && ms ? median(ms.map((own, round) => (base[round] ?? own) / own)) : null;
  };
  const columns = [
    { name: 'time', unit: 'ns' },
    { name: 'hits', unit: '%' },
    { name: 'to lru-cache', unit: 'x' },
    { name: 'with a Map', unit: 'x' },
  ];
  const row = (name: string) => ({
    name,
    values: [1e6 * median(msOf(name) ?? [0]), hitRatios.get(name) ?? null, ratio(name), ratio(`${name}, Map`)],
  });
  return {
    table: { title: `get/set, ${entries} entries`, columns, rows: [...own, ...peers].map(row) },
    checks: own.map((name) =>
      atLeast(`${name} to lru-cache, get/set at ${entries}`, name === 'adaptive' ? 0.75 : 1, ratio(name), 'x'),
    ),
  };
}
