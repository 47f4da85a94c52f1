// Randomness that can be had again: set SEED to repeat a run.

export interface Seeded {
  readonly seed: number;
  /** From 0, below 1. */
  next(): number;
  /** A whole number from 0, below `n`. */
  below(n: number): number;
  pick<T>(choices: readonly [T, ...T[]]): T;
  bytes(n: number): Uint8Array;
}

export function seeded(fallback = 20_261_120): Seeded {
  const seed = Number(process.env.SEED ?? fallback) >>> 0;
  let state = seed;
  const word = (): number => {
    state = (state + 0x9e37_79b9) >>> 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 16), 0x21f0_aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a_2d97);
    return (z ^ (z >>> 15)) >>> 0;
  };
  const next = () => word() / 2 ** 32;
  return {
    seed,
    next,
    below: (n) => Math.floor(next() * n),
    pick: (choices) => choices[Math.floor(next() * choices.length)] ?? choices[0],
    bytes(n) {
      const bytes = new Uint8Array(n);
      for (let i = 0; i < n; i++) bytes[i] = word();
      return bytes;
    },
  };
}
