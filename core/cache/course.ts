// By which strategy tensors leave adapters, and what a hit counts for: chosen at the start, changed at any time. Pure.
import type { Strategy } from '../contract/policy.ts';
import { BEGINNER, createAdaptive } from './policy/adaptive.ts';
import type { Entries } from './policy/entries.ts';
import { POLICIES } from './policy/policies.ts';
import type { CreatePolicy, Objective, Policy } from './policy/policy.ts';

export interface Course {
  strategy: Strategy;
  objective: Objective;
  /** Requests between two comparisons of experts; undefined: as many as the adaptive policy finds right. */
  readonly adjustEvery: number | undefined;
}

export const DEFAULT_COURSE: Course = { strategy: 'adaptive', objective: 'hits', adjustEvery: undefined };

/** Experts have shadows, which are not worth their memory for fewer entries: the expert that would begin serves alone. */
const ADAPTIVE_FROM = 32;

/** What serves `entries` now: its name is another as soon as another policy should. */
export function policyFor(course: Course, { count }: Entries): Strategy | typeof BEGINNER {
  return course.strategy === 'adaptive' && count < ADAPTIVE_FROM ? BEGINNER : course.strategy;
}

export function createPolicy(name: ReturnType<typeof policyFor>, course: Course, entries: Entries): Policy {
  const objective = () => course.objective;
  const create: CreatePolicy | undefined = name === 'adaptive' ? undefined : POLICIES[name];
  if (create) return create(entries, objective);
  return createAdaptive(entries, objective, { adjustEvery: course.adjustEvery });
}
