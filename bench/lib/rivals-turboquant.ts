// TurboQuant's scalar quantizer (the form for mean squared error): rotated vectors, an f16 scale that makes them of unit variance, each
// value to the nearest level of Lloyd's and Max's codebook for the standard normal distribution. Pure.
import { type Coder, inGroups, rotated } from './coded.ts';
import { sumOfSquares } from './kv-data.ts';

const density = (x: number): number => Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI);

/** How much of the standard normal distribution lies below x (Marsaglia's series). */
export function normalShare(x: number): number {
  if (Math.abs(x) > 8) return x > 0 ? 1 : 0;
  let [term, sum] = [x, x];
  for (let i = 3; sum + term !== sum; i += 2) {
    term *= (x * x) / i;
    sum += term;
  }
  return 0.5 + sum * density(x);
}

const SETTLED = 1e-10;
const ROUNDS_MAX = 20_000;

/** The levels that leave the least squared error, each the mean of what is nearest to it. */
export function lloydMax(bits: number): readonly number[] {
  const count = 2 ** bits;
  let levels = Array.from({ length: count }, (_, i) => ((i + 0.5) / count) * 6 - 3);
  for (let round = 0; round < ROUNDS_MAX; round++) {
    const edges = bounds(levels);
    const next = levels.map((_, i) => meanBetween(edges[i - 1] ?? -40, edges[i] ?? 40));
    const moved = next.reduce((most, level, i) => Math.max(most, Math.abs(level - (levels[i] ?? 0))), 0);
    levels = next;
    if (moved < SETTLED) return levels;
  }
  throw new Error(`the codebook of ${bits} bits did not settle in ${ROUNDS_MAX} rounds`);
}

/** Halfway between neighbours. */
const bounds = (levels: readonly number[]): number[] =>
  levels.slice(1).map((level, i) => (level + (levels[i] ?? 0)) / 2);

const meanBetween = (low: number, high: number): number =>
  (density(low) - density(high)) / (normalShare(high) - normalShare(low));

export function turboQuant(bits: number): Coder {
  const levels = lloydMax(bits);
  const edges = bounds(levels);
  return rotated((vectors) => ({
    bits: bits + 16 / vectors.dim,
    values: inGroups(vectors, vectors.dim, (source, target) => {
      const deviation = Math.sqrt(sumOfSquares(source) / source.length);
      if (deviation === 0) return void target.fill(0);
      const scale = Math.f16round(deviation);
      for (const [i, value] of source.entries()) {
        const level = edges.findIndex((edge) => value / deviation <= edge);
        target[i] = (levels.at(level) ?? 0) * scale;
      }
    }),
  }));
}
