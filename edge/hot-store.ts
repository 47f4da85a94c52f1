// Answers that are asked for often, in memory: within a budget of bytes, each tenant's on a shelf of its own.
// Who leaves: something of the tenant that has most, so that one tenant's keys push out another's only as far as those take more; on
// its shelf whom S3-FIFO names. Who comes was asked for before, lately: a scan, which asks for each key once, brings nothing in.
// Invariant: never more than `bytesMax`, counted with what an answer takes beside its bytes.

import { Entries } from '../core/cache/policy/entries.ts';
import { hashOf } from '../core/cache/policy/hash.ts';
import { NONE, type Policy } from '../core/cache/policy/policy.ts';
import { createS3Fifo } from '../core/cache/policy/s3-fifo.ts';
import { COUNT_MAX, Sketch } from '../core/cache/policy/sketch.ts';
import type { WholeTensor } from '../core/contract/whole-tensor.ts';

export interface HotAnswer extends WholeTensor {
  /** When its core said that it is so. */
  readonly since: number;
  /** When its time is up; Infinity where it has none. */
  readonly expiresAt: number;
}

export interface HotStore {
  readonly bytes: number;
  readonly count: number;
  /** A larger one is not taken. */
  readonly answerBytesMax: number;
  /** Answers that left for others. */
  readonly evictions: number;
  /** Counts as a use. */
  find(tenant: string, key: string): HotAnswer | undefined;
  /** It was asked for and not there; whether it was before, lately, so that it is worth keeping. */
  isWanted(tenant: string, key: string): boolean;
  /** In place of what was there; false where it is too large. */
  put(tenant: string, key: string, answer: HotAnswer): boolean;
  drop(tenant: string, key: string): void;
  dropTenant(tenant: string): void;
  clear(): void;
}

interface Shelf {
  readonly entries: Entries;
  readonly policy: Policy;
  readonly slots: Map<string, number>;
  readonly keys: string[];
  readonly answers: (HotAnswer | undefined)[];
}

/** Headers, names and the places in maps, about; and a shelf's arrays. */
const BESIDE_BYTES = 1024;
const SHELF_BYTES = 8192;
/** Of the budget, one answer at most; */
const ANSWER_SHARE = 1 / 8;
/** and never more than a connection's own buffers take at once, so that who reads slowly keeps nothing here. */
const ANSWER_BYTES_MAX = 128 << 10;
/** Keys that are remembered as asked for, beyond those that are held; then each counts half. */
const ASKED_MAX = 1 << 14;

export function createHotStore(bytesMax: number): HotStore {
  const shelves = new Map<string, Shelf>();
  const asked = new Sketch();
  asked.fit(ASKED_MAX);
  let askedCount = 0;
  const answerBytesMax = Math.min(ANSWER_BYTES_MAX, Math.floor(bytesMax * ANSWER_SHARE));
  let bytes = 0;
  let count = 0;
  let evictions = 0;

  function newShelf(tenant: string): Shelf {
    const entries = new Entries(bytesMax);
    const shelf = { entries, policy: createS3Fifo(entries), slots: new Map(), keys: [], answers: [] };
    shelves.set(tenant, shelf);
    bytes += SHELF_BYTES;
    return shelf;
  }

  function take(tenant: string, shelf: Shelf, slot: number, isEvicted: boolean): void {
    const { entries, policy, slots, keys, answers } = shelf;
    if (isEvicted) policy.evict(slot);
    else policy.remove(slot);
    const own = entries.bytes[slot] as number; // the slot is given
    entries.drop(slot, isEvicted);
    slots.delete(keys[slot] as string); // as above
    answers[slot] = undefined;
    bytes -= own;
    count--;
    if (slots.size === 0 && shelves.delete(tenant)) bytes -= SHELF_BYTES;
  }

  function evictOne(): void {
    let most: [string, Shelf] | undefined;
    for (const each of shelves) if (!most || each[1].entries.bytesHeld > most[1].entries.bytesHeld) most = each;
    if (!most) throw new Error(`${bytes} bytes of answers are counted, and nobody has any`);
    const [tenant, shelf] = most;
    shelf.entries.bytesMax = shelf.entries.bytesHeld; // what it has is the room that its policy shares out
    const slot = shelf.policy.victim(0, 0, () => true);
    if (slot === NONE) throw new Error(`the policy names nobody, and ${shelf.entries.count} answers are held`);
    take(tenant, shelf, slot, true);
    evictions++;
  }

  function drop(tenant: string, key: string): void {
    const shelf = shelves.get(tenant);
    const slot = shelf?.slots.get(key);
    if (shelf && slot !== undefined) take(tenant, shelf, slot, false);
  }

  return {
    get bytes() {
      return bytes;
    },
    get count() {
      return count;
    },
    answerBytesMax,
    get evictions() {
      return evictions;
    },
    find(tenant, key) {
      const shelf = shelves.get(tenant);
      const slot = shelf?.slots.get(key);
      if (!shelf || slot === undefined) return undefined;
      shelf.entries.use(slot);
      shelf.policy.hit(slot);
      return shelf.answers[slot];
    },
    isWanted(tenant, key) {
      const hash = hashOf(`${tenant}\0${key}`);
      const before = asked.count(hash);
      asked.raise(hash, Math.min(before + 1, COUNT_MAX));
      if (++askedCount >= ASKED_MAX) {
        askedCount = 0;
        asked.halve();
      }
      return before > 0;
    },
    put(tenant, key, answer) {
      drop(tenant, key);
      const own = answer.bytes.length + 2 * key.length + BESIDE_BYTES;
      if (answer.bytes.length > answerBytesMax) return false;
      while (bytes + own + (shelves.has(tenant) ? 0 : SHELF_BYTES) > bytesMax) evictOne();
      const shelf = shelves.get(tenant) ?? newShelf(tenant);
      const slot = shelf.entries.add(hashOf(key), own, 1);
      shelf.slots.set(key, slot);
      shelf.keys[slot] = key;
      shelf.answers[slot] = answer;
      shelf.policy.admit(slot);
      bytes += own;
      count++;
      return true;
    },
    drop,
    dropTenant(tenant) {
      const shelf = shelves.get(tenant);
      if (shelf) for (const slot of [...shelf.slots.values()]) take(tenant, shelf, slot, false);
    },
    clear() {
      shelves.clear();
      bytes = 0;
      count = 0;
    },
  };
}
