// Whether an adapter's process still works. While anything is asked of it, canaries are sent, one at a time, which it answers
// when its GPU has done all that was sent before: a process whose GPU hangs answers writes and frames, and never the canary.
// One that gives no proof for a deadline hangs. Any other proof that the GPU finished something counts too, so that a long
// queue is no hang; and while canaries come back, neither is a request that waits in the process for its pipelines.
// Time is counted in pulses: while this process itself stands still, nobody is overdue. While nothing is under way there is
// no timer.

const PULSE_MS_MAX = 500;
const PULSES_PER_DEADLINE = 5;

export interface Watch {
  /** A request was sent. */
  sent(): void;
  /** A request was answered; `proof`: and could only be because the GPU finished something. */
  answered(proof: boolean): void;
  /** The canary was answered. */
  sang(): void;
  stop(): void;
}

export interface WatchOptions {
  readonly deadlineMs: number;
  /** Whether a request is under way. */
  isBusy(): boolean;
  sendCanary(): void;
  /** Called once. */
  hangs(why: string): void;
}

export function createWatch({ deadlineMs, isBusy, sendCanary, hangs }: WatchOptions): Watch {
  const pulseMs = Math.min(PULSE_MS_MAX, deadlineMs / PULSES_PER_DEADLINE);
  const patience = Math.ceil(deadlineMs / pulseMs);
  let timer: NodeJS.Timeout | undefined;
  let isNew = false;
  let isOver = false;
  /** Pulses without proof since the canary was sent; undefined: none is under way. */
  let waited: number | undefined;
  /** Whether anything was answered since. */
  let isMute = true;

  function rest(): void {
    clearInterval(timer);
    timer = undefined;
  }
  function stop(): void {
    isOver = true;
    rest();
  }

  function pulse(): void {
    if (waited !== undefined) {
      if (++waited <= patience) return; // the first may have come right after the proof
      stop();
      hangs(isMute ? `has not answered in ${deadlineMs} ms` : `has a GPU that finished nothing in ${deadlineMs} ms`);
    } else if (isNew || isBusy()) {
      isNew = false;
      isMute = true;
      waited = 0;
      sendCanary();
    } else rest();
  }

  return {
    sent() {
      isNew = true;
      if (!isOver) timer ??= setInterval(pulse, pulseMs).unref();
    },
    answered(proof) {
      isMute = false;
      if (proof && waited !== undefined) waited = 0;
    },
    sang() {
      waited = undefined;
    },
    stop,
  };
}
