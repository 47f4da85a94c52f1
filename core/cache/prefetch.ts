// What is likely to be asked for next and is not on an adapter, brought there ahead (predict.ts and kv/foresight.ts say which):
// a few at once, into room that is free. A guess is right when it is read while it is hot, late when it is read before it is
// there, and wrong when neither came to pass in time; one that is still on its way is given up then, or when others
// need the room. All guesses are bounded, and each is counted once. Pure.

/** A guess that nobody has asked for by then was wrong. */
const GUESS_MS = 60_000;
const GUESSES_MAX = 1024;

export interface PrefetchStats {
  /** On their way now. */
  coming: number;
  /** Read from an adapter, to which they would not have come by themselves: the hits gained. */
  used: number;
  /** Read before they were there. */
  late: number;
  /** Brought, and not read in time. */
  wrong: number;
  /** Given up on the way, or not begun: no free room, pieces needed by others, too old, or gone. */
  cancelled: number;
  /** used / (used + wrong): of what was brought, the share that was read. 0 while nothing is known. */
  precision: number;
  /** used / (used + reads from disk): of the reads that would have come from disk, the share that did not. */
  recall: number;
}

export interface Prefetch<E> {
  /** It is asked for, and this is what there is. */
  asked(id: string, entry: E | undefined): void;
  /** These may come next, the likeliest first. */
  begin(likely: Iterable<E>): void;
  /** Others need room: what is on its way is given up. */
  yieldRoom(): void;
  stats(): PrefetchStats;
  /** Resolves once nothing is on its way. */
  close(): Promise<void>;
}

export interface PrefetchOptions<E> {
  /** Entries on their way at once; 0: none ever. */
  readonly entriesMax: number;
  readonly idOf: (entry: E) => string;
  /** It is where it is read from at once. */
  readonly isHot: (entry: E) => boolean;
  /** It is elsewhere, and nobody brings it. */
  readonly isAbsent: (entry: E) => boolean;
  /** Into free room only; whether it was. Throws the signal's reason. */
  readonly bring: (entry: E, signal: AbortSignal) => Promise<boolean>;
  readonly now: () => number;
}

interface Guess<E> {
  readonly entry: E;
  readonly until: number;
  /** Ends its way; undefined once it is there. */
  coming: AbortController | undefined;
}

export function createPrefetch<E>(options: PrefetchOptions<E>): Prefetch<E> {
  const { entriesMax, idOf, isHot, isAbsent, bring, now } = options;
  /** By id, the oldest first. */
  const guesses = new Map<string, Guess<E>>();
  const coming = new Set<Promise<void>>();
  const count = { used: 0, late: 0, wrong: 0, cancelled: 0, cold: 0 };

  function start(entry: E): void {
    const controller = new AbortController();
    const id = idOf(entry);
    const guess: Guess<E> = { entry, until: now() + GUESS_MS, coming: controller };
    guesses.set(id, guess);
    const way: Promise<void> = bring(entry, controller.signal)
      .catch(() => false)
      .then((isThere) => {
        coming.delete(way);
        guess.coming = undefined;
        if (isThere || guesses.get(id) !== guess) return;
        guesses.delete(id);
        count.cancelled++;
      });
    coming.add(way);
  }

  /** The key is asked for: how the guess was. */
  function judge(id: string, guess: Guess<E>, entry: E | undefined): void {
    guesses.delete(id);
    if (guess.coming) count.late++;
    else if (entry !== undefined && entry === guess.entry && isHot(entry)) count.used++;
    else count.wrong++;
  }

  function giveUp(guess: Guess<E>): void {
    guesses.delete(idOf(guess.entry));
    if (guess.coming) count.cancelled++;
    else count.wrong++;
    guess.coming?.abort(new Error('it is not wanted any more'));
  }

  function forgetOld(): void {
    const time = now();
    for (const guess of guesses.values()) {
      if (guess.until > time && guesses.size < GUESSES_MAX) return;
      giveUp(guess);
    }
  }

  return {
    asked(id, entry) {
      if (entriesMax === 0) return;
      const guess = guesses.get(id);
      if (guess) judge(id, guess, entry);
      if (entry !== undefined && !isHot(entry)) count.cold++;
      forgetOld();
    },
    begin(likely) {
      for (const entry of likely) {
        if (coming.size >= entriesMax) return;
        if (isAbsent(entry) && !guesses.has(idOf(entry))) start(entry);
      }
    },
    yieldRoom() {
      if (coming.size === 0) return;
      for (const guess of [...guesses.values()]) if (guess.coming) giveUp(guess);
    },
    stats() {
      const { used, late, wrong, cancelled, cold } = count;
      return {
        coming: coming.size,
        used,
        late,
        wrong,
        cancelled,
        precision: share(used, wrong),
        recall: share(used, cold),
      };
    },
    async close() {
      for (const { coming } of guesses.values()) coming?.abort(new Error('the cache is closed'));
      await Promise.all(coming);
    },
  };
}

const share = (part: number, rest: number): number => (part + rest === 0 ? 0 : part / (part + rest));
