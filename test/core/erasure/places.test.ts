// Places of an erasure that are folders: what is ours there goes, what is somebody else's is not touched, and nothing of a tenant
// is brought back by what was waiting.
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { inBackups, inDatabase, inThePast } from '../../../core/erasure/places.ts';
import { realDisk } from '../../../core/store/disk.ts';
import { openStore } from '../../../core/store/store.ts';
import { folder } from '../../support/folders.ts';
import { putBytes } from '../../support/store.ts';

const WHOLE = { tenant: 't', whole: true };

function write(path: string, text = 'x'): string {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
  return path;
}

async function storeOf(path: string, tenant: string): Promise<void> {
  const store = await openStore(path, () => {});
  await putBytes(store, 'k', new Uint8Array(10), { tenant });
  await store.close();
}

test('what others have in the folder of backups stays, whatever it looks like', async (t) => {
  const backups = folder(t);
  const foreign = [
    ...['data/cache/metadata.json', 'data/entries/x', 'site/manifest.json', 'drill/notes.txt', 'old.outdated/cache/x'],
    ...['cache_2026/cache/x', 'cache_20261120T193000Z.tar'],
  ].map((path) => write(join(backups, path)));
  const unfinished = write(join(backups, 'cache_20261120T193000Z', 'cache', 'entries', 'x'));
  const done = await inBackups([backups, join(backups, 'none')], realDisk).erase(WHOLE);
  assert.equal(done.removed, 1);
  for (const path of foreign) assert.ok(existsSync(path), path);
  assert.ok(!existsSync(unfinished));
});

test('a drill that was cut leaves nothing, however far it was', async (t) => {
  const backups = folder(t);
  for (const part of ['cache', 'cache.restoring']) {
    write(join(backups, 'drill', part, 'entries', 'packs', '000001.pack'));
    assert.equal((await inBackups([backups], realDisk).erase(WHOLE)).removed, 1, part);
    assert.deepEqual(readdirSync(backups), []);
  }
});

test('what a restore has put aside goes if it has anything of the tenant', async (t) => {
  const dataDir = folder(t);
  await storeOf(join(dataDir, 'cache.replaced_20261120T193000Z'), 't');
  await storeOf(join(dataDir, 'cache.replaced_20261120T193001Z'), 'other');
  write(join(dataDir, 'cache.replaced_20261120T193002Z', 'heat.json'), '[["t","k"]]');
  await storeOf(join(dataDir, 'cache.before'), 'other');
  await storeOf(join(dataDir, 'cache'), 't');
  const done = await inThePast(dataDir, realDisk).erase({ tenant: 't', whole: false, prefix: 'k' });
  assert.deepEqual(done, { removed: 3 });
  assert.deepEqual(readdirSync(dataDir), ['cache', 'cache.replaced_20261120T193001Z']);
});

test('rows of a restored backup that wait for the next start do not bring a tenant back', async (t) => {
  const dataDir = folder(t);
  const rows = join(dataDir, 'cache', 'restored');
  const keys = write(join(rows, 'keys.jsonl'), '{"keyid":"a","tenant":"t"}\n{"keyid":"b","tenant":"other"}\n');
  const tenants = write(join(rows, 'tenants.jsonl'), '{"id":"t"}\n');
  const place = inDatabase(async () => ({ keys: 0, tenants: 0 }), dataDir, realDisk);
  await place.erase({ tenant: 't', whole: false, prefix: '' });
  assert.match(readFileSync(tenants, 'utf8'), /"t"/);
  await place.erase(WHOLE);
  assert.equal(readFileSync(keys, 'utf8'), '{"keyid":"b","tenant":"other"}\n');
  assert.equal(readFileSync(tenants, 'utf8'), '');
});
