// Blocks as callers see them: where each is, as what, and how large it is there.
import { isRotated, type Part } from '../../codec/pages.ts';
import type { KvBlock as KvBlockAnswer } from '../../contract/kv.ts';
import type { Kept, KvBlock } from './held.ts';

type Tier = KvBlockAnswer['tier'];

/** Hot and warm are on adapters, warm is coded; cold is in memory and on no adapter; disk is on disk only. */
export function tierOf({ hot, cold }: Kept): Tier {
  if (!hot) return cold ? 'cold' : 'disk';
  return isRotated(hot.form.k) || isRotated(hot.form.v) ? 'warm' : 'hot';
}

export function face({ hash, tokens, kept }: KvBlock): KvBlockAnswer {
  const form = (kept.hot ?? kept.cold ?? kept.disk)?.form;
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
    storedBytes: storedBytes(kept),
  };
}

/** Where it is read from. */
export const storedBytes = ({ hot, cold, disk }: Kept): number => hot?.lease.bytes ?? cold?.bytes ?? disk?.bytes ?? 0;

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
  /** A tenant's, or all. */
  tiers(tenant?: string): KvTiers;
}

export function createTierCount(): TierCount {
  const none = (): KvTiers => ({
    hot: { blocks: 0, bytes: 0 },
    warm: { blocks: 0, bytes: 0 },
    cold: { blocks: 0, bytes: 0 },
    disk: { blocks: 0, bytes: 0 },
  });
  const all = none();
  /** Of each tenant that has some. */
  const own = new Map<string, KvTiers>();

  function count(tenant: string, { tier, bytes }: Counted, sign: 1 | -1): void {
    const tiers = own.get(tenant) ?? none();
    own.set(tenant, tiers);
    for (const each of [all, tiers]) {
      each[tier].blocks += sign;
      each[tier].bytes += sign * bytes;
    }
    if (Object.values(tiers).every(({ blocks }) => blocks === 0)) own.delete(tenant);
  }

  function drop(kept: Kept): void {
    if (!kept.counted) return;
    count(kept.tenant, kept.counted, -1);
    kept.counted = undefined;
  }

  return {
    note(kept) {
      drop(kept);
      const counted = { tier: tierOf(kept), bytes: storedBytes(kept) };
      count(kept.tenant, counted, 1);
      kept.counted = counted;
    },
    drop,
    tiers(tenant) {
      const { hot, warm, cold, disk } = tenant === undefined ? all : (own.get(tenant) ?? none());
      return { hot: { ...hot }, warm: { ...warm }, cold: { ...cold }, disk: { ...disk } };
    },
  };
}
