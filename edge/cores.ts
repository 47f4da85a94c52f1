// Which of several cores a request goes to, and whether it may be sent again. Pure: clock and dice are handed in, and who sends
// requests tells how they went.
// A tenant lives on one core, found by rendezvous hashing of tenant and URL: nothing is moved between cores, so what one has stored,
// another does not know. While that core is away its tenants are refused (`refuse`), or served by the next in their order (`next`), to
// whom their tensors are unknown. What belongs to no tenant goes to the less busy of two random cores.
// A core that fails three times in a row is left alone for a second, then one request tries it; each further failure doubles the
// pause, to eight seconds at most. One that is back is given more and more over ten seconds.

const FAILURES_MAX = 3;
const PAUSE_MS = 1_000;
const PAUSE_MS_MAX = 8_000;
const SLOW_START_MS = 10_000;
const SHARE_MIN = 0.1;
/** How old what is known of a core's health may be before it is asked; half of it where something was wrong. */
const CHECK_MS = 2_000;
const RETRY_SHARE = 0.2;
const RETRIES_SAVED_MAX = 10;

/** `unready`: it answered that it stops, or lacks a part. `left`: the caller left before anything was known. */
export type Outcome = 'answered' | 'unready' | 'failed' | 'left';

export interface Taken {
  readonly url: string;
  /** To be called once, when the head of the answer is there or will not come. */
  done(outcome: Outcome): void;
}

export interface Cores {
  readonly urls: readonly string[];
  /** Undefined where no core may be asked now. `tried` are those that have failed this request. */
  take(tenant: string | undefined, tried?: readonly string[]): Taken | undefined;
  /** Whether a request that failed may be sent again: at most a fifth of all are. */
  mayRetry(): boolean;
  /** Cores whose health is to be asked now; each is named to one caller. */
  due(): readonly string[];
  /** What the answer to a question of health was. */
  told(url: string, outcome: Outcome): void;
}

export interface CoresOptions {
  readonly urls: readonly string[];
  readonly away: 'refuse' | 'next';
  /** Milliseconds. */
  readonly now: () => number;
  /** From 0, below 1. */
  readonly random: () => number;
}

interface Core {
  readonly url: string;
  busy: number;
  failures: number;
  /** Until when it is left alone; 0 where it is not. */
  until: number;
  isProbed: boolean;
  isReady: boolean;
  backSince: number;
  checkedAt: number;
}

export function createCores({ urls, away, now, random }: CoresOptions): Cores {
  const cores = urls.map((url): Core => {
    const unknown = { until: 0, backSince: Number.NEGATIVE_INFINITY, checkedAt: Number.NEGATIVE_INFINITY };
    return { url, busy: 0, failures: 0, isProbed: false, isReady: true, ...unknown };
  });
  let retries = RETRIES_SAVED_MAX;

  const isOpen = (core: Core): boolean => core.until === 0 || (now() >= core.until && !core.isProbed);
  const share = (core: Core): number => Math.max(SHARE_MIN, Math.min(1, (now() - core.backSince) / SLOW_START_MS));
  const load = (core: Core): number => (core.busy + 1) / share(core);

  function candidates(tenant: string | undefined, tried: readonly string[]): Core[] {
    if (tenant === undefined) return cores.filter((core) => isOpen(core) && !tried.includes(core.url));
    const order = rendezvous(tenant, cores);
    if (away === 'refuse') return order.slice(0, 1).filter(isOpen);
    return order.filter((core) => isOpen(core) && !tried.includes(core.url));
  }

  function lessBusy(among: readonly Core[]): Core | undefined {
    const first = among[Math.floor(random() * among.length)];
    const others = among.filter((core) => core !== first);
    const second = others[Math.floor(random() * others.length)];
    return first && second && load(second) < load(first) ? second : first;
  }

  function learn(core: Core, outcome: Outcome): void {
    if (outcome === 'left') return;
    if (outcome === 'failed') {
      core.failures += 1;
      const beyond = core.failures - FAILURES_MAX;
      if (beyond >= 0) core.until = now() + Math.min(PAUSE_MS * 2 ** beyond, PAUSE_MS_MAX);
      return;
    }
    if (core.until > 0) core.backSince = now();
    core.failures = 0;
    core.until = 0;
    core.isReady = outcome === 'answered';
  }

  return {
    urls,
    take(tenant, tried = []) {
      const open = candidates(tenant, tried);
      const ready = open.filter(({ isReady }) => isReady);
      const among = ready.length > 0 ? ready : open;
      const core = tenant === undefined ? lessBusy(among) : among[0];
      if (!core) return undefined;
      if (tried.length === 0) retries = Math.min(RETRIES_SAVED_MAX, retries + RETRY_SHARE);
      const isProbe = core.until > 0;
      core.busy += 1;
      if (isProbe) core.isProbed = true;
      return {
        url: core.url,
        done(outcome) {
          core.busy -= 1;
          if (isProbe) core.isProbed = false;
          // That a request was answered says nothing of readiness.
          learn(core, outcome === 'answered' && !core.isReady ? 'unready' : outcome);
        },
      };
    },
    mayRetry() {
      if (retries < 1) return false;
      retries -= 1;
      return true;
    },
    due() {
      const oldMs = (core: Core) => (core.isReady && core.until === 0 ? CHECK_MS : CHECK_MS / 2);
      const asked = cores.filter((core) => now() - core.checkedAt >= oldMs(core));
      for (const core of asked) core.checkedAt = now();
      return asked.map(({ url }) => url);
    },
    told(url, outcome) {
      const core = cores.find((each) => each.url === url);
      if (core) learn(core, outcome);
    },
  };
}

/** Cores in the order in which they are this tenant's: the same for every edge, however they are listed. */
function rendezvous(tenant: string, cores: readonly Core[]): Core[] {
  if (cores.length === 1) return [...cores];
  const weighed = cores.map((core) => ({ core, weight: hash(`${tenant}\n${core.url}`) }));
  weighed.sort((a, b) => b.weight - a.weight || (a.core.url < b.core.url ? -1 : 1));
  return weighed.map(({ core }) => core);
}

/** FNV-1a, its bits mixed: near texts get far numbers. */
function hash(text: string): number {
  let h = 0x811c_9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x0100_0193);
  h = Math.imul(h ^ (h >>> 16), 0x85eb_ca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2_ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
