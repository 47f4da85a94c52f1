// Every policy alike: whatever is asked, admitted, evicted and taken away at random, who is held is held once, nobody is named
// who may not leave, and somebody is as long as anybody may. SEED and CACHE_ROUNDS as elsewhere.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createAdaptive } from '../../../../core/cache/policy/adaptive.ts';
import { Entries } from '../../../../core/cache/policy/entries.ts';
import { handOver } from '../../../../core/cache/policy/handover.ts';
import { POLICIES, POLICY_NAMES } from '../../../../core/cache/policy/policies.ts';
import { type CreatePolicy, NONE, type Policy } from '../../../../core/cache/policy/policy.ts';
import { type Seeded, seeded } from '../../../support/seeded.ts';

const ROUNDS = Number(process.env.CACHE_ROUNDS ?? 3000);
const ROOM = 2000;
const KEYS = 300;

const CREATE: Readonly<Record<string, CreatePolicy>> = {
  ...POLICIES,
  adaptive: (entries, objective) =>
    createAdaptive(entries, objective, { shadowEntriesMax: 40, shareMin: 0, memory: 1, margin: 0 }),
};

interface Held {
  readonly slot: number;
  readonly bytes: number;
  readonly hash: number;
}

/** The simplest cache that a policy could serve. */
function createModel(random: Seeded, name: string) {
  const entries = new Entries(ROOM, 500);
  const create = CREATE[name];
  assert.ok(create);
  let policy: Policy = create(entries, () => 'hits');
  const held = new Map<number, Held>();
  const pinned = new Set<number>();
  const mayLeave = (slot: number) => !pinned.has(slot);

  function drop(key: number, one: Held, evicted: boolean): void {
    if (evicted) policy.evict(one.slot);
    else policy.remove(one.slot);
    entries.drop(one.slot, evicted);
    held.delete(key);
    pinned.delete(one.slot);
  }

  /** Whether there is room now. */
  function makeRoom(hash: number, bytes: number): boolean {
    while (entries.bytesHeld + bytes > entries.bytesMax) {
      const slot = policy.victim(hash, bytes, mayLeave);
      const free = [...held.values()].filter((one) => mayLeave(one.slot));
      if (slot === NONE) {
        assert.equal(free.length, 0, 'nobody is named, and somebody may leave');
        return false;
      }
      const [key, one] = [...held].find(([, { slot: own }]) => own === slot) ?? [];
      assert.ok(key !== undefined && one, `slot ${slot} is named, and nobody is in it`);
      assert.ok(mayLeave(slot), `slot ${slot} is named, and must not leave`);
      if (random.below(10) > 0) drop(key, one, true);
    }
    return true;
  }

  return {
    ask(key: number): void {
      const one = held.get(key);
      if (one) {
        entries.use(one.slot);
        policy.hit(one.slot);
        return;
      }
      const bytes = 1 + (key % 7) * (key % 11);
      const hash = Math.imul(key + 1, 0x9e37_79b1);
      if (!makeRoom(hash, bytes)) return;
      const slot = entries.add(hash, bytes, 1 + (key % 3));
      held.set(key, { slot, bytes, hash });
      policy.admit(slot);
    },
    remove(key: number): void {
      const one = held.get(key);
      if (one) drop(key, one, false);
    },
    pin(key: number): void {
      const one = held.get(key);
      if (one && pinned.size < 20) pinned.add(one.slot);
    },
    unpin: () => pinned.clear(),
    room: (bytes: number): void => {
      entries.bytesMax = bytes;
    },
    change(to: string): void {
      const next = CREATE[to]?.(entries, () => 'cost');
      assert.ok(next);
      handOver(policy, next, entries);
      policy = next;
    },
    check(): void {
      const slots: number[] = [];
      policy.coldestFirst((slot) => slots.push(slot));
      const byNumber = (a: number, b: number) => a - b;
      assert.deepEqual(slots.sort(byNumber), [...held.values()].map(({ slot }) => slot).sort(byNumber));
      assert.equal(entries.count, held.size);
      assert.equal(
        entries.bytesHeld,
        [...held.values()].reduce((sum, { bytes }) => sum + bytes, 0),
      );
      for (const { slot, hash } of held.values()) assert.equal(entries.hash[slot], hash);
    },
  };
}

type Model = ReturnType<typeof createModel>;

function step(model: Model, random: Seeded): void {
  const key = Math.floor(KEYS * random.next() ** 2);
  const dice = random.below(100);
  if (dice < 85) model.ask(key);
  else if (dice < 90) model.remove(key);
  else if (dice < 95) model.pin(key);
  else if (dice < 97) model.unpin();
  else if (dice < 99) for (let next = key; next < key + 40; next++) model.ask(next + KEYS);
  else model.room(ROOM / (1 + random.below(3)));
}

for (const name of Object.keys(CREATE)) {
  test(`${name} keeps count of whom is held and names only who may leave, whatever happens`, () => {
    const random = seeded();
    const model = createModel(random, name);
    try {
      for (let round = 0; round < ROUNDS; round++) {
        step(model, random);
        if (round % 50 === 0) model.check();
      }
      model.check();
    } catch (error) {
      throw new Error(`SEED=${random.seed}`, { cause: error });
    }
  });
}

test('handOver() keeps everybody, from any policy to any other', () => {
  const random = seeded();
  const names = Object.keys(CREATE) as [string, ...string[]];
  const model = createModel(random, 'lru');
  for (let round = 0; round < ROUNDS; round++) {
    step(model, random);
    if (round % 30 !== 0) continue;
    model.change(random.pick(names));
    model.check();
  }
});

describe('with everybody pinned', () => {
  for (const name of POLICY_NAMES)
    test(`${name} names nobody`, () => {
      const entries = new Entries(10);
      const policy = POLICIES[name](entries, () => 'hits');
      for (let key = 0; key < 10; key++) policy.admit(entries.add(key, 1, 1));
      assert.equal(
        policy.victim(99, 1, () => false),
        NONE,
      );
      assert.notEqual(
        policy.victim(99, 1, () => true),
        NONE,
      );
    });
});
