// The codec benchmark's figures as a picture: four panels, of which the last is what a cache's owner pays for. Pure.
import { ratioOf } from './codec-checks.ts';
import type { ToldAttention, ToldDistortion } from './codec-tables.ts';
import { type Panel, picture } from './picture.ts';

const CAPTION =
  'KV cache codecs: less is better. Of K, ours are shown with the head mean taken out. What has 8 bits lies beyond the right edge.';
const BITS_SHOWN = [1.8, 5.4] as const;

export function drawFigures(told: readonly ToldDistortion[], attention: readonly ToldAttention[]): string {
  const panels: Panel[] = told
    .filter(({ subject }) => ['gauss', 'keys', 'values'].includes(subject.name))
    .map(({ subject, figures }) => ({
      ...{ title: subject.title, yName: 'relative squared error', hasLimit: subject.name === 'gauss' },
      marks: figures
        .filter(({ isUsual }) => isUsual)
        .map(({ codec, isOurs, series, bits, error }) => ({ name: codec, isOurs, series, bits, error })),
    }));
  const outliers = attention.find(({ name }) => name === 'outliers')?.figures ?? [];
  panels.push({
    ...{
      title: 'Attention: K with outliers, V with heavy tails, logit std 2',
      yName: 'relative error of the output',
      hasLimit: false,
    },
    // pairs of different codecs would crowd it
    marks: outliers
      .filter(({ name }) => !name.includes(','))
      .map((figure) => {
        const { name, isOurs, series } = figure;
        return { name, isOurs, series, bits: 16 * ratioOf(figure), error: figure.errors[1]?.error ?? 0 };
      }),
  });
  return picture(panels, BITS_SHOWN, CAPTION);
}
