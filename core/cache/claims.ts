// Who computes a key that is not held. The first who asks owns the claim; everybody else stands in line for what becomes of
// it: the key is held (all are told), its computation failed (all are told the same), or the claim was given up or ran out by
// the clock (the first in line owns it next). Tenants never meet.
// Nothing is kept of a key whose claim has ended and for which nobody waits, and no outcome either: whoever asks after a
// failure begins anew. Both claims and those who wait are bounded for each tenant.
// Bookkeeping only: nothing here waits. Who stands in line is told once, by a call, unless it has left before.
import { randomBytes } from 'node:crypto';
import { type Problem, problem } from '../contract/problems.ts';

const CLAIM_BYTES = 16;

export interface ClaimBounds {
  /** Of one tenant. */
  readonly claimsMax: number;
  readonly waitingMax: number;
}

export interface ClaimsOptions extends Partial<ClaimBounds> {
  /** Milliseconds since 1970. */
  readonly now: () => number;
}

export interface Named {
  readonly tenant: string;
  readonly key: string;
}

/** Of an owner: what it was given. */
export interface Claimed extends Named {
  readonly claim: string;
}

export interface Asked extends Named {
  /** How long the claim lasts without being renewed, for whoever asks and comes to own it. */
  readonly ttlMs: number;
}

export interface Owned {
  readonly claim: string;
  readonly expiresAt: number;
}

export type End =
  | { readonly is: 'yours'; readonly owned: Owned }
  | { readonly is: 'held' }
  | { readonly is: 'failed'; readonly why: Problem };

export interface Renewed {
  readonly expiresAt: number;
  /** How many others stand in line. */
  readonly waiting: number;
}

export interface Claims {
  /** Of all tenants. */
  readonly open: number;
  readonly waiting: number;
  /** Owns the key's claim from now on, or stands in line: then `tell` is called when that ends, unless `leave` was. */
  ask(asked: Asked, tell: (end: End) => void): Owned | { leave(): void };
  /** Throws `claim_lost` where the claim has ended. */
  renew(claimed: Claimed, ttlMs: number): Renewed;
  /** Calls `tell` when the claim ends and whenever the last of those who wait has left, until the result is called; throws `claim_lost`. */
  watch(claimed: Claimed, tell: () => void): () => void;
  /** The value comes in: the claim does not run out until the result is called. A claim that has ended is let be. */
  suspend(claimed: Claimed): () => void;
  /** With a reason everybody who waits is told that it failed, without one the first of them owns it next; so many waited. */
  release(claimed: Claimed, reason?: string): number;
  /** The key is held, whoever put it. */
  fulfil(named: Named): void;
  /** Claims that have run out are given up; to be called every now and then. */
  expire(): void;
  /** Everybody who waits is told, and whoever comes is refused. */
  close(): void;
}

interface Waiter {
  readonly ttlMs: number;
  tell(end: End): void;
}

interface Line extends Named {
  claim: string;
  expiresAt: number;
  /** How many bodies come in for it. */
  coming: number;
  /** In the order in which they came. */
  readonly waiters: Set<Waiter>;
  /** Of the present claim. */
  watchers: Set<() => void>;
}

interface Tenant {
  readonly lines: Map<string, Line>;
  waiting: number;
}

export function createClaims({ now, claimsMax = 4096, waitingMax = 1024 }: ClaimsOptions): Claims {
  const tenants = new Map<string, Tenant>();
  let closed = false;

  function lineOf({ tenant, key, claim }: Claimed): Line {
    const line = tenants.get(tenant)?.lines.get(key);
    if (line?.claim === claim) return line;
    throw problem('claim_lost', `This claim of ${key} has ended: it ran out, was given up, or the key is held by now.`);
  }

  function own(line: Line, ttlMs: number): Owned {
    for (const tell of line.watchers) tell();
    line.watchers = new Set();
    line.claim = randomBytes(CLAIM_BYTES).toString('hex');
    line.expiresAt = now() + ttlMs;
    line.coming = 0;
    return { claim: line.claim, expiresAt: line.expiresAt };
  }

  function begin({ tenant, key, ttlMs }: Asked): Owned {
    const of = tenants.get(tenant) ?? { lines: new Map<string, Line>(), waiting: 0 };
    if (of.lines.size >= claimsMax)
      throw problem(
        'claims_exhausted',
        `${of.lines.size} keys are being computed, as many as may be. Ask again later.`,
      );
    const made: Line = { tenant, key, claim: '', expiresAt: 0, coming: 0, waiters: new Set(), watchers: new Set() };
    tenants.set(tenant, of);
    of.lines.set(key, made);
    return own(made, ttlMs);
  }

  function stand(of: Tenant, line: Line, waiter: Waiter): { leave(): void } {
    if (of.waiting >= waitingMax)
      throw problem('claims_exhausted', `${of.waiting} calls wait for keys, as many as may. Ask again later.`);
    of.waiting++;
    line.waiters.add(waiter);
    return {
      leave() {
        if (!line.waiters.delete(waiter)) return;
        of.waiting--;
        if (line.waiters.size === 0) for (const tell of line.watchers) tell();
      },
    };
  }

  /** The claim is over; `end` for everybody who waits. */
  function finish(line: Line, end: End): void {
    const of = tenants.get(line.tenant);
    of?.lines.delete(line.key);
    if (of) of.waiting -= line.waiters.size;
    if (of?.lines.size === 0) tenants.delete(line.tenant);
    const told = [...line.waiters];
    line.waiters.clear(); // who leaves from now on was not in line
    line.claim = '';
    for (const tell of line.watchers) tell();
    for (const waiter of told) waiter.tell(end);
  }

  /** Exactly one of those who wait owns it next. */
  function passOn(line: Line): void {
    const [next] = line.waiters;
    const of = tenants.get(line.tenant);
    if (next && of) {
      line.waiters.delete(next);
      of.waiting--;
      next.tell({ is: 'yours', owned: own(line, next.ttlMs) });
    } else finish(line, { is: 'held' });
  }

  const lines = () => [...tenants.values()].flatMap((of) => [...of.lines.values()]);

  return {
    get open() {
      return [...tenants.values()].reduce((sum, of) => sum + of.lines.size, 0);
    },
    get waiting() {
      return [...tenants.values()].reduce((sum, of) => sum + of.waiting, 0);
    },
    ask(asked, tell) {
      if (closed) throw stopping();
      const of = tenants.get(asked.tenant);
      const line = of?.lines.get(asked.key);
      if (!of || !line) return begin(asked);
      return stand(of, line, { ttlMs: asked.ttlMs, tell });
    },
    renew(claimed, ttlMs) {
      const line = lineOf(claimed);
      line.expiresAt = now() + ttlMs;
      return { expiresAt: line.expiresAt, waiting: line.waiters.size };
    },
    watch(claimed, tell) {
      const { watchers } = lineOf(claimed);
      watchers.add(tell);
      return () => watchers.delete(tell);
    },
    suspend({ tenant, key, claim }) {
      const line = tenants.get(tenant)?.lines.get(key);
      if (line?.claim !== claim) return () => {};
      line.coming++;
      return () => {
        if (line.claim === claim) line.coming--;
      };
    },
    release(claimed, reason) {
      const line = lineOf(claimed);
      const waited = line.waiters.size;
      if (reason === undefined) passOn(line);
      else finish(line, { is: 'failed', why: failed(claimed.key, reason) });
      return waited;
    },
    fulfil({ tenant, key }) {
      const line = tenants.get(tenant)?.lines.get(key);
      if (line) finish(line, { is: 'held' });
    },
    expire() {
      const time = now();
      for (const line of lines()) if (line.expiresAt <= time && line.coming === 0) passOn(line);
    },
    close() {
      closed = true;
      for (const line of lines()) finish(line, { is: 'failed', why: stopping() });
    },
  };
}

const failed = (key: string, reason: string): Problem =>
  problem('computation_failed', `The computation of ${key}, for which this call waited, failed: ${reason}`, {
    key,
    reason,
  });

const stopping = (): Problem =>
  problem('stopping', 'The server stops, and nobody computes for it any more. Ask again later.');
