// Whether an adapter's process still works. Two things tell that it does not, each lasting for a deadline: it has requests and
// answers none; or its GPU does not finish. For the second a canary is sent after whatever was sent since the last one, one
// at a time: a process whose GPU hangs answers writes and frames, and never the canary. Any other proof that the GPU finished
// something counts too, so that a long queue is no hang. While nothing is under way there is no timer.

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
  /** Milliseconds. */
  now?(): number;
  /** When the oldest request under way was sent; undefined: there is none. */
  oldest(): number | undefined;
  sendCanary(): void;
  /** Called once. */
  hangs(why: string): void;
}

export function createWatch(options: WatchOptions): Watch {
  const { deadlineMs, oldest, sendCanary, hangs, now: clock = () => performance.now() } = options;
  const pulseMs = Math.min(PULSE_MS_MAX, deadlineMs / PULSES_PER_DEADLINE);
  let timer: NodeJS.Timeout | undefined;
  let isNew = false;
  let answeredAt = 0;
  /** When the canary was sent, or the GPU last finished something since; undefined: none is under way. */
  let canarySince: number | undefined;
  let isOver = false;

  function rest(): void {
    clearInterval(timer);
    timer = undefined;
  }
  function stop(): void {
    isOver = true;
    rest();
  }

  function pulse(): void {
    const now = clock();
    const since = oldest();
    const isMute = since !== undefined && now - Math.max(since, answeredAt) >= deadlineMs;
    const isStuck = canarySince !== undefined && now - canarySince >= deadlineMs;
    if (isMute || isStuck) {
      stop();
      hangs(isMute ? `has not answered in ${deadlineMs} ms` : `has a GPU that finished nothing in ${deadlineMs} ms`);
      return;
    }
    if (canarySince !== undefined) return;
    if (isNew) {
      isNew = false;
      canarySince = now;
      sendCanary();
    } else if (since === undefined) rest();
  }

  return {
    sent() {
      isNew = true;
      if (!isOver) timer ??= setInterval(pulse, pulseMs).unref();
    },
    answered(proof) {
      answeredAt = clock();
      if (proof && canarySince !== undefined) canarySince = answeredAt;
    },
    sang() {
      canarySince = undefined;
    },
    stop,
  };
}
