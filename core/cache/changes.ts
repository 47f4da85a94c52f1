// Which tensors are not what they were: told at once to an edge beside, and as numbered events to edges elsewhere.
import type { TensorChange } from '../contract/tensor-changes.ts';
import { createEventLog, type EventLog } from './event-log.ts';

export interface Changes {
  tell(tenant: string, key: string): void;
  /** From now on, before `tell` is done. */
  hear(heard: (tenant: string, key: string) => void): void;
  follow(after: number | undefined, ...how: [quietMs: number, signal: AbortSignal]): Follow;
  close(): void;
}
type Follow = ReturnType<EventLog<TensorChange>['follow']>;

/** One log for all tenants: an edge serves all of them. */
const ALL = '';

export function createChanges(now: () => number): Changes {
  const log = createEventLog<TensorChange>(now);
  const hearing: ((tenant: string, key: string) => void)[] = [];
  return {
    tell(tenant, key) {
      for (const heard of hearing) heard(tenant, key);
      log.tell(ALL, { type: 'TensorChanged', tenant, key });
    },
    hear: (heard) => void hearing.push(heard),
    follow: (after, ...how) => log.follow(ALL, after, ...how),
    close: log.close,
  };
}
