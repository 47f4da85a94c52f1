// Packages on their way from memory to disk, ahead of need: while they take more than a share of the shelf, those that would leave
// it next are written, some at a time, in the background. Leaving memory is then only dropping a package.
// At the end what is in memory and on adapters follows, the beginnings of sequences first, as far as there is time.
import { setImmediate } from 'node:timers/promises';
import { COLD, type HeldPages, type KvBlock } from '../held.ts';
import type { Asker } from '../households.ts';

/** Of the shelf's budget: above it, packages are written. */
const LOW_WATER = 0.75;
const BATCH_BLOCKS = 32;
/** Are looked for at a time. */
const DUE_BLOCKS = 1024;
/** Who would leave is looked at anew once so much of all packages came. */
const LOOK_EVERY = 1 / 64;

export interface Spill {
  /** There is a package more: looks, soon, whether some are due. */
  wake(): void;
  /** Records for those that would leave memory if so many bytes of a tenant came. */
  ahead(asker: Asker): Promise<void>;
  /** Records for all that has none, as far as there is time. */
  save(pack: (blocks: readonly KvBlock[], signal: AbortSignal) => Promise<void>, signal: AbortSignal): Promise<void>;
  settled(): Promise<void>;
}

export function createSpill(held: HeldPages): Spill {
  const { blocks, shelf, disk } = held;
  let running: Promise<void> | undefined;
  let isDue = false;
  let came = 0;

  /** Those that would leave memory next and have no record, as if those before them had left. */
  function next(bytesOver: number, asker?: Asker): KvBlock[] {
    let over = bytesOver;
    const found: KvBlock[] = [];
    if (over <= 0) return found;
    for (const block of held.wouldLeave(COLD, asker)) {
      if (over <= 0 || found.length === DUE_BLOCKS) break;
      over -= block.kept.cold?.bytes ?? 0;
      if (!block.kept.disk) found.push(block);
    }
    return found;
  }

  async function write(all: readonly KvBlock[]): Promise<void> {
    for (let at = 0; at < all.length; at += BATCH_BLOCKS) await disk.write(all.slice(at, at + BATCH_BLOCKS));
  }

  async function run(): Promise<void> {
    while (isDue) {
      isDue = false;
      await setImmediate(); // whoever packed goes on first
      await write(next(shelf.bytes - LOW_WATER * shelf.bytesMax));
    }
  }

  return {
    wake() {
      if (disk.bytesMax === 0 || ++came < LOOK_EVERY * shelf.packages) return;
      came = 0;
      isDue = true;
      running ??= run().finally(() => {
        running = undefined;
      });
    },
    async ahead(asker) {
      if (disk.bytesMax > 0) await write(next(shelf.bytesOver(asker), asker));
    },
    async save(pack, signal) {
      if (disk.bytesMax === 0) return;
      const all = [...blocks.all()].filter(({ kept }) => !kept.disk).sort((a, b) => a.index - b.index);
      for (let at = 0; at < all.length && !signal.aborted; at += BATCH_BLOCKS) {
        const some = all.slice(at, at + BATCH_BLOCKS).filter(({ removed }) => !removed);
        await pack(some, signal).catch(() => {}); // an adapter is lost, or time is up: what has packages goes on
        await disk.write(some);
      }
    },
    async settled() {
      while (running) await running;
    },
  };
}
