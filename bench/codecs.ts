// What codecs cost and what they are worth: error over bits on data like that of a KV cache, error of attention's output, and
// the kernels' speed as a fraction of the adapter's copy; other people's codecs in the same run, on the same seeded numbers.
// Also draws the picture, results/codecs.svg.
//
// `bits` are for each value, with all metadata, and of variable-rate codecs the bytes that were really made; `of f16` is bits / 16.
// `error` is the squared error by the squared size of all vectors, `centred` the same without each channel's mean (what softmax
// sees of K), `worst` the error of the one vector that suffers most, `angle` 1 - cosine, `over limit` the error by 4^-bits, the
// least that N(0,1) can have at so many bits (Shannon). Attention: lib/attention-error.ts says what its error is.
// `of copy`: how long the adapter's best copy kernel takes for the plain values, by how long the codec takes for them.
//
// Environment: GPU_ADAPTERS as in kernels.ts; BENCH_GGML=/path/to/@node-llama-cpp/linux-x64, ggml's own quantizers, which then
// have to give the same numbers as ours of their formats.
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { SCENES } from './lib/attention-error.ts';
import { attentionChecks, entropyChecks, fixedRateChecks, timeChecks } from './lib/codec-checks.ts';
import { meanFigures, type SceneName, type Subject, subjectsOf } from './lib/codec-figures.ts';
import { drawFigures } from './lib/codec-picture.ts';
import {
  type ToldAttention,
  type ToldDistortion,
  tellAttention,
  tellDistortion,
  tellLossless,
  tellTimes,
} from './lib/codec-tables.ts';
import { shareOut } from './lib/codec-threads.ts';
import { measureTimes } from './lib/codec-times.ts';
import { GGML_FORMATS, openGgml } from './lib/ggml.ts';
import { type Report, type RunOptions, WrongAnswer } from './lib/report.ts';
import { iq4_nl, q4_0, q8_0 } from './lib/rivals-blocks.ts';

export const title = 'codecs: error over bits beside other codecs, and speed beside a copy';

const TOKENS = 4096;
const TOKENS_QUICK = 512;
const REPETITIONS = 3;

const PICTURE = fileURLToPath(new URL('./results/codecs.svg', import.meta.url));

export async function run({ quick, log }: RunOptions): Promise<Report> {
  const tokens = quick ? TOKENS_QUICK : TOKENS;
  const repetitions = quick ? 1 : REPETITIONS;
  const subjects = subjectsOf(tokens);
  const confirmed = await confirmByGgml(subjects);
  const told = await measureDistortion(subjects, tokens, log);
  const attention = await measureAttention(tokens, repetitions, log);
  const { adapters, missing } = await measureTimes(quick, process.env.GPU_ADAPTERS, log);
  mkdirSync(dirname(PICTURE), { recursive: true });
  writeFileSync(PICTURE, drawFigures(told, attention));
  const gauss = told.find(({ subject }) => subject.name === 'gauss')?.figures ?? [];
  return {
    tables: [
      ...told.map(tellDistortion),
      tellLossless(subjects),
      ...attention.map(tellAttention),
      ...adapters.map(tellTimes),
    ],
    checks: [
      ...fixedRateChecks(gauss),
      ...entropyChecks(subjects),
      ...attentionChecks(attention),
      ...timeChecks(adapters),
    ],
    notes: [
      `${tokens} vectors of 128 values of each kind; attention: ${repetitions} times 64 queries.`,
      confirmed,
      ...missing,
    ],
  };
}

async function measureDistortion(
  subjects: readonly Subject[],
  tokens: number,
  log: RunOptions['log'],
): Promise<ToldDistortion[]> {
  const tasks = subjects.map(({ name }) => ({ kind: 'distortion', subject: name, tokens }) as const);
  const answers = await shareOut(tasks, ({ subject }) => log(`distortion of ${subject}`));
  return subjects.map((subject, i) => ({ subject, figures: answers[i] ?? [] }));
}

async function measureAttention(tokens: number, repetitions: number, log: RunOptions['log']): Promise<ToldAttention[]> {
  const names = Object.keys(SCENES) as SceneName[];
  const tasks = names.flatMap((scene) =>
    Array.from({ length: repetitions }, (_, repetition) => ({ kind: 'attention', scene, repetition, tokens }) as const),
  );
  const answers = await shareOut(tasks, ({ scene, repetition }) => log(`attention of ${scene}, ${repetition + 1}`));
  return names.map((name, i) => ({
    name,
    figures: meanFigures(answers.slice(i * repetitions, (i + 1) * repetitions)),
  }));
}

/** Ours of ggml's formats must be ggml's, bit for bit, wherever ggml is there to be asked. */
async function confirmByGgml(subjects: readonly Subject[]): Promise<string> {
  const ggml = await openGgml(process.env.BENCH_GGML);
  const formats = GGML_FORMATS.join(', ');
  if (typeof ggml === 'string') return `${formats} are ours after ggml's definitions, not confirmed by ggml (${ggml}).`;
  const ours = { q8_0, q4_0, iq4_nl };
  for (const { title, vectors } of subjects)
    for (const format of GGML_FORMATS) {
      const [mine, theirs] = [ours[format](vectors).values, ggml.roundTrip(format, vectors.values)];
      const at = mine.findIndex((value, i) => value !== theirs[i]);
      if (at >= 0)
        throw new WrongAnswer(`${format} of ${title}: value ${at} is ${mine[at]}, and ${theirs[at]} by ggml`);
    }
  return `${formats} are bit for bit what ggml's own quantizers give here (${ggml.version}).`;
}
