// What happens, told to whoever follows: numbered one by one for each tenant, the last 10,000 of each of 64 tenants kept, as JSON.
// A tenant's numbers begin with the time at which its log does, in microseconds, so that a number from before a restart is
// never taken for one of now.
// A follower has a place in the log, and nothing is kept for it: whoever is further behind than what is kept is told of a gap,
// and so is who asks for numbers that the log does not know. Followers wait without end until they are closed.
import type { Gap, Numbered } from '../contract/events.ts';
import { problem } from '../contract/problems.ts';
import { createByTenant } from './by-tenant.ts';

const KEPT_MAX = 10_000;
const TENANTS_MAX = 64;
const FOLLOWERS_MAX = 256;
const FOLLOWERS_OF_TENANT_MAX = 32;

export interface EventLog<E> {
  tell(tenant: string, event: E): void;
  /**
   * What comes after a number, or from now on; with 0, from the first that is kept. At once, and where nothing came for
   * `quietMs`, the number that the follower is at. Ends when it is closed, when the signal aborts, or when the tenant's log is dropped.
   */
  follow(
    tenant: string,
    after: number | undefined,
    quietMs: number,
    signal: AbortSignal,
  ): AsyncGenerator<Numbered<E> | number, void, void>;
  close(): void;
}

interface Log {
  /** The number before the first. */
  readonly base: number;
  /** The number of the last. */
  last: number;
  /** Each at its number's remainder. */
  readonly kept: string[];
  /** Waiting for more. */
  readonly waiting: Set<() => void>;
  followers: number;
  dropped: boolean;
}

export function createEventLog<E extends object>(now: () => number): EventLog<E> {
  const logs = createByTenant(TENANTS_MAX, newLog, drop);
  let followers = 0;
  let closed = false;

  function newLog(): Log {
    const base = now() * 1000;
    return { base, last: base, kept: [], waiting: new Set(), followers: 0, dropped: false };
  }

  function drop(log: Log): void {
    log.dropped = true;
    wake(log);
  }

  function wake({ waiting }: Log): void {
    for (const each of waiting) each();
    waiting.clear();
  }

  const oldest = ({ base, last }: Log): number => Math.max(base + 1, last + 1 - KEPT_MAX);

  /** Where a follower begins, and what it has missed by that. */
  function enter(log: Log, after: number): { next: number; gap: Gap | undefined } {
    const first = oldest(log);
    if (after >= first - 1 && after <= log.last) return { next: after + 1, gap: undefined };
    const isAll = after === 0 && first === log.base + 1;
    return { next: first, gap: isAll ? undefined : { type: 'gap', after, next: first } };
  }

  async function* read(log: Log, after: number, quietMs: number, signal: AbortSignal) {
    let { next, gap } = enter(log, after);
    while (!closed && !log.dropped && !signal.aborted) {
      if (gap) yield { id: gap.next - 1, ...gap };
      gap = undefined;
      if (next < oldest(log)) {
        gap = { type: 'gap', after: next - 1, next: oldest(log) };
        next = gap.next;
      } else if (next <= log.last) {
        const event = log.kept[next % KEPT_MAX];
        if (event) yield { id: next, ...(JSON.parse(event) as E) }; // our own
        next++;
      } else if (!(await more(log, quietMs, signal))) yield next - 1;
    }
  }

  return {
    tell(tenant, event) {
      const log = logs.of(tenant);
      log.last++;
      log.kept[log.last % KEPT_MAX] = JSON.stringify(event);
      wake(log);
    },
    async *follow(tenant, after, quietMs, signal) {
      const log = logs.of(tenant);
      if (followers >= FOLLOWERS_MAX || log.followers >= FOLLOWERS_OF_TENANT_MAX)
        throw problem(
          'followers_full',
          `${log.followers} event streams of your tenant are open, and ${followers} in all; ${FOLLOWERS_OF_TENANT_MAX} and ${FOLLOWERS_MAX} may be. Close one, or come again later.`,
        );
      followers++;
      log.followers++;
      try {
        const begin = after ?? log.last;
        yield begin;
        yield* read(log, begin, quietMs, signal);
      } finally {
        followers--;
        log.followers--;
      }
    },
    close() {
      closed = true;
      for (const log of logs.all()) wake(log);
    },
  };
}

/** Waits for more to be told, or an end; false where neither came in time. */
function more({ waiting }: Log, quietMs: number, signal: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    const end = (came: boolean) => {
      clearTimeout(timer);
      signal.removeEventListener('abort', wake);
      waiting.delete(wake);
      resolve(came);
    };
    const wake = () => end(true);
    const timer = setTimeout(() => end(false), quietMs);
    signal.addEventListener('abort', wake, { once: true });
    waiting.add(wake);
  });
}
