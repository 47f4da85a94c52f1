// Faults below the store: what is served is right or refused, what was answered is there, and each fault has its own problem.
// FAULT_ROUNDS sets how long, FLIP_ROUNDS how many bytes are changed, SEED which.

import assert from 'node:assert/strict';
import { cpSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { Problem } from '../../../core/contract/problems.ts';
import type { StoredRecord } from '../../../core/store/records.ts';
import { openStore, type Store } from '../../../core/store/store.ts';
import { assertSameBytes } from '../../support/bytes.ts';
import { SMALL_STORE } from '../../support/crash.ts';
import { type Fault, type FaultyDisk, faultyDisk } from '../../support/faulty-disk.ts';
import { folder } from '../../support/folders.ts';
import { seeded } from '../../support/seeded.ts';
import { bytesUnder, putBytes, recordFor } from '../../support/store.ts';

const random = seeded();
const STEPS = 60 * Number(process.env.FAULT_ROUNDS ?? 5);
const FLIPS = Number(process.env.FLIP_ROUNDS ?? 24);
const SIZES = [0, 100, 3000, 40_000, 100_000] as const;
const REFUSALS = new Set(['disk_full', 'disk_failed', 'record_damaged']);

type Kind = readonly [Fault, 'write' | 'sync' | 'read' | 'call'];
type Allowed = Map<string, (Uint8Array | undefined)[]>;

async function failing(fault: Fault, disk: FaultyDisk, work: () => Promise<unknown>, times = 1): Promise<void> {
  const call = fault.endsWith('read')
    ? 'read'
    : fault.endsWith('sync')
      ? 'sync'
      : fault === 'failed call'
        ? 'call'
        : 'write';
  let left = times;
  disk.fault = (met, path) => (met === call && !path.includes('journal') && left-- > 0 ? fault : undefined);
  try {
    await work();
  } finally {
    disk.fault = () => undefined;
  }
}

async function opened(t: TestContext): Promise<{ store: Store; disk: FaultyDisk; path: string }> {
  const path = join(folder(t), 'cache');
  const disk = faultyDisk();
  const store = await openStore(path, () => {}, { disk });
  t.after(() => store.close());
  return { store, disk, path };
}

for (const [fault, size, code] of [
  ['full', 100, 'disk_full'],
  ['full', 100_000, 'disk_full'],
  ['failed write', 100, 'disk_failed'],
  ['failed write', 100_000, 'disk_failed'],
  ['failed sync', 100_000, 'disk_failed'],
] as const)
  test(`${fault} under ${size} bytes is ${code}, costs nothing that was answered, and passes`, async (t) => {
    const { store, disk, path } = await opened(t);
    const held = random.bytes(size);
    const record = await putBytes(store, 'k', held);
    await failing(fault, disk, () => assert.rejects(putBytes(store, 'k', random.bytes(size)), { code }));
    assertSameBytes(await bytesUnder(store, record), held, 'what was there');
    const next = random.bytes(size);
    await putBytes(store, 'next', next);
    await store.close();
    const again = await openStore(path, () => {});
    assert.deepEqual(again.lost, []);
    assertSameBytes(await bytesUnder(again, record), held, 'what was there');
    assertSameBytes(await bytesUnder(again, recordFor('next', next)), next, 'what came after');
    await again.close();
  });

test('a payload whose folder cannot be synced leaves no file', async (t) => {
  const path = join(folder(t), 'cache');
  const disk = faultyDisk();
  const store = await openStore(path, () => {}, { disk });
  disk.fault = (call, at) => (call === 'call' && /entries.[0-9a-f]{2}$/.test(at) ? 'failed call' : undefined);
  await assert.rejects(putBytes(store, 'k', new Uint8Array(200_000)), { code: 'disk_failed' });
  const left = readdirSync(join(path, 'entries'), { recursive: true }).map(String);
  assert.deepEqual(
    left.filter((name) => name.endsWith('.safetensors')),
    [],
  );
  await store.close();
});

test('a short write is finished by another', async (t) => {
  const { store, disk } = await opened(t);
  const bytes = random.bytes(30_000);
  let record: StoredRecord | undefined;
  await failing('short write', disk, async () => (record = await putBytes(store, 'k', bytes)), 3);
  assert.ok(record);
  assertSameBytes(await bytesUnder(store, record), bytes, 'the payload');
});

test('after a failed sync of a pack its group is written again elsewhere, and never believed where it was', async (t) => {
  const { store, disk, path } = await opened(t);
  const first = await putBytes(store, 'first', random.bytes(100));
  const bytes = random.bytes(5000);
  await failing('failed sync', disk, () => putBytes(store, 'k', bytes));
  assert.equal(readdirSync(join(path, 'entries', 'packs')).length, 2);
  await failing(
    'failed sync',
    disk,
    () => assert.rejects(putBytes(store, 'k', random.bytes(10)), { code: 'disk_failed' }),
    2,
  );
  await store.remove(first);
  await store.close();
  rmSync(join(path, 'journal'), { recursive: true });
  const again = await openStore(path, () => {});
  assert.deepEqual(again.lost, []);
  assert.deepEqual(again.found, [recordFor('k', bytes)]);
  assertSameBytes(await bytesUnder(again, recordFor('k', bytes)), bytes, 'what was written again');
  await again.close();
});

test('a read that fails is disk_failed, one that brings a wrong bit record_damaged, and neither lasts', async (t) => {
  const { store, disk } = await opened(t);
  const bytes = random.bytes(5000);
  const record = await putBytes(store, 'k', bytes);
  await store.settle();
  await failing('failed read', disk, () => assert.rejects(bytesUnder(store, record), { code: 'disk_failed' }));
  await failing('flipped read', disk, () => assert.rejects(bytesUnder(store, record), { code: 'record_damaged' }));
  assertSameBytes(await bytesUnder(store, record), bytes, 'the payload');
});

test('a random walk with faults below it serves nothing wrong, and keeps what it answered', async (t) => {
  t.diagnostic(`SEED=${random.seed} FAULT_ROUNDS=${STEPS / 60}`);
  const path = join(folder(t), 'cache');
  const disk = faultyDisk();
  const allowed: Allowed = new Map();
  let refused = 0;
  let store = await openStore(path, () => {}, { ...SMALL_STORE, disk });
  const kinds: readonly [Kind, ...Kind[]] = [
    ['short write', 'write'],
    ['full', 'write'],
    ['failed write', 'write'],
    ['failed sync', 'sync'],
    ['failed read', 'read'],
    ['flipped read', 'read'],
    ['failed call', 'call'],
  ];
  for (let step = 0; step < STEPS; step++) {
    disk.fault = (call) => {
      const [fault, met] = random.pick(kinds);
      return met === call && random.below(12) === 0 ? fault : undefined;
    };
    await Promise.all(
      Array.from({ length: 3 }, (_, i) =>
        act(store, `${i}/${random.below(6)}`, allowed).then((ok) => (refused += ok ? 0 : 1)),
      ),
    );
    if (step % 40 !== 39) continue;
    disk.fault = () => undefined;
    if (random.below(2) > 0) await store.close();
    else await store.settle();
    const was = store;
    store = await openStore(path, () => {}, { ...SMALL_STORE, disk });
    await was.close().catch(() => {});
    assert.deepEqual(store.lost, [], `step ${step}`);
    await settleExpected(store, allowed);
  }
  await store.close();
  t.diagnostic(`${refused} were refused; injected ${JSON.stringify([...disk.injected])}`);
  assert.ok(refused > 0 && disk.injected.size >= 6);
});

/** One thing done to one key, which nobody else touches meanwhile; false if it was refused. */
async function act(store: Store, key: string, allowed: Allowed): Promise<boolean> {
  const before = allowed.get(key) ?? [undefined];
  const bytes = random.below(4) === 0 ? undefined : random.bytes(random.pick(SIZES));
  try {
    if (random.below(3) === 0) {
      const held = before.length === 1 ? before[0] : undefined;
      const read = held && (await bytesUnder(store, recordFor(key, held)));
      if (read && read.length <= 65_536) assertSameBytes(read, held, key); // larger ones are hashed by who reads them
      return true;
    }
    allowed.set(key, [...before, bytes]);
    if (bytes) await putBytes(store, key, bytes);
    else await store.remove(recordFor(key, new Uint8Array(0)));
    allowed.set(key, [bytes]);
    return true;
  } catch (error) {
    if (!(error instanceof Problem) || !REFUSALS.has(error.code)) throw error;
    return false;
  }
}

async function settleExpected(store: Store, allowed: Allowed): Promise<void> {
  const found = new Map(store.found.map((record) => [record.key, record]));
  for (const [key, values] of allowed) {
    const record = found.get(key);
    const bytes = record && (await bytesUnder(store, record));
    const match = values.find((one) => (one && bytes ? Buffer.compare(one, bytes) === 0 : one === bytes));
    assert.ok(match !== undefined || (bytes === undefined && values.includes(undefined)), `${key}: ${bytes?.length}`);
    allowed.set(key, [match]);
  }
}

/** A closed store, with a checkpoint and a journal behind it. */
async function sample(t: TestContext) {
  const path = join(folder(t), 'cache');
  const model = new Map<string, Uint8Array>();
  let store = await openStore(path, () => {});
  const fill = async () => {
    for (let i = 0; i < 30; i++) {
      const key = `k${random.below(12)}`;
      if (random.below(4) === 0) {
        await store.remove(recordFor(key, new Uint8Array(0)));
        model.delete(key);
      } else {
        const bytes = random.bytes(random.pick([0, 50, 500, 70_000]));
        await putBytes(store, key, bytes);
        model.set(key, bytes);
      }
    }
    await store.close();
  };
  await fill();
  rmSync(join(path, 'journal'), { recursive: true });
  store = await openStore(path, () => {}); // makes a checkpoint
  await store.settle();
  await fill();
  const files = readdirSync(path, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(path.length));
  return { path, model, files };
}

/** Every key is served as it was, refused as damaged, or named as lost; nothing that was deleted is back. */
async function assertSound(
  path: string,
  model: ReadonlyMap<string, Uint8Array>,
  what: string,
): Promise<'hurt' | 'whole'> {
  const lines: string[] = [];
  const store = await openStore(path, (line) => lines.push(line)).catch((error: unknown) => {
    throw new Error(`${what}: the start failed: ${String(error)}`);
  });
  let hurt = lines.length > 0;
  const found = new Map(store.found.map((record) => [record.key, record]));
  for (const key of found.keys()) assert.ok(model.has(key), `${what}: ${key} is back`);
  for (const [key, bytes] of model) {
    const record = found.get(key);
    if (!record) {
      assert.ok(store.lost.length > 0, `${what}: ${key} is gone, and nobody says so`);
      continue;
    }
    const read = await bytesUnder(store, record).catch((error: unknown) => {
      assert.ok(error instanceof Problem && error.code === 'record_damaged', `${what}: ${String(error)}`);
      hurt = true;
      return undefined;
    });
    // A file's bytes are hashed by who reads them: what the store says of them is their digest.
    if (read && read.length <= 65_536) assertSameBytes(read, bytes, `${what}: ${key}`);
    assert.equal(record.digest, recordFor(key, bytes).digest, `${what}: ${key} is another`);
  }
  await store.close();
  return hurt ? 'hurt' : 'whole';
}

test('a bit that flips in any file is never served: right, damaged or lost by name', async (t) => {
  t.diagnostic(`SEED=${random.seed} FLIP_ROUNDS=${FLIPS}`);
  const { path, model, files } = await sample(t);
  let hurt = 0;
  for (let round = 0; round < FLIPS; round++) {
    const name = files[round % files.length] ?? '';
    const copy = join(folder(t), 'cache');
    cpSync(path, copy, { recursive: true });
    const bytes = readFileSync(copy + name);
    if (bytes.length === 0) continue;
    const at = random.below(bytes.length);
    bytes[at] = (bytes[at] ?? 0) ^ (1 << random.below(8));
    writeFileSync(copy + name, bytes);
    if ((await assertSound(copy, model, `${name} at ${at}`)) === 'hurt') hurt++;
    rmSync(copy, { recursive: true });
  }
  t.diagnostic(`${hurt} of ${FLIPS} were noticed`);
});

test('a file that is cut or gone costs what was in it, by name', async (t) => {
  const { path, model, files } = await sample(t);
  for (const name of files)
    for (const harm of ['cut', 'gone'] as const) {
      const copy = join(folder(t), 'cache');
      cpSync(path, copy, { recursive: true });
      if (harm === 'gone') rmSync(copy + name);
      else truncateSync(copy + name, random.below(statSync(copy + name).size + 1));
      await assertSound(copy, model, `${name} ${harm}`);
      rmSync(copy, { recursive: true });
    }
});
