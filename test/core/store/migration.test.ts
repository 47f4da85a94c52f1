// From format 1, as an earlier version wrote it (test/fixtures/store-format-1), to this one, and back.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { realDisk } from '../../../core/store/disk.ts';
import { openStore, type Store } from '../../../core/store/store.ts';
import { folder } from '../../support/folders.ts';
import { bytesUnder, putBytes } from '../../support/store.ts';

const FIXTURE = fileURLToPath(new URL('../../fixtures/store-format-1', import.meta.url));
const HELD = [
  'other/small',
  'tenant/empty',
  'tenant/large',
  'tenant/many/tensors:ä',
  'tenant/replaced',
  'tenant/same as small',
  'tenant/small',
];

function fixture(t: TestContext): string {
  const path = join(folder(t), 'cache');
  cpSync(FIXTURE, path, { recursive: true });
  return path;
}

const filesOf = (path: string) =>
  readdirSync(path, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name).slice(path.length))
    .sort();

function assertIsFixture(path: string): void {
  assert.deepEqual(filesOf(path), filesOf(FIXTURE));
  for (const name of filesOf(FIXTURE)) assert.deepEqual(readFileSync(path + name), readFileSync(FIXTURE + name), name);
}

async function assertHolds(store: Store): Promise<void> {
  assert.deepEqual(store.found.map(({ tenant, key }) => `${tenant}/${key}`).sort(), HELD);
  for (const record of store.found) {
    const bytes = await bytesUnder(store, record);
    assert.equal(createHash('sha256').update(bytes).digest('hex'), record.digest, record.key);
  }
}

test('format 1 is migrated with everything in it, and kept as it was', async (t) => {
  const path = fixture(t);
  const lines: string[] = [];
  const store = await openStore(path, (line) => lines.push(line));
  await assertHolds(store);
  assert.deepEqual(store.lost, []);
  assert.match(lines.join('\n'), /format 1 is migrated; .*format-1 keeps it as it was/);
  const byKey = new Map(store.found.map((record) => [`${record.tenant}/${record.key}`, record]));
  assert.equal(byKey.get('tenant/same as small')?.priority, 7);
  assert.equal(byKey.get('tenant/large')?.expiresAt, 1_900_000_000_000);
  assert.deepEqual(byKey.get('tenant/many/tensors:ä')?.shape, null);
  assert.equal(existsSync(join(path, 'index')), false);
  for (const record of store.found.filter(({ key }) => key === 'small')) await store.remove(record);
  await putBytes(store, 'new', new Uint8Array(10));
  await store.close();
  assertIsFixture(join(path, 'format-1'));
  const again = await openStore(path, () => assert.fail('said something'));
  assert.equal(again.found.length, HELD.length - 1);
  await again.close();
});

test('a journal of an earlier life says nothing of what is migrated', async (t) => {
  const earlier = join(folder(t), 'cache');
  const before = await openStore(earlier, () => {});
  for (let i = 0; i < 40; i++) await putBytes(before, `k${i}`, new Uint8Array(i));
  await before.close();
  const path = fixture(t);
  cpSync(join(earlier, 'journal'), join(path, 'journal'), { recursive: true });
  const store = await openStore(path, () => {});
  await assertHolds(store);
  assert.deepEqual(store.lost, []);
  await store.close();
});

for (const point of ['migration kept', 'migration packed', 'migration done'])
  test(`a migration that ends at "${point}" leaves one store whole, and the next start goes on`, async (t) => {
    const path = fixture(t);
    const disk = {
      ...realDisk,
      reached(at: string) {
        if (at === point) throw new Error(`ended at ${at}`);
      },
    };
    await assert.rejects(
      openStore(path, () => {}, { disk }),
      /ended at/,
    );
    if (point !== 'migration done')
      for (const name of filesOf(FIXTURE)) assert.deepEqual(readFileSync(path + name), readFileSync(FIXTURE + name));
    assertIsFixture(join(path, 'format-1'));
    const store = await openStore(path, () => {});
    await assertHolds(store);
    assert.deepEqual(store.lost, []);
    assert.equal(existsSync(join(path, 'index')), false);
    await store.close();
  });

test('a disk that fails at any call of a migration leaves format 1 as it was', async (t) => {
  for (let failing = 0, migrated = false; !migrated; failing += 7) {
    const path = fixture(t);
    let calls = 0;
    const failsOnce =
      <A extends unknown[]>(work: (...all: A) => Promise<void>) =>
      async (...all: A) => {
        if (calls++ === failing) throw Object.assign(new Error('injected'), { code: 'EIO' });
        return work(...all);
      };
    const disk = {
      ...realDisk,
      link: failsOnce(realDisk.link),
      rename: failsOnce(realDisk.rename),
      makeFolder: failsOnce(realDisk.makeFolder),
      syncFolder: failsOnce(realDisk.syncFolder),
    };
    const store = await openStore(path, () => {}, { disk }).catch(() => undefined);
    migrated = store !== undefined || JSON.parse(readFileSync(join(path, 'metadata.json'), 'utf8')).format === 2;
    await store?.close();
    if (!migrated)
      for (const name of filesOf(FIXTURE)) assert.deepEqual(readFileSync(path + name), readFileSync(FIXTURE + name));
    const next = await openStore(path, () => {});
    await assertHolds(next);
    await next.close();
  }
});

test('a migration names records that it cannot read, and keeps them', async (t) => {
  const path = fixture(t);
  const index = join(path, 'index');
  const [first = '', second = '', third = ''] = filesOf(index);
  const damages: readonly (readonly [string, (text: string) => string])[] = [
    [first, (text) => text.slice(0, -1)],
    [second, (text) => text.replace('{', '{"more":1,')],
    [third, (text) => text.replace(/"digest":"../, '"digest":"..')],
  ];
  for (const [name, damage] of damages) writeFileSync(index + name, damage(readFileSync(index + name, 'utf8')));
  writeFileSync(join(index, '00.json'), 'no record');
  const store = await openStore(path, () => {});
  assert.equal(store.found.length, HELD.length - 3);
  assert.deepEqual(
    store.lost.map(({ name, reason }) => [name, reason]).sort(),
    damages.map(([name]) => [index + name, 'the record is damaged']),
  );
  await store.close();
  for (const [name] of damages) assert.equal(existsSync(join(path, 'format-1', 'index') + name), true);
});

test('format 1 is known without its metadata.json', async (t) => {
  const path = fixture(t);
  rmSync(join(path, 'metadata.json'));
  const store = await openStore(path, () => {});
  await assertHolds(store);
  await store.close();
});
