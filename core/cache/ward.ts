// Lodgers whose order is one policy's: those of one tenant and one band of priority on one adapter. The policy changes under them
// and nobody leaves by it. Whoever is named may leave; he does by `leave`, or stays. Bookkeeping only.
import { type Course, createPolicy, policyFor } from './course.ts';
import type { Adaptive, AdaptiveReport } from './policy/adaptive.ts';
import { Entries } from './policy/entries.ts';
import { handOver } from './policy/handover.ts';
import { NONE } from './policy/policy.ts';

/** Uses of those who left that are remembered. */
const PAST_MAX = 1 << 18;

export interface Warded {
  /** The ward's own. */
  slot: number;
  readonly hash: number;
  /** Of its pages. */
  readonly bytes: number;
  /** What it would cost to have it again. */
  readonly cost: number;
}

export interface Ward<W extends Warded> {
  readonly count: number;
  readonly bytes: number;
  /** Has come; `uses` of one who was here before by other pages, and whose coming is nothing new. */
  enter(one: W, bytesMax: number, uses?: number): void;
  touch(one: W): void;
  usesOf(one: W): number;
  leave(one: W, evicted: boolean): void;
  /** Who leaves next for a newcomer, of those who may; undefined if none may. */
  name(hash: number, bytes: number, mayLeave: (one: W) => boolean): W | undefined;
  /** The course has changed. */
  follow(): void;
  /** Of the policy that serves. */
  report(): WardReport;
}

export interface WardReport extends Omit<AdaptiveReport, 'inCharge'> {
  readonly inCharge: string;
}

export function createWard<W extends Warded>(course: Course): Ward<W> {
  const entries = new Entries(0, PAST_MAX);
  const bySlot: (W | undefined)[] = [];
  let name = policyFor(course, entries);
  let policy = createPolicy(name, course, entries);

  function follow(): void {
    const next = policyFor(course, entries);
    if (next === name) return;
    name = next;
    const from = policy;
    policy = createPolicy(name, course, entries);
    handOver(from, policy, entries);
  }

  return {
    get count() {
      return entries.count;
    },
    get bytes() {
      return entries.bytesHeld;
    },
    enter(one, bytesMax, uses) {
      entries.bytesMax = bytesMax;
      const slot = entries.add(one.hash, one.bytes, one.cost);
      one.slot = slot;
      bySlot[slot] = one;
      if (uses === undefined) policy.admit(slot);
      else {
        entries.uses[slot] = uses;
        policy.adopt(slot);
      }
      if (name !== course.strategy) follow();
    },
    touch({ slot }) {
      entries.use(slot);
      policy.hit(slot);
    },
    usesOf: ({ slot }) => entries.uses[slot] as number,
    leave({ slot }, evicted) {
      if (evicted) policy.evict(slot);
      else policy.remove(slot);
      entries.drop(slot, evicted);
      bySlot[slot] = undefined;
    },
    name(hash, bytes, mayLeave) {
      const slot = policy.victim(hash, bytes, (each) => {
        const one = bySlot[each];
        return one !== undefined && mayLeave(one);
      });
      return slot === NONE ? undefined : bySlot[slot];
    },
    follow,
    report() {
      if (name === 'adaptive') return (policy as Adaptive).report();
      return { pattern: undefined, inCharge: name, experts: [], changes: 0 };
    },
  };
}
