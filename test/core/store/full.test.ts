// A disk without room: what it takes even so, and how it comes back by itself.

import assert from 'node:assert/strict';
import { existsSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { StoredRecord } from '../../../core/store/records.ts';
import { openStore, type Store, type StoreOptions } from '../../../core/store/store.ts';
import { assertSameBytes } from '../../support/bytes.ts';
import { folder } from '../../support/folders.ts';
import { seeded } from '../../support/seeded.ts';
import { smallDisk } from '../../support/small-disk.ts';
import { bytesUnder, putBytes, recordFor } from '../../support/store.ts';
import { until } from '../../support/until.ts';

const random = seeded();
const SPARE_BYTES = 128 << 10;
const SMALL: StoreOptions = {
  ...{ packBytesMax: 100_000, journalBytesMin: 20_000, compactionPauseMs: 0, spareBytes: SPARE_BYTES },
};

/** Until the disk has no more. */
async function fill(store: Store, size: number): Promise<StoredRecord[]> {
  const records: StoredRecord[] = [];
  for (let i = 0; ; i++) {
    const bytes = random.bytes(size);
    try {
      records.push(await putBytes(store, `k${i}`, bytes));
    } catch (error) {
      assert.equal((error as { code?: string }).code, 'disk_full');
      return records;
    }
  }
}

for (const size of [500, 20_000, 100_000])
  test(`a full disk takes removals, and is well again by that (payloads of ${size} bytes)`, async (t) => {
    t.diagnostic(`SEED=${random.seed}`);
    const path = join(folder(t), 'cache');
    const lines: string[] = [];
    const disk = smallDisk(1_500_000);
    let store = await openStore(path, (line) => lines.push(line), { ...SMALL, disk });
    const records = await fill(store, size);
    disk.bytesMax = disk.bytes; // not a byte more
    const [first, ...others] = records;
    assert.ok(first && others.length > 4);
    await store.remove(first);
    assert.match(lines.join('\n'), /the disk is full: 131072 bytes kept for that are for removals now/);
    assert.equal(existsSync(join(path, 'spare')), false);
    // What lies in a pack comes free by compaction only, a file at once.
    if (size < 65_536) await assert.rejects(putBytes(store, 'new', random.bytes(10)), { code: 'disk_full' });
    const gone = others.slice(0, Math.ceil(others.length * 0.7));
    for (const record of gone) await store.remove(record);
    await store.settle();
    const bytes = random.bytes(size);
    await until(async () => {
      await store.settle();
      return putBytes(store, 'new', bytes).then(
        () => true,
        () => false,
      );
    }, 'it takes writes again');
    assert.equal(statSync(join(path, 'spare')).size, SPARE_BYTES, 'the reserve is there again');
    const held = [...others.slice(gone.length).map(({ key }) => key), 'new'].sort();
    await store.close();
    disk.bytesMax = Number.POSITIVE_INFINITY;
    rmSync(join(path, 'journal'), { recursive: true });
    store = await openStore(path, () => {}, { ...SMALL, disk });
    assert.deepEqual([store.lost, store.found.map(({ key }) => key).sort()], [[], held]);
    assertSameBytes(await bytesUnder(store, recordFor('new', bytes)), bytes, 'new');
    await store.close();
  });

test('a start on a full disk serves what is there, and takes removals', async (t) => {
  const path = join(folder(t), 'cache');
  const disk = smallDisk();
  let store = await openStore(path, () => {}, { ...SMALL, disk });
  const bytes = random.bytes(5000);
  const record = await putBytes(store, 'k', bytes);
  await store.close();
  rmSync(join(path, 'journal'), { recursive: true });
  const full = smallDisk();
  full.count(path);
  full.bytesMax = full.bytes;
  store = await openStore(path, () => {}, { ...SMALL, disk: full });
  assertSameBytes(await bytesUnder(store, record), bytes, 'k');
  await assert.rejects(putBytes(store, 'new', random.bytes(10)), { code: 'disk_full' });
  await store.remove(record);
  await store.close();
});

test('what is set aside is bounded in bytes: the oldest goes, and what is larger alone is not kept', async (t) => {
  const path = join(folder(t), 'cache');
  const store = await openStore(path, () => {}, { ...SMALL, quarantineBytesMax: 300_000 });
  const aside = () =>
    readdirSync(join(path, 'quarantine')).map((name) => statSync(join(path, 'quarantine', name)).size);
  for (const [i, size] of [100_000, 120_000, 140_000, 400_000].entries()) {
    const record = await putBytes(store, `k${i}`, random.bytes(size));
    const file = readdirSync(join(path, 'entries'), { recursive: true })
      .map(String)
      .find((name) => name.includes(record.digest));
    assert.ok(file);
    writeFileSync(join(path, 'entries', file), new Uint8Array(size));
    store.distrust(record);
    await store.settle();
  }
  assert.deepEqual(aside().sort(), [120_000, 140_000]);
  await store.close();
});

test('a payload that trickles in byte by byte, backwards, is whole', async (t) => {
  const store = await openStore(join(folder(t), 'cache'), () => {}, SMALL);
  const bytes = random.bytes(3000);
  const record = recordFor('k', bytes);
  const writer = await store.begin(false);
  for (let at = bytes.length - 1; at >= 0; at--) await writer.write(bytes.subarray(at, at + 1), 1, at);
  await writer.commit(record);
  assertSameBytes(await bytesUnder(store, record), bytes, 'k');
  await store.close();
});
