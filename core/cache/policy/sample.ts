// Which keys stand for all where a cache is tried in the small: those whose hash has none of some bits. It begins with all keys; each halving
// leaves out every other one. The bits are the highest, as tables go by the low ones. Pure.

export interface Sample {
  /** Of all keys. */
  readonly share: number;
  /** Whose hash has any of these is not in it: `(hash & hashBits) === 0`, which costs no call. */
  readonly hashBits: number;
  halve(): void;
}

const TOP_BIT = 1 << 31;

export function createSample(): Sample {
  const sample = {
    share: 1,
    hashBits: 0,
    halve() {
      sample.share /= 2;
      sample.hashBits = (sample.hashBits >> 1) | TOP_BIT;
    },
  };
  return sample;
}
