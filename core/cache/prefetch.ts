// Keys that are likely to be asked for next and are only on disk, brought to an adapter ahead (predict.ts says which, bring.ts how):
// a few at once, into room that is free. A guess is right when it is read while it is hot, late when it is read before it is
// there, and wrong when neither came to pass in time; one that is still on its way is given up then, or when others
// need the room. All guesses are bounded, and each is counted once.
import type { Bring, Brought } from './bring.ts';
import { isAbsent } from './bring.ts';
import { type Entry, idOf, isHot } from './entry.ts';
import type { Predictor } from './predict.ts';

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

export interface Prefetch {
  /** A tenant asks for a key, and this is what it holds. What may come next is brought when the result is called. */
  asked(tenant: string, key: string, entry: Entry | undefined): () => void;
  /** Others need room: what is on its way is given up. */
  yieldRoom(): void;
  stats(): PrefetchStats;
  /** Resolves once nothing is on its way. */
  close(): Promise<void>;
}

export interface PrefetchOptions {
  /** Entries on their way at once; 0: none ever. */
  readonly entriesMax: number;
  readonly predictor: Predictor;
  readonly find: (tenant: string, key: string) => Entry | undefined;
  readonly bring: Bring;
  readonly now: () => number;
}

interface Guess {
  readonly entry: Entry;
  readonly until: number;
  /** Ends its way; undefined once it is there. */
  coming: AbortController | undefined;
}

export function createPrefetch({ entriesMax, predictor, find, bring, now }: PrefetchOptions): Prefetch {
  /** By id, the oldest first. */
  const guesses = new Map<string, Guess>();
  const coming = new Set<Promise<void>>();
  const count = { used: 0, late: 0, wrong: 0, cancelled: 0, cold: 0 };

  function start(entry: Entry): void {
    const controller = new AbortController();
    const guess: Guess = { entry, until: now() + GUESS_MS, coming: controller };
    guesses.set(entry.id, guess);
    const way: Promise<void> = bring(entry, controller.signal)
      .catch((): Brought => 'gone')
      .then((end) => {
        coming.delete(way);
        guess.coming = undefined;
        if (end === 'brought' || guesses.get(entry.id) !== guess) return;
        guesses.delete(entry.id);
        count.cancelled++;
      });
    coming.add(way);
  }

  /** The key is asked for: how the guess was. */
  function judge(guess: Guess, entry: Entry | undefined): void {
    guesses.delete(guess.entry.id);
    if (guess.coming) count.late++;
    else if (entry === guess.entry && isHot(entry)) count.used++;
    else count.wrong++;
  }

  function giveUp(guess: Guess): void {
    guesses.delete(guess.entry.id);
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
    asked(tenant, key, entry) {
      if (entriesMax === 0) return () => {};
      const guess = guesses.get(idOf(tenant, key));
      if (guess) judge(guess, entry);
      if (entry && !isHot(entry)) count.cold++;
      forgetOld();
      const likely = predictor.next(tenant, key);
      return () => {
        for (const next of likely) {
          if (coming.size >= entriesMax) return;
          const found = find(tenant, next);
          if (found && isAbsent(found) && !guesses.has(found.id)) start(found);
        }
      };
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
