// Backups: the state of one moment while writing goes on, only what is new the second time, every byte checked, and back again
// byte for byte. BACKUP_ENTRIES sets how many.

import assert from 'node:assert/strict';
import { cpSync, existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { type Progress, restoreBackup, verifyBackup } from '../../../core/store/backup.ts';
import { realDisk } from '../../../core/store/disk.ts';
import { openStore, type Store } from '../../../core/store/store.ts';
import { assertSameBytes } from '../../support/bytes.ts';
import { SMALL_STORE } from '../../support/crash.ts';
import { folder } from '../../support/folders.ts';
import { seeded } from '../../support/seeded.ts';
import { bytesUnder, putBytes, recordFor } from '../../support/store.ts';

const random = seeded();
const ENTRIES = Number(process.env.BACKUP_ENTRIES ?? 300);
const NOW = 1_800_000_000_000;
type Model = Map<string, Uint8Array>;

async function world(t: TestContext, entries: number): Promise<{ base: string; store: Store; model: Model }> {
  const base = folder(t);
  const store = await openStore(join(base, 'cache'), () => {}, SMALL_STORE);
  t.after(() => store.close());
  const model: Model = new Map();
  for (let from = 0; from < entries; from += 100)
    await Promise.all(
      Array.from({ length: Math.min(100, entries - from) }, (_, i) =>
        put(store, model, `k${from + i}`, (from + i) % 50 ? random.below(2000) : 100_000),
      ),
    );
  return { base, store, model };
}

async function put(store: Store, model: Model, key: string, size: number): Promise<void> {
  const bytes = random.bytes(size);
  await putBytes(store, key, bytes);
  model.set(key, bytes);
}

async function assertHolds(path: string, model: Model): Promise<void> {
  const store = await openStore(path, () => {});
  assert.deepEqual(store.lost, []);
  assert.equal(store.found.length, model.size);
  for (const record of store.found)
    assertSameBytes(await bytesUnder(store, record), model.get(record.key) ?? assert.fail(record.key), record.key);
  await store.close();
}

const filesOf = (path: string): string[] =>
  readdirSync(path, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));

test('a backup is the state of its moment, whatever is written, removed and compacted meanwhile', async (t) => {
  t.diagnostic(`SEED=${random.seed} BACKUP_ENTRIES=${ENTRIES}`);
  const { base, store, model } = await world(t, ENTRIES);
  const to = join(base, 'backups', 'first');
  const told: Progress[] = [];
  const then = new Map(model);
  const backing = store.backUp({ to, now: NOW, told: (progress) => told.push(progress) });
  const settled = backing.then(() => {});
  let isOver = false;
  void settled.finally(() => (isOver = true));
  for (let i = 0; !isOver; i++) {
    const key = `k${random.below(ENTRIES)}`;
    if (i % 3 === 0) {
      await store.remove(recordFor(key, new Uint8Array(0)));
      model.delete(key);
    } else await put(store, model, key, random.pick([500, 100_000]));
  }
  const { entries, copied, files } = await backing;
  // What was answered before it began is in it; of what was written meanwhile, what was there at its moment.
  assert.ok(Math.abs(entries - then.size) <= 1, `${entries} of ${then.size}`);
  assert.equal(copied.files, files.length);
  assert.deepEqual(told.at(-1), { files: files.length, of: files.length, bytes: copied.bytes });
  await verifyBackup(to);
  await restoreBackup(to, join(base, 'restored'));
  const restored = await openStore(join(base, 'restored'), () => {});
  assert.deepEqual([restored.lost, restored.found.length], [[], entries]);
  for (const record of restored.found) {
    const bytes = await bytesUnder(restored, record);
    assert.equal(recordFor(record.key, bytes).digest, record.digest, record.key);
  }
  await restored.close();
  await store.settle();
  await store.close();
  await assertHolds(join(base, 'cache'), model);
});

test('the second backup copies only what is new, and each stands alone', async (t) => {
  const { base, store, model } = await world(t, ENTRIES);
  await store.settle();
  const first = join(base, 'first');
  const second = join(base, 'second');
  const before = await store.backUp({ to: first, now: NOW });
  const then = new Map(model);
  for (let i = 0; i < 5; i++) await put(store, model, `new${i}`, 100_000);
  const after = await store.backUp({ to: second, before: first, now: NOW });
  assert.ok(after.files.length > before.files.length);
  assert.ok(after.copied.files <= 7, `${after.copied.files} of ${after.files.length} files were copied`);
  for (const file of filesOf(join(base, 'cache'))) writeFileSync(file, 'damage'); // in place: links would carry it over
  rmSync(first, { recursive: true });
  await verifyBackup(second);
  await restoreBackup(second, join(base, 'restored'));
  await assertHolds(join(base, 'restored'), model);
  assert.ok(then.size < model.size);
});

test('what is damaged in the store reaches no backup, and is in the next one when it is mended', async (t) => {
  const { base, store } = await world(t, 5);
  const bytes = random.bytes(200_000);
  const record = await putBytes(store, 'd', bytes);
  const file = filesOf(join(base, 'cache')).find((path) => path.includes(record.digest)) ?? assert.fail();
  writeFileSync(file, random.bytes(200_000));
  const done = await store.backUp({ to: join(base, 'first'), now: NOW });
  assert.ok(!done.files.some(({ path }) => path.includes(record.digest)));
  await store.settle();
  assert.equal(store.report().faults.damaged, 1);
  await putBytes(store, 'd', bytes);
  await store.backUp({ to: join(base, 'second'), before: join(base, 'first'), now: NOW });
  await restoreBackup(join(base, 'second'), join(base, 'restored'));
  const restored = await openStore(join(base, 'restored'), () => {});
  assertSameBytes(await bytesUnder(restored, record), bytes, 'mended');
  await restored.close();
});

test('what is missing in the store is left out, by name, and the rest is backed up', async (t) => {
  const { base, store } = await world(t, 5);
  const record = await putBytes(store, 'd', random.bytes(200_000));
  rmSync(filesOf(join(base, 'cache')).find((path) => path.includes(record.digest)) ?? assert.fail());
  const { leftOut, entries } = await store.backUp({ to: join(base, 'first'), now: NOW });
  assert.deepEqual([leftOut.length, entries], [1, 6]);
  assert.match(leftOut[0] ?? '', new RegExp(record.digest));
  await restoreBackup(join(base, 'first'), join(base, 'restored'));
  const restored = await openStore(join(base, 'restored'), () => {});
  assert.deepEqual(
    restored.lost.map(({ payload }) => payload),
    leftOut,
  );
  await restored.close();
});

test('what is missing in the backup before is copied anew', async (t) => {
  const { base, store, model } = await world(t, 60);
  const first = join(base, 'first');
  await store.backUp({ to: first, now: NOW });
  rmSync(filesOf(first).find((path) => path.endsWith('.safetensors')) ?? assert.fail());
  await store.backUp({ to: join(base, 'second'), before: first, now: NOW });
  await restoreBackup(join(base, 'second'), join(base, 'restored'));
  await assertHolds(join(base, 'restored'), model);
});

test('a restored store begins a line of its own: its first backup takes nothing from those before', async (t) => {
  const { base, store } = await world(t, 20);
  const first = join(base, 'first');
  await store.backUp({ to: first, now: NOW });
  const path = join(base, 'restored');
  await restoreBackup(first, path);
  const again = await openStore(path, () => {});
  const done = await again.backUp({ to: join(base, 'second'), before: first, now: NOW });
  assert.equal(done.copied.files, done.files.length);
  await again.close();
});

test('a backup of nothing is an error, and leaves none', async (t) => {
  const { base, store } = await world(t, 0);
  await assert.rejects(store.backUp({ to: join(base, 'b'), now: NOW }), /nothing to back up/);
  assert.equal(existsSync(join(base, 'b', 'manifest.json')), false);
});

test('verify and restore name what is damaged, missing or not finished, and restore nothing of it', async (t) => {
  const { base, store } = await world(t, 60);
  const whole = join(base, 'whole');
  await store.backUp({ to: whole, now: NOW });
  for (const file of filesOf(whole)) {
    const copy = join(base, 'copy');
    cpSync(whole, copy, { recursive: true });
    const hit = file.replace(whole, copy);
    if (random.below(2)) rmSync(hit);
    else {
      const bytes = readFileSync(hit);
      const at = file.endsWith('.json') ? 0 : random.below(statSync(hit).size);
      bytes[at] = (bytes[at] ?? 0) ^ 16;
      writeFileSync(hit, bytes);
    }
    await assert.rejects(verifyBackup(copy), /is damaged|has no manifest|does not read as the manifest/, file);
    await assert.rejects(restoreBackup(copy, join(base, 'target')));
    assert.equal(existsSync(join(base, 'target')), false);
    rmSync(copy, { recursive: true });
  }
  await assert.rejects(restoreBackup(whole, join(base, 'cache')), /is not empty/);
});

test('a backup or a restore that ends on the way is none, and the next one goes through', async (t) => {
  const base = folder(t);
  let point = '';
  const disk = {
    ...realDisk,
    reached(at: string) {
      if (at === point) throw new Error('ended');
    },
  };
  const store = await openStore(join(base, 'cache'), () => {}, { disk });
  const bytes = random.bytes(100_000);
  await putBytes(store, 'k', bytes);
  point = 'backup copied';
  await assert.rejects(store.backUp({ to: join(base, 'b'), now: NOW }), /ended/);
  await assert.rejects(verifyBackup(join(base, 'b')), /not finished/);
  point = '';
  await store.backUp({ to: join(base, 'b'), now: NOW });
  point = 'restore copied';
  await assert.rejects(restoreBackup(join(base, 'b'), join(base, 'r'), undefined, disk), /ended/);
  assert.equal(existsSync(join(base, 'r')), false);
  point = '';
  await restoreBackup(join(base, 'b'), join(base, 'r'), undefined, disk);
  await assertHolds(join(base, 'r'), new Map([['k', bytes]]));
  await store.close();
});
