// What happens to held KV while others are in the middle of it: whoever reads gets an answer or a problem that says why, nothing
// stays held after it, and work in the background comes to an end.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { Problem } from '../../../../core/contract/problems.ts';
import { patience, startEngine } from '../../../support/engine.ts';
import { attendKv, loadKv, OWNER, sequence, storeKv } from '../../../support/kv.ts';
import { seeded } from '../../../support/seeded.ts';

const EXACT = { firstBlocks: 0, lastBlocks: 0 };
/** Room for 20 blocks of 32 KiB. */
const SHARE = (20 * 32) / (128 << 10);

test('packing ends where memory has room for less than is due to be packed', async (t) => {
  const random = seeded();
  t.diagnostic(`SEED=${random.seed}`);
  const engine = await startEngine(t, { kv: { window: EXACT, share: SHARE, coldBytesMax: (2 * 36) << 10 } });
  for (let i = 0; i < 12; i++) await storeKv(engine, sequence(random, [2, 1, 64 * 2, 64]));
  const isSettled = await Promise.race([engine.kv.settled().then(() => true), setTimeout(3000, false)]);
  assert.ok(isSettled, `${engine.kv.stats().memory.packed} packages were made`);
  await engine.assertIdle();
});

test('what is cleared while attention reads it is answered, looked at by the canary or not', async (t) => {
  const random = seeded();
  t.diagnostic(`SEED=${random.seed}`);
  const engine = await startEngine(t, { kv: { canary: { share: 1, random: () => 0 } } });
  const given = sequence(random, [2, 1, 64 * 5, 64]);
  await storeKv(engine, given, { codecK: 'tq4', codecV: 'tq4' });
  const attended = attendKv(engine, given, 1);
  while (engine.kv.stats().tokens.matched === 0) await setTimeout(0);
  await engine.kv.clear({ tenant: OWNER.tenant });
  assert.ok((await attended).length > 0);
  await engine.kv.settled();
  await engine.assertIdle();
});

test('what goes to memory while the rest of it comes back is a shorter beginning, or all of it', async (t) => {
  const random = seeded();
  t.diagnostic(`SEED=${random.seed}`);
  const engine = await startEngine(t, { kv: { window: EXACT, share: SHARE, coldBytesMax: 8 << 20 } });
  const given = sequence(random, [2, 1, 64 * 4, 64]);
  const asked = { ...OWNER, tokens: given.tokens };
  const beginning = { ...OWNER, tokens: given.tokens.subarray(0, 128) };
  await storeKv(engine, given);
  let odd: unknown;
  for (let i = 0; i < 20; i++) {
    await engine.kv.move({ ...asked, to: { tier: 'cold' }, signal: patience() });
    await engine.kv.prefetch({ ...beginning, signal: patience() });
    const loaded = loadKv(engine, given.tokens, 'F16');
    const moved = engine.kv.move({ ...beginning, to: { tier: 'cold' }, signal: patience() });
    for (const each of await Promise.allSettled([loaded, moved]))
      if (each.status === 'rejected' && !(each.reason instanceof Problem && each.reason.code === 'kv_unknown'))
        odd ??= each.reason;
  }
  await engine.kv.clear({ tenant: OWNER.tenant });
  await engine.kv.settled();
  assert.equal(odd, undefined);
  assert.equal(engine.kv.stats().bytes, 0);
  await engine.assertIdle();
});
