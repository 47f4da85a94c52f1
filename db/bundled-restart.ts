// Keeps the bundled server running: when it ends without having been asked to, it is started again, sooner after a
// long life than after a short one. The address stays the same, so a pool of connections finds the new server by itself.
//
// Invariant: after `stop()` no server runs and none is started. It never gives up while it is open, and says each try.
// Not here: queries in flight when the server died. They fail, and whoever asked decides.
import { setTimeout as sleep } from 'node:timers/promises';
import { type BundledAddress, type BundledOptions, type BundledServer, startBundled } from './bundled.ts';

export interface KeptServer {
  readonly address: BundledAddress;
  stop(): Promise<void>;
}

/** A server that lived this long had no trouble with starting. */
const STEADY_MS_MIN = 60_000;
const DELAY_MS_MIN = 50;
const DELAY_MS_MAX = 10_000;

/** How long to wait before the next try, after so many lives that were short. */
export function restartDelayMs(shortLives: number): number {
  return Math.min(DELAY_MS_MIN * 2 ** shortLives, DELAY_MS_MAX);
}

export async function keepBundled(options: Omit<BundledOptions, 'signal'>): Promise<KeptServer> {
  const closing = new AbortController();
  let server = await startBundled(options);

  async function watch(): Promise<void> {
    let shortLives = 0;
    while (!closing.signal.aborted) {
      const start = performance.now();
      const how = await server.exited;
      if (closing.signal.aborted) return;
      if (performance.now() - start > STEADY_MS_MIN) shortLives = 0;
      options.log(`the bundled PostgreSQL ${how}; starting it again`);
      const next = await revive(shortLives);
      if (!next) return;
      server = next;
      shortLives += 1;
      options.log('the bundled PostgreSQL is back');
    }
  }

  async function revive(shortLives: number): Promise<BundledServer | undefined> {
    for (let tries = shortLives; !closing.signal.aborted; tries += 1) {
      try {
        // Lets go of the dead server's lock and folder; what cannot be stopped, the next start says.
        await server.stop().catch(() => undefined);
        await sleep(restartDelayMs(tries), undefined, { signal: closing.signal });
        return await startBundled({ ...options, signal: closing.signal });
      } catch (error) {
        if (!closing.signal.aborted) options.log(`the bundled PostgreSQL is not back: ${(error as Error).message}`);
      }
    }
    return undefined;
  }

  const watching = watch();
  const stop = async (): Promise<void> => {
    closing.abort();
    await server.stop();
    await watching;
    await server.stop();
  };
  return { address: server.address, stop };
}
