// Compaction: the room of what is dead comes back, nothing that lives is lost or brought back, and deletions go when they may.

import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { openStore, type Store } from '../../../core/store/store.ts';
import { assertSameBytes } from '../../support/bytes.ts';
import { SMALL_STORE } from '../../support/crash.ts';
import { faultyDisk } from '../../support/faulty-disk.ts';
import { folder } from '../../support/folders.ts';
import { seeded } from '../../support/seeded.ts';
import { bytesUnder, putBytes, recordFor } from '../../support/store.ts';

const random = seeded();
const packsOf = (path: string) => join(path, 'entries', 'packs');
const bytesIn = (path: string): number =>
  readdirSync(packsOf(path)).reduce((sum, name) => sum + statSync(join(packsOf(path), name)).size, 0);

async function assertHolds(store: Store, model: ReadonlyMap<string, Uint8Array>, what: string): Promise<void> {
  assert.deepEqual(store.lost, [], what);
  assert.deepEqual(store.found.map(({ key }) => key).sort(), [...model.keys()].sort(), what);
  for (const record of store.found)
    assertSameBytes(
      await bytesUnder(store, record),
      model.get(record.key) ?? new Uint8Array(0),
      `${what}: ${record.key}`,
    );
}

test('packs stay in proportion to what lives in them, and so does every way to start', async (t) => {
  t.diagnostic(`SEED=${random.seed}`);
  const path = join(folder(t), 'cache');
  const model = new Map<string, Uint8Array>();
  let store = await openStore(path, () => {}, SMALL_STORE);
  const old = random.bytes(2000);
  model.set('old', old);
  await putBytes(store, 'old', old);
  for (let round = 0; round < 6; round++) {
    for (let i = 0; i < 60; i++) {
      const key = `k${random.below(30)}`;
      if (random.below(3) === 0) {
        await store.remove(recordFor(key, new Uint8Array(0)));
        model.delete(key);
      } else {
        const bytes = random.bytes(random.below(20_000));
        await putBytes(store, key, bytes);
        model.set(key, bytes);
      }
    }
    await store.settle();
    const live = [...model.values()].reduce((sum, bytes) => sum + bytes.length + 600, 0);
    assert.ok(bytesIn(path) < 2.5 * live + 600_000, `${bytesIn(path)} bytes for ${live}`);
    await store.close();
    const harm = round % 3;
    if (harm > 0) rmSync(join(path, 'journal'), { recursive: true });
    if (harm > 1) rmSync(join(path, 'metadata.json'));
    store = await openStore(path, () => {}, SMALL_STORE);
    await assertHolds(store, model, `round ${round}`);
  }
  await store.close();
});

test('what is deleted goes for good, and so do the deletions', async (t) => {
  const path = join(folder(t), 'cache');
  let store = await openStore(path, () => {}, SMALL_STORE);
  const kept = random.bytes(1000);
  await putBytes(store, 'kept', kept);
  for (let round = 0; round < 4; round++) {
    const records = await Promise.all(
      Array.from({ length: 200 }, (_, i) => putBytes(store, `${round}/${i}`, random.bytes(2000))),
    );
    await Promise.all(records.map((record) => store.remove(record)));
    await store.settle();
  }
  await store.close();
  assert.ok(bytesIn(path) < 1_200_000, `${bytesIn(path)} bytes for ${kept.length}`);
  rmSync(join(path, 'journal'), { recursive: true });
  store = await openStore(path, () => {}, SMALL_STORE);
  await assertHolds(store, new Map([['kept', kept]]), 'from the packs');
  await store.close();
});

test('a pack that does not read is set aside as a whole, once all that lives in it is elsewhere', async (t) => {
  const path = join(folder(t), 'cache');
  const lines: string[] = [];
  let store = await openStore(path, () => {}, SMALL_STORE);
  const first = random.bytes(40_000);
  await putBytes(store, 'first', first);
  for (let i = 0; i < 5; i++) await putBytes(store, `k${i}`, random.bytes(40_000));
  await store.close();
  const pack = join(packsOf(path), '000001.pack');
  const bytes = readFileSync(pack);
  const at = bytes.indexOf(first);
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  writeFileSync(pack, bytes);
  store = await openStore(path, (line) => lines.push(line), SMALL_STORE);
  for (const record of store.found) if (record.key !== 'first') await store.remove(record);
  for (let i = 0; i < 12; i++) await putBytes(store, 'more', random.bytes(40_000));
  await store.settle();
  assert.match(lines.join('\n'), /damaged on disk: t\/first/);
  assert.match(lines.join('\n'), /pack 1 does not read as a whole, and is set aside/);
  assert.equal(existsSync(pack), false);
  const aside = readdirSync(join(path, 'quarantine')).filter((name) => name.endsWith('000001.pack'));
  assert.deepEqual(readFileSync(join(path, 'quarantine', aside[0] ?? '')), bytes, 'as it was');
  await assert.rejects(bytesUnder(store, recordFor('first', first)), { code: 'record_damaged' });
  await putBytes(store, 'other', first);
  assertSameBytes(await bytesUnder(store, recordFor('first', first)), first, 'whoever stores the same bytes mends it');
  await store.close();
  rmSync(join(path, 'journal'), { recursive: true });
  store = await openStore(path, () => {}, SMALL_STORE);
  assert.deepEqual([store.lost, store.found.map(({ key }) => key).sort()], [[], ['first', 'more', 'other']]);
  await store.close();
});

test('a record whose frame does not read is written again before its pack goes', async (t) => {
  const path = join(folder(t), 'cache');
  const lines: string[] = [];
  let store = await openStore(path, () => {}, SMALL_STORE);
  const large = random.bytes(100_000);
  await putBytes(store, 'large', large);
  for (let i = 0; i < 6; i++) await putBytes(store, `k${i}`, random.bytes(40_000));
  await store.close();
  const pack = join(packsOf(path), '000001.pack');
  const bytes = readFileSync(pack);
  for (let at = bytes.indexOf('"large"'); at >= 0; at = bytes.indexOf('"large"', at + 1)) bytes[at + 2] = 0; // its put
  const named = bytes.indexOf(recordFor('large', large).digest); // and what names its file
  bytes[named] = 0;
  writeFileSync(pack, bytes);
  store = await openStore(path, (line) => lines.push(line), SMALL_STORE);
  for (const record of store.found) if (record.key !== 'large') await store.remove(record);
  for (let i = 0; i < 12; i++) await putBytes(store, 'more', random.bytes(40_000));
  await store.settle();
  assert.match(lines.join('\n'), /pack 1 does not read as a whole, and is set aside/);
  await store.close();
  rmSync(join(path, 'journal'), { recursive: true });
  store = await openStore(path, () => {}, SMALL_STORE);
  assert.deepEqual([store.lost, store.found.map(({ key }) => key).sort()], [[], ['large', 'more']]);
  assertSameBytes(await bytesUnder(store, recordFor('large', large)), large, 'large');
  await store.close();
});

test('what was deleted behind a journal with a gap stays deleted, though its deletion is compacted away', async (t) => {
  const path = join(folder(t), 'cache');
  let store = await openStore(path, () => {}, SMALL_STORE);
  const shared = random.bytes(3000);
  await putBytes(store, 'kept', shared);
  await putBytes(store, 'deleted', shared);
  for (let i = 0; i < 8; i++) await putBytes(store, `k${i}`, random.bytes(40_000));
  await store.close();
  const journal = join(path, 'journal', readdirSync(join(path, 'journal')).sort().at(-1) ?? '');
  truncateSync(journal, statSync(journal).size - 3); // what comes behind it is not believed
  const disk = faultyDisk();
  disk.fault = (_, at) => (at.endsWith('.checkpoint') ? 'failed call' : undefined); // nor does a checkpoint stand for it
  store = await openStore(path, () => {}, { ...SMALL_STORE, disk });
  for (const record of store.found) if (record.key !== 'kept') await store.remove(record);
  for (let i = 0; i < 40; i++) await putBytes(store, 'more', random.bytes(40_000));
  await store.settle();
  assert.ok(store.report().compacted.packs > 1);
  assert.equal(existsSync(join(packsOf(path), '000001.pack')), false);
  await store.close();
  store = await openStore(path, () => {}, SMALL_STORE);
  assert.deepEqual([store.lost, store.found.map(({ key }) => key).sort()], [[], ['kept', 'more']]);
  await store.close();
});
