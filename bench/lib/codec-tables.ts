// The codec benchmark's figures as tables; what their columns mean stands at the head of bench/codecs.ts.
import { LOGIT_DEVIATIONS } from './attention-error.ts';
import { ofCopy, ratioOf } from './codec-checks.ts';
import type { AttentionFigure, Figure, SceneName, Subject } from './codec-figures.ts';
import type { AdapterCodecTimes } from './codec-times.ts';
import { losslessRatio } from './our-entropy-codecs.ts';
import type { Column, Table } from './report.ts';
import { median, percentile } from './statistics.ts';

export interface ToldDistortion {
  readonly subject: Subject;
  readonly figures: readonly Figure[];
}
export interface ToldAttention {
  readonly name: SceneName;
  readonly figures: readonly AttentionFigure[];
}

const plain = (...names: string[]): Column[] => names.map((name) => ({ name, unit: '' }));

export function tellDistortion({ subject, figures }: ToldDistortion): Table {
  const centred = subject.mean !== undefined;
  return {
    title: subject.title,
    columns: plain('bits', 'of f16', 'error', ...(centred ? ['centred'] : []), 'worst', 'angle', 'over limit'),
    rows: figures.map(({ name, bits, error, centredError, worst, angle, overLimit }) => ({
      name,
      values: [bits, bits / 16, error, ...(centred ? [centredError] : []), worst, angle, overLimit],
    })),
  };
}

export function tellLossless(subjects: readonly Subject[]): Table {
  return {
    title: 'lossless, of the size of',
    columns: plain('f16', 'bf16'),
    rows: subjects.map(({ title, vectors }) => ({
      name: title,
      values: [losslessRatio(vectors, 'f16'), losslessRatio(vectors, 'bf16')],
    })),
  };
}

export function tellAttention({ name, figures }: ToldAttention): Table {
  const errors = LOGIT_DEVIATIONS.map((deviation) => `error, std ${deviation}`);
  const angles = LOGIT_DEVIATIONS.map((deviation) => `angle, std ${deviation}`);
  return {
    title: `attention: ${name}`,
    columns: plain('bits K', 'bits V', 'of f16', ...errors, ...angles),
    rows: figures.map((figure) => ({
      name: figure.name,
      values: [
        ...[figure.bitsK, figure.bitsV, ratioOf(figure)],
        ...figure.errors.map(({ error }) => error),
        ...figure.errors.map(({ angle }) => angle),
      ],
    })),
  };
}

export function tellTimes({ adapter, times }: AdapterCodecTimes): Table {
  return {
    title: `${adapter}: kernels`,
    columns: [
      ...['median', 'p25', 'p75'].map((name) => ({ name, unit: 'ms' })),
      { name: 'plain values', unit: 'GB/s' },
      ...plain('of copy'),
    ],
    rows: times.map((each) => ({
      name: `${each.name} (${each.variant})`,
      values: [
        ...[median(each.ms), percentile(each.ms, 0.25), percentile(each.ms, 0.75)],
        each.plainBytes / median(each.ms) / 1e6,
        ofCopy(times, each),
      ],
    })),
  };
}
