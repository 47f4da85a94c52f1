// What was written later stays the right one, whatever happens to packs, index and journal: nothing old comes back, and nothing
// that was answered hides behind what is broken. And however many packs there are, few are open.

import assert from 'node:assert/strict';
import { cpSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { type Disk, realDisk } from '../../../core/store/disk.ts';
import type { StoredRecord } from '../../../core/store/records.ts';
import { openStore } from '../../../core/store/store.ts';
import { assertSameBytes } from '../../support/bytes.ts';
import { SMALL_STORE } from '../../support/crash.ts';
import { folder } from '../../support/folders.ts';
import { seeded } from '../../support/seeded.ts';
import { bytesUnder, putBytes, recordFor } from '../../support/store.ts';

const random = seeded();
const packOf = (path: string, number: number): string =>
  join(path, 'entries', 'packs', `${String(number).padStart(6, '0')}.pack`);
const withoutIndex = (path: string): void => rmSync(join(path, 'journal'), { recursive: true });

for (const cut of [1, 5, 8, 64])
  test(`what is written after the last pack was cut short by ${cut} bytes is found without the journal`, async (t) => {
    t.diagnostic(`SEED=${random.seed}`);
    const path = join(folder(t), 'cache');
    let store = await openStore(path, () => {});
    for (let i = 0; i < 5; i++) await putBytes(store, `k${i}`, random.bytes(3000));
    await store.close();
    truncateSync(packOf(path, 1), statSync(packOf(path, 1)).size - cut);
    store = await openStore(path, () => {});
    const bytes = random.bytes(3000);
    const record = await putBytes(store, 'after', bytes);
    await store.close();
    withoutIndex(path);
    store = await openStore(path, () => {});
    assertSameBytes(await bytesUnder(store, record), bytes, 'after');
    assert.ok(store.found.some(({ key }) => key === 'after'));
    await store.close();
  });

for (const later of ['remove', 'replace'] as const)
  test(`a record that the scrub writes again does not come back over a ${later} under way`, async (t) => {
    t.diagnostic(`SEED=${random.seed}`);
    const path = join(folder(t), 'cache');
    let store = await openStore(path, () => {});
    const record = await putBytes(store, 'k', random.bytes(1000));
    await putBytes(store, 'other', random.bytes(1000));
    await store.settle();
    const pack = readFileSync(packOf(path, 1));
    const at = pack.indexOf('"key":"k"');
    pack[at + 7] = (pack[at + 7] ?? 0) ^ 1;
    writeFileSync(packOf(path, 1), pack);
    const fresh = random.bytes(500);
    const scrubbed = store.scrub(); // comes to the record while its successor waits for the disk
    if (later === 'remove') await store.remove(record);
    else await putBytes(store, 'k', fresh);
    await scrubbed;
    await store.close();
    withoutIndex(path);
    store = await openStore(path, () => {});
    const found = store.found.find(({ key }) => key === 'k');
    assert.equal(found?.bytes, later === 'remove' ? undefined : fresh.length);
    await store.close();
  });

test('a pack full of what lives does not keep the room of others from coming back', async (t) => {
  t.diagnostic(`SEED=${random.seed}`);
  const path = join(folder(t), 'cache');
  const store = await openStore(path, () => {}, { packBytesMax: 64 << 10, compactionPauseMs: 0 });
  const dead = await putBytes(store, 'dead', random.bytes(10));
  await Promise.all(Array.from({ length: 6 }, (_, i) => putBytes(store, `live${i}`, random.bytes(20_000))));
  await store.remove(dead);
  for (let i = 0; i < 3000; i++) {
    const record = await putBytes(store, `x${i % 7}`, random.bytes(10));
    await store.remove(record);
  }
  await store.settle();
  const sizes = readdirSync(join(path, 'entries', 'packs')).map(
    (name) => statSync(join(path, 'entries', 'packs', name)).size,
  );
  const bytes = sizes.reduce((sum, size) => sum + size, 0);
  assert.ok(bytes < 400_000, `${bytes} bytes in ${sizes.length} packs`);
  await store.close();
});

test('whatever step compaction ends at, a start from the packs alone brings back nothing that was deleted', async (t) => {
  t.diagnostic(`SEED=${random.seed}`);
  const base = folder(t);
  const path = join(base, 'cache');
  const model = new Set<string>();
  const copies: { path: string; model: string[]; busy: string }[] = [];
  let busy = '';
  const disk = {
    ...realDisk,
    reached(point: string) {
      if (point === 'compaction renamed' && random.below(3) === 0) throw new Error('the process ends here');
      if (point !== 'compaction removed' || copies.length > 30 || random.below(3) > 0) return;
      const copy = join(base, `copy${copies.length}`);
      cpSync(path, copy, { recursive: true });
      copies.push({ path: copy, model: [...model], busy });
    },
  };
  for (let round = 0; round < 6; round++) {
    const store = await openStore(path, () => {}, { ...SMALL_STORE, packBytesMax: 40_000, disk });
    for (let i = 0; i < 250; i++) {
      busy = `k${random.below(60)}`;
      if (random.below(2) === 0) {
        await store.remove(recordFor(busy, new Uint8Array(0)));
        model.delete(busy);
      } else {
        await putBytes(store, busy, random.bytes(random.below(3000)));
        model.add(busy);
      }
    }
    await store.settle();
    await store.close();
  }
  assert.ok(copies.length > 2, `${copies.length} copies`);
  for (const copy of copies) {
    withoutIndex(copy.path);
    const store = await openStore(copy.path, () => {});
    await store.close();
    const keys = store.found.map(({ key }) => key).filter((key) => key !== copy.busy);
    assert.deepEqual(keys.sort(), copy.model.filter((key) => key !== copy.busy).sort());
  }
});

test('reading in many packs keeps few of them open', async (t) => {
  const path = join(folder(t), 'cache');
  let open = 0;
  const disk: Disk = {
    ...realDisk,
    async open(name, how) {
      const file = await realDisk.open(name, how);
      open++;
      return { ...file, close: () => file.close().finally(() => open--) };
    },
  };
  const store = await openStore(path, () => {}, { packBytesMax: 1, disk });
  const model = new Map<StoredRecord, Uint8Array>();
  for (let i = 0; i < 150; i++) {
    const bytes = random.bytes(20);
    model.set(await putBytes(store, `k${i}`, bytes), bytes);
  }
  assert.equal(store.report().packs, 150);
  for (let round = 0; round < 2; round++)
    await Promise.all(
      Array.from(model, async ([record, bytes]) => assertSameBytes(await bytesUnder(store, record), bytes, record.key)),
    );
  assert.ok(open <= 103, `${open} files are open`);
  await store.close();
  assert.equal(open, 0);
});
