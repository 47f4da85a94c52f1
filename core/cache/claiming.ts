// A call that asks for a key's claim, from its first question to its answer: it waits in line no longer than it said, leaves
// when its caller does, and looks again when it is told that the key is held, which may have gone meanwhile.
import type { ClaimAnswer, ClaimAsked } from '../contract/claims.ts';
import type { TensorEntry } from '../contract/messages.ts';
import type { Asked, Claimed, Claims, End, Owned, Renewed } from './claims.ts';

export interface Claiming extends ClaimAsked {
  readonly tenant: string;
  /** What the key holds. */
  readonly peek: () => TensorEntry | undefined;
  /** Aborts when the caller leaves. */
  readonly signal: AbortSignal;
}

type Left = { readonly is: 'late' | 'gone' };

/** Throws what the computation that it waited for failed with, or the signal's reason. */
export async function claim(claims: Claims, asked: Claiming): Promise<ClaimAnswer> {
  const { peek, signal, waitMs } = asked;
  const until = performance.now() + waitMs;
  for (;;) {
    const entry = peek();
    if (entry) return { state: 'held', entry };
    const end = await inLine(claims, asked, signal, until - performance.now());
    if (end.is === 'yours') {
      if (signal.aborted) claims.release({ ...asked, claim: end.owned.claim });
      signal.throwIfAborted();
      return yours(end.owned);
    }
    if (end.is === 'failed') throw end.why;
    if (end.is === 'late') return { state: 'theirs' };
    signal.throwIfAborted();
  }
}

const yours = ({ claim, expiresAt }: Owned): ClaimAnswer => ({
  state: 'yours',
  claim,
  expiresAt: new Date(expiresAt).toISOString(),
});

function inLine(claims: Claims, asked: Asked, signal: AbortSignal, waitMs: number): Promise<End | Left> {
  return new Promise((resolve) => {
    let timer: NodeJS.Timeout | undefined;
    const settle = (end: End | Left): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', gone);
      resolve(end);
    };
    const standing = claims.ask(asked, settle);
    const leave = (is: Left['is']): void => {
      if ('leave' in standing) standing.leave();
      settle({ is });
    };
    const gone = () => leave('gone');
    if ('claim' in standing) return resolve({ is: 'yours', owned: standing });
    if (signal.aborted) return gone();
    timer = setTimeout(() => leave('late'), Math.max(0, waitMs));
    signal.addEventListener('abort', gone, { once: true });
  });
}

export interface Renewing extends Claimed {
  readonly ttlMs: number;
  readonly waitMs: number;
  readonly signal: AbortSignal;
}

/**
 * Answers after `waitMs`, or when the last of those who wait has left. Until then its connection stands for the owner: when
 * it is cut the claim is given up. Throws `claim_lost` as soon as the claim has ended.
 */
export async function renew(claims: Claims, asked: Renewing): Promise<Renewed> {
  const { signal, ttlMs, waitMs } = asked;
  const renewed = claims.renew(asked, Math.max(ttlMs, waitMs));
  if (waitMs === 0) return renewed;
  await new Promise<void>((resolve) => {
    const settle = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', settle);
      unwatch();
      resolve();
    };
    const timer = setTimeout(settle, waitMs);
    const unwatch = claims.watch(asked, settle);
    signal.addEventListener('abort', settle, { once: true });
    if (signal.aborted) settle();
  });
  if (signal.aborted) claims.release(asked);
  signal.throwIfAborted();
  return claims.renew(asked, ttlMs);
}
