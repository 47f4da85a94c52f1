// How an adapter process waits for its GPU. dawn.node polls by the global `setImmediate`, as fast as the loop turns, for as
// long as any promise of it is pending: a core is burnt on every wait. Here that global is replaced by one that polls fast
// at first, where most results come, and every millisecond after. Node's own streams and timers use an internal one and
// are not touched. Only for the adapter's process: it owns its globals.

const POLLS_FAST = 40;
const PAUSE_MS = 5;

const immediate = globalThis.setImmediate;
let polls = 0;
let last = 0;

export function paceGpuPolling(): void {
  const paced = (callback: () => void): unknown => {
    const now = performance.now();
    if (now - last > PAUSE_MS) polls = 0; // a new wait begins after a pause in polling
    last = now;
    return ++polls <= POLLS_FAST ? immediate(callback) : setTimeout(callback, 1);
  };
  globalThis.setImmediate = paced as typeof globalThis.setImmediate;
}

/** New work was submitted: poll fast again. */
export const hurry = (): void => {
  polls = 0;
};
