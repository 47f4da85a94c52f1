// The nonces seen, in this process's memory. Two requests of one key with one nonce: the second is refused for as long as
// the first could still be accepted.
// Nonces lie in generations by the time they expire; a generation is dropped whole once all of it has expired, so nothing
// is timed or swept entry by entry, and a look-up costs one probe for each live generation (four with the default window).
// An unexpired nonce is never forgotten: when there is no room the request is refused instead. Nor can a clock that jumps
// back revive one: whatever expires no later than a dropped generation counts as seen.
// It does not survive a restart and is not shared between processes.

import { problem } from './problems.ts';
import type { Nonces } from './signatures.ts';

const GENERATION_MS = 120_000;
/** A Set of V8 holds little more. */
const MAX_MAX = 16_000_000;

export interface MemoryNoncesOptions {
  /** How many are remembered at once. */
  readonly max?: number;
  /** Milliseconds since 1970, the clock that `expiresAt` is meant in. */
  readonly now: () => number;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** A text cut from a header keeps the whole header in memory; a copy does not. */
const ownCopy = (text: string): string => decoder.decode(encoder.encode(text));

export function memoryNonces({ max = 1_000_000, now }: MemoryNoncesOptions): Nonces {
  if (!Number.isInteger(max) || max < 1 || max > MAX_MAX) throw new RangeError(`max is ${max}, not 1 to ${MAX_MAX}.`);
  const generations = new Map<number, Set<string>>();
  let size = 0;
  let swept = Number.NaN; // the generation of the clock at the last sweep
  let dropped = Number.NEGATIVE_INFINITY; // the last generation that was dropped with nonces in it

  function dropExpired(): void {
    const current = Math.floor(now() / GENERATION_MS);
    if (current === swept) return;
    swept = current;
    for (const [generation, seen] of generations) {
      if (generation >= current) continue;
      size -= seen.size;
      dropped = Math.max(dropped, generation);
      generations.delete(generation);
    }
  }

  function generationOf(expiresAt: number): number {
    if (!Number.isFinite(expiresAt)) throw new RangeError(`A nonce cannot expire at ${expiresAt}.`);
    return Math.floor(expiresAt / GENERATION_MS);
  }

  return {
    firstSeen(keyid, nonce, expiresAt) {
      dropExpired();
      const generation = generationOf(expiresAt);
      if (generation <= dropped) return false;
      const entry = `${keyid.length}:${keyid}${nonce}`; // the length keeps ("ab","c") apart from ("a","bc")
      for (const seen of generations.values()) if (seen.has(entry)) return false;
      if (size >= max)
        throw problem('replays_full', `${max} nonces are remembered and none has expired yet; try again later.`);
      const seen = generations.get(generation);
      if (seen) seen.add(ownCopy(entry));
      else generations.set(generation, new Set([ownCopy(entry)]));
      size += 1;
      return true;
    },
  };
}
