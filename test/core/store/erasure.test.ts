// What has been removed and is erased leaves nothing in the store's folder, whatever happens on the way; what is held stays as it is.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { type Disk, realDisk } from '../../../core/store/disk.ts';
import { openStore, type Store } from '../../../core/store/store.ts';
import { SMALL_STORE } from '../../support/crash.ts';
import { folder } from '../../support/folders.ts';
import { bytesUnder, putBytes, recordFor } from '../../support/store.ts';
import { tracesIn } from '../../support/traces.ts';

const PREFIX = 'secret/';
const quiet = { ...SMALL_STORE, log: () => {} };

interface Written {
  readonly path: string;
  readonly stays: Map<string, Uint8Array>;
  readonly traces: Record<string, Uint8Array | string>;
}

const open = (path: string, disk: Disk = realDisk): Promise<Store> => openStore(path, () => {}, { ...quiet, disk });

/** Small and large, replaced, deleted before, shared with a key that stays; and what another tenant has under the same names. */
async function write(t: TestContext): Promise<Written> {
  const path = join(folder(t), 'cache');
  const store = await open(path);
  const stays = new Map<string, Uint8Array>();
  const traces: Record<string, Uint8Array | string> = {};
  const gone = async (key: string, size: number) => {
    const bytes = randomBytes(size);
    traces[key] = key;
    traces[`bytes of ${key}`] = bytes.subarray(0, 64);
    return putBytes(store, key, bytes);
  };
  const keep = async (tenant: string, key: string, bytes: Uint8Array) => {
    stays.set(`${tenant}/${key}`, bytes);
    await putBytes(store, key, bytes, { tenant });
  };
  for (let i = 0; i < 12; i++) {
    await gone(`${PREFIX}small-${i}-of-alice`, 300 + i);
    await keep('t', `public/small-${i}`, randomBytes(400));
    await keep('u', `${PREFIX}other-${i}`, randomBytes(500));
  }
  await gone(`${PREFIX}large-of-alice`, 200_000);
  await gone(`${PREFIX}small-3-of-alice`, 3000); // replaced
  await store.remove(await gone(`${PREFIX}deleted-of-alice`, 100));
  await keep('t', 'public/large', randomBytes(150_000));
  const shared = randomBytes(700);
  await keep('t', 'public/shared', shared);
  await putBytes(store, `${PREFIX}shared-of-alice`, shared);
  traces.shared = `${PREFIX}shared-of-alice`;
  await store.close();
  return { path, stays, traces };
}

async function removeAll(store: Store): Promise<void> {
  const own = store.found.filter(({ tenant, key }) => tenant === 't' && key.startsWith(PREFIX));
  for (const record of own) await store.remove(record);
}

async function assertClean({ path, stays, traces }: Written): Promise<void> {
  assert.deepEqual(tracesIn(path, traces), []);
  for (const how of ['as it is', 'without a journal']) {
    if (how !== 'as it is') {
      rmSync(join(path, 'journal'), { recursive: true });
      rmSync(join(path, 'metadata.json'));
    }
    const store = await open(path);
    assert.deepEqual(store.lost, [], how);
    assert.deepEqual(store.found.map(({ tenant, key }) => `${tenant}/${key}`).sort(), [...stays.keys()].sort(), how);
    for (const record of store.found)
      assert.deepEqual(
        Buffer.from(await bytesUnder(store, record)),
        Buffer.from(stays.get(`${record.tenant}/${record.key}`) ?? []),
      );
    await store.close();
  }
}

test('erase() leaves neither names nor bytes of what was removed, and all else as it was', async (t) => {
  const written = await write(t);
  assert.ok(tracesIn(written.path, written.traces).length >= Object.keys(written.traces).length);
  const store = await open(written.path);
  await removeAll(store);
  const done = await store.erase({ tenant: 't', prefix: PREFIX });
  assert.ok(done.packs > 0 && done.frames > 30, JSON.stringify(done));
  await putBytes(store, 'public/later', Buffer.from('later'));
  written.stays.set('t/public/later', Buffer.from('later'));
  assert.deepEqual(await store.erase({ tenant: 't', prefix: PREFIX }), { packs: 0, frames: 0, files: 0 });
  await store.close();
  await assertClean(written);
});

test('erase() takes what was set aside and the store of an earlier format along', async (t) => {
  const { path } = await write(t);
  const store = await open(path);
  const [shard = ''] = readdirSync(join(path, 'entries')).filter(
    (name) => name.length === 2 && readdirSync(join(path, 'entries', name)).length > 0,
  );
  const [file = ''] = readdirSync(join(path, 'entries', shard));
  writeFileSync(join(path, 'quarantine', `20260101-1-${file}`), 'damaged');
  writeFileSync(join(path, 'quarantine', '20260101-2-000001.pack'), 'damaged');
  writeFileSync(join(path, 'quarantine', `20260101-3-${'0'.repeat(64)}.${'0'.repeat(16)}.safetensors`), 'of another');
  mkdirSync(join(path, 'format-1', 'index', 'ab'), { recursive: true });
  writeFileSync(join(path, 'format-1', 'index', 'ab', 'record.json'), '{"tenant":"t","key":"old"}');
  assert.equal((await store.erase({ tenant: 't', prefix: '' })).files, 3);
  assert.deepEqual(readdirSync(join(path, 'quarantine')).length, 1);
  assert.equal(existsSync(join(path, 'format-1')), false);
  await store.close();
});

test('what is held again when erase() comes stays', async (t) => {
  const written = await write(t);
  const store = await open(written.path);
  await removeAll(store);
  const again = randomBytes(100);
  await putBytes(store, `${PREFIX}again`, again);
  await store.erase({ tenant: 't', prefix: PREFIX });
  assert.deepEqual(Buffer.from(await bytesUnder(store, recordFor(`${PREFIX}again`, again))), again);
  await store.close();
  written.stays.set(`t/${PREFIX}again`, again);
  await assertClean(written);
});

test('erase() waits for who holds the packs', async (t) => {
  const written = await write(t);
  const store = await open(written.path);
  await removeAll(store);
  const order: string[] = [];
  const told = () => void order.push('copied');
  const backUp = store.backUp({ to: join(folder(t), 'backup'), now: 0, told }).then(() => order.push('backup'));
  const erased = store.erase({ tenant: 't', prefix: PREFIX }).then(() => order.push('erased'));
  await Promise.all([backUp, erased]);
  assert.deepEqual(order.slice(-2), ['backup', 'erased']);
  await store.close();
  await assertClean(written);
});

test('a pack that does not read as a whole is written anew too, and what is set aside of it goes', async (t) => {
  const written = await write(t);
  const packs = join(written.path, 'entries/packs');
  const [pack = ''] = readdirSync(packs).sort();
  const bytes = readFileSync(join(packs, pack));
  const at = bytes.indexOf('small-2-of-alice');
  assert.ok(at > 0);
  bytes[at] = 0x7f;
  writeFileSync(join(packs, pack), bytes);
  const store = await open(written.path);
  await removeAll(store);
  await store.erase({ tenant: 't', prefix: PREFIX });
  await store.close();
  await assertClean(written);
});

for (const point of ['compaction renamed', 'compaction known', 'pack purged', 'packs purged', 'journal erased'])
  test(`an erasure that ends at "${point}" is made good by another`, async (t) => {
    const written = await write(t);
    let passed = 0;
    const ending = {
      ...realDisk,
      reached(at: string) {
        if (at === point && passed++ === 0) throw new Error(`ended at ${at}`);
      },
    };
    const store = await open(written.path, ending);
    await removeAll(store);
    await assert.rejects(store.erase({ tenant: 't', prefix: PREFIX }));
    await store.close();
    const again = await open(written.path);
    await removeAll(again); // as the next start does
    await again.erase({ tenant: 't', prefix: PREFIX });
    await again.close();
    await assertClean(written);
  });
