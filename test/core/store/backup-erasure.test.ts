// A backup without what is erased: it verifies and restores, holds nothing of it, and the backups that share files with it are untouched.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { restoreBackup, verifyBackup } from '../../../core/store/backup.ts';
import { cutErasures, eraseFromBackup } from '../../../core/store/backup-erasure.ts';
import { realDisk } from '../../../core/store/disk.ts';
import { openStore } from '../../../core/store/store.ts';
import { SMALL_STORE } from '../../support/crash.ts';
import { folder } from '../../support/folders.ts';
import { bytesUnder, putBytes } from '../../support/store.ts';
import { tracesIn } from '../../support/traces.ts';

const PREFIX = 'secret/';
const WHAT = { tenant: 't', prefix: PREFIX };

/** Two backups, the second by links from the first; what is to go, and what of it is to stay in each. */
async function backups(t: TestContext) {
  const at = folder(t);
  const store = await openStore(join(at, 'cache'), () => {}, SMALL_STORE);
  const stays = new Map<string, Buffer>();
  const traces: Record<string, Uint8Array | string> = {};
  const put = async (tenant: string, key: string, size: number) => {
    const bytes = randomBytes(size);
    if (tenant === 't' && key.startsWith(PREFIX)) {
      traces[key] = key;
      traces[`bytes of ${key}`] = bytes.subarray(0, 64);
    } else stays.set(`${tenant}/${key}`, bytes);
    return putBytes(store, key, bytes, { tenant });
  };
  for (let i = 0; i < 10; i++) {
    await put('t', `${PREFIX}small-${i}-of-alice`, 300);
    await put('t', `public/${i}`, 400);
    await put('u', `${PREFIX}${i}`, 500);
  }
  await put('t', `${PREFIX}large-of-alice`, 150_000);
  await put('u', 'large', 150_000);
  await store.remove(await put('t', `${PREFIX}deleted-of-alice`, 200));
  const [first, second] = [join(at, 'backups/first'), join(at, 'backups/second')];
  await store.backUp({ to: first, now: 0 });
  const staysFirst = new Map(stays);
  await put('t', `${PREFIX}later-of-alice`, 250);
  await put('t', 'public/later', 250);
  await store.backUp({ to: second, before: first, now: 0 });
  await store.close();
  return { at, first, second, stays, staysFirst, traces };
}

async function assertRestores(t: TestContext, backup: string, stays: ReadonlyMap<string, Buffer>): Promise<void> {
  assert.equal((await verifyBackup(backup)).entries, stays.size);
  const to = join(folder(t), 'cache');
  await restoreBackup(backup, to);
  const store = await openStore(to, () => {});
  assert.deepEqual(store.lost, []);
  assert.deepEqual(store.found.map(({ tenant, key }) => `${tenant}/${key}`).sort(), [...stays.keys()].sort());
  for (const record of store.found)
    assert.deepEqual(Buffer.from(await bytesUnder(store, record)), stays.get(`${record.tenant}/${record.key}`));
  await putBytes(store, 'new', new Uint8Array(5));
  await store.close();
}

const hashesIn = (path: string): string[] =>
  readdirSync(path, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name))
    .sort()
    .map((file) => `${file} ${createHash('sha256').update(readFileSync(file)).digest('hex')}`);

test('eraseFromBackup() leaves nothing of it in one backup, and the one that shares files with it as it was', async (t) => {
  const { first, second, stays, staysFirst, traces, at } = await backups(t);
  const before = hashesIn(second);
  const done = await eraseFromBackup(realDisk, first, WHAT);
  assert.deepEqual([done?.entries, done?.payloads, done?.isRemoved], [11, 1, false]);
  assert.deepEqual(tracesIn(first, traces), []);
  assert.deepEqual(hashesIn(second), before);
  await assertRestores(t, first, staysFirst);
  await eraseFromBackup(realDisk, second, WHAT);
  assert.deepEqual(tracesIn(join(at, 'backups'), traces), []);
  await assertRestores(t, second, stays);
  assert.equal(await eraseFromBackup(realDisk, second, WHAT), undefined, 'there is nothing left to erase');
});

test('a backup that holds nothing else is removed', async (t) => {
  const { first, staysFirst } = await backups(t);
  await eraseFromBackup(realDisk, first, { tenant: 'u', prefix: '' });
  for (const name of [...staysFirst.keys()]) if (name.startsWith('u/')) staysFirst.delete(name);
  assert.equal((await verifyBackup(first)).entries, 21);
  assert.equal((await eraseFromBackup(realDisk, first, { tenant: 't', prefix: '' }))?.isRemoved, true);
  assert.equal(existsSync(first), false);
});

test('a backup that was found damaged stays so, and what was said of it goes, which may name what is erased', async (t) => {
  const { first } = await backups(t);
  const notes = join(first, 'notes.json');
  const said = `t/${PREFIX}large-of-alice is not what it should be`;
  const drilled = { atMs: 5, faults: [said] };
  writeFileSync(notes, JSON.stringify({ by: 'me', verified: { atMs: 4, faults: [] }, drilled }));
  await eraseFromBackup(realDisk, first, WHAT);
  const now = JSON.parse(readFileSync(notes, 'utf8'));
  assert.deepEqual([now.by, now.verified, now.drilled.atMs, now.drilled.faults.length], ['me', undefined, 5, 1]);
  assert.doesNotMatch(readFileSync(notes, 'utf8'), /alice/);
});

test('one that cannot be written anew stays as it was, and nothing lies beside it', async (t) => {
  const { first, at } = await backups(t);
  const before = hashesIn(first);
  const full: typeof realDisk = {
    ...realDisk,
    async link(from, to) {
      if (to.includes('.erasing')) throw Object.assign(new Error('ENOSPC: injected'), { code: 'ENOSPC' });
      return realDisk.link(from, to);
    },
  };
  await assert.rejects(eraseFromBackup(full, first, WHAT), /ENOSPC/);
  assert.deepEqual(hashesIn(first), before);
  assert.deepEqual(readdirSync(join(at, 'backups')).sort(), ['first', 'second']);
});

test('damage that a pack has stays told', async (t) => {
  const { first } = await backups(t);
  const packs = join(first, 'cache/entries/packs');
  const [pack = ''] = readdirSync(packs);
  const bytes = readFileSync(join(packs, pack));
  const at = bytes.indexOf('public/3');
  bytes[at] = 0x7f;
  writeFileSync(join(packs, pack), bytes);
  await eraseFromBackup(realDisk, first, WHAT);
  await assert.rejects(verifyBackup(first), new RegExp(`${pack} is not as it was backed up`));
});

test('what lies beside the store goes if it names the tenant, and other files are rewritten as asked', async (t) => {
  const { first } = await backups(t);
  const manifest = JSON.parse(readFileSync(join(first, 'manifest.json'), 'utf8')) as { files: unknown[] };
  const add = (path: string, text: string) => {
    writeFileSync(join(first, path), text);
    const sha256 = createHash('sha256').update(text).digest('hex');
    manifest.files.push({ path, bytes: text.length, sha256 });
  };
  add('cache/heat.json', JSON.stringify({ latest: [['t', `${PREFIX}only-hot`]] }));
  add('cache/other.json', '{}');
  add('rows.jsonl', '{"tenant":"t"}\n{"tenant":"u"}\n');
  writeFileSync(join(first, 'manifest.json'), JSON.stringify(manifest));
  const rewrite = (path: string, text: string) =>
    path === 'rows.jsonl' ? text.replace('{"tenant":"t"}\n', '') : undefined;
  await eraseFromBackup(realDisk, first, { ...WHAT, rewrite });
  await verifyBackup(first);
  assert.deepEqual(readdirSync(join(first, 'cache')).sort(), ['entries', 'other.json']);
  assert.equal(readFileSync(join(first, 'rows.jsonl'), 'utf8'), '{"tenant":"u"}\n');
});

for (const point of ['backup rewritten', 'backup aside'])
  test(`an erasure that ends at "${point}" leaves one backup whole, and the next goes on`, async (t) => {
    const { at, first, staysFirst, traces } = await backups(t);
    const disk = {
      ...realDisk,
      reached(reached: string) {
        if (reached === point) throw new Error('ended');
      },
    };
    await assert.rejects(eraseFromBackup(disk, first, WHAT), /ended/);
    const cut = await cutErasures(realDisk, join(at, 'backups'));
    assert.deepEqual(cut, point === 'backup aside' ? [first] : []);
    await eraseFromBackup(realDisk, first, WHAT);
    assert.deepEqual(tracesIn(first, traces), []);
    assert.deepEqual(readdirSync(join(at, 'backups')).sort(), ['first', 'second']);
    await assertRestores(t, first, staysFirst);
  });
