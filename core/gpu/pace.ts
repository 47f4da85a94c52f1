// How an adapter process waits for its GPU. dawn.node polls by the global `setImmediate`, as fast as the loop turns, for as
// long as any promise of it is pending: a core is burnt on every wait. Here that global is replaced by one that polls fast
// at first, where most results come, then every millisecond, and on a long wait after a fixed share of what it has lasted:
// that costs a result at most that share, and the process next to nothing. Node's own streams and timers use an internal
// one and are not touched. Only for the adapter's process: it owns its globals.

const POLLS_FAST = 40;
/** Without a poll for so long, the wait was over: what comes is another one. */
const PAUSE_MS = 5;
const SHARE = 1 / 32;
const POLL_MS_MAX = 16;

const immediate = globalThis.setImmediate;
let polls = 0;
/** When the wait began, and when its next poll was to come. */
let since = 0;
let due = 0;

/** Milliseconds until the next poll of a wait that has lasted `waitedMs`; 0: at once. */
export const pollAfter = (polled: number, waitedMs: number): number =>
  polled <= POLLS_FAST ? 0 : Math.min(POLL_MS_MAX, Math.max(1, waitedMs * SHARE));

export function paceGpuPolling(): void {
  const paced = (callback: () => void): unknown => {
    const now = performance.now();
    if (now - due > PAUSE_MS) polls = 0;
    if (polls++ === 0) since = now;
    const pause = pollAfter(polls, now - since);
    due = now + pause;
    return pause === 0 ? immediate(callback) : setTimeout(callback, pause);
  };
  globalThis.setImmediate = paced as typeof globalThis.setImmediate;
}

/** New work was submitted: poll fast again. */
export const hurry = (): void => {
  polls = 0;
};
