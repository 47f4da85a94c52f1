// What an eviction policy is: it keeps the order in which entries leave, and nothing else. Pure.
// The cache that serves (or simulates) owns the entries (entries.ts): it tells the policy who was asked for, who came and who
// went, and asks who is to leave when a newcomer needs room. A newcomer is always taken: whoever brought it has it in hand.
// Whether somebody may leave now (readers, pins, another adapter) is the caller's to say; a policy never names one who may not.
// Naming somebody binds nobody: he leaves by `evict`, or stays, and the policy goes on as sound as before.
import type { Entries } from './entries.ts';
import type { Popularity } from './popularity.ts';

/** No slot: nobody is there, or nobody may leave. */
export const NONE = -1;

/** What a hit is worth: one, its bytes, or what it would cost to compute it again. */
export type Objective = 'hits' | 'bytes' | 'cost';
export const OBJECTIVES: readonly Objective[] = ['hits', 'bytes', 'cost'];

/** Whether the entry in this slot may leave now. */
export type MayLeave = (slot: number) => boolean;

export interface Policy {
  /** One who is held was asked for; `entries.use` came before. */
  hit(slot: number): void;
  /** One who was not held has come; `entries.add` gave the slot. */
  admit(slot: number): void;
  /** Who leaves next for a newcomer of this hash and size; NONE if nobody may. */
  victim(hash: number, bytes: number, mayLeave: MayLeave): number;
  /** He leaves for want of room: a policy may remember him. Before `entries.drop`. */
  evict(slot: number): void;
  /** He leaves for a reason of the cache's own, and is forgotten. Before `entries.drop`. */
  remove(slot: number): void;
  /** Held already, under another policy; they are handed over coldest first. */
  adopt(slot: number): void;
  /** All who are held, those who would leave first at the beginning. */
  coldestFirst(visit: (slot: number) => void): void;
  /** Not held any more; evicted under another policy, which are handed over oldest first. */
  recall?(hash: number, bytes: number): void;
  /** What it has learnt of the workload, as a share of its room: a shadow's can be given to one of another size. */
  learnt?(): number;
  learn?(share: number): void;
}

/** Where policies take turns, whoever changes them keeps the popularity of the entries for all of them. */
export type CreatePolicy = (entries: Entries, objective: () => Objective, popularity?: Popularity) => Policy;
