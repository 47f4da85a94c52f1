// Blocks as callers see them: where each is, as what, and how large it is there.
import { isRotated } from '../../codec/pages.ts';
import type { KvBlock as KvBlockAnswer } from '../../contract/kv.ts';
import type { Kept, KvBlock, KvBlocks } from './held.ts';

type Tier = KvBlockAnswer['tier'];

/** Hot and warm are on adapters, warm is coded; cold is in memory only. */
export function tierOf({ hot }: Kept): Tier {
  if (!hot) return 'cold';
  return isRotated(hot.form.k) || isRotated(hot.form.v) ? 'warm' : 'hot';
}

export function face({ hash, tokens, kept }: KvBlock): KvBlockAnswer {
  const form = (kept.hot ?? kept.cold)?.form;
  if (!form) throw new Error(`block ${hash} is nowhere`);
  return {
    hash,
    tokens: tokens.length,
    tier: tierOf(kept),
    codecK: kept.grades.k ?? form.k,
    codecV: kept.grades.v ?? form.v,
    adapter: kept.hot?.lease.adapter ?? null,
    storedBytes: kept.hot?.lease.bytes ?? kept.cold?.bytes ?? 0,
  };
}

export type KvTiers = Record<Tier, { blocks: number; bytes: number }>;

export function tiersOf(blocks: KvBlocks): KvTiers {
  const tiers: KvTiers = { hot: { blocks: 0, bytes: 0 }, warm: { blocks: 0, bytes: 0 }, cold: { blocks: 0, bytes: 0 } };
  for (const { kept } of blocks.all()) {
    const own = tiers[tierOf(kept)];
    own.blocks++;
    own.bytes += kept.hot?.lease.bytes ?? kept.cold?.bytes ?? 0;
  }
  return tiers;
}
