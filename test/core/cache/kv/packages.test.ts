// Packages of blocks below the calls, on a real adapter: a package with any bit turned over never becomes pages, its block is
// forgotten, and a check says so; the shelf never takes more than its budget, whatever is asked of it.
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { rootOf } from '../../../../core/cache/kv/blocks.ts';
import { verifyAll } from '../../../../core/cache/kv/check.ts';
import { createDemotion } from '../../../../core/cache/kv/demotion.ts';
import { createHeldPages, type KvBlock } from '../../../../core/cache/kv/held.ts';
import { createHouseholds } from '../../../../core/cache/kv/households.ts';
import { createShelf, type Package, type Packings } from '../../../../core/cache/kv/packages.ts';
import { createReturns } from '../../../../core/cache/kv/returns.ts';
import { sealPages } from '../../../../core/cache/kv/seals.ts';
import type { Form } from '../../../../core/codec/pages.ts';
import { Problem } from '../../../../core/contract/problems.ts';
import { startPool } from '../../../support/adapters.ts';
import { patience } from '../../../support/engine.ts';
import { narrowed } from '../../../support/kv.ts';
import { seeded } from '../../../support/seeded.ts';

const SHAPE = { layers: 2, kvHeads: 1, dim: 64 };
const LOSSLESS: Packings = { k: 'lossless', v: 'lossless' };
const EC: Packings = { k: { axis: 'channels', error: 0.003 }, v: 'lossless' };

async function start(t: TestContext) {
  const { pool, pieces } = await startPool(t);
  const nothing = () => {};
  const held = createHeldPages({
    ...{ pool, share: 0.5, makeRoom: () => false, coldBytesMax: 1 << 20, now: Date.now },
    ...{ leased: nothing, left: nothing, moved: nothing },
  });
  const demotion = createDemotion(held, pieces);
  const returns = createReturns({ held, demotion, pieces, recomputeTokensPerSecond: 1 });
  const random = seeded();
  let made = 0;

  /** A block of its own, packed, and without its pages. */
  async function cold(form: Form, packing: Packings): Promise<KvBlock> {
    const lease = held.lease({ tenant: 'tenant', shape: SHAPE, form });
    const piece = await pieces.take();
    const values = Float32Array.from({ length: lease.bytes / 2 }, () => random.next() - 0.5);
    piece.bytes.set(narrowed(values, 'F16'));
    await lease.write(0, piece, lease.bytes);
    piece.release();
    const [seals] = await sealPages([lease], patience());
    assert.ok(seals);
    const root = rootOf('tenant', 'model', SHAPE, 64);
    const tokens = Int32Array.from({ length: 64 }, () => made);
    made++;
    const hot = { lease, form, wanted: form, means: undefined, seals, packing };
    const kept = { hot, cold: undefined, tenant: 'tenant', grades: { k: undefined, v: undefined } };
    const block = held.blocks.insert(root, undefined, tokens, kept, {
      priority: 50,
      expiresAt: Number.POSITIVE_INFINITY,
    });
    await demotion.pack([block], patience());
    assert.ok(held.cool(block));
    return block;
  }
  return { held, returns, cold, random };
}

const flip = (own: Package, at: number): void => {
  const layer = own.layers[at % own.layers.length];
  assert.ok(layer);
  const { bytes } = at % 4 < 2 ? layer.k : layer.v;
  const bit = at % (bytes.length * 8);
  bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7));
};

const damaged = (error: unknown) => error instanceof Problem && error.code === 'kv_damaged';

test('a package with any bit turned over never becomes pages, however it is packed', async (t) => {
  const { held, returns, cold, random } = await start(t);
  for (const [form, packing, hows] of [
    [{ k: 'f16', v: 'f16' }, LOSSLESS, 'lossless lossless'],
    [{ k: 'tq4', v: 'q8r' }, LOSSLESS, 'records records'],
    [{ k: 'f16', v: 'f16' }, EC, 'ec lossless'],
    [{ k: 'f16', v: 'tq4' }, EC, 'ec records'],
  ] as const)
    for (let round = 0; round < 6; round++) {
      const block = await cold(form, packing);
      const own = block.kept.cold;
      assert.ok(own);
      assert.equal(`${own.layers[0]?.k.how} ${own.layers[0]?.v.how}`, hows);
      if (round > 0) flip(own, random.below(1 << 20));
      if (round === 0) (await returns.read([block], patience())).release();
      else if (round < 5) await assert.rejects(returns.read([block], patience()), damaged, `SEED=${random.seed}`);
      else assert.match((await verifyAll(held, patience())).faults.join(), new RegExp(block.hash));
      assert.equal(block.removed, round > 0);
      assert.deepEqual(held.faults(), []);
    }
  const left = [...held.blocks.all()];
  assert.equal(left.length, 4, 'the ones that were whole');
  assert.equal(
    held.shelf.bytes,
    left.reduce((sum, { kept }) => sum + (kept.cold?.bytes ?? 0), 0),
  );
  assert.deepEqual((await verifyAll(held, patience())).faults, []);
});

test('the shelf never takes more than its budget, and gives back what was not used', () => {
  const random = seeded();
  const line: KvBlock[] = [];
  const shelf = createShelf({
    bytesMax: 1000,
    households: createHouseholds(1, () => {}),
    leaving: () => [...line],
    changed() {},
    forget(block) {
      line.splice(line.indexOf(block), 1);
      shelf.drop(block);
    },
  });
  const open: { release(): void; size: number }[] = [];
  for (let step = 0; step < 5000; step++) {
    const size = 1 + random.below(400);
    const room = shelf.reserve({ tenant: 'tenant', bytes: size });
    const taken = open.reduce((sum, own) => sum + own.size, 0);
    const packed = line.reduce((sum, { kept }) => sum + (kept.cold?.bytes ?? 0), 0);
    assert.equal(shelf.bytes, packed + taken + (room ? size : 0), `step ${step}, SEED=${random.seed}`);
    assert.ok(shelf.bytes <= 1000 && shelf.bytesMost <= 1000);
    if (!room) assert.ok(taken + size > 1000, 'only what is reserved stands in the way');
    else if (random.below(3) === 0) open.push({ release: room.release, size });
    else if (random.below(4) === 0) room.release();
    else {
      const block = { kept: { hot: undefined, cold: undefined, tenant: 'tenant' } } as unknown as KvBlock; // as much of one as the shelf sees
      room.put(block, { bytes: 1 + random.below(size) } as Package);
      room.release();
      line.push(block);
    }
    if (open.length > 0 && random.below(3) === 0) open.pop()?.release();
  }
});
