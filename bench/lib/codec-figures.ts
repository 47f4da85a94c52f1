// What the codec benchmark measures of each contestant: distortion on data of several kinds, and the error of attention's
// output. Everything is seeded: figures differ only when a codec does. What comes out is plain data, for the threads that
// share the work (codec-threads.ts). Pure.
import { type AttentionError, attentionErrors, SCENES } from './attention-error.ts';
import { type Contestant, lessMean, meanOfHead, plusMean } from './coded.ts';
import { type Distortion, distortionOf } from './distortion.ts';
import { gaussian, heavyValues, outlierKeys, rotaryEmbedding, unitSphere, type Vectors } from './kv-data.ts';

/** Data of one kind; of K, also its head's mean for each vector. */
export interface Subject {
  readonly name: 'gauss' | 'sphere' | 'keys' | 'turned keys' | 'values';
  readonly title: string;
  readonly vectors: Vectors;
  readonly mean?: Vectors;
}

export function subjectsOf(tokens: number): Subject[] {
  const keys = outlierKeys(3, tokens);
  const mean = meanOfHead(keys);
  const [turnedKeys, turnedMean] = [rotaryEmbedding(keys), rotaryEmbedding(mean)];
  return [
    { name: 'gauss', title: 'N(0,1)', vectors: gaussian(1, tokens) },
    { name: 'sphere', title: 'unit sphere', vectors: unitSphere(2, tokens) },
    { name: 'keys', title: 'K with outlier channels, before RoPE', vectors: keys, mean },
    { name: 'turned keys', title: 'K with outlier channels, after RoPE', vectors: turnedKeys, mean: turnedMean },
    { name: 'values', title: 'V with heavy tails', vectors: heavyValues(4, tokens) },
  ];
}

/** One row: a codec, or a codec with the head's mean taken from K. */
export interface Figure extends Distortion {
  readonly name: string;
  readonly codec: string;
  readonly isOurs: boolean;
  readonly series?: string | undefined;
  /** Whether this is how its maker would code these data. */
  readonly isUsual: boolean;
}

export function figuresOf({ vectors, mean }: Subject, contestants: readonly Contestant[]): Figure[] {
  const rest = mean && lessMean(vectors, mean);
  return contestants.flatMap(({ name, isOurs, series, keys, values, takesMean }): Figure[] => {
    const figure = {
      name,
      codec: name,
      isOurs,
      series,
      isUsual: true,
      ...distortionOf(vectors, (mean ? keys : values)(vectors)),
    };
    if (!mean || !rest || !takesMean) return [figure];
    const distortion = distortionOf(vectors, plusMean(keys(rest), mean));
    return [
      { ...figure, isUsual: false },
      { ...figure, name: `${name}, head mean`, ...distortion },
    ];
  });
}

export interface AttentionFigure {
  readonly name: string;
  readonly isOurs: boolean;
  readonly series?: string | undefined;
  readonly bitsK: number;
  readonly bitsV: number;
  /** For each of LOGIT_DEVIATIONS. */
  readonly errors: readonly AttentionError[];
}

export type SceneName = keyof typeof SCENES;

export function attentionOf(
  name: SceneName,
  repetition: number,
  tokens: number,
  contestants: readonly Contestant[],
): AttentionFigure[] {
  const scene = SCENES[name](repetition, tokens);
  const mean = meanOfHead(scene.keys);
  const rest = lessMean(scene.keys, mean);
  return contestants.map(({ name, isOurs, series, keys, values, takesMean }) => {
    const k = takesMean ? plusMean(keys(rest), mean) : keys(scene.keys);
    const v = values(scene.values);
    return { name, isOurs, series, bitsK: k.bits, bitsV: v.bits, errors: attentionErrors(scene, k, v) };
  });
}

/** Of repetitions with other data, in which every contestant has the same place. */
export function meanFigures(repetitions: readonly (readonly AttentionFigure[])[]): AttentionFigure[] {
  const [first = []] = repetitions;
  return first.map((figure, place) => {
    const mean = (of: (figure: AttentionFigure) => number) =>
      repetitions.reduce((sum, figures) => sum + of(figures[place] ?? figure), 0) / repetitions.length;
    return {
      ...figure,
      bitsK: mean(({ bitsK }) => bitsK),
      bitsV: mean(({ bitsV }) => bitsV),
      errors: figure.errors.map((_, level) => ({
        error: mean(({ errors }) => errors[level]?.error ?? Number.NaN),
        angle: mean(({ errors }) => errors[level]?.angle ?? Number.NaN),
      })),
    };
  });
}
