// What was asked of our codecs, and what was measured.
import type { AttentionFigure, Figure, Subject } from './codec-figures.ts';
import type { AdapterCodecTimes, CodecTime } from './codec-times.ts';
import { distortionOf } from './distortion.ts';
import { ecKeys, ecValues, losslessRatio } from './our-entropy-codecs.ts';
import { atLeast, atMost, type Check } from './report.ts';
import { median } from './statistics.ts';

/** Bits, and the error on N(0,1), at most. */
const FIXED: readonly (readonly [codec: string, bits: number, error: number])[] = [
  ['q8r', 8.14, 4.3e-5],
  ['tq4', 4.25, 0.0095],
  ['tcq4', 4.25, 0.0043],
  ['tcq3', 3.25, 0.016],
  ['tcq2', 2.25, 0.0605],
  ['tcq4e', 4, 0.0058],
  ['tcq3e', 3, 0.0222],
  ['tcq2e', 2, 0.087],
];

export function fixedRateChecks(gauss: readonly Figure[]): Check[] {
  return FIXED.flatMap(([codec, bits, error]) => {
    const found = gauss.find(({ name }) => name === codec);
    return [
      atMost(`${codec} on N(0,1), bits`, bits, found?.bits ?? null, ''),
      atMost(`${codec} on N(0,1), error`, error, found?.error ?? null, ''),
    ];
  });
}

/** The error that is asked for, and the bits of the bytes that it takes, at most. */
const EC: readonly (readonly [subject: Subject['name'], error: number, bits: number])[] = [
  ['gauss', 0.0265, 3.1],
  ['gauss', 0.0094, 3.85],
  ['keys', 0.0031, 3.2],
];

/** Of f16(N(0,1)) and bf16(N(0,1)), whose entropies are .842 and .656 of their sizes. */
const LOSSLESS = { f16: 0.848, bf16: 0.664 } as const;

export function entropyChecks(subjects: readonly Subject[]): Check[] {
  const vectorsOf = (name: Subject['name']) => subjects.find((subject) => subject.name === name)?.vectors;
  const gauss = vectorsOf('gauss');
  return [
    ...EC.flatMap(([name, error, bits]) => {
      const vectors = vectorsOf(name);
      const coder = name === 'keys' ? ecKeys({ error }) : ecValues({ error });
      const found = vectors && distortionOf(vectors, coder(vectors));
      const about = `ec asked for ${error} on ${name === 'keys' ? 'K with outlier channels' : 'N(0,1)'}`;
      return [
        atMost(`${about}, bits`, bits, found?.bits ?? null, ''),
        atMost(`${about}, error`, error, found?.error ?? null, ''),
      ];
    }),
    ...(['f16', 'bf16'] as const).map((kind) =>
      atMost(`lossless on N(0,1), ${kind}, of its size`, LOSSLESS[kind], gauss ? losslessRatio(gauss, kind) : null, ''),
    ),
  ];
}

/** Of f16, and the error of the output where logits have deviation 2, at most. */
const ATTENTION: readonly (readonly [pair: string, scene: string, ratio: number, error: number])[] = [
  ['tcq4', 'gauss', 0.27, 0.14],
  ['tcq4', 'outliers', 0.27, 0.095],
  ['ec K5.2 V4.4', 'gauss', 0.3, 0.1],
  ['ec K5.2 V4.4', 'outliers', 0.3, 0.05],
];

export const ratioOf = ({ bitsK, bitsV }: AttentionFigure): number => (bitsK + bitsV) / 32;
const DEVIATION_2 = 1;

export function attentionChecks(scenes: readonly { name: string; figures: readonly AttentionFigure[] }[]): Check[] {
  return ATTENTION.flatMap(([pair, scene, ratio, error]) => {
    const found = scenes.find(({ name }) => name === scene)?.figures.find((figure) => figure.name === pair);
    const about = `${pair}, attention of ${scene}, logit std 2`;
    return [
      atMost(`${about}, of f16`, ratio, found ? ratioOf(found) : null, ''),
      atMost(`${about}, error`, error, found?.errors[DEVIATION_2]?.error ?? null, ''),
    ];
  });
}

// ---- speed

/** The best copy's time for as many plain bytes, by the codec's. */
export function ofCopy(times: readonly CodecTime[], { plainBytes, ms }: CodecTime): number | null {
  const copy = times.find(({ name }) => name === 'copy');
  return copy ? ((median(copy.ms) / copy.plainBytes) * plainBytes) / median(ms) : null;
}

/** Of the adapter's copy, at least: on lavapipe, on SwiftShader. Of other adapters nothing was asked. */
const SPEEDS: readonly (readonly [name: string, lavapipe: number, swiftShader: number])[] = [
  ['tcq4 decode', 0.8, 0.18],
  ['tcq4f encode', 0.05, 0.015],
  ['lossless f16 decode', 0.22, 0.07],
  ['lossless bf16 decode', 0.22, 0.07],
];

export function timeChecks(adapters: readonly AdapterCodecTimes[]): Check[] {
  return [/llvmpipe/i, /swiftshader/i].flatMap((adapter, place) => {
    const found = adapters.find((each) => adapter.test(each.adapter));
    return SPEEDS.map(([name, ...asked]) => {
      const time = found?.times.find((each) => each.name === name);
      const software = place === 0 ? 'lavapipe' : 'SwiftShader';
      return atLeast(
        `${software}, ${name}, of copy`,
        asked[place] ?? 0,
        found && time ? ofCopy(found.times, time) : null,
        '',
      );
    });
  });
}
