// The pattern of the requests, in a word, for people; nothing is decided by it. Pure.
// Sequential: after a key comes the key that came after it last time (loops, scans told twice), or nothing ever comes again (scans
// told once). Random: the next key is seldom the one of last time. Mixed: neither. Told from one key in many.

export type Pattern = 'sequential' | 'random' | 'mixed';

const KEYS = 1024;
const JUDGED_MIN = 50;
const SEQUENTIAL_SHARE = 0.5;
const RANDOM_SHARE = 0.15;
const NEW_SHARE = 0.95;

export interface PatternWatch {
  /** Undefined before enough was seen. */
  readonly pattern: Pattern | undefined;
  /** A key that is watched was asked for; the next request's is told by `follow`. */
  watch(hash: number): void;
  follow(hash: number): void;
  /** Judges what was seen since the last time. */
  judge(): void;
}

export function createPatternWatch(): PatternWatch {
  const keys = new Uint32Array(KEYS);
  const followers = new Uint32Array(KEYS);
  let at = 0;
  let pattern: Pattern | undefined;
  let seen = 0;
  let again = 0;
  let same = 0;
  let isAgain = false;

  function name(): Pattern | undefined {
    if (seen < JUDGED_MIN) return pattern;
    if (again < (1 - NEW_SHARE) * seen) return 'sequential';
    const share = same / again;
    if (share >= SEQUENTIAL_SHARE) return 'sequential';
    return share <= RANDOM_SHARE ? 'random' : 'mixed';
  }

  return {
    get pattern() {
      return pattern;
    },
    watch(hash) {
      at = Math.imul(hash, 0x85eb_ca77) >>> 22;
      isAgain = keys[at] === hash;
      keys[at] = hash;
      seen++;
      if (isAgain) again++;
    },
    follow(hash) {
      if (isAgain && followers[at] === hash) same++;
      followers[at] = hash;
    },
    judge() {
      pattern = name();
      if (seen >= JUDGED_MIN) seen = again = same = 0;
    },
  };
}
