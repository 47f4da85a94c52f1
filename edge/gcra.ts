// The generic cell rate algorithm: a quota that is given back evenly over a window, whole after the window. Pure.
// What is owed is counted in units of which a request costs `windowMs` and a millisecond pays `quota`: whole numbers, so that no
// fraction is lost, however odd the rate (7 in 3 s) and however long it goes. A clock that goes back neither gives nor takes.
// A cost beyond the quota needs all of it, and is owed beyond it.

export interface Rule {
  readonly quota: number;
  readonly windowMs: number;
}

/** What is owed at a moment. */
export interface Debt {
  readonly owed: number;
  readonly at: number;
}

export interface Standing {
  /** What could be had now, in whole units. */
  readonly left: number;
  /** Until what was asked for could be had; 0: now. */
  readonly waitMs: number;
  /** Until there is one more than `left`; 0 where nothing is owed. */
  readonly nextMs: number;
  /** Until nothing is owed. */
  readonly freeMs: number;
}

export const NOTHING_OWED: Debt = { owed: 0, at: Number.NEGATIVE_INFINITY };

/** What is still owed at `now`, whole milliseconds. */
export function paid({ quota }: Rule, { owed, at }: Debt, now: number): Debt {
  return { owed: Math.max(0, owed - Math.max(0, now - at) * quota), at: now };
}

export const charged = ({ windowMs }: Rule, { owed, at }: Debt, cost: number): Debt => ({
  owed: Math.min(Number.MAX_SAFE_INTEGER, owed + cost * windowMs),
  at,
});

/** For who wants `wanted` at the debt's moment. */
export function standingOf({ quota, windowMs }: Rule, { owed }: Debt, wanted: number): Standing {
  const room = quota * windowMs - owed;
  const left = Math.max(0, Math.floor(room / windowMs));
  const short = Math.min(wanted, quota) * windowMs - room;
  const next = Math.min(left + 1, quota) * windowMs - room;
  return {
    left,
    waitMs: Math.max(0, Math.ceil(short / quota)),
    nextMs: Math.max(0, Math.ceil(next / quota)),
    freeMs: Math.ceil(owed / quota),
  };
}
