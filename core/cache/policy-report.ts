// What the policies of a tenant's tensors, and of all KV, have found out, as callers see it. Pure.
import type { KvPolicy, TensorsPolicy } from '../contract/policy.ts';
import type { Course } from './course.ts';
import type { LodgingReport } from './lodgings.ts';
import type { EvictionReport } from './prefix/eviction.ts';

export function policyAnswer(course: Course, reports: readonly LodgingReport[]): TensorsPolicy {
  const { strategy, objective, adjustEvery = null } = course;
  const parts = reports.map(({ pattern = null, experts, ...rest }) => ({
    ...rest,
    pattern,
    experts: experts.map(({ name, hitRatio = null }) => ({ name, hitRatio })),
  }));
  const largest = parts.toSorted((a, b) => b.bytes - a.bytes)[0];
  const { pattern = null, inCharge = null, experts = [] } = largest ?? {};
  const changes = parts.reduce((sum, part) => sum + part.changes, 0);
  return { strategy, objective, adjustEvery, tensors: { pattern, inCharge, experts, changes, parts } };
}

export function kvPolicyAnswer({ pattern, inCharge, experts, changes, ratios }: EvictionReport): KvPolicy {
  return {
    ...{ pattern: pattern ?? null, inCharge, changes },
    experts: experts.map(({ name, hitRatio = null }) => ({ name, hitRatio })),
    hitRatio: { now: ratios.now ?? null, half: ratios.atHalf ?? null, double: ratios.atTwice ?? null },
  };
}
