// What survives: real files in real folders, looked at by opening the store again.

import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, type TestContext, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { promisify } from 'node:util';
import { crc32 } from 'node:zlib';
import { PIECE_BYTES, type Piece } from '../../../core/gpu/pieces.ts';
import { payloadName, type StoredRecord } from '../../../core/store/records.ts';
import { openStore, type Store } from '../../../core/store/store.ts';
import { piecesFor } from '../../support/adapters.ts';
import { assertSameBytes } from '../../support/bytes.ts';
import { folder } from '../../support/folders.ts';
import { seeded } from '../../support/seeded.ts';
import { recordFor } from '../../support/store.ts';

const random = seeded();
const hash = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

interface Opened {
  store: Store;
  lines: string[];
}
const opened: { path: string; store: Store }[] = [];
after(() => Promise.all(opened.map(({ store }) => store.close())));

/** What was open before is as if its process had been killed. */
async function reopen(path: string): Promise<Opened> {
  const lines: string[] = [];
  for (const one of opened) if (one.path === path) await one.store.settle();
  const store = await openStore(path, (line) => lines.push(line), { spareBytes: SPARE_BYTES });
  opened.push({ path, store });
  return { store, lines };
}

/** Bytes under a key, as the cache stores them; gives the record. */
async function put(store: Store, key: string, bytes: Uint8Array): Promise<StoredRecord> {
  const writer = await store.begin(false);
  const half = bytes.length >> 1;
  await Promise.all([
    writer.write(bytes.subarray(half), bytes.length - half, half),
    writer.write(bytes, half, 0), // `bytes` goes on behind `half`, as a piece does
  ]);
  const record = recordFor(key, bytes);
  await writer.commit(record);
  return record;
}

async function get(store: Store, record: StoredRecord): Promise<Uint8Array> {
  const reader = await store.open(record);
  const into = new Uint8Array(record.bytes);
  await reader.read(into, 0).finally(() => reader.close());
  return into;
}

/** Every file below, without its folders. */
const filesOf = (path: string): string[] =>
  readdirSync(path, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => entry.name)
    .sort();
const payloadPath = (path: string, digest: string) =>
  join(path, 'entries', digest.slice(0, 2), `${payloadName('t', digest)}.safetensors`);
const packsOf = (path: string): string[] =>
  readdirSync(join(path, 'entries', 'packs'))
    .sort()
    .map((name) => join(path, 'entries', 'packs', name));
/** Payloads that are files of their own. */
const payloadFiles = (path: string): string[] => filesOf(path).filter((name) => name.endsWith('.safetensors'));
/** Small disks have room for it. */
const SPARE_BYTES = 8192;
/** Too large to lie in a pack. */
const LARGE = 100_000;
const openFiles = (): number => readdirSync('/dev/fd').length;
const full = { code: 'disk_full', status: 507 };
const isRoot = process.getuid?.() === 0;
const linuxOnly = { skip: process.platform !== 'linux' && 'Linux only' };

test('openStore() makes an empty store', async (t) => {
  const path = join(folder(t), 'cache');
  const { store, lines } = await reopen(path);
  assert.deepEqual([store.found, store.lost, store.bytes, lines], [[], [], 0, []]);
  assert.equal(JSON.parse(readFileSync(join(path, 'metadata.json'), 'utf8')).format, 2);
  assert.deepEqual(filesOf(path), ['metadata.json', 'spare']);
  assert.equal(statSync(join(path, 'entries')).mode & 0o077, 0, 'others may look in');
  assert.deepEqual((await reopen(path)).lines, []);
});

for (const size of [0, 1, 65_536, 65_537, LARGE])
  test(`commit() is visible after the store was opened again (${size} bytes)`, async (t) => {
    const path = folder(t);
    const bytes = random.bytes(size);
    const { store } = await reopen(path);
    const record = await put(store, 'k', bytes);
    assert.equal(store.bytes, bytes.length);
    assertSameBytes(await get(store, record), bytes, 'before');
    assert.equal(payloadFiles(path).length, size > 65_536 ? 1 : 0);

    const again = await reopen(path);
    assert.deepEqual(again.store.found, [record]);
    assert.deepEqual(again.lines, []);
    assert.equal(again.store.bytes, bytes.length);
    assertSameBytes(await get(again.store, record), bytes, 'after');
    for (const pack of packsOf(path)) assert.equal(statSync(pack).mode & 0o077, 0, 'others may read a pack');
    if (size > 65_536)
      assert.equal(statSync(payloadPath(path, record.digest)).mode & 0o077, 0, 'others may read a payload');
  });

test('nothing is visible before commit()', async (t) => {
  const path = folder(t);
  const { store } = await reopen(path);
  for (const size of [10, LARGE]) {
    const writer = await store.begin(false);
    await writer.write(random.bytes(size), size, 0);
    assert.equal(store.bytes, 0);
    assert.equal(readdirSync(join(path, 'incoming')).length, size === LARGE ? 1 : 0);
    assert.deepEqual((await reopen(path)).store.found, []);
    await writer.abort();
  }
});

test('begin(true) stores pieces of any length bit by bit', linuxOnly, async (t) => {
  const path = folder(t);
  const { store } = await reopen(path);
  const pieces = await piecesFor('ring');
  for (const size of [65_537, 4096, 4097, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 2 * PIECE_BYTES + 5]) {
    const bytes = random.bytes(size);
    const writer = await store.begin(pieces.descriptor !== undefined);
    const taken: Piece[] = [];
    const writes: Promise<void>[] = [];
    for (let at = 0; at < size; at += PIECE_BYTES) {
      const piece = await pieces.take();
      const part = bytes.subarray(at, at + PIECE_BYTES);
      piece.bytes.fill(0xee);
      piece.bytes.set(part);
      writes.push(writer.write(piece.bytes, part.length, at));
      taken.push(piece);
    }
    await Promise.all(writes);
    for (const piece of taken) piece.release();
    await writer.commit(recordFor(`k${size}`, bytes));
    assert.equal(statSync(payloadPath(path, hash(bytes))).size, size);
    assertSameBytes(await get(store, recordFor(`k${size}`, bytes)), bytes, `${size} bytes`);
  }
  assert.equal((await reopen(path)).store.found.length, 7);
});

test('begin(true) writes in the ordinary way where the disk refuses, whenever the pieces come', async (t) => {
  const { store } = await reopen(folder(t));
  const bytes = random.bytes(9 * 8192 + 100);
  // Memory that is aligned to nothing: refused here as other alignments are elsewhere.
  const pieces = Array.from({ length: 10 }, (_, i) => {
    const piece = new Uint8Array(8192 + 1).subarray(1);
    piece.set(bytes.subarray(i * 8192, (i + 1) * 8192));
    return piece;
  });
  for (let round = 0; round < 20; round++) {
    const writer = await store.begin(true);
    const writes: Promise<void>[] = [];
    for (const [i, piece] of pieces.entries()) {
      writes.push(writer.write(piece, i === 9 ? 100 : 8192, i * 8192));
      await turn();
    }
    await Promise.all(writes);
    await writer.commit(recordFor(`k${round}`, bytes));
  }
  await store.settle();
  assertSameBytes(await get(store, recordFor('any', bytes)), bytes, 'the payload');
});

for (const size of [5000, LARGE])
  test(`equal payloads are one, which stays until its last record goes (${size} bytes)`, async (t) => {
    const path = folder(t);
    const bytes = random.bytes(size);
    const { store } = await reopen(path);
    const first = await put(store, 'first', bytes);
    const writer = await store.begin(false);
    await writer.write(bytes, bytes.length, 0);
    const second = recordFor('second', bytes);
    assert.deepEqual(await writer.commit(second), { deduplicated: true });
    assert.equal(store.bytes, bytes.length);
    if (size === LARGE) assert.deepEqual(payloadFiles(path), [`${payloadName('t', first.digest)}.safetensors`]);

    await store.remove(first);
    await store.settle();
    assertSameBytes(await get(store, second), bytes, 'the payload');
    const again = (await reopen(path)).store;
    assert.deepEqual(again.found, [second]);
    assertSameBytes(await get(again, second), bytes, 'the payload');
    await again.remove(second);
    await again.settle();
    assert.equal(again.bytes, 0);
    assert.deepEqual(payloadFiles(path), []);
    assert.deepEqual((await reopen(path)).store.found, []);
  });

for (const size of [5000, LARGE])
  test(`commit() of equal payloads at the same time keeps one (${size} bytes)`, async (t) => {
    const path = folder(t);
    const bytes = random.bytes(size);
    const { store } = await reopen(path);
    const records = await Promise.all(Array.from({ length: 12 }, (_, i) => put(store, `k${i}`, bytes)));
    assert.equal(store.bytes, bytes.length);
    assert.equal(payloadFiles(path).length, size === LARGE ? 1 : 0);
    await Promise.all(records.slice(1).map((record) => store.remove(record)));
    await store.settle();
    assertSameBytes(await get(store, recordFor('any', bytes)), bytes, 'the payload');
  });

for (const size of [3000, LARGE])
  test(`remove() and commit() of one payload at the same time leave it there (${size} bytes)`, async (t) => {
    const { store } = await reopen(folder(t));
    const bytes = random.bytes(size);
    let held = await put(store, 'k0', bytes);
    for (let round = 1; round < 30; round++) {
      const [, next] = await Promise.all([store.remove(held), put(store, `k${round}`, bytes)]);
      held = next;
      assertSameBytes(await get(store, held), bytes, `round ${round}`);
    }
    await store.settle();
    assert.equal(store.bytes, bytes.length);
  });

test('commit() replaces what the key had, and the payload before goes', async (t) => {
  const path = folder(t);
  const { store } = await reopen(path);
  const old = await put(store, 'k', random.bytes(LARGE));
  const next = await put(store, 'k', random.bytes(2000));
  await store.settle();
  assert.equal(store.bytes, 2000);
  assert.equal(existsSync(payloadPath(path, old.digest)), false);
  assert.deepEqual((await reopen(path)).store.found, [next]);
});

test('commit() of the same bytes under the same key keeps them', async (t) => {
  const path = folder(t);
  const { store } = await reopen(path);
  const bytes = random.bytes(LARGE);
  const old = await put(store, 'k', bytes);
  const next = await put(store, 'k', bytes);
  await store.settle();
  assertSameBytes(await get(store, next), bytes, 'the payload');
  await store.remove(next);
  await store.settle();
  assert.equal(existsSync(payloadPath(path, old.digest)), false);
});

for (const size of [5000, LARGE])
  test(`a reader goes on though the payload is removed under it (${size} bytes)`, async (t) => {
    const { store } = await reopen(folder(t));
    const bytes = random.bytes(size);
    const record = await put(store, 'k', bytes);
    const reader = await store.open(record);
    await store.remove(record);
    await store.settle();
    const into = new Uint8Array(size);
    await reader.read(into, 0);
    await reader.close();
    assertSameBytes(into, bytes, 'the payload');
    await assert.rejects(store.open(record), { code: 'record_damaged' });
  });

test('read() gives any part, and says where a payload ends early', async (t) => {
  const path = folder(t);
  const { store } = await reopen(path);
  const bytes = random.bytes(LARGE);
  const record = await put(store, 'k', bytes);
  const part = new Uint8Array(10);
  const reader = await store.open(record);
  await reader.read(part, LARGE - 10);
  assertSameBytes(part, bytes.subarray(LARGE - 10), 'the end');
  await assert.rejects(reader.read(part, LARGE - 9), { code: 'record_damaged', message: /ends at byte 100000/ });
  truncateSync(payloadPath(path, record.digest), 100);
  await assert.rejects(reader.read(part, 95), { code: 'record_damaged', message: /ends at byte 100/ });
  await reader.close();
  const small = await store.open(await put(store, 'small', bytes.subarray(0, 50)));
  await small.read(part, 40);
  assertSameBytes(part, bytes.subarray(40, 50), 'the end of a small one');
  await assert.rejects(small.read(part, 41), { code: 'record_damaged', message: /ends at byte 50/ });
});

test('abort() leaves nothing, neither files nor open files', linuxOnly, async (t) => {
  const path = folder(t);
  const { store } = await reopen(path);
  const before = openFiles();
  for (let i = 0; i < 20; i++) {
    const writer = await store.begin(i % 2 === 0);
    await writer.write(new Uint8Array(4096), 4096, 0);
    await writer.abort();
    await writer.abort(); // twice does no harm
  }
  assert.deepEqual(filesOf(path), ['metadata.json', 'spare']);
  assert.equal(openFiles(), before);
  assert.equal(store.bytes, 0);
});

test('remove() may be repeated', async (t) => {
  const path = folder(t);
  const { store } = await reopen(path);
  const record = await put(store, 'k', random.bytes(100));
  await store.remove(record);
  await store.remove(record);
  assert.deepEqual((await reopen(path)).store.found, []);
});

test('openStore() empties what was being written', async (t) => {
  const path = folder(t);
  const { store } = await reopen(path);
  const writer = await store.begin(false);
  await writer.write(random.bytes(100), 100, 0);
  writeFileSync(join(path, 'incoming', '9.json'), '{"half":');
  const again = await reopen(path);
  assert.deepEqual(readdirSync(join(path, 'incoming')), []);
  assert.deepEqual([again.store.found, again.store.lost], [[], []]);
  await writer.abort();
});

test('openStore() removes a payload without a record', async (t) => {
  const path = folder(t);
  const { store } = await reopen(path);
  const kept = await put(store, 'kept', random.bytes(LARGE));
  const orphan = payloadPath(path, hash(random.bytes(5)));
  writeFileSync(orphan, 'x');
  const again = (await reopen(path)).store;
  assert.deepEqual(again.found, [kept]);
  assert.deepEqual(again.lost, []);
  assert.equal(existsSync(orphan), false);
  assert.equal(existsSync(payloadPath(path, kept.digest)), true);
});

test('openStore() names records whose payload is missing, short or long, and sets aside what is there', async (t) => {
  const path = folder(t);
  const { store } = await reopen(path);
  const [missing, short, long, sound] = await Promise.all(
    ['missing', 'short', 'long', 'sound'].map((key) => put(store, key, random.bytes(LARGE))),
  );
  assert.ok(missing && short && long && sound);
  unlinkSync(payloadPath(path, missing.digest));
  truncateSync(payloadPath(path, short.digest), 999);
  writeFileSync(payloadPath(path, long.digest), 'x', { flag: 'a' });

  const again = await reopen(path);
  assert.deepEqual(again.store.found, [sound]);
  const told = again.store.lost.toSorted((a, b) => (a.name < b.name ? -1 : 1));
  assert.deepEqual(told, [
    { name: 't/long', reason: 'its payload has 100001 of 100000 bytes', payload: payloadName('t', long.digest) },
    { name: 't/missing', reason: 'its payload is missing', payload: payloadName('t', missing.digest) },
    { name: 't/short', reason: 'its payload has 999 of 100000 bytes', payload: payloadName('t', short.digest) },
  ]);
  for (const name of ['long', 'missing', 'short']) assert.match(again.lines.join('\n'), new RegExp(`lost: t/${name} `));
  const aside = readdirSync(join(path, 'quarantine')).map((name) => name.replace(/^[^-]*-\d+-/, ''));
  assert.deepEqual(aside.sort(), [short, long].map(({ digest }) => `${payloadName('t', digest)}.safetensors`).sort());
  assert.equal(again.store.bytes, LARGE);
});

test('a lost key can be written again, and is well from then on', async (t) => {
  const path = folder(t);
  const bytes = random.bytes(LARGE);
  const { store } = await reopen(path);
  const record = await put(store, 'k', bytes);
  truncateSync(payloadPath(path, record.digest), 5);
  const damaged = (await reopen(path)).store;
  assert.equal(damaged.lost.length, 1);
  await put(damaged, 'k', bytes);
  const well = (await reopen(path)).store;
  assert.deepEqual([well.lost, well.found], [[], [record]]);
  assertSameBytes(await get(well, record), bytes, 'the payload');
});

test('tenants and keys never share a record', async (t) => {
  const path = folder(t);
  const { store } = await reopen(path);
  const owners = [
    ['a', 'b/c'],
    ['a/b', 'c'],
    ['', 'a'],
    ['a', ''],
    ['ä', 'k'],
  ] as const;
  for (const [tenant, key] of owners) {
    const bytes = random.bytes(20);
    const writer = await store.begin(false);
    await writer.write(bytes, 20, 0);
    await writer.commit(recordFor(key, bytes, { tenant }));
  }
  const { found } = (await reopen(path)).store;
  assert.equal(new Set(found.map(({ tenant, key }) => JSON.stringify([tenant, key]))).size, owners.length);
});

test('openStore() refuses a newer format, and touches nothing', async (t) => {
  const path = folder(t);
  const { store } = await reopen(path);
  await put(store, 'k', random.bytes(10));
  await store.close();
  const metadata = join(path, 'metadata.json');
  const value = { format: 3, of: 'theirs' };
  for (const text of ['{"format":3}\n', JSON.stringify({ ...value, checksum: crc32(JSON.stringify(value)) })]) {
    writeFileSync(metadata, text);
    writeFileSync(join(path, 'incoming', 'theirs'), '');
    await assert.rejects(
      openStore(path, () => {}),
      /says format 3; this Blatam reads formats up to 2\. Use the version/,
    );
    assert.equal(readFileSync(metadata, 'utf8'), text);
    assert.deepEqual(readdirSync(join(path, 'incoming')), ['theirs']);
  }
});

test('openStore() refuses a folder that says nothing readable, and has nothing that could tell more', async (t) => {
  const path = folder(t);
  for (const text of ['{"format":0}', '{"format":"1"}', 'null', '{"form', '']) {
    writeFileSync(join(path, 'metadata.json'), text);
    await assert.rejects(
      openStore(path, () => {}),
      /says format nothing readable/,
    );
    assert.deepEqual(readdirSync(path), ['metadata.json']);
  }
});

test('openStore() does not take a format that it cannot read for none', async (t) => {
  const path = folder(t);
  await reopen(path);
  const metadata = join(path, 'metadata.json');
  rmSync(metadata);
  mkdirSync(metadata);
  await assert.rejects(reopen(path), { code: 'EISDIR' });
});

/** A small disk of its own; undefined where this user may not mount one. */
function smallDisk(t: TestContext, options: string): string | undefined {
  if (process.platform !== 'linux' || !isRoot) return undefined;
  const path = mkdtempSync(join(tmpdir(), 'blatam-test-'));
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', path], { stdio: 'ignore' });
  } catch {
    return undefined;
  }
  t.after(() => {
    execFileSync('umount', ['-l', path]);
    rmSync(path, { recursive: true });
  });
  return path;
}

test('a full disk is disk_full, loses nothing, and works again when there is room', async (t) => {
  const path = smallDisk(t, 'size=256k');
  if (path === undefined) return t.skip('no small disk can be mounted here');
  const { store } = await reopen(path);
  const held = await put(store, 'held', random.bytes(100_000));
  await store.settle();
  const before = openFiles();
  for (const aligned of [false, true]) {
    const writer = await store.begin(aligned);
    await assert.rejects(writer.write(new Uint8Array(1 << 20), 1 << 20, 0), full);
    await writer.abort();
  }
  assert.equal(openFiles(), before);
  assert.deepEqual(readdirSync(join(path, 'incoming')), []);
  assert.equal(store.bytes, 100_000);
  const next = await put(store, 'k', random.bytes(100_000));
  assert.deepEqual((await reopen(path)).store.found.length, 2);
  assert.equal((await get(store, held)).length, 100_000);
  assert.equal((await get(store, next)).length, 100_000);
});

test('a record that the disk has no room for takes its payload with it', async (t) => {
  const path = smallDisk(t, 'size=512k');
  if (path === undefined) return t.skip('no small disk can be mounted here');
  const { store } = await reopen(path);
  const old = await put(store, 'k', random.bytes(1000));
  const bytes = random.bytes(5000);
  const writer = await store.begin(false);
  await writer.write(bytes, 5000, 0);
  const filler = join(path, 'filler');
  try {
    writeFileSync(filler, new Uint8Array(1 << 20));
  } catch {} // full, as wanted
  for (let i = 0; i < 3; i++) await assert.rejects(put(store, 'k', random.bytes(5000)), full);
  await assert.rejects(writer.commit(recordFor('k', bytes)), full);
  await writer.abort();
  assert.deepEqual(readdirSync(join(path, 'incoming')), []);
  assert.equal(existsSync(payloadPath(path, hash(bytes))), false);
  assert.equal(store.bytes, 1000);
  assert.equal((await get(store, old)).length, 1000, 'reads go on');
  rmSync(filler);
  assert.deepEqual((await reopen(path)).store.found, [old]);
  const next = await put(store, 'next', bytes);
  assertSameBytes(await get(store, next), bytes, 'with room again');
});

test('a file over its limit is disk_full as well', linuxOnly, async (t) => {
  const path = folder(t);
  const script = `
    import { openStore } from ${JSON.stringify(new URL('../../../core/store/store.ts', import.meta.url).href)};
    const store = await openStore(process.argv[1], () => {}, { spareBytes: ${SPARE_BYTES} });
    const writer = await store.begin(false);
    await writer.write(new Uint8Array(1 << 20), 1 << 20, 0).catch(({ code }) => console.log(code));
    await writer.abort();`;
  const { stdout } = await promisify(execFile)('sh', [
    '-c',
    'trap "" XFSZ; ulimit -f 100; exec "$0" --input-type=module -e "$1" "$2"',
    process.execPath,
    script,
    path,
  ]);
  assert.equal(stdout, 'disk_full\n');
  assert.deepEqual(readdirSync(join(path, 'incoming')), []);
});

test('a disk that refuses is disk_failed, and what was there stays', async (t) => {
  const path = folder(t);
  const { store } = await reopen(path);
  const held = await put(store, 'k', random.bytes(100));
  const bytes = random.bytes(LARGE);
  const writer = await store.begin(false);
  await writer.write(bytes, LARGE, 0);
  const shard = join(path, 'entries', hash(bytes).slice(0, 2));
  const away = join(path, 'away');
  renameSync(shard, away); // a folder that is gone: root may do anything to one that is read-only
  await assert.rejects(writer.commit(recordFor('other', bytes)), { code: 'disk_failed', status: 503 });
  await writer.abort();
  assert.equal(store.bytes, 100);
  assert.deepEqual(readdirSync(join(path, 'incoming')), []);
  renameSync(away, shard);
  assert.deepEqual((await reopen(path)).store.found, [held]);
});

test('a folder that cannot be written to is disk_failed', async (t) => {
  const path = folder(t);
  const { store } = await reopen(path);
  rmSync(join(path, 'incoming'), { recursive: true }); // modes would not stop root
  await assert.rejects(store.begin(true), { code: 'disk_failed', message: /ENOENT/ });
});

test('openStore() finds what was committed over a random walk of puts, replacements and removals', async (t) => {
  t.diagnostic(`SEED=${random.seed}`);
  const path = folder(t);
  const payloads = Array.from({ length: 6 }, (_, i) => random.bytes(1 + random.below(i % 2 ? 3000 : LARGE)));
  const model = new Map<string, StoredRecord>();
  let { store } = await reopen(path);
  for (let step = 0; step < 150; step++) {
    const key = `k${random.below(8)}`;
    const held = model.get(key);
    const action = random.below(10);
    if (action < 6) model.set(key, await put(store, key, random.pick([payloads[0] ?? new Uint8Array(1), ...payloads])));
    else if (action < 9 && held) {
      await store.remove(held);
      model.delete(key);
    } else if (action === 9) {
      if (random.below(2) > 0) await store.settle();
      ({ store } = await reopen(path));
      const byKey = (a: StoredRecord, b: StoredRecord) => (a.key < b.key ? -1 : 1);
      assert.deepEqual(store.found.toSorted(byKey), [...model.values()].sort(byKey));
      assert.deepEqual(store.lost, []);
    }
  }
  await store.close();
  const sizes = new Map([...model.values()].map(({ digest, bytes }) => [digest, bytes]));
  assert.equal(
    store.bytes,
    [...sizes.values()].reduce((sum, size) => sum + size, 0),
  );
  const large = [...sizes.values()].filter((size) => size > 65_536);
  assert.equal(payloadFiles(path).length, large.length);
});

test('a payload that is distrusted or gone is replaced by the next same bytes, not taken for them', async (t) => {
  const path = folder(t);
  const { store } = await reopen(path);
  const bytes = random.bytes(LARGE);
  const first = await put(store, 'first', bytes);
  const spoil = () => {
    writeFileSync(payloadPath(path, first.digest), random.bytes(LARGE));
    store.distrust(first);
  };
  for (const [key, harm] of [
    ['distrusted', spoil],
    ['short', () => truncateSync(payloadPath(path, first.digest), 10)],
    ['gone', () => unlinkSync(payloadPath(path, first.digest))],
  ] as const) {
    harm();
    const again = await put(store, key, bytes);
    assertSameBytes(await get(store, again), bytes, key);
    assertSameBytes(await get(store, first), bytes, `the first, after ${key}`);
  }
  assert.equal(store.bytes, LARGE);
  const small = random.bytes(500);
  const inPack = await put(store, 'small', small);
  await store.settle();
  for (const pack of packsOf(path)) flip(pack, small);
  await assert.rejects(get(store, inPack), { code: 'record_damaged' });
  store.distrust(inPack);
  await put(store, 'same', small);
  assertSameBytes(await get(store, inPack), small, 'mended');
  assert.equal(store.bytes, LARGE + 500);
  const { store: again } = await reopen(path);
  assertSameBytes(await get(again, inPack), small, 'mended for good');
  assert.deepEqual(again.lost, []);
});

/** Changes a bit of the first place in a file that holds these bytes. */
function flip(path: string, bytes: Uint8Array): void {
  const file = readFileSync(path);
  const at = file.indexOf(bytes);
  if (at < 0) return;
  file[at] = (file[at] ?? 0) ^ 1;
  writeFileSync(path, file);
}

test('tenants share no payload, so that none can tell what another holds', async (t) => {
  const path = folder(t);
  const { store } = await reopen(path);
  const bytes = random.bytes(LARGE);
  await put(store, 'k', bytes);
  const writer = await store.begin(false);
  await writer.write(bytes, bytes.length, 0);
  const { deduplicated } = await writer.commit({ ...recordFor('k', bytes), tenant: 'other' });
  assert.equal(deduplicated, false);
  assert.equal(store.bytes, 2 * LARGE);
  assert.equal(payloadFiles(path).length, 2);
});

test('open() says record_damaged where the payload is gone, and disk_failed where it only cannot be opened', async (t) => {
  const path = folder(t);
  const { store } = await reopen(path);
  const record = await put(store, 'k', random.bytes(LARGE));
  const at = join(path, 'entries', record.digest.slice(0, 2));
  renameSync(at, `${at}.away`);
  writeFileSync(at, ''); // a file where the folder was: ENOTDIR
  await assert.rejects(store.open(record), { code: 'disk_failed' });
  rmSync(at);
  renameSync(`${at}.away`, at);
  unlinkSync(payloadPath(path, record.digest));
  await assert.rejects(store.open(record), { code: 'record_damaged' });
});
