// Any order of stores, reads, damages, drains, restarts and deaths over two adapters that have room for some of what is stored, against
// a list of what was stored: what is found is a beginning of it, bit for bit; after each step all is accounted for, the
// budgets were kept, and a check finds no fault. CACHE_ROUNDS says how many steps.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Problem } from '../../../../core/contract/problems.ts';
import type { AdapterReport } from '../../../../core/gpu/pool.ts';
import { SOURCE } from '../../../support/adapters.ts';
import { patience, startEngine } from '../../../support/engine.ts';
import { attendKv, flipBit, leasesOf, loadKv, OWNER, type Sequence, sequence, storeKv } from '../../../support/kv.ts';
import { seeded } from '../../../support/seeded.ts';
import { until } from '../../../support/until.ts';

const STEPS = Number(process.env.CACHE_ROUNDS ?? 150);
const SHARE = 24 / ((256 << 10) >> 5); // 24 blocks of 32 KiB in two adapters of 128 MiB
const COLD = (20 * 30) << 10;
const DISK = 1 << 20;
const SEQUENCES = 16;
const RARE = ['kill', 'restart'];
/** What may be said while an adapter is away, or something was damaged. */
const HONEST = ['kv_unknown', 'kv_damaged', 'adapter_lost', 'adapter_unavailable', 'capacity_exhausted'];

test('any order of calls finds what was stored, or says that it does not', async (t) => {
  const random = seeded();
  t.diagnostic(`SEED=${random.seed}`);
  const engine = await startEngine(t, {
    pool: { adapters: [SOURCE, SOURCE] },
    kvDiskBytes: DISK,
    kv: { share: SHARE, coldBytesMax: COLD, window: { firstBlocks: 0, lastBlocks: 0 }, verifyMs: 0 },
  });
  let leases = leasesOf(t, engine);
  const all: Sequence[] = Array.from({ length: SEQUENCES }, () =>
    sequence(random, [2, 1, 64 * (1 + random.below(4)), 64]),
  );
  const stored = new Set<Sequence>();
  const done = new Map<string, number>();
  const ways = { demotions: 0, fromMemory: 0, fromDisk: 0 };
  const pick = () => random.pick(all as [Sequence, ...Sequence[]]);

  /** Either it is so, or somebody said honestly why not. */
  async function honest(work: Promise<unknown>): Promise<void> {
    await work.catch((error: unknown) => {
      assert.ok(error instanceof Problem && HONEST.includes(error.code), String(error));
    });
  }
  async function assertBeginning(given: Sequence): Promise<void> {
    const { matchedTokens, k, v } = await loadKv(engine, given.tokens, 'F16');
    assert.ok(stored.has(given), 'nobody has stored it');
    const [layers, heads, n, dim] = given.shape;
    for (const [found, wanted] of [
      [k, given.k],
      [v, given.v],
    ] as const)
      for (let row = 0; row < layers * heads; row++) {
        const own = found.subarray(row * matchedTokens * dim * 2, (row + 1) * matchedTokens * dim * 2);
        const there = wanted.subarray(row * n * dim * 2, (row * n + matchedTokens) * dim * 2);
        assert.equal(Buffer.compare(own, there), 0, `row ${row}`);
      }
  }
  const idOf = () => random.pick(engine.pool.report().map(({ id }) => id) as [string, ...string[]]);

  async function kill(): Promise<void> {
    const { id, pid } = random.pick(engine.pool.report() as [AdapterReport, ...AdapterReport[]]);
    if (pid === undefined) return;
    process.kill(pid, 'SIGKILL');
    const isBack = () =>
      engine.pool.report().some((each) => each.id === id && each.state === 'ready' && each.pid !== pid);
    await until(isBack, 'another process serves');
  }

  const steps: Record<string, () => Promise<unknown>> = {
    async store() {
      const given = pick();
      stored.add(given);
      await honest(storeKv(engine, given));
    },
    load: () => honest(assertBeginning(pick())),
    loads: () => Promise.all(Array.from({ length: 4 }, () => honest(assertBeginning(pick())))),
    attend: () => honest(attendKv(engine, pick(), 1)),
    async damage() {
      const held = leases.filter(({ lost, pages }) => !lost && pages > 0);
      const lease = held[random.below(held.length)];
      if (lease)
        await flipBit(engine, lease, random.below(lease.pages), random.below(lease.pageBytes * 8)).catch(() => {});
    },
    async drain() {
      const id = idOf();
      engine.pool.drain(id);
      await engine.kv.drain(id, patience());
      engine.pool.resume(id);
    },
    kill: () => Promise.all([kill(), honest(assertBeginning(pick())), honest(storeKv(engine, pick()))]),
    async clear() {
      const { tokens } = pick();
      await engine.kv.clear({ tenant: OWNER.tenant, model: OWNER.model, prefix: tokens.slice(0, 64) });
    },
    async pin() {
      const { tokens } = pick();
      try {
        engine.kv.pin({ ...OWNER, tokens, ttl: 1 + random.below(60) });
      } catch (error) {
        assert.ok(error instanceof Problem && ['kv_unknown', 'pins_full'].includes(error.code), String(error));
      }
    },
    async restart() {
      await engine.reopen();
      leases = leasesOf(t, engine);
    },
    async later() {
      engine.clock.now += 20_000;
      await engine.kv.sweep();
    },
  };
  const often = ['store', 'store', 'store', 'load', 'load', 'load', 'loads', 'attend'];
  const names = [...often, ...often, ...often, ...Object.keys(steps).filter((name) => !RARE.includes(name))];
  for (let step = 0; step < STEPS; step++) {
    const name = step % 50 === 49 ? 'kill' : step % 70 === 69 ? 'restart' : random.pick(names as [string, ...string[]]);
    done.set(name, (done.get(name) ?? 0) + 1);
    try {
      if (name === 'kill') for (const given of all) stored.add(given); // whichever is stored meanwhile
      await steps[name]?.();
      await engine.kv.settled();
      await engine.assertIdle();
      const { bytesMost, memory, disk } = engine.kv.stats();
      ways.demotions = Math.max(ways.demotions, memory.demotions);
      ways.fromMemory = Math.max(ways.fromMemory, memory.returned);
      ways.fromDisk = Math.max(ways.fromDisk, disk.returned);
      assert.ok(disk.bytesMost <= DISK, `${disk.bytesMost} bytes on disk`);
      assert.ok(bytesMost <= SHARE * 256 * 2 ** 20 && memory.bytesMost <= COLD, `${bytesMost}, ${memory.bytesMost}`);
    } catch (error) {
      throw new Error(`step ${step}, ${name}, SEED=${random.seed}: ${(error as Error).message}`, { cause: error });
    }
  }
  await engine.kv.verify(patience()); // whatever is still damaged goes
  assert.deepEqual((await engine.kv.verify(patience())).faults, []);
  const told = JSON.stringify({ ...Object.fromEntries(done), ...ways });
  t.diagnostic(told);
  assert.ok(
    Object.values(ways).every((count) => count > 0),
    told,
  );
});
