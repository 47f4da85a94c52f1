// How much a block was used, for each of several half-lives, and what that is worth: LRFU (Lee et al. 2001). A use counts one, and half as
// much each half-life later; a weight is the logarithm, base 2, of that sum as it was at the last use. Kept in logarithms, a
// rank never falls while nobody uses the block, and two ranks compare the same at any later time: nothing has to be aged.
// Time is in blocks that were asked for, and half-lives in turnovers: as many blocks as the cache has room for. Pure.

/** In turnovers of the cache. */
export const HALF_LIVES = [0.5, 2, 8, 32] as const;
export const WEIGHTS = HALF_LIVES.length;
/** In turnovers: a model asks for the same blocks layer by layer and token by token, and that is one use. */
export const PAUSE = 1 / 64;

/** Weights are 16 bits: up to 32, to 1/2048. */
const SCALE = 2048;
const WEIGHT_MAX = 65_535;

/** log2(1 + 2^x) for x below 0, in steps; what is lower is 0. */
const STEPS = 256;
const LOWEST = 16;
const SUMS = new Float32Array(LOWEST * STEPS + 2).map((_, i) => Math.log2(1 + 2 ** (-i / STEPS)));

function logOfSum(x: number): number {
  const down = Math.abs(x);
  const above = x > 0 ? x : 0;
  if (down >= LOWEST) return above;
  const step = Math.floor(down * STEPS);
  const from = SUMS[step] as number;
  return above + from + ((SUMS[step + 1] as number) - from) * (down * STEPS - step);
}

export function firstUse(weights: Uint16Array, at: number): void {
  for (let i = 0; i < WEIGHTS; i++) weights[at + i] = 0;
}

/** One more, so many turnovers after the last; false where that was so recent that it goes on, and counts once, from now on. */
export function countUse(weights: Uint16Array, at: number, turnovers: number): boolean {
  const isNew = turnovers >= PAUSE;
  for (let i = 0; i < WEIGHTS; i++) {
    const left = (weights[at + i] as number) / SCALE - turnovers / (HALF_LIVES[i] as number);
    weights[at + i] = Math.min(WEIGHT_MAX, Math.round((isNew ? logOfSum(left) : Math.max(0, left)) * SCALE));
  }
  return isNew;
}

export const weightOf = (weights: Uint16Array, at: number): number => (weights[at] as number) / SCALE;
