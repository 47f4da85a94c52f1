// The real engine, of two adapters' processes, under any order of calls: every answer is bit by bit what the model knows, or a
// refusal that may be; after every step all books are clean and within their budgets. ENGINE_STEPS says how many.
import { test } from 'node:test';
import fc from 'fast-check';
import { OBJECTIVES, STRATEGIES } from '../../../core/contract/policy.ts';
import { SOURCE } from '../../support/adapters.ts';
import { startEngine } from '../../support/engine.ts';
import { type Kind, kind, walkSlowly } from '../../support/property.ts';
import { ADAPTERS, SIZES, type WalkedEngine, walkedEngine } from '../../support/walked-engine.ts';

const STEPS = Number(process.env.ENGINE_STEPS ?? 2000);
/** Each a test and an engine of its own, so that none takes long. */
const PARTS = 2;
/** Of 256 MiB: 32 blocks. */
const KV_SHARE = 0.002;

const key = fc.constantFrom('a/1', 'a/2', 'a/3', 'b/1', 'b/2', 'b/3', 'b/4');
const adapter = fc.constantFrom(...ADAPTERS);
const word = fc.string({ unit: fc.constantFrom('a', 'a', 'b'), minLength: 1, maxLength: 5 });
const seconds = fc.integer({ min: 1, max: 30 });
const put = fc.record({
  key,
  size: fc.constantFrom(...SIZES),
  durability: fc.constantFrom('through', 'back', 'none'),
  ttlSeconds: fc.option(seconds, { nil: undefined }),
});

const kinds: Kind<WalkedEngine>[] = [
  kind('put', 12, put, (world, put) => world.put(put)),
  kind('putMany', 3, fc.array(put, { minLength: 2, maxLength: 4 }), (world, puts) => world.putMany(puts)),
  kind('get', 8, key, (world, key) => world.get(key)),
  kind('getMany', 3, fc.array(key, { minLength: 1, maxLength: 5 }), (world, keys) => world.getMany(keys)),
  kind('beginRead', 4, key, (world, key) => world.beginRead(key)),
  kind('endRead', 3, fc.constant(null), (world) => world.endRead()),
  kind('delete', 2, key, (world, key) => world.delete(key)),
  kind('move', 3, fc.record({ prefix: fc.constantFrom('', 'a/', 'b/'), adapter }), (world, { prefix, adapter }) =>
    world.move(prefix, adapter),
  ),
  kind('wait', 3, fc.nat(10_000), ({ engine }, ms) => {
    engine.clock.now += ms;
  }),
  kind('storeKv', 9, fc.record({ word, ttl: fc.option(seconds, { nil: undefined }) }), (world, { word, ttl }) =>
    world.storeKv(word, ttl),
  ),
  kind('loadKv', 6, word, (world, word) => world.loadKv(word)),
  kind('lookupKv', 4, fc.record({ word, use: fc.boolean() }), (world, { word, use }) => world.lookupKv(word, use)),
  kind('pinKv', 3, fc.record({ word, ttl: seconds }), (world, { word, ttl }) => world.pinKv(word, ttl)),
  kind('unpinKv', 2, fc.constant(null), (world) => world.unpinKv()),
  kind('recodeKv', 2, word, (world, word) => world.recodeKv(word)),
  kind('moveKv', 3, fc.record({ word, adapter }), (world, { word, adapter }) => world.moveKv(word, adapter)),
  kind('clearKv', 1, word, (world, word) => world.clearKv(word)),
  kind(
    'policy',
    1,
    fc.record({ strategy: fc.constantFrom(...STRATEGIES), objective: fc.constantFrom(...OBJECTIVES) }),
    (world, policy) => world.setPolicy(policy),
  ),
  kind('sweep', 1, fc.constant(null), (world) => world.sweep()),
  kind('drain', 1, adapter, (world, adapter) => world.drain(adapter)),
  kind('resume', 2, adapter, (world, adapter) => world.resume(adapter)),
  kind('kill', 1, fc.nat(1), (world, adapter) => world.kill(adapter)),
  kind('reopen', 1, fc.constant(null), (world) => world.reopen()),
];

for (let part = 0; part < PARTS; part++)
  test(`a real engine agrees with a model after every step, whatever is called (${part + 1} of ${PARTS})`, async (t) => {
    const pausesMs = { first: 10, max: 10, calmAfter: 60_000 };
    const engine = await startEngine(t, {
      pool: { adapters: [SOURCE, SOURCE], pausesMs },
      kv: { share: KV_SHARE, coldBytesMax: 200_000 },
    });
    const world = walkedEngine(engine, KV_SHARE * engine.pool.capacityBytes);
    await walkSlowly<WalkedEngine>(t, {
      kinds,
      steps: STEPS / PARTS,
      part,
      async open() {
        await world.reset();
        return world;
      },
      check: (world) => world.check(),
    });
  });
