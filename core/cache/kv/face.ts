// Blocks as callers see them: where each is, as what, and how large it is there.
import { isRotated, type Part } from '../../codec/pages.ts';
import type { KvBlock as KvBlockAnswer } from '../../contract/kv.ts';
import type { Kept, KvBlock } from './held.ts';

type Tier = KvBlockAnswer['tier'];

/** Hot and warm are on adapters, warm is coded; cold is in memory only. */
export function tierOf({ hot }: Kept): Tier {
  if (!hot) return 'cold';
  return isRotated(hot.form.k) || isRotated(hot.form.v) ? 'warm' : 'hot';
}

export function face({ hash, tokens, kept }: KvBlock): KvBlockAnswer {
  const form = (kept.hot ?? kept.cold)?.form;
  if (!form) throw new Error(`block ${hash} is nowhere`);
  // a grade is of exact records: what was coded later is what its records are
  const told = (part: Part) => (isRotated(form[part]) ? form[part] : (kept.grades[part] ?? form[part]));
  return {
    hash,
    tokens: tokens.length,
    tier: tierOf(kept),
    codecK: told('k'),
    codecV: told('v'),
    adapter: kept.hot?.lease.adapter ?? null,
    storedBytes: kept.hot?.lease.bytes ?? kept.cold?.bytes ?? 0,
  };
}

export type KvTiers = Record<Tier, { blocks: number; bytes: number }>;

/** What a block counts as. */
export interface Counted {
  readonly tier: Tier;
  readonly bytes: number;
}

/** How much is in each tier, counted along: whoever asks waits for no look at all blocks. */
export interface TierCount {
  /** It is there, as it is now. */
  note(kept: Kept): void;
  /** It is there no more. */
  drop(kept: Kept): void;
  tiers(): KvTiers;
}

export function createTierCount(): TierCount {
  const none = () => ({ blocks: 0, bytes: 0 });
  const all: KvTiers = { hot: none(), warm: none(), cold: none() };

  function drop(kept: Kept): void {
    if (!kept.counted) return;
    const { tier, bytes } = kept.counted;
    all[tier].blocks--;
    all[tier].bytes -= bytes;
    kept.counted = undefined;
  }

  return {
    note(kept) {
      drop(kept);
      const counted = { tier: tierOf(kept), bytes: kept.hot?.lease.bytes ?? kept.cold?.bytes ?? 0 };
      all[counted.tier].blocks++;
      all[counted.tier].bytes += counted.bytes;
      kept.counted = counted;
    },
    drop,
    tiers: () => ({ hot: { ...all.hot }, warm: { ...all.warm }, cold: { ...all.cold } }),
  };
}
