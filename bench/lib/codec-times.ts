// How fast the codecs' kernels are on each adapter, as a fraction of its copy of the same plain values. Each adapter has a process
// of its own (codec-times-child.ts), in which copy and codecs take turns; answers are checked there first.
import { spawn } from 'node:child_process';
import { tmpdir } from 'node:os';
import { fileURLToPath } from 'node:url';
import { candidate, SEARCH_ORDER } from '../../core/gpu/adapters.ts';
import { WrongAnswer } from './report.ts';

export interface CodecTimesSettings {
  readonly loader?: string | undefined;
  /** Fewer rounds, over less. */
  readonly quick: boolean;
}
export interface CodecTime {
  /** `tcq4 decode`; the best copy has the name `copy`. */
  readonly name: string;
  readonly variant: string;
  /** Of the values without a codec. */
  readonly plainBytes: number;
  /** Of one dispatch, or of those that belong together, for each round. */
  readonly ms: readonly number[];
}
export interface AdapterCodecTimes {
  readonly adapter: string;
  readonly description: string;
  readonly times: readonly CodecTime[];
}
export type CodecTimesResult =
  | AdapterCodecTimes
  | { readonly missing: string }
  | { readonly failed: string; readonly wrong: boolean };

const CHILD = fileURLToPath(new URL('./codec-times-child.ts', import.meta.url));
/** More than an adapter that does what it should needs, compilation included. */
const CHILD_MS_MAX = 240_000;

/** What could not be measured is named in `missing`. */
export async function measureTimes(quick: boolean, adapters: string | undefined, log: (line: string) => void) {
  const sources = adapters && adapters !== 'auto' ? adapters.split(',') : SEARCH_ORDER;
  const found = new Map<string, AdapterCodecTimes>();
  const missing: string[] = [];
  for (const source of sources) {
    log(`kernels on ${source}`);
    const result = await measureOn(source, quick);
    if ('missing' in result) missing.push(`${source}: ${result.missing}.`);
    else if (!found.has(result.adapter)) found.set(result.adapter, result);
  }
  return { adapters: [...found.values()], missing };
}

async function measureOn(source: string, quick: boolean): Promise<AdapterCodecTimes | { missing: string }> {
  let chosen: ReturnType<typeof candidate>;
  try {
    chosen = candidate(source, tmpdir());
  } catch (error) {
    return { missing: error instanceof Error ? error.message : String(error) };
  }
  const result = await startOne({ loader: chosen.loader, quick }, chosen.environment);
  if (!result) return { missing: `its process ended without a word, or took more than ${CHILD_MS_MAX / 1000} s` };
  if ('failed' in result) throw result.wrong ? new WrongAnswer(result.failed) : new Error(result.failed);
  return result;
}

function startOne(
  settings: CodecTimesSettings,
  environment: Readonly<Record<string, string>>,
): Promise<CodecTimesResult | undefined> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [CHILD, JSON.stringify(settings)], {
      ...{ env: { ...process.env, ...environment }, stdio: ['ignore', 'pipe', 'inherit'] },
      ...{ timeout: CHILD_MS_MAX, killSignal: 'SIGKILL' },
    });
    let output = '';
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
    child.once('error', reject);
    child.once('close', () => {
      const line = output.split('\n').find((each) => each.startsWith('{'));
      resolve(line === undefined ? undefined : (JSON.parse(line) as CodecTimesResult));
    });
  });
}
