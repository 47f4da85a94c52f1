// Makes the journal short again, in the background: a checkpoint whenever it has grown large beside the last one, or cannot be
// relied on. A checkpoint that fails is tried again, not at once. None is made while the disk is full.
import type { Catalog } from './catalog.ts';
import type { CheckpointName, Journal } from './journal.ts';

const ENTRY_BYTES = 500;
const PAUSE_MS = 10_000;

export interface Checkpoints {
  /** Something was written: is it time? */
  look(): void;
  /** Resolves once there is one of everything up to now; false if the disk would not have it. */
  make(): Promise<boolean>;
  /** The next start is to read the packs: what checkpoints and journals take is given back. False if that failed too. */
  renounce(): Promise<boolean>;
  settle(): Promise<void>;
}

export interface CheckpointsOptions {
  readonly catalog: Catalog;
  readonly journal: Journal;
  readonly isDue: boolean;
  /** A shorter journal is good enough. */
  readonly journalBytesMin: number;
  readonly settledSeq: () => number;
  /** A start goes by it once this resolves. */
  readonly name: (checkpoint: CheckpointName | undefined) => Promise<void>;
  readonly hasRoom: () => Promise<boolean>;
  readonly log: (line: string) => void;
}

export function createCheckpoints({ catalog, journal, log, ...o }: CheckpointsOptions): Checkpoints {
  let { isDue } = o;
  let notBefore = 0;
  let making: Promise<boolean> | undefined;

  async function write(): Promise<boolean> {
    try {
      if (!(await o.hasRoom())) throw new Error('the disk is full');
      isDue = false;
      const name = await journal.checkpoint(catalog, o.settledSeq());
      if (!name) throw new Error('it was not written');
      await o.name(name);
      await journal.forgetBefore(name.number);
      return true;
    } catch (error) {
      log(`no checkpoint, tried again soon: ${String(error)}`);
      isDue = true;
      notBefore = performance.now() + PAUSE_MS;
      return false;
    } finally {
      making = undefined;
    }
  }

  return {
    look() {
      const grown = journal.bytes > Math.max(o.journalBytesMin, (catalog.size * ENTRY_BYTES) / 2);
      if (!making && (isDue || grown || journal.isBroken) && performance.now() >= notBefore) making = write();
    },
    async make() {
      await making;
      making = write();
      return making;
    },
    async renounce() {
      await making;
      isDue = true;
      try {
        await o.name(undefined);
        await journal.forgetAll();
        return true;
      } catch (error) {
        log(`checkpoint and journal stay: ${String(error)}`);
        return false;
      }
    },
    async settle() {
      await making;
    },
  };
}
