// Damage that nobody has asked for yet: the scrub finds it, sets it aside, names it, and leaves alone what is well.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { StoredRecord } from '../../../core/store/records.ts';
import { openStore, type Store } from '../../../core/store/store.ts';
import { assertSameBytes } from '../../support/bytes.ts';
import { faultyDisk } from '../../support/faulty-disk.ts';
import { folder } from '../../support/folders.ts';
import { seeded } from '../../support/seeded.ts';
import { bytesUnder, putBytes } from '../../support/store.ts';

const random = seeded();
const SIZES = [0, 100, 5000, 100_000, 3_000_000];

interface World {
  readonly path: string;
  readonly store: Store;
  readonly lines: string[];
  readonly told: string[];
  readonly disk: ReturnType<typeof faultyDisk>;
  readonly held: Map<string, { record: StoredRecord; bytes: Uint8Array }>;
}

async function world(t: TestContext): Promise<World> {
  const path = join(folder(t), 'cache');
  const lines: string[] = [];
  const told: string[] = [];
  const disk = faultyDisk();
  const damaged = ({ key }: StoredRecord) => void told.push(key);
  const store = await openStore(path, (line) => lines.push(line), { disk, damaged });
  t.after(() => store.close());
  const held: World['held'] = new Map();
  for (const size of SIZES) {
    const bytes = random.bytes(size);
    held.set(`k${size}`, { bytes, record: await putBytes(store, `k${size}`, bytes) });
  }
  return { path, store, lines, told, disk, held };
}

function flip(path: string, needle: Uint8Array | string): void {
  for (const entry of readdirSync(join(path, 'entries'), { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const file = join(entry.parentPath, entry.name);
    const bytes = readFileSync(file);
    const at = bytes.indexOf(needle);
    if (at < 0) continue;
    bytes[at + 3] = (bytes[at + 3] ?? 0) ^ 1;
    writeFileSync(file, bytes);
    return;
  }
  assert.fail('it is nowhere on disk');
}

test('scrub() finds nothing where all is well, and reads everything', async (t) => {
  const { store, lines, told } = await world(t);
  await store.scrub();
  const { scrubbed, faults } = store.report();
  assert.equal(scrubbed.rounds, 1);
  assert.ok(scrubbed.bytes >= store.bytes);
  assert.deepEqual([lines, told, Object.values(faults).every((count) => count === 0)], [[], [], true]);
});

for (const size of [5000, 100_000, 3_000_000])
  test(`scrub() sets aside a payload that is wrong, names its keys, and the same bytes mend it (${size} bytes)`, async (t) => {
    const { path, store, lines, told, held } = await world(t);
    const { bytes, record } = held.get(`k${size}`) ?? assert.fail();
    await putBytes(store, 'twin', bytes);
    flip(path, bytes.subarray(0, 64));
    await store.scrub();
    await store.settle();
    assert.deepEqual(told.sort(), [`k${size}`, 'twin']);
    assert.match(lines.join('\n'), new RegExp(`damaged on disk: t/k${size}; .*quarantine`));
    assert.equal(readdirSync(join(path, 'quarantine')).length, 1);
    assert.equal(store.report().faults.damaged, 1);
    await assert.rejects(bytesUnder(store, record), { code: 'record_damaged' });
    await store.scrub();
    await store.settle();
    assert.equal(store.report().faults.damaged, 1, 'once is enough');
    await putBytes(store, 'third', bytes);
    assertSameBytes(await bytesUnder(store, record), bytes, 'mended');
    await store.close();
    const again = await openStore(path, () => {});
    assert.deepEqual(again.lost, []);
    assertSameBytes(await bytesUnder(again, record), bytes, 'mended for good');
    await again.close();
  });

test('scrub() writes a record again whose frame does not read', async (t) => {
  const { path, store, lines, held } = await world(t);
  flip(path, '"key":"k5000"');
  await store.scrub();
  assert.match(lines.join('\n'), /the record of t\/k5000 does not read in its pack, and is written again/);
  await store.scrub();
  assert.equal(lines.length, 1);
  const { record, bytes } = held.get('k5000') ?? assert.fail();
  assertSameBytes(await bytesUnder(store, record), bytes, 'what it names');
});

test('distrust() of what is well on disk sets nothing aside', async (t) => {
  const { path, store, told, held } = await world(t);
  for (const { record } of held.values()) store.distrust(record);
  await store.settle();
  assert.deepEqual([told, readdirSync(join(path, 'quarantine'))], [[], []]);
  for (const { record, bytes } of held.values()) assertSameBytes(await bytesUnder(store, record), bytes, record.key);
});

test('a disk that does not read is no damage', async (t) => {
  const { path, store, told, disk, held } = await world(t);
  await store.settle();
  disk.fault = (call) => (call === 'read' ? 'failed read' : undefined);
  await store.scrub();
  for (const { record } of held.values()) store.distrust(record);
  await store.settle();
  disk.fault = () => undefined;
  assert.ok(store.report().faults.unread > 0);
  assert.deepEqual([told, readdirSync(join(path, 'quarantine'))], [[], []]);
});
