// How many requests the cache's policies hit, on traces and at capacities, and how fast they are. Without `--trace`, on made traces,
// with the speed of get and set beside other caches: same keys, same sizes, in turns.
//
// The gap of the adaptive policy is to the best of the eight single ones, in points of hit ratio, at the capacities given. `opt` is Belady's
// optimum (lib/belady.ts). Times of replays are processor time of index and policy together; `get/set` is with a Map and values.
//
// Needs nothing but Node. Environment:
//   BENCH_CACHES=/path    a folder in whose node_modules lru-cache, lru.min and mnemonist are looked for

import { POLICY_NAMES } from '../core/cache/policy/policies.ts';
import { startKeyCache } from './lib/key-cache-thread.ts';
import { findPeers } from './lib/key-caches.ts';
import { madeTraces } from './lib/made-traces.ts';
import { isStrategy, type Replayed, replay, STRATEGIES, type Strategy } from './lib/replay.ts';
import { atLeast, type Check, type OptionValues, type Report, type RunOptions, type Table } from './lib/report.ts';
import { takeTurns } from './lib/rounds.ts';
import { median } from './lib/statistics.ts';
import { readTrace, type Trace } from './lib/traces.ts';

export const title = 'hit ratios of the cache policies on traces, and their speed beside other caches';
export const options = {
  trace:
    'a file NAME.u32(.gz), with NAME.sizes.u32(.gz) beside it if sizes differ, or NAME.jsonl(.gz) of chained blocks',
  capacity: 'several, by commas: below 1 a share of all distinct keys or bytes, else entries or bytes (0.001,0.01,0.1)',
  strategies: `several, by commas, of ${STRATEGIES.join(', ')} (all)`,
};

const CAPACITIES = '0.001,0.01,0.1';
const REQUESTS = 1_000_000;
const REQUESTS_QUICK = 100_000;
const SPEED_ENTRIES = [10_000, 100_000];
const SPEED_ROUNDS = 9;
const SPEED_ROUNDS_QUICK = 3;
const GAP_MEAN = -0.25;
const GAP_WORST = -2;

export async function run({ quick, log, values }: RunOptions): Promise<Report> {
  const capacities = readCapacities(text(values, 'capacity') ?? CAPACITIES);
  const strategies = readStrategies(text(values, 'strategies') ?? STRATEGIES.join(','));
  const path = text(values, 'trace');
  const traces = path === undefined ? madeTraces(quick ? REQUESTS_QUICK : REQUESTS) : [readTrace(path)];
  const lines: Replayed[] = [];
  for (const trace of traces) {
    log(`${trace.name}: ${trace.keys.length} requests, ${trace.distinct} keys`);
    for (const capacity of capacities) for (const one of strategies) lines.push(replay(trace, capacity, one));
  }
  const speed = path === undefined ? await measureSpeed(quick, log) : NO_SPEED;
  return {
    tables: [...traces.map((trace) => tableOf(trace, capacities, lines)), ...speed.tables],
    checks: [...gapChecks(lines), ...speed.checks],
    notes: speed.notes,
    lines,
  };
}

const text = (values: OptionValues, name: string): string | undefined => {
  const value = values[name];
  return typeof value === 'string' ? value : undefined;
};

function readCapacities(given: string): number[] {
  return given.split(',').map((word) => {
    const capacity = Number(word);
    if (word.trim() !== '' && capacity > 0 && Number.isFinite(capacity)) return capacity;
    throw new Error(`--capacity ${given}: '${word}' is no number above 0`);
  });
}

function readStrategies(given: string): Strategy[] {
  return given.split(',').map((name) => {
    if (isStrategy(name)) return name;
    throw new Error(`--strategies ${given}: there is no '${name}'; there is ${STRATEGIES.join(', ')}`);
  });
}

function tableOf({ name }: Trace, capacities: readonly number[], lines: readonly Replayed[]): Table {
  const own = lines.filter(({ trace }) => trace === name);
  const strategies = [...new Set(own.map(({ strategy }) => strategy))];
  const cells = (strategy: string) =>
    capacities.flatMap((capacity) => {
      const line = own.find((one) => one.strategy === strategy && one.capacity === capacity);
      return line ? [100 * line.hitRatio, 100 * line.byteHitRatio, line.nsPerOp] : [null, null, null];
    });
  return {
    title: name,
    columns: capacities.flatMap((capacity) => [
      { name: `hits at ${capacity}`, unit: '%' },
      { name: 'bytes', unit: '%' },
      { name: 'time', unit: 'ns' },
    ]),
    rows: strategies.map((strategy) => ({ name: strategy, values: cells(strategy) })),
  };
}

/** Only where the adaptive one and all eight were replayed. */
function gapChecks(lines: readonly Replayed[]): Check[] {
  const gaps = lines
    .filter(({ strategy }) => strategy === 'adaptive')
    .flatMap(({ trace, capacity, hitRatio }) => {
      const singles = lines.filter((one) => {
        return one.trace === trace && one.capacity === capacity && isSingle(one.strategy);
      });
      if (singles.length < POLICY_NAMES.length) return [];
      return [100 * (hitRatio - Math.max(...singles.map((one) => one.hitRatio)))];
    });
  if (gaps.length === 0) return [];
  const mean = gaps.reduce((a, b) => a + b, 0) / gaps.length;
  return [
    atLeast('adaptive to the best single policy, mean gap', GAP_MEAN, mean, 'points'),
    atLeast('adaptive to the best single policy, worst gap', GAP_WORST, Math.min(...gaps), 'points'),
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
