// The budget of the disk: never exceeded, whatever happens below it, and counted right over any life.

import assert from 'node:assert/strict';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Problem } from '../../../core/contract/problems.ts';
import type { StoredRecord } from '../../../core/store/records.ts';
import { openStore, type Store, type StoreOptions } from '../../../core/store/store.ts';
import { folder } from '../../support/folders.ts';
import { seeded } from '../../support/seeded.ts';
import { smallDisk } from '../../support/small-disk.ts';
import { recordFor } from '../../support/store.ts';

const random = seeded();
const BYTES_MAX = 8 << 20;
const BUDGET: StoreOptions = { bytesMax: BYTES_MAX, compactionPauseMs: 0, spareBytes: 64 << 10 };
const SIZES = [0, 300, 9000, 60_000, 100_000, 700_000] as const;

const bytesBelow = (path: string): number =>
  readdirSync(path, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .reduce((sum, { parentPath, name }) => sum + statSync(join(parentPath, name)).size, 0);

/** As the cache does it: the size is told before. */
async function put(store: Store, key: string, bytes: Uint8Array): Promise<StoredRecord> {
  const record = recordFor(key, bytes);
  const writer = await store.begin(false, bytes.length);
  try {
    await writer.write(bytes, bytes.length, 0);
    await writer.commit(record);
    return record;
  } catch (error) {
    await writer.abort();
    throw error;
  }
}

const isFull = (error: unknown): boolean => error instanceof Problem && error.code === 'disk_full';

test('what is on disk never exceeds the budget, at no moment, and what is counted is there', async (t) => {
  t.diagnostic(`SEED=${random.seed}`);
  const path = join(folder(t), 'cache');
  const disk = smallDisk();
  let store = await openStore(path, () => {}, { ...BUDGET, disk });
  const held = new Map<string, StoredRecord>();
  let refused = 0;
  const act = async (lane: number): Promise<void> => {
    const key = `${lane}/${random.below(40)}`;
    try {
      held.set(key, await put(store, key, random.bytes(random.pick(SIZES))));
    } catch (error) {
      if (!isFull(error)) throw error;
      refused++;
      const mine = [...held].filter(([name]) => name.startsWith(`${lane}/`)).slice(0, 1 + random.below(4));
      for (const [name, record] of mine) {
        await store.remove(record);
        held.delete(name);
      }
      await store.room.tidy();
    }
  };
  for (let step = 0; step < 150; step++) {
    await Promise.all([0, 1, 2, 3].map(act));
    assert.ok(disk.most <= BYTES_MAX, `${disk.most} bytes at step ${step}`);
    assert.ok(
      store.room.bytes <= BYTES_MAX && store.room.bytes >= disk.bytes,
      `${store.room.bytes} are counted, ${disk.bytes} there`,
    );
    if (step % 50 !== 49) continue;
    await store.settle();
    const counted = store.room.bytes;
    await store.close();
    assert.equal(disk.bytes, bytesBelow(path));
    store = await openStore(path, () => {}, { ...BUDGET, disk });
    assert.deepEqual(store.lost, []);
    assert.ok(Math.abs(store.room.bytes - counted) < 20_000, `${store.room.bytes} after ${counted}`);
    for (const record of held.values()) await (await store.open(record)).close();
  }
  t.diagnostic(`${refused} were refused; ${disk.most} of ${BYTES_MAX} bytes at most`);
  assert.ok(refused > 5 && disk.most > BYTES_MAX / 2);
  await store.close();
});

test('a payload that is removed counts until its last reader has closed it', async (t) => {
  const store = await openStore(join(folder(t), 'cache'), () => {}, BUDGET);
  const record = await put(store, 'k', random.bytes(500_000));
  const full = store.room.bytes;
  const reader = await store.open(record);
  await store.remove(record);
  await store.settle();
  assert.ok(store.room.bytes > full - 100_000, 'its bytes are still there');
  await reader.close();
  assert.ok(store.room.bytes < full - 400_000);
  await store.close();
});

test('a payload is counted once on its way to its place, so that what leaves meanwhile can', async (t) => {
  const disk = smallDisk();
  const renamed = Promise.withResolvers<void>();
  const goOn = Promise.withResolvers<void>();
  let isSlow = false;
  const slow: typeof disk = {
    ...disk,
    async syncFolder(path) {
      if (isSlow && /entries\/[0-9a-f]{2}$/.test(path)) {
        renamed.resolve();
        await goOn.promise;
      }
      return disk.syncFolder(path);
    },
  };
  const store = await openStore(join(folder(t), 'cache'), () => {}, { ...BUDGET, disk: slow });
  const first = await put(store, 'first', random.bytes(100));
  while (store.room.lacks(700_000) < -200_000) await put(store, `k${store.entries}`, random.bytes(100_000));
  isSlow = true;
  const before = store.room.bytes;
  const putting = put(store, 'large', random.bytes(700_000));
  await renamed.promise;
  assert.ok(store.room.bytes < before + 720_000, `${store.room.bytes - before} bytes more`);
  await store.remove(first);
  isSlow = false;
  goOn.resolve();
  await putting;
  await store.close();
});

test('room that was given to a payload is its own until its frames are written', async (t) => {
  const disk = smallDisk();
  const store = await openStore(join(folder(t), 'cache'), () => {}, { ...BUDGET, disk });
  const lane = async (lane: number): Promise<void> => {
    for (;;) await put(store, `${lane}/${store.entries}`, random.bytes(60_000));
  };
  const lanes = await Promise.allSettled(Array.from({ length: 40 }, (_, i) => lane(i)));
  for (const ended of lanes) assert.ok(ended.status === 'rejected' && isFull(ended.reason));
  assert.ok(store.room.lacks(0) <= 40 * 1024, `${store.room.lacks(0)} bytes of what is kept for removals are taken`);
  await store.close();
});

test('a budget that is taken refuses what is new by name, takes removals, and has room again by them', async (t) => {
  const store = await openStore(join(folder(t), 'cache'), () => {}, BUDGET);
  const records: StoredRecord[] = [];
  const fill = async () => {
    for (;;) records.push(await put(store, `k${records.length}`, random.bytes(40_000)));
  };
  await assert.rejects(fill(), {
    code: 'disk_full',
    status: 507,
    message: /8388608 bytes that may be on disk \(DISK_MIB\)/,
  });
  await assert.rejects(put(store, 'large', random.bytes(9 << 20)), { code: 'disk_full' });
  for (const record of records.splice(0, 60)) await store.remove(record);
  await store.room.tidy();
  assert.ok(store.room.lacks(1_000_000) <= 0, 'in packs too, it is given back at once');
  for (let i = 0; i < 20; i++) await put(store, `new${i}`, random.bytes(40_000));
  await store.close();
});
