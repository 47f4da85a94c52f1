// Removes what has expired, every few seconds, a few at a time: expiry is no reason to keep writers from the disk.
import type { Entry } from './entry.ts';

const SWEEP_MS = 5000;
const SWEEP_ABREAST = 16;

export interface Sweep {
  readonly expired: number;
  /** Nothing more is removed; resolves once what is under way is done. The rest is for the next start. */
  close(): Promise<void>;
}

export interface SweepOptions {
  readonly due: () => Entry[];
  /** From disk and index; false if it was gone or replaced by then. */
  readonly discard: (entry: Entry) => Promise<boolean>;
  readonly log: (line: string) => void;
}

export function startSweep({ due, discard, log }: SweepOptions): Sweep {
  let expired = 0;
  let closed = false;
  let sweeping: Promise<void> | undefined;
  const timer = setInterval(() => {
    sweeping ??= removeExpired().finally(() => {
      sweeping = undefined;
    });
  }, SWEEP_MS).unref();

  async function removeExpired(): Promise<void> {
    const all = due();
    let failed = 0;
    const next = async (): Promise<void> => {
      for (let entry = all.pop(); entry && !closed; entry = all.pop()) {
        const gone = await discard(entry).catch(() => {
          failed++;
          return false;
        });
        if (gone) expired++;
      }
    };
    await Promise.all(Array.from({ length: SWEEP_ABREAST }, next));
    if (failed > 0) log(`${failed} expired tensors could not be removed from disk; tried again soon`);
  }

  return {
    get expired() {
      return expired;
    },
    async close() {
      closed = true;
      clearInterval(timer);
      await sweeping;
    },
  };
}
