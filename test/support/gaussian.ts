// Normal values, mean 0 and variance 1, from a seed.
import type { Seeded } from './seeded.ts';

export const gaussian =
  ({ next }: Seeded) =>
  (): number =>
    Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next());
