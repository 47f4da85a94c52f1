// The room of backups over a real store: what is scheduled happens, what is too much goes, what fails is told and leaves nothing.
import assert from 'node:assert/strict';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { assertFits } from '../../../core/backups/fits.ts';
import type { JobEvent } from '../../../core/backups/jobs.ts';
import { wordsOf } from '../../../core/backups/words.ts';
import { realDisk } from '../../../core/store/disk.ts';
import { type BackupsWorld, ME, openWorld, type WorldOptions } from '../../support/backups.ts';
import { assertSameBytes } from '../../support/bytes.ts';
import { folder } from '../../support/folders.ts';
import { seeded } from '../../support/seeded.ts';
import { bytesUnder, putBytes } from '../../support/store.ts';

const random = seeded();
const HOUR = 3_600_000;
const ENTRIES = Number(process.env.BACKUP_ENTRIES ?? 300);

async function world(t: TestContext, options: Partial<WorldOptions> = {}, dataDir = folder(t)) {
  const opened = await openWorld(dataDir, { disk: realDisk, ...options });
  let isOpen = true;
  const close = async () => {
    if (isOpen) await opened.close();
    isOpen = false;
  };
  t.after(close);
  return { ...opened, dataDir, close };
}

async function made({ backups, clock }: BackupsWorld): Promise<string> {
  const { id, ended } = await backups.create(ME);
  await ended;
  clock.now += 1000;
  return id;
}

const filesBelow = (path: string): string[] =>
  readdirSync(path, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));

test('look() makes a backup when one is due, then the drill, and nothing of an empty store', async (t) => {
  const it = await world(t);
  await it.backups.look();
  assert.deepEqual(await it.backups.list(), []);
  await putBytes(it.store, 'k', random.bytes(1000));
  await it.backups.look();
  const [first] = await it.backups.list();
  assert.deepEqual([first?.reason, first?.by, first?.drilled], ['schedule', 'schedule', undefined]);
  it.clock.now += HOUR;
  await it.backups.look();
  assert.deepEqual((await it.backups.list())[0]?.drilled, { atMs: it.clock.now, faults: [] });
  await it.backups.look();
  assert.equal((await it.backups.list()).length, 1);
  it.clock.now += 24 * HOUR;
  await it.backups.look();
  assert.equal((await it.backups.list()).length, 2);
  assert.deepEqual(
    it.audit.map(({ action }) => action),
    ['backup.created', 'backup.drilled', 'backup.created'],
  );
});

test('beyond the count the oldest go, and each that stays is whole by itself', async (t) => {
  const it = await world(t, { keep: 2 });
  const ids: string[] = [];
  for (let i = 0; i < 4; i++) {
    await putBytes(it.store, `k${i}`, random.bytes(100_000));
    ids.push(await made(it));
  }
  const left = await it.backups.list();
  assert.deepEqual(
    left.map(({ id }) => id),
    ids.slice(2).reverse(),
  );
  for (const { id } of left) await (await it.backups.verify(id, ME)).ended;
  assert.ok((await it.backups.list()).every(({ state, verified }) => state === 'whole' && verified));
});

test('several in one second have names one after the other, and the newest stays', async (t) => {
  const it = await world(t, { keep: 2 });
  await putBytes(it.store, 'k', random.bytes(1000));
  const ids: string[] = [];
  for (let i = 0; i < 5; i++) {
    ids.push(await made(it));
    it.clock.now -= 100;
  }
  assert.deepEqual(ids, [...new Set(ids)].sort());
  const left = (await it.backups.list()).map(({ id }) => id);
  assert.deepEqual(left, ids.slice(-2).reverse());
});

test('one that was cut is no backup, cannot be restored, and is removed by the next', async (t) => {
  let cut = true;
  const disk = {
    ...realDisk,
    reached(point: string) {
      if (point === 'backup copied' && cut) throw new Error('cut');
    },
  };
  const it = await world(t, { disk });
  await putBytes(it.store, 'k', random.bytes(100_000));
  const { id, ended } = await it.backups.create(ME);
  await assert.rejects(ended);
  assert.deepEqual([it.backups.jobOf(id)?.state, it.backups.status.failures.create], ['failed', 1]);
  assert.ok(!existsSync(join(it.dataDir, 'backups', id)));
  mkdirSync(join(it.dataDir, 'backups', id, 'cache'), { recursive: true }); // as a kill would leave it
  assert.equal((await it.backups.find(id)).state, 'unfinished');
  await assert.rejects(it.backups.restore(id, ME), { code: 'backup_unknown' });
  cut = false;
  it.clock.now += 1000;
  await made(it);
  assert.deepEqual(
    (await it.backups.list()).map(({ state }) => state),
    ['whole'],
  );
});

test('a drill finds what is damaged, raises the alarm, and leaves nothing behind; a good one ends the alarm', async (t) => {
  const it = await world(t);
  await putBytes(it.store, 'k', random.bytes(100_000));
  const id = await made(it);
  const file = filesBelow(join(it.dataDir, 'backups', id)).find((path) => path.endsWith('.safetensors')) ?? '';
  const bytes = readFileSync(file);
  bytes[5000] = (bytes[5000] ?? 0) ^ 1;
  writeFileSync(file, bytes);
  await assert.rejects((await it.backups.drill(id, ME)).ended, { code: 'backup_damaged' });
  assert.match(it.backups.status.alarm ?? '', /\.safetensors of .* is not as it was/);
  assert.match(wordsOf(it.backups.status, it.clock.now), /^ALARM: a drill failed/);
  assert.equal(it.backups.status.newest, undefined);
  assert.deepEqual(readdirSync(join(it.dataDir, 'backups')), [id]);
  it.clock.now += 1000;
  const next = await made(it); // takes nothing over from the damaged one
  assert.deepEqual((await it.backups.find(next)).copied?.files, (await it.backups.find(next)).files);
  await (await it.backups.drill(next, ME)).ended;
  assert.equal(it.backups.status.alarm, undefined);
});

test('what the store had lost is no fault of the backup', async (t) => {
  const it = await world(t);
  await putBytes(it.store, 'good', random.bytes(1000));
  const { digest } = await putBytes(it.store, 'bad', random.bytes(100_000));
  const file = filesBelow(join(it.dataDir, 'cache')).find((path) => path.includes(digest)) ?? '';
  writeFileSync(file, random.bytes(100_000));
  const id = await made(it);
  await (await it.backups.drill(id, ME)).ended;
  assert.equal((await it.backups.find(id)).state, 'whole');
});

test('follow() tells how far it is, then the end, and stops', async (t) => {
  const it = await world(t);
  for (let i = 0; i < 20; i++) await putBytes(it.store, `k${i}`, random.bytes(100_000));
  const { id, ended } = await it.backups.create(ME);
  const told: (JobEvent | number)[] = [];
  for await (const one of it.backups.follow(id, 60_000, AbortSignal.timeout(60_000))) told.push(one);
  await ended;
  const last = told.at(-1) as JobEvent;
  assert.deepEqual([last.type, last.result?.entries], ['done', 20]);
  assert.ok(told.every((one) => typeof one === 'number' || ['progress', 'done'].includes(one.type)));
});

test('a restore brings the state back; its rows wait where the database is away, until a start that has it', async (t) => {
  let isAway = true;
  const dataDir = folder(t);
  let started = 0;
  const it = await world(t, { failMerge: () => isAway, startedOver: () => started++ }, dataDir);
  const bytes = random.bytes(100_000);
  const record = await putBytes(it.store, 'k', bytes);
  writeFileSync(join(dataDir, 'cache', 'heat.json'), '{"then":1}');
  const id = await made(it);
  await putBytes(it.store, 'k', random.bytes(50));
  await putBytes(it.store, 'later', random.bytes(50));
  mkdirSync(join(dataDir, 'cache', 'kv'));
  writeFileSync(join(dataDir, 'cache', 'heat.json'), '{"then":2}');
  await (await it.backups.restore(id, ME)).ended;
  const { safety, rows, entries } = it.backups.jobOf(id)?.result ?? {};
  assert.deepEqual([started, entries, rows], [1, 1, null]);
  assert.equal((await it.backups.find(String(safety))).entries, 2);
  assertSameBytes(await bytesUnder(it.store, record), bytes, 'k');
  assert.ok(existsSync(join(dataDir, 'cache', 'kv')), 'what is not the store’s stays');
  assert.equal(readFileSync(join(dataDir, 'cache', 'heat.json'), 'utf8'), '{"then":1}');
  assert.ok(!existsSync(join(dataDir, 'cache.before')));
  assert.equal(it.audit.filter(({ action }) => action === 'backup.restored').length, 0);
  await it.close();
  isAway = false;
  const again = await world(t, {}, dataDir);
  assert.deepEqual(
    again.audit.map(({ action, actor, subject }) => [action, actor, subject]),
    [['backup.restored', 'me', id]],
  );
  assertSameBytes(await bytesUnder(again.store, record), bytes, 'k after a start');
  await again.close();
  const third = await world(t, {}, dataDir);
  assert.deepEqual(third.audit, []);
});

test('what was done is told as done, though what it leaves cannot be removed', async (t) => {
  const isStuck = (path: string) => /cache\.before$|cache_\d+T\d+Z.manifest\.json$/.test(path) && existsSync(path);
  const disk: typeof realDisk = {
    ...realDisk,
    async remove(path) {
      if (isStuck(path)) throw Object.assign(new Error('EIO: it stays'), { code: 'EIO' });
      await realDisk.remove(path);
    },
  };
  const it = await world(t, { disk, keep: 1 });
  const bytes = random.bytes(1000);
  const record = await putBytes(it.store, 'k', bytes);
  const id = await made(it);
  await putBytes(it.store, 'later', random.bytes(50));
  await (await it.backups.create(ME)).ended;
  await (await it.backups.restore(id, ME, { safety: false })).ended;
  assert.deepEqual([it.store.entries, it.backups.jobOf(id)?.state], [1, 'done']);
  assertSameBytes(await bytesUnder(it.store, record), bytes, 'k');
  assert.deepEqual(it.backups.status.failures, { create: 0, verify: 0, restore: 0, drill: 0 });
  assert.match(it.lines.join('\n'), /cache\.before stays until the next start: .*EIO/);
  assert.match(it.lines.join('\n'), /backups that are too many, or too old, stay: .*EIO/);
});

test('a restore that finds damage on its way leaves nothing of what it had copied, and all as it was', async (t) => {
  const it = await world(t);
  for (let i = 0; i < 5; i++) await putBytes(it.store, `k${i}`, random.bytes(100_000));
  const id = await made(it);
  const payloads = filesBelow(join(it.dataDir, 'backups', id)).filter((path) => path.endsWith('.safetensors'));
  writeFileSync(String(payloads.sort().at(-1)), 'damaged');
  await assert.rejects((await it.backups.restore(id, ME)).ended, { code: 'backup_damaged' });
  assert.deepEqual(readdirSync(it.dataDir).sort(), ['backups', 'cache']);
  assert.equal(it.store.entries, 5);
});

test('look() that cannot even begin says so, and counts it', async (t) => {
  let isAway = false;
  const list = async (path: string) => {
    if (isAway && path.endsWith('backups')) throw Object.assign(new Error('EIO: it is away'), { code: 'EIO' });
    return realDisk.list(path);
  };
  const it = await world(t, { disk: { ...realDisk, list } });
  await putBytes(it.store, 'k', random.bytes(1000));
  isAway = true;
  await it.backups.look();
  assert.equal(it.backups.status.failures.create, 1);
  assert.match(it.lines.join('\n'), /ALARM: whether a backup is due .*EIO/);
});

test('a backup from elsewhere, without its notes, is restored into an empty instance that runs', async (t) => {
  const from = await world(t);
  const bytes = random.bytes(100_000);
  const record = await putBytes(from.store, 'k', bytes);
  const id = await made(from);
  const dataDir = folder(t);
  cpSync(join(from.dataDir, 'backups'), join(dataDir, 'backups'), { recursive: true });
  rmSync(join(dataDir, 'backups', id, 'notes.json'));
  const it = await world(t, {}, dataDir);
  assert.deepEqual(
    (await it.backups.list()).map(({ id, state, entries, reason }) => [id, state, entries, reason]),
    [[id, 'whole', 1, 'unknown']],
  );
  await (await it.backups.restore(id, ME)).ended;
  assert.equal(it.backups.jobOf(id)?.result?.safety, null);
  assertSameBytes(await bytesUnder(it.store, record), bytes, 'k');
  await putBytes(it.store, 'more', random.bytes(10));
  await made(it);
});

test('a folder for backups that cannot be had ends no start, and makes each backup fail', async (t) => {
  const dataDir = folder(t);
  writeFileSync(join(dataDir, 'backups'), 'a file');
  const it = await world(t, {}, dataDir);
  assert.match(it.lines.join(), /ALARM: no backups can be made/);
  await putBytes(it.store, 'k', random.bytes(100));
  await assert.rejects(it.backups.create(ME), { code: 'backup_failed', message: /ENOTDIR/ });
});

test('what does not fit on the disk is refused, and says what to do', async (t) => {
  await assert.rejects(assertFits(folder(t), 2 ** 60), { code: 'backup_failed', message: /stay free\. Make room/ });
});

test('thousands of tensors: the second backup copies what is new, and after damage each byte is back', async (t) => {
  t.diagnostic(`SEED=${random.seed} BACKUP_ENTRIES=${ENTRIES}`);
  const it = await world(t);
  const model = new Map<string, Uint8Array>();
  const put = async (key: string, size: number) => {
    const bytes = random.bytes(size);
    await putBytes(it.store, key, bytes);
    model.set(key, bytes);
  };
  for (let from = 0; from < ENTRIES; from += 100)
    await Promise.all(
      Array.from({ length: 100 }, (_, i) => put(`k${from + i}`, i === 7 ? 80_000 : 100 + random.below(1000))),
    );
  const first = await it.backups.find(await made(it));
  await put('new', 90_000);
  const second = await it.backups.find(await made(it));
  t.diagnostic(`${first.bytes} bytes in ${first.files} files, then ${second.copied?.bytes} in ${second.copied?.files}`);
  assert.equal(first.copied?.files, first.files);
  assert.ok((second.copied?.files ?? 99) <= 2, `${second.copied?.files} files were copied`);
  await putBytes(it.store, 'k1', random.bytes(10));
  await putBytes(it.store, 'later', random.bytes(10));
  for (const file of filesBelow(join(it.dataDir, 'cache', 'entries'))) writeFileSync(file, 'damage');
  await (await it.backups.restore(second.id, ME, { safety: false })).ended;
  assert.deepEqual([it.store.entries, it.store.lost], [model.size, []]);
  for (const record of it.store.found)
    assertSameBytes(await bytesUnder(it.store, record), model.get(record.key) ?? assert.fail(record.key), record.key);
});

test('what is under way is given up when the room closes, and the store is as it was', async (t) => {
  const dataDir = folder(t);
  const it = await world(t, {}, dataDir);
  for (let i = 0; i < 30; i++) await putBytes(it.store, `k${i}`, random.bytes(70_000));
  const id = await made(it);
  await putBytes(it.store, 'later', random.bytes(10));
  const { ended } = await it.backups.restore(id, ME);
  const failing = assert.rejects(ended, { code: 'stopping' });
  await it.backups.close();
  await failing;
  assert.equal(it.store.entries, 31);
  await assert.rejects(it.backups.create(ME), { code: 'stopping' });
  await it.store.close();
  const again = await world(t, {}, dataDir);
  assert.equal(again.store.entries, 31);
  assert.deepEqual(readdirSync(dataDir).sort(), ['backups', 'cache']);
});
