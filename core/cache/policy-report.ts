// What the policies of a tenant's tensors have found out, as callers see it. Pure.
import type { PolicyAnswer } from '../contract/policy.ts';
import type { Course } from './course.ts';
import type { LodgingReport } from './lodgings.ts';

export function policyAnswer(course: Course, reports: readonly LodgingReport[]): PolicyAnswer {
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
