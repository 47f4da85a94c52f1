// The nonces seen, in this process's memory. Two requests of one key with one nonce: the second is refused for as long as
// the first could still be accepted.
// Nonces lie in generations by the time they expire; a generation is dropped whole once all of it has expired, so nothing
// is timed or swept entry by entry, and a look-up costs one probe for each live generation (four with the default window).
// An unexpired nonce is never forgotten: when there is no room the request is refused instead. A key may have eight times what is free,
// so that one that floods is refused before it has shut out the others: alone it has eight ninths. Nor can a clock that jumps
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

/** Of what is free, times so many may be one key's. */
const OF_FREE = 8;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** A text cut from a header keeps the whole header in memory; a copy does not. */
const ownCopy = (text: string): string => decoder.decode(encoder.encode(text));

export function memoryNonces({ max = 1_000_000, now }: MemoryNoncesOptions): Nonces {
  if (!Number.isInteger(max) || max < 1 || max > MAX_MAX) throw new RangeError(`max is ${max}, not 1 to ${MAX_MAX}.`);
  /** By generation and key. */
  const generations = new Map<number, Map<string, Set<string>>>();
  let size = 0;
  let swept = Number.NaN; // the generation of the clock at the last sweep
  let dropped = Number.NEGATIVE_INFINITY; // the last generation that was dropped with nonces in it

  function dropExpired(): void {
    const current = Math.floor(now() / GENERATION_MS);
    if (current === swept) return;
    swept = current;
    for (const [generation, seen] of generations) {
      if (generation >= current) continue;
      for (const each of seen.values()) size -= each.size;
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
      let own = 0;
      for (const seen of generations.values()) {
        const ofKey = seen.get(keyid);
        if (ofKey?.has(nonce)) return false;
        own += ofKey?.size ?? 0;
      }
      if (own >= OF_FREE * (max - size))
        throw problem(
          'replays_full',
          `${size} nonces are remembered, ${own} of this key, and ${max} may be (NONCES_MAX); try again later.`,
        );
      const seen = generations.get(generation) ?? new Map<string, Set<string>>();
      generations.set(generation, seen);
      const ofKey = seen.get(keyid);
      if (ofKey) ofKey.add(ownCopy(nonce));
      else seen.set(keyid, new Set([ownCopy(nonce)]));
      size += 1;
      return true;
    },
  };
}
