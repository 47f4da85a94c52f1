// The books of tensors and of KV, over the same arenas, under any order of calls: after every step they agree with a model and
// with themselves, nothing is above its budget, and nobody leaves who should not. PROPERTY_STEPS says how many steps, in parts
// for a file each, so that they run side by side.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { OBJECTIVES, STRATEGIES } from '../../../core/contract/policy.ts';
import { type Kind, kind, walk } from '../property.ts';
import { ADAPTERS, type Ground, openGround } from './ground.ts';
import { type KvBooks, openKvBooks } from './kv.ts';
import { openTensorBooks, PAYLOADS, TENANTS, type TensorBooks } from './tensors.ts';

const STEPS = Number(process.env.PROPERTY_STEPS ?? 1_000_000);
const PARTS = 4;

interface Books {
  readonly ground: Ground;
  readonly tensors: TensorBooks;
  readonly kv: KvBooks;
}

const tenant = fc.constantFrom(...TENANTS);
const name = { tenant, key: fc.constantFrom('k', 'l', 'm', 'n', 'o', 'p', 'q') };
const adapter = fc.constantFrom(...ADAPTERS);
const index = fc.nat(8);
const put = fc.record({
  ...name,
  payload: fc.nat(PAYLOADS.length - 1),
  priority: fc.constantFrom(10, 50, 90),
  ttlMs: fc.constantFrom(null, null, 1000, 20_000),
  durability: fc.constantFrom('through', 'back', 'none'),
  slow: fc.boolean(),
});

const kvName = {
  tenant,
  salted: fc.boolean(),
  word: fc.string({ unit: fc.constantFrom('a', 'a', 'b', 'c'), minLength: 1, maxLength: 6 }),
};
const word = fc.record(kvName);
const stored = fc.record({
  ...kvName,
  priority: fc.constantFrom(10, 50, 50, 90),
  ttlMs: fc.constantFrom(null, null, 1000, 20_000),
  coded: fc.boolean(),
  slow: fc.boolean(),
});

const ofBoth: Kind<Books>[] = [
  kind('wait', 2, fc.nat(3000), ({ ground }, ms) => {
    ground.clock.now += ms;
  }),
  kind('kill', 1, fc.record({ adapter, isBackAtOnce: fc.boolean() }), (books, { adapter, isBackAtOnce }) => {
    books.ground.kill(adapter);
    if (isBackAtOnce) books.ground.restart(adapter);
    books.tensors.dropLost();
    books.kv.dropLost();
  }),
  kind('restart', 3, adapter, ({ ground }, adapter) => ground.restart(adapter)),
  kind('sweep', 1, fc.constant(null), ({ tensors, kv }) => {
    tensors.sweep();
    kv.sweep();
  }),
  kind(
    'follow',
    1,
    fc.record({ strategy: fc.constantFrom(...STRATEGIES), objective: fc.constantFrom(...OBJECTIVES) }),
    ({ tensors }, { strategy, objective }) => tensors.follow(strategy, objective),
  ),
];

const ofTensors: Kind<Books>[] = [
  kind('put', 24, put, ({ tensors }, put) => tensors.put(put)),
  kind('arrive', 12, index, ({ tensors }, index) => tensors.arrive(index)),
  kind('read', 12, fc.record(name), ({ tensors }, { tenant, key }) => tensors.read(tenant, key)),
  kind('endRead', 10, index, ({ tensors }, index) => tensors.endRead(index)),
  kind('written', 6, fc.record({ index, isWritten: fc.boolean() }), ({ tensors }, { index, isWritten }) =>
    tensors.flushed(index, isWritten),
  ),
  kind('delete', 4, fc.record(name), ({ tensors }, { tenant, key }) => tensors.delete(tenant, key)),
  kind('move', 6, fc.record({ ...name, adapter }), ({ tensors }, { tenant, key, adapter }) =>
    tensors.move(tenant, key, adapter),
  ),
  kind('leave', 2, fc.record(name), ({ ground, tensors }, { tenant, key }) => {
    if (ground.pool.ready) tensors.leave(tenant, key);
  }),
];

const ofKv: Kind<Books>[] = [
  kind('storeKv', 16, stored, ({ kv }, stored) => kv.store(stored)),
  kind('arriveKv', 8, index, ({ kv }, index) => kv.arrive(index)),
  kind('readKv', 8, word, ({ kv }, word) => kv.read(word)),
  kind('endReadKv', 8, index, ({ kv }, index) => kv.endRead(index)),
  kind('pin', 4, fc.record({ word, ttlMs: fc.integer({ min: 1000, max: 30_000 }) }), ({ kv }, { word, ttlMs }) =>
    kv.pin(word, ttlMs),
  ),
  kind('unpin', 4, fc.record({ index, byTokens: fc.boolean() }), ({ kv }, { index, byTokens }) =>
    kv.unpin(index, byTokens),
  ),
  kind('clear', 2, fc.record({ word, isAll: fc.boolean() }), ({ kv }, { word, isAll }) => kv.clear(word, isAll)),
  kind('recode', 4, fc.nat(20), ({ kv }, index) => kv.recode(index)),
  kind('moveKv', 4, fc.record({ index: fc.nat(20), adapter: fc.option(adapter) }), ({ kv }, { index, adapter }) =>
    kv.move(index, adapter ?? undefined),
  ),
  kind(
    'pack',
    6,
    fc.record({ index: fc.nat(20), bytes: fc.integer({ min: 1, max: 300 << 10 }), isExact: fc.boolean() }),
    ({ kv }, { index, bytes, isExact }) => kv.pack(index, bytes, isExact),
  ),
  kind('cool', 2, fc.nat(20), ({ kv }, index) => kv.cool(index)),
  kind('damage', 2, fc.nat(60), ({ kv }, index) => kv.damage(index)),
];

function open(): Books {
  const ground = openGround();
  const tensors = openTensorBooks(ground);
  return { ground, tensors, kv: openKvBooks(ground, tensors.makeRoom) };
}

/** One of the parts, from 0. */
export const walkBooks = (part: number) =>
  test('tensors and KV agree with a model after every step, whatever is called', (t) => {
    const happened = new Map<string, number>();
    walk<Books>(t, {
      kinds: [...ofBoth, ...ofTensors, ...ofKv],
      steps: STEPS / PARTS,
      part,
      open,
      check({ ground, tensors, kv }) {
        tensors.check();
        kv.check();
        ground.check();
      },
      end(books) {
        for (const [what, count] of end(books)) happened.set(what, (happened.get(what) ?? 0) + count);
      },
    });
    t.diagnostic(JSON.stringify(Object.fromEntries(happened)));
    for (const what of ALL_HAPPENS)
      assert.ok((happened.get(what) ?? 0) >= STEPS / 20_000, `${what} happens too seldom to be tested`);
  });

const ALL_HAPPENS = [
  ...['room', 'quota', 'tensorsLost', 'refused', 'shared'],
  ...['evicted', 'expired', 'cleared', 'lost', 'damaged'],
];

/** All pages are back; what has happened, so many times. */
function end({ ground, tensors, kv }: Books): [string, number][] {
  for (const adapter of ADAPTERS) ground.restart(adapter);
  kv.end();
  tensors.end();
  ground.check();
  assert.equal(ground.leases.size, 0, 'leases that nobody gave back');
  return [...Object.entries({ ...tensors.leaves, ...tensors.holdings.evictions }), ...kv.left];
}
