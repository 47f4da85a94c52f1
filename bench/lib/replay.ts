// Replays a trace through the policies that serve requests, as a cache without content (core/cache/policy/trial.ts), and counts.
// A chain's blocks are hits up to the first that is missing; all of them are asked for, so that those behind it come in.
import { ADAPTIVE_DEFAULTS, createAdaptive } from '../../core/cache/policy/adaptive.ts';
import { Entries } from '../../core/cache/policy/entries.ts';
import { POLICIES, POLICY_NAMES, type PolicyName } from '../../core/cache/policy/policies.ts';
import type { Policy } from '../../core/cache/policy/policy.ts';
import { createTrial } from '../../core/cache/policy/trial.ts';
import { belady } from './belady.ts';
import type { Trace } from './traces.ts';

export type Strategy = PolicyName | 'adaptive' | 'opt';
export const STRATEGIES: readonly Strategy[] = ['adaptive', ...POLICY_NAMES, 'opt'];
export const isStrategy = (name: string): name is Strategy => (STRATEGIES as readonly string[]).includes(name);

export interface Replayed {
  readonly trace: string;
  readonly capacity: number;
  readonly strategy: string;
  readonly requests: number;
  readonly hits: number;
  readonly hitRatio: number;
  readonly byteHitRatio: number;
  /** Null where it would say nothing: the optimum sees the future. */
  readonly nsPerOp: number | null;
  /** Of chains: the share of their blocks that need not be computed. */
  readonly computeSaved?: number;
}

/** One to one on 32 bits, and well mixed, as policies ask of a hash. */
export function hashOfNumber(key: number): number {
  let hash = (key + 1) | 0;
  hash = Math.imul(hash ^ (hash >>> 16), 0x21f0_aaad);
  hash = Math.imul(hash ^ (hash >>> 15), 0x735a_2d97);
  return hash ^ (hash >>> 15);
}

export function createStrategy(name: Exclude<Strategy, 'opt'>, bytesMax: number): { entries: Entries; policy: Policy } {
  const past = name === 'lfu' || name === 'adaptive' ? ADAPTIVE_DEFAULTS.pastMax : 0;
  const entries = new Entries(bytesMax, past);
  const hits = () => 'hits' as const;
  return { entries, policy: name === 'adaptive' ? createAdaptive(entries, hits) : POLICIES[name](entries, hits) };
}

export function replay(trace: Trace, capacity: number, strategy: Strategy): Replayed {
  const bytesMax = bytesOf(trace, capacity);
  if (strategy === 'opt') return count(trace, capacity, strategy, belady(trace, bytesMax), null);
  const { keys, bytes } = trace;
  const { entries, policy } = createStrategy(strategy, bytesMax);
  const trial = createTrial(entries, policy);
  const hits = new Uint8Array(keys.length);
  const before = process.cpuUsage();
  for (let i = 0; i < keys.length; i++) {
    const key = keys[i] as number;
    if (trial.ask(hashOfNumber(key), bytes ? (bytes[key] as number) : 1, 1)) hits[i] = 1;
  }
  const { user, system } = process.cpuUsage(before);
  return count(trace, capacity, strategy, hits, ((user + system) * 1000) / Math.max(1, keys.length));
}

/** Below one, a share of all distinct keys or their bytes; from one on, so many entries or bytes. */
export function bytesOf({ bytes, distinct }: Trace, capacity: number): number {
  if (capacity >= 1) return Math.floor(capacity);
  const all = bytes ? bytes.reduce((a, b) => a + b, 0) : distinct;
  return Math.max(1, Math.floor(all * capacity));
}

function count(trace: Trace, capacity: number, strategy: string, hits: Uint8Array, nsPerOp: number | null): Replayed {
  const counted = trace.chains ? upToFirstMiss(hits, trace.chains) : hits;
  let [total, bytes, bytesHit] = [0, 0, 0];
  for (let i = 0; i < counted.length; i++) {
    const own = trace.bytes?.[trace.keys[i] ?? 0] ?? 1;
    bytes += own;
    if (counted[i] === 0) continue;
    total++;
    bytesHit += own;
  }
  const requests = counted.length;
  const hitRatio = total / Math.max(1, requests);
  return {
    ...{ trace: trace.name, capacity, strategy, requests, hits: total, hitRatio },
    ...{ byteHitRatio: bytesHit / Math.max(1, bytes), nsPerOp },
    ...(trace.chains ? { computeSaved: hitRatio } : {}),
  };
}

function upToFirstMiss(hits: Uint8Array, chains: Uint32Array): Uint8Array {
  const counted = new Uint8Array(hits.length);
  chains.forEach((start, i) => {
    const end = chains[i + 1] ?? hits.length;
    for (let at = start; at < end && hits[at] === 1; at++) counted[at] = 1;
  });
  return counted;
}
