// The canary on a real adapter: what codecs promise is kept on vectors they suit; where a chain's mean no longer fits its keys an
// alarm comes, once; and looking costs nobody anything: no room is taken, nobody leaves.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { recordCodec } from '../../../../core/codec/record-codecs.ts';
import { RELATIVE_ERRORS } from '../../../../core/codec/relative-errors.ts';
import { RECORD_NAMES } from '../../../../shaders/records.ts';
import { type Engine, startEngine } from '../../../support/engine.ts';
import { gaussian } from '../../../support/gaussian.ts';
import { attendKv, bytesOf, type Sequence, sequence, storeKv } from '../../../support/kv.ts';
import { seeded } from '../../../support/seeded.ts';

const TQ4 = { codecK: 'tq4', codecV: 'tq4' };
const always = { canary: { share: 1, random: () => 0 } };

async function look(engine: Engine, given: Sequence, times: number): Promise<void> {
  for (let i = 0; i < times; i++) {
    await attendKv(engine, given, 1);
    await engine.kv.settled();
  }
}

test('codecs keep what they promise on vectors they suit, and looking leaves nothing behind', async (t) => {
  const random = seeded();
  t.diagnostic(`SEED=${random.seed}`);
  const engine = await startEngine(t, { kv: always });
  const given = sequence(random, [2, 2, 64 * 5, 64]);
  await storeKv(engine, given, TQ4);
  const before = engine.kv.stats();
  await look(engine, given, 10);
  const { canary, bytes, blocks } = engine.kv.stats();
  const [pair, ...others] = canary.pairs;
  assert.ok(pair);
  assert.equal(others.length, 0);
  assert.deepEqual([pair.codecK, pair.codecV, pair.looks, pair.alarm], ['tq4', 'tq4', 10, false]);
  assert.ok(pair.error > 0.001 && pair.error < pair.errorMax / 2, `${pair.error} of ${pair.errorMax}`);
  assert.deepEqual([canary.looks, canary.failed], [10, 0]);
  assert.deepEqual([bytes, blocks], [before.bytes, before.blocks]);
  assert.deepEqual(engine.kv.check(), []);
  await engine.assertIdle();
});

test('keys that their chain’s mean does not fit raise an alarm, once', async (t) => {
  const random = seeded();
  t.diagnostic(`SEED=${random.seed}`);
  const engine = await startEngine(t, { kv: always });
  const given = sequence(random, [2, 1, 64 * 5, 64], 'F32');
  const k = new Float32Array(given.k.slice().buffer).map((value) => 20 * value); // so that attention is for few tokens
  const normal = gaussian(random);
  const odd = Float32Array.from({ length: 64 }, () => -1000 * Math.abs(normal())); // which no query looks at
  for (let layer = 0; layer < 2; layer++)
    for (let token = 0; token < 64; token++) k.set(odd, (layer * 64 * 5 + token) * 64); // in the first block only
  await storeKv(engine, { ...given, k: bytesOf(k) }, TQ4);
  await look(engine, given, 12);
  const [pair] = engine.kv.stats().canary.pairs;
  assert.ok(pair?.alarm, JSON.stringify(pair));
  assert.equal(engine.lines.filter((line) => line.includes('ALARM')).length, 1);
});

test('nobody is compared where nothing is exact, where there is no room, or by a share of none', async (t) => {
  const random = seeded();
  const given = sequence(random, [2, 1, 64 * 5, 64]);
  const coded = await startEngine(t, { kv: { ...always, window: { firstBlocks: 0, lastBlocks: 0 } } });
  await storeKv(coded, given, TQ4);
  await look(coded, given, 3);
  assert.deepEqual(coded.kv.stats().canary, { looks: 0, skipped: 3, failed: 0, pairs: [] });

  const full = await startEngine(t, { kv: { ...always, share: 0.0006 } });
  const { blocks } = await storeKv(full, given, TQ4);
  const before = full.kv.stats();
  await look(full, given, 1).catch(() => {}); // fewer blocks than tokens: attention says so
  const { canary, evictions } = full.kv.stats();
  assert.deepEqual([canary.looks, evictions], [0, before.evictions], `${blocks.length} blocks`);

  const never = await startEngine(t);
  await storeKv(never, given, TQ4);
  await look(never, given, 2);
  assert.deepEqual(never.kv.stats().canary, { looks: 0, skipped: 0, failed: 0, pairs: [] });
});

test('the promise of each codec is what it does to normal vectors', () => {
  const random = seeded();
  const normal = gaussian(random);
  for (const name of RECORD_NAMES) {
    const codec = recordCodec(name);
    let [off, all] = [0, 0];
    for (let i = 0; i < 60; i++) {
      const vector = Float32Array.from({ length: 128 }, normal);
      const record = new Uint32Array(codec.words(128));
      const back = new Float32Array(128);
      codec.encode(vector, record);
      codec.decode(record, back);
      for (const [at, value] of vector.entries()) {
        off += (value - (back[at] ?? 0)) ** 2;
        all += value ** 2;
      }
    }
    const promised = RELATIVE_ERRORS[name];
    assert.ok(Math.abs(off / all - promised) <= 0.2 * promised, `${name}: ${off / all}, promised ${promised}`);
  }
});
