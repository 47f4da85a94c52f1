// What will be asked for after a sequence that was read whole: the blocks that follow it, where several begin there the one stored last.
// Those that are in memory or on disk come to an adapter ahead, a few at once, into room that nobody has to leave.
import { createPrefetch, type PrefetchStats } from '../prefetch.ts';
import type { HeldPages, KvBlock } from './held.ts';
import type { Returns } from './returns.ts';

export interface Foresight {
  /** A chain is asked for, before what is not there of it comes back. */
  asked(chain: readonly KvBlock[]): void;
  /** All that was asked for was read, up to this block. */
  readTo(last: KvBlock): void;
  stats(): PrefetchStats;
  /** Nothing is on its way. */
  close(): Promise<void>;
}

export interface ForesightOptions {
  readonly held: Pick<HeldPages, 'blocks'>;
  readonly returns: Pick<Returns, 'fetch'>;
  /** On their way at once; 0: none ever. */
  readonly blocksMax: number;
  readonly now: () => number;
}

export function createForesight({ held, returns, blocksMax, now }: ForesightOptions): Foresight {
  const prefetch = createPrefetch<KvBlock>({
    ...{ entriesMax: blocksMax, now },
    idOf: ({ hash }) => hash,
    isHot: ({ kept }) => kept.hot !== undefined,
    isAbsent: ({ removed, kept }) => !removed && !kept.hot && (kept.cold ?? kept.disk) !== undefined,
    async bring(block, signal) {
      await returns.fetch([block], signal, 'spare');
      return block.kept.hot !== undefined;
    },
  });

  /** As far as they go, and no more than come at once. */
  function* after(last: KvBlock): Generator<KvBlock, void, void> {
    let parent = last;
    for (let count = 0; count < blocksMax; count++) {
      const [next] = held.blocks.following(parent.root, parent);
      if (!next || next.expiresAt <= now()) return;
      yield next;
      parent = next;
    }
  }

  return {
    asked(chain) {
      if (blocksMax > 0) for (const block of chain) prefetch.asked(block.hash, block);
    },
    readTo(last) {
      if (!last.removed) prefetch.begin([...after(last)]);
    },
    stats: prefetch.stats,
    close: prefetch.close,
  };
}
