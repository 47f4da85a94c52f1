// How fast attention over pages is, on each adapter: one query over 1k to 64k tokens, and prompts of 512 and 2048, for each
// codec as a fraction of the adapter's copy and beside onnxruntime's GroupQueryAttention, by its WebGPU provider on the same
// adapter and by its CPU provider. 8 kv heads, 32 heads, 128 dimensions. Answers are checked first; a wrong one has no time.
//
// `stored` counts the coded keys and values that are read, once; `of copy` is that rate as a fraction of the rate at which
// the kernel `copy` reads and writes. `to f16` is how many times faster than the f16 pages of the same run.
//   GPU_ADAPTERS=system,swiftshader,/path/icd.json   which adapters; by default what the system has, and SwiftShader
//   BENCH_ONNXRUNTIME=/path/onnxruntime-node         the rival, if it is not installed here
import { spawn } from 'node:child_process';
import { tmpdir } from 'node:os';
import { fileURLToPath } from 'node:url';
import { candidate, SEARCH_ORDER } from '../core/gpu/adapters.ts';
import {
  ANSWERED,
  ASKED,
  type AttentionAnswer,
  type AttentionResult,
  type AttentionSettings,
  type AttentionTimes,
} from './lib/attention-times.ts';
import {
  atLeast,
  type Check,
  type Column,
  type Report,
  type RunOptions,
  type Table,
  WrongAnswer,
} from './lib/report.ts';
import { median, percentile } from './lib/statistics.ts';

export const title = 'attention over coded pages on each adapter, beside its copy and onnxruntime';

const CHILD = fileURLToPath(new URL('./lib/attention-child.ts', import.meta.url));
/** For a first answer, which compiles what it needs. */
const PEER_MS_MAX = 90_000;

const COLUMNS: readonly Column[] = [
  { name: 'median', unit: 'ms' },
  { name: 'p25', unit: 'ms' },
  { name: 'p75', unit: 'ms' },
  { name: 'stored', unit: 'GB/s' },
  { name: 'of copy', unit: '' },
  { name: 'rate', unit: 'GFLOP/s' },
  { name: 'to f16', unit: 'x' },
];

export async function run({ quick, log }: RunOptions): Promise<Report> {
  const { env } = process;
  const sources = env.GPU_ADAPTERS && env.GPU_ADAPTERS !== 'auto' ? env.GPU_ADAPTERS.split(',') : SEARCH_ORDER;
  const notes: string[] = [];
  const tables: Table[] = [];
  const checks: Check[] = [];
  const seen = new Set<string>();
  for (const source of sources) {
    log(`${source} …`);
    const result = await measureOn(source, { quick, peerFolder: env.BENCH_ONNXRUNTIME });
    if ('missing' in result) {
      notes.push(`${source}: ${result.missing}.`);
      continue;
    }
    if (seen.has(result.adapter)) continue;
    seen.add(result.adapter);
    const copy = (result.copyBytesPerMs / 1e6).toFixed(2);
    notes.push(`${result.adapter}: the kernel copy reads and writes ${copy} GB/s. ${result.peers.join('; ')}.`);
    tables.push(...tell(result));
    checks.push(...judge(result));
  }
  return { tables, checks, notes };
}

/** With onnxruntime first; in f32 or without it, should it take the process down or never answer. */
async function measureOn(source: string, settings: Omit<AttentionSettings, 'peer'>) {
  let found: ReturnType<typeof candidate>;
  try {
    found = candidate(source, tmpdir());
  } catch (error) {
    return { missing: error instanceof Error ? error.message : String(error) };
  }
  const { environment, loader } = found;
  for (const peer of ['f16', 'f32', undefined] as const) {
    const result = await startOne({ ...settings, loader, ...(peer ? { peer } : {}) }, environment);
    if (!result) continue;
    if ('failed' in result) throw result.wrong ? new WrongAnswer(result.failed) : new Error(result.failed);
    if ('missing' in result || peer === 'f16') return result;
    const why = `onnxruntime by WebGPU in ${peer ? 'f16' : 'f16 and f32'} ended the process or never answered`;
    return { ...result, peers: [...result.peers, why] };
  }
  throw new Error(`the process of ${source} ended without a word`);
}

function startOne(settings: AttentionSettings, environment: Readonly<Record<string, string>>) {
  return new Promise<AttentionAnswer | undefined>((resolve, reject) => {
    const child = spawn(process.execPath, [CHILD, JSON.stringify(settings)], {
      ...{ env: { ...process.env, ...environment }, stdio: ['ignore', 'pipe', 'inherit'] },
    });
    let output = '';
    let watch: NodeJS.Timeout | undefined;
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      output += text;
      clearTimeout(watch);
      if (output.lastIndexOf(ASKED) > output.lastIndexOf(ANSWERED))
        watch = setTimeout(() => child.kill('SIGKILL'), PEER_MS_MAX);
    });
    child.once('error', reject);
    child.once('close', () => {
      clearTimeout(watch);
      const line = output.split('\n').find((each) => each.startsWith('{'));
      resolve(line === undefined ? undefined : (JSON.parse(line) as AttentionAnswer));
    });
  });
}

// ---- what is told of them

const of = (times: readonly AttentionTimes[], like: AttentionTimes, name: string): number | null => {
  const found = times.find((each) => each.work === like.work && each.tokens === like.tokens && each.name === name);
  return found ? median(found.ms) : null;
};
const sizeOf = (tokens: number): string => (tokens % 1024 === 0 ? `${tokens / 1024}k` : `${tokens}`);

function tell({ adapter, times, copyBytesPerMs }: AttentionResult): Table[] {
  return (['decode', 'prefill'] as const).map((work) => ({
    title: `${adapter}: ${work}`,
    columns: COLUMNS,
    rows: times
      .filter((each) => each.work === work)
      .map((each) => {
        const ms = median(each.ms);
        const stored = each.storedBytes === null ? null : each.storedBytes / ms;
        const f16 = of(times, each, 'f16');
        return {
          name: `${sizeOf(each.tokens)} ${each.name}`,
          values: [
            ...[ms, percentile(each.ms, 0.25), percentile(each.ms, 0.75)],
            ...[stored === null ? null : stored / 1e6, stored === null ? null : stored / copyBytesPerMs],
            ...[each.products / ms / 1e6, f16 === null ? null : f16 / ms],
          ],
        };
      }),
  }));
}

function judge({ adapter, times }: AttentionResult): Check[] {
  return times
    .filter(({ name }) => name === 'f16')
    .flatMap((f16) => {
      const [ours, tq4] = [median(f16.ms), of(times, f16, 'tq4')];
      const peers = times.filter(
        ({ work, tokens, name }) => work === f16.work && tokens === f16.tokens && name.startsWith('onnxruntime webgpu'),
      );
      const peer = peers[0] ? median(peers[0].ms) : null;
      const what = `${adapter}, ${f16.work} ${sizeOf(f16.tokens)}`;
      return [
        atLeast(`${what}, tq4 to f16`, 1, tq4 === null ? null : ours / tq4, 'x'),
        atLeast(`${what}, f16 to onnxruntime`, 1, peer === null ? null : peer / ours, 'x'),
      ];
    });
}
