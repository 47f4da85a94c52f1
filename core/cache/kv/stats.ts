// What is counted of KV, in one answer.
import type { KvPolicy } from '../../contract/policy.ts';
import { kvPolicyAnswer } from '../policy-report.ts';
import type { PrefetchStats } from '../prefetch.ts';
import type { CanaryStats } from './canary.ts';
import type { Demotion } from './demotion.ts';
import type { DiskStats } from './disk/shelf.ts';
import type { KvTiers } from './face.ts';
import type { HeldPages } from './held.ts';
import type { Pins } from './pins.ts';
import type { Returns } from './returns.ts';

/** Of the disk shelf, and the way back. */
export interface KvDiskStats extends DiskStats {
  returned: number;
  /** Asked for, and not brought back as that would have taken too long. */
  declined: number;
  returnMs: number;
  nsPerByte: number;
}

/** Of the cold shelf, and the ways there and back. */
export interface KvMemoryStats {
  bytes: number;
  bytesMost: number;
  bytesMax: number;
  packages: number;
  /** Packages that left for others. */
  evictions: number;
  /** Batches that were not packed, as where an adapter was lost. */
  failures: number;
  packed: number;
  packedBytes: number;
  /** By packing. */
  savedBytes: number;
  packMs: number;
  /** Blocks that left their adapter, and those that came back. */
  demotions: number;
  returned: number;
  /** Asked for, and not brought back as that would have taken too long. */
  declined: number;
  returnMs: number;
  nsPerByte: number;
}

export interface KvStats {
  blocks: number;
  /** On adapters. */
  bytes: number;
  /** The most that those have been. */
  bytesMost: number;
  tiers: KvTiers;
  memory: KvMemoryStats;
  disk: KvDiskStats;
  /** Of blocks brought ahead, as they follow what was read. */
  prefetch: PrefetchStats;
  evictions: number;
  lost: number;
  /** Blocks that were found damaged, and those that were forgotten as they followed one. */
  damaged: number;
  expired: number;
  cleared: number;
  canary: CanaryStats;
  /** Pins, and what they hold. */
  pinned: { pins: number; blocks: number; bytes: number };
  /** Of blocks of late: the share that was held when it was asked for or stored again, and would have been in other room. */
  hitRatio: KvPolicy['hitRatio'];
  /** Tokens that were asked for, to load or to attend to, and of those the ones held. */
  tokens: { asked: number; matched: number };
}

/** A tenant's own: blocks of its share, wherever they are, and what it has asked for. */
export type KvTenantStats = Pick<KvStats, 'blocks' | 'bytes' | 'tiers' | 'tokens'>;

export function tenantStatsOf(held: HeldPages, tenant: string, tokens: KvStats['tokens']): KvTenantStats {
  const tiers = held.tiers(tenant);
  const { hot, warm, cold, disk } = tiers;
  return {
    blocks: hot.blocks + warm.blocks + cold.blocks + disk.blocks,
    bytes: hot.bytes + warm.bytes,
    tiers,
    tokens: { ...tokens },
  };
}

export interface StatsParts {
  readonly held: HeldPages;
  readonly demotion: Pick<Demotion, 'stats'>;
  readonly returns: Pick<Returns, 'stats'>;
  readonly foresight: { stats(): PrefetchStats };
  readonly pins: Pick<Pins, 'stats'>;
  readonly canary: { stats(): CanaryStats };
  readonly tokens: KvStats['tokens'];
  readonly count: Pick<KvStats, 'lost' | 'expired' | 'cleared'>;
}

export function statsOf(parts: StatsParts): KvStats {
  const { held, foresight, pins, canary, tokens, count } = parts;
  return {
    blocks: held.blocks.size,
    bytes: held.bytes,
    bytesMost: held.bytesMost,
    tiers: held.tiers(),
    memory: memoryOf(parts),
    disk: diskOf(parts),
    prefetch: foresight.stats(),
    evictions: held.evictions,
    damaged: held.damages,
    ...count,
    canary: canary.stats(),
    pinned: pins.stats(),
    hitRatio: kvPolicyAnswer(held.blocks.report()).hitRatio,
    tokens: { ...tokens },
  };
}

function memoryOf({ held, demotion, returns }: StatsParts): KvMemoryStats {
  const { packed, packedBytes, pageBytes, ms, failures } = demotion.stats();
  const { returned, declined, ms: returnMs, nsPerByte } = returns.stats().memory;
  const { bytes, bytesMost, bytesMax, packages, evictions } = held.shelf;
  return {
    ...{ bytes, bytesMost, bytesMax, packages, evictions, failures },
    ...{ packed, packedBytes, savedBytes: pageBytes - packedBytes, packMs: Math.round(ms) },
    ...{ demotions: held.demotions, returned, declined, returnMs: Math.round(returnMs), nsPerByte },
  };
}

function diskOf({ held, returns }: StatsParts): KvDiskStats {
  const { returned, declined, ms, nsPerByte } = returns.stats().disk;
  return { ...held.disk.stats(), returned, declined, returnMs: Math.round(ms), nsPerByte };
}
