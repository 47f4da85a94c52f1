// What a key holds, computed where nobody has: once, however many ask, in this process and in all others. Pure.
//
// Callers of one client join one flight for each key; flights of all clients meet at the server, where one owns the claim of
// a key and the others wait. An owner renews its claim while it computes. What its computation throws reaches every caller of
// its flight as it is, and whoever waits elsewhere as the `BlatamError` computation_failed; nothing of it is kept.
// A caller who leaves rejects with its signal's reason. When the last one of all has left, the computation's own signal
// aborts, and nothing is left of it: neither a value nor a claim. While others elsewhere still wait, it goes on for them.
// A value that could not be stored is a value all the same: `notStored` is told why.

import { type ClaimAnswer, claimAnswerSchema, renewAnswerSchema } from '../core/contract/claims.ts';
import type { Crypto } from '../core/contract/crypto.ts';
import type { PutOptions } from './client.ts';
import { BlatamError, readJson } from './client-answers.ts';
import type { Answer, Ask } from './client-wire.ts';

/** A safetensors file. Who no longer needs it aborts the signal; a computation that goes on then is not heard. */
export type Compute = (signal: AbortSignal) => Promise<Uint8Array>;

export interface ComputeOptions extends PutOptions {
  /** Ends this caller's wait. */
  readonly signal?: AbortSignal | undefined;
  readonly notStored?: ((error: unknown) => void) | undefined;
}

export interface ClientCompute {
  /** What the key holds, else what `compute` gives, which it holds then. Of callers who join, the first one's options count. */
  getOrCompute(key: string, compute: Compute, options?: ComputeOptions): Promise<Uint8Array>;
}

export interface ComputeParts {
  readonly ask: (ask: Ask) => Promise<Answer>;
  readonly crypto: Crypto;
  readonly put: (key: string, body: Uint8Array, options: PutOptions & { claim: string }) => Promise<unknown>;
  readonly get: (key: string) => Promise<Uint8Array | undefined>;
  /** The client's own: all flights end. */
  readonly signal: AbortSignal | undefined;
}

const TTL_MS = 30_000;
const BEAT_MS = 10_000;
const PAUSE_MS = 1000;
const WAIT_MS = 20_000;
const REASON_CHARS_MAX = 1000;

interface Flight {
  readonly result: Promise<Uint8Array>;
  /** Callers of this client. */
  callers: number;
  /** What is done when the last of them leaves. */
  alone: () => void;
}

export function clientCompute({ ask, crypto, put, get, signal: ending }: ComputeParts): ClientCompute {
  const flights = new Map<string, Flight>();

  async function post(path: string, said: object, more: Pick<Ask, 'waitMs' | 'signal'> = {}): Promise<Answer> {
    const body = new TextEncoder().encode(JSON.stringify(said));
    const headers = { 'content-type': 'application/json' };
    return ask({ method: 'POST', path, body, digest: await crypto.sha256(body), headers, ...more });
  }
  const claim = async (key: string, signal: AbortSignal): Promise<ClaimAnswer> => {
    const said = { key, ttlMs: TTL_MS, waitMs: WAIT_MS };
    return readJson(await post('/v1/tensors:claim', said, { waitMs: WAIT_MS, signal }), claimAnswerSchema);
  };
  const renew = async (key: string, claim: string, waitMs: number, signal: AbortSignal) => {
    const said = { key, claim, ttlMs: TTL_MS, waitMs };
    return readJson(await post('/v1/tensors:renew', said, { waitMs, signal }), renewAnswerSchema);
  };
  /** Where it has ended already, or the server is away, nothing is left to be said. */
  const release = async (key: string, claim: string, reason?: string): Promise<void> => {
    const answer = await post('/v1/tensors:release', { key, claim, reason }).catch(() => undefined);
    await answer?.stream.cancel();
    answer?.close();
  };

  function begin(key: string, compute: Compute, options: ComputeOptions): Flight {
    const leaving = new AbortController();
    const over = ending ? AbortSignal.any([ending, leaving.signal]) : leaving.signal;
    const leave = () => {
      if (flights.get(key) === flight) flights.delete(key);
      leaving.abort(new DOMException(`Nobody waits for ${key} any more.`, 'AbortError'));
    };
    const result = Promise.resolve().then(() => fly());
    const flight: Flight = { result, callers: 0, alone: leave };
    flights.set(key, flight);
    result
      .catch(() => {}) // said to whoever is still there
      .finally(() => {
        if (flights.get(key) === flight) flights.delete(key);
      });
    return flight;

    /** Until it is held or this one has computed it; each round something has changed, or a wait has passed. */
    async function fly(): Promise<Uint8Array> {
      for (;;) {
        const held = await get(key);
        if (held) return held;
        const answer = await claim(key, over);
        if (answer.state === 'yours') return own(answer.claim);
      }
    }

    async function own(mine: string): Promise<Uint8Array> {
      const done = new AbortController();
      const check = async (waitMs: number): Promise<void> => {
        const { waiting } = await renew(key, mine, waitMs, done.signal);
        if (waiting === 0 && flight.callers === 0) leave();
      };
      // Who cannot be asked does not wait; meanwhile somebody here may have joined.
      flight.alone = () => void check(0).catch(() => flight.callers === 0 && leave());
      void keep(() => check(BEAT_MS), done.signal);
      try {
        const bytes = await untilAborted(compute, over);
        await put(key, bytes, { ...options, claim: mine }).catch(async (error: unknown) => {
          options.notStored?.(error);
          await release(key, mine);
        });
        return bytes;
      } catch (error) {
        await release(key, mine, over.aborted ? undefined : reasonOf(error));
        throw error;
      } finally {
        flight.alone = leave;
        done.abort();
      }
    }
  }

  return {
    async getOrCompute(key, compute, options = {}) {
      const { signal } = options;
      signal?.throwIfAborted();
      const flight = flights.get(key) ?? begin(key, compute, options);
      flight.callers++;
      if (!signal) return flight.result;
      const depart = () => {
        if (--flight.callers === 0) flight.alone();
      };
      signal.addEventListener('abort', depart, { once: true });
      try {
        return await untilAborted(() => flight.result, signal);
      } finally {
        signal.removeEventListener('abort', depart);
      }
    },
  };
}

/** Beats until the signal says so, or the claim has ended: then another may compute it too, and either value will do. */
async function keep(beat: () => Promise<void>, over: AbortSignal): Promise<void> {
  while (!over.aborted)
    try {
      await beat();
    } catch (error) {
      if (over.aborted || (error instanceof BlatamError && error.code === 'claim_lost')) return;
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
}

/** What the work gives, or the signal's reason, whichever comes first. */
function untilAborted<T>(work: (signal: AbortSignal) => Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason);
    const leave = () => reject(signal.reason);
    signal.addEventListener('abort', leave, { once: true });
    Promise.resolve(signal)
      .then(work)
      .then(resolve, reject)
      .finally(() => signal.removeEventListener('abort', leave));
  });
}

const reasonOf = (error: unknown): string =>
  (error instanceof Error ? error.message : String(error)).slice(0, REASON_CHARS_MAX) || 'it did not say why';
