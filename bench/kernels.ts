// How fast the kernels are, on each adapter of this machine: GB/s as a fraction of the adapter's copy, GFLOP/s as a fraction
// of the best matrix product of the same run. Answers are checked first; a wrong one has no time. Each adapter has a process
// of its own, and all that is measured on it takes turns.
//
// `of copy`: the best copy by any means (the adapter's own copyBufferToBuffer, or a kernel), read and written bytes counted.
// `of kernel copy`: the best copy by a kernel, which is what a kernel can reach where copyBufferToBuffer is none (software
// adapters: a memcpy). `*` marks the variant that is chosen there. Per dispatch, many in one pass; upload not included.
//
// Needs nothing but Node and the package webgpu; also by itself: node bench/kernels.ts [--quick] [--json FILE]. Environment:
//   GPU_ADAPTERS=system,swiftshader,/path/icd.json   which adapters; by default what the system has, and SwiftShader
//   BENCH_ROBUSTNESS=off                             as trusted kernels may run
//   BENCH_ONNXRUNTIME=/path/onnxruntime-node         a rival in f32 matrix products, if it is not installed here
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { candidate, SEARCH_ORDER } from '../core/gpu/adapters.ts';
import {
  type AdapterTimes,
  type ChildResult,
  type ChildSettings,
  type KernelTimes,
  PEER_ANSWERED,
  PEER_ASKED,
} from './lib/kernel-times.ts';
import { describeCommit, describeMachine, loadOfLastMinute } from './lib/machine.ts';
import {
  atLeast,
  type Check,
  type Column,
  formatReport,
  type Report,
  type Row,
  type RunOptions,
  type Table,
  WrongAnswer,
} from './lib/report.ts';
import { median, percentile } from './lib/statistics.ts';

export const title = 'kernels on each adapter, beside its copy and its best matrix product';

const CHILD = fileURLToPath(new URL('./lib/kernels-child.ts', import.meta.url));
const ROUNDS = 15;
const ROUNDS_QUICK = 3;
const OF_COPY = 0.8;
const PEER_MS_MAX = 30_000;

const COLUMNS: readonly Column[] = [
  { name: 'median', unit: 'ms' },
  { name: 'p25', unit: 'ms' },
  { name: 'p75', unit: 'ms' },
];
const MEMORY: readonly Column[] = [
  ...[...COLUMNS, { name: 'rate', unit: 'GB/s' }],
  ...[
    { name: 'of copy', unit: '' },
    { name: 'of kernel copy', unit: '' },
  ],
];
const MATRICES: readonly Column[] = [...COLUMNS, { name: 'rate', unit: 'GFLOP/s' }, { name: 'of best', unit: '' }];

export async function run({ quick, log }: RunOptions): Promise<Report> {
  const { env } = process;
  const sources = env.GPU_ADAPTERS && env.GPU_ADAPTERS !== 'auto' ? env.GPU_ADAPTERS.split(',') : SEARCH_ORDER;
  const robustness = env.BENCH_ROBUSTNESS !== 'off';
  const notes = [`Robustness ${robustness ? 'on' : 'off'}.`];
  const told: { tables: Table[]; checks: Check[] }[] = [];
  const seen = new Set<string>();
  for (const source of sources) {
    log(`${source} …`);
    const settings = { robustness, rounds: quick ? ROUNDS_QUICK : ROUNDS, peerFolder: env.BENCH_ONNXRUNTIME };
    const result = await measureOn(source, settings);
    if ('missing' in result) {
      notes.push(`${source}: ${result.missing}.`);
      continue;
    }
    if (seen.has(result.adapter)) continue;
    seen.add(result.adapter);
    notes.push(`${result.adapter} (${result.description}): ${result.has.join(', ')}. ${result.peer}.`);
    told.push(tell(result));
  }
  return { tables: told.flatMap(({ tables }) => tables), checks: told.flatMap(({ checks }) => checks), notes };
}

/** With onnxruntime first, if it is there; without it, should it take the process down. */
async function measureOn(
  source: string,
  settings: Omit<ChildSettings, 'peer'>,
): Promise<AdapterTimes | { missing: string }> {
  let found: ReturnType<typeof candidate>;
  try {
    found = candidate(source, tmpdir());
  } catch (error) {
    return { missing: error instanceof Error ? error.message : String(error) };
  }
  const { environment, loader } = found;
  const withPeer = await startOne({ ...settings, loader, peer: true }, environment);
  const result = withPeer ?? (await startOne({ ...settings, loader, peer: false }, environment));
  if (!result) throw new Error(`the process of ${source} ended without a word`);
  if ('failed' in result) throw result.wrong ? new WrongAnswer(result.failed) : new Error(result.failed);
  if ('times' in result && !withPeer)
    return { ...result, peer: 'onnxruntime-node ended the process or never answered, and was left out' };
  return result;
}

function startOne(
  settings: ChildSettings,
  environment: Readonly<Record<string, string>>,
): Promise<ChildResult | undefined> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [CHILD, JSON.stringify(settings)], {
      ...{ env: { ...process.env, ...environment }, stdio: ['ignore', 'pipe', 'inherit'] },
    });
    let output = '';
    let watch: NodeJS.Timeout | undefined;
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      output += text;
      if (output.includes(PEER_ANSWERED)) clearTimeout(watch);
      else if (output.includes(PEER_ASKED)) watch ??= setTimeout(() => child.kill('SIGKILL'), PEER_MS_MAX);
    });
    child.once('error', reject);
    child.once('close', () => {
      clearTimeout(watch);
      const line = output.split('\n').find((each) => each.startsWith('{'));
      resolve(line === undefined ? undefined : (JSON.parse(line) as ChildResult));
    });
  });
}

// ---- what is told of them

function tell({ adapter, times }: AdapterTimes) {
  const rate = ({ bytes, flops, ms }: KernelTimes) => (bytes ?? flops ?? 0) / median(ms) / 1e6;
  const best = (list: readonly KernelTimes[]) => (list.length > 0 ? Math.max(...list.map(rate)) : null);
  const kernelCopy = best(times.filter(({ kernel }) => kernel === 'copy'));
  const copy = best(times.filter(({ kernel }) => kernel === 'copy' || kernel === 'copyBufferToBuffer'));
  const product = (element: string) => best(times.filter((each) => each.bytes === null && each.element === element));
  const share = (value: number, of: number | null) => (of === null ? null : value / of);
  const spread = ({ ms }: KernelTimes) => [median(ms), percentile(ms, 0.25), percentile(ms, 0.75)];
  const nameOf = ({ name, isChosen }: KernelTimes) => `${name}${isChosen ? ' *' : ''}`;
  const memory = times
    .filter(({ bytes }) => bytes !== null)
    .map(
      (each): Row => ({
        name: nameOf(each),
        values: [...spread(each), rate(each), share(rate(each), copy), share(rate(each), kernelCopy)],
      }),
    );
  const matrices = times
    .filter(({ bytes }) => bytes === null)
    .map(
      (each): Row => ({
        name: nameOf(each),
        values: [...spread(each), rate(each), share(rate(each), product(each.element))],
      }),
    );
  const tables: Table[] = [
    { title: `${adapter}: memory`, columns: MEMORY, rows: memory },
    { title: `${adapter}: matrix products`, columns: MATRICES, rows: matrices },
  ];
  const chosen = (kernel: string) => times.filter((each) => each.kernel === kernel && each.isChosen);
  const checks = ['copy', 'pack'].flatMap((kernel) =>
    chosen(kernel).flatMap((each) => [
      atLeast(`${adapter}, ${each.name}, of the best copy by any means`, OF_COPY, share(rate(each), copy), 'x'),
      atLeast(`${adapter}, ${each.name}, of the best copy by a kernel`, OF_COPY, share(rate(each), kernelCopy), 'x'),
    ]),
  );
  const ours = best(chosen('matmul').filter(({ element, size }) => element === 'f32' && size === 1024));
  const peer = best(times.filter(({ kernel }) => kernel === 'onnxruntime'));
  checks.push(
    atLeast(`${adapter}, f32 matmul of 1024, ours to onnxruntime`, 1, ours === null ? null : share(ours, peer), 'x'),
  );
  return { tables, checks };
}

// ---- by itself

if (import.meta.main) {
  const { values } = parseArgs({ options: { quick: { type: 'boolean' }, json: { type: 'string' } } });
  const quick = values.quick ?? false;
  const report = await run({ quick, values: {}, log: (line) => process.stderr.write(`${line}\n`) });
  process.stdout.write(`${formatReport(report)}\n`);
  const origin = {
    date: new Date().toISOString(),
    ...describeCommit(),
    quick,
    machine: describeMachine(),
    load: loadOfLastMinute(),
  };
  if (values.json)
    writeFileSync(values.json, `${JSON.stringify({ subject: 'kernels', title, ...origin, ...report }, null, 2)}\n`);
}
