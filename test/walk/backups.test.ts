// Backups over HTTP, against a real start with its database: made while writing goes on, followed, read again, and put in the place
// of a store that is damaged meanwhile; tenants and keys come back, and a key that was revoked does not.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { openDatabase } from '../../db/client.ts';
import { audit, keys, tenants } from '../../db/schema.ts';
import {
  adminKey,
  type Blatam,
  call,
  codeOf,
  type KeyFile,
  startBlatam,
  temporaryFolder,
  tensorFile,
} from '../support/blatam.ts';
import { assertSameBytes } from '../support/bytes.ts';
import { seeded } from '../support/seeded.ts';
import { keysOf } from '../support/tenants.ts';

const random = seeded();
const ENVIRONMENT = {
  GPU_ADAPTERS: 'swiftshader',
  BACKUP_KEEP: '50',
  BACKUP_EVERY_HOURS: '0',
  BACKUP_DRILL_EVERY_HOURS: '0',
};
let blatam: Blatam;
let admin: KeyFile;
let other: KeyFile;

before(async () => {
  const dataDir = temporaryFolder();
  const [made] = await keysOf(dataDir, 'acme');
  blatam = await startBlatam({ dataDir, environment: ENVIRONMENT });
  admin = adminKey(dataDir);
  other = made ?? assert.fail('no key');
});
after(() => blatam.stop());

const ask = (method: string, path: string, o: Parameters<typeof call>[3] = {}, key = admin) =>
  call(key, method, `${blatam.edge}${path}`, o);

interface Told {
  readonly id: string;
  readonly state: string;
  readonly entries: number;
  readonly copied: { files: number; bytes: number } | null;
  readonly faults: string[];
  readonly job: { kind: string; state: string; result: Record<string, unknown> | null } | null;
}

async function done(path: string, method = 'POST'): Promise<Told> {
  const answer = await ask(method, path);
  assert.equal(answer.status, 200, await answer.clone().text());
  return (await answer.json()) as Told;
}

/** What a key holds, of both tenants. */
type Model = Map<string, { file: Uint8Array; key: KeyFile }>;

async function put(model: Model, name: string, bytes: number, key = admin): Promise<void> {
  const file = tensorFile(bytes);
  const answer = await ask('PUT', `/v1/tensors/${name}`, { body: file }, key);
  assert.ok(answer.ok, await answer.text());
  model.set(name, { file, key });
}

async function assertHolds(model: Model): Promise<void> {
  for (const key of [admin, other]) {
    const { entries } = (await (await ask('GET', '/v1/tensors?limit=1000', {}, key)).json()) as {
      entries: { key: string }[];
    };
    const mine = [...model].filter(([, held]) => held.key === key).map(([name]) => name);
    assert.deepEqual(entries.map((entry) => entry.key).sort(), mine.sort());
  }
  for (const [name, { file, key }] of model) {
    const answer = await ask('GET', `/v1/tensors/${name}`, {}, key);
    assert.equal(answer.status, 200, `${name}: ${await answer.clone().text()}`);
    assertSameBytes(new Uint8Array(await answer.arrayBuffer()), file, name);
  }
  const check = (await (await ask('POST', '/v1/cache/check')).json()) as { ok: boolean; faults: string[] };
  assert.deepEqual(check, { ok: true, faults: [] });
}

const filesBelow = (path: string): string[] =>
  readdirSync(path, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));

const model: Model = new Map();
let first = '';

test('a backup of nothing is refused, and so is one without the scope', async (t) => {
  t.diagnostic(`SEED=${random.seed}`);
  const empty = await ask('POST', '/v1/backups');
  assert.deepEqual([empty.status, await codeOf(empty)], [422, 'backup_empty']);
  const refused = await ask('POST', '/v1/backups', {}, other);
  assert.deepEqual([refused.status, await codeOf(refused)], [403, 'scope_missing']);
  assert.deepEqual(await (await ask('GET', '/v1/backups')).json(), { backups: [] });
  for (const path of ['/v1/backups/cache_20260101T000000Z', '/v1/backups/..%2Fcache'])
    assert.equal((await ask('GET', path)).status, 404);
});

test('a backup is made, followed by its events, and listed', async () => {
  for (let i = 0; i < 12; i++) await put(model, `a/${i}`, random.pick([100, 5000, 200_000]), i % 3 ? admin : other);
  const answer = await ask('POST', '/v1/backups');
  assert.equal(answer.status, 202);
  first = ((await answer.json()) as Told).id;
  assert.match(first, /^cache_\d{8}T\d{6}Z$/);
  const events = await (await ask('GET', `/v1/backups/${first}/events`)).text();
  assert.match(events, /event: done\ndata: \{[^\n]*"result":\{"entries":12,/);
  const told = await done(`/v1/backups/${first}`, 'GET');
  assert.deepEqual([told.state, told.entries, told.job?.state], ['whole', 12, 'done']);
  const folder = join(blatam.dataDir, 'backups', first);
  assert.ok(readFileSync(join(folder, 'rows/keys.jsonl'), 'utf8').includes(`"${other.keyid}"`));
  for (const file of filesBelow(folder))
    assert.ok(!readFileSync(file).includes(readFileSync(join(blatam.dataDir, 'master.key'))), file);
});

test('verify reads it, and the next one copies only what is new', async () => {
  const verified = await done(`/v1/backups/${first}/verify?wait=true`);
  assert.deepEqual(verified.job?.result, { ok: true, faults: [] });
  const more: Model = new Map(model);
  await put(more, 'a/more', 300_000);
  const second = await done('/v1/backups?wait=true');
  assert.ok((second.copied?.files ?? 99) <= 3, JSON.stringify(second.copied));
  assert.equal((await ask('DELETE', '/v1/tensors/a/more')).status, 204);
});

test('a drill restores it on trial', async () => {
  const told = await done(`/v1/backups/${first}/drill?wait=true`);
  assert.equal(told.job?.result?.entries, 12);
  const metrics = await (await fetch(`${blatam.core}/metrics`)).text();
  assert.match(metrics, /^blatam_backup_drill_failed 0$/m);
  assert.match(metrics, /^blatam_backups 2$/m);
});

test('restored while it runs, everything is byte for byte what it was, though the live store is damaged', async () => {
  const since: Model = new Map(model);
  await put(since, 'a/0', 4000, other);
  await put(since, 'later', 100_000);
  await ask('DELETE', '/v1/tensors/a/1');
  await ask('PUT', '/v1/tensors/memory-only?durability=none', { body: tensorFile(1000) });
  for (const file of filesBelow(join(blatam.dataDir, 'cache/entries'))) writeFileSync(file, 'damage');
  let isOver = false;
  const statuses = new Set<number>();
  const writing = (async () => {
    for (let i = 0; !isOver; i++) {
      const answer = await ask('PUT', `/v1/tensors/meanwhile/${i % 5}`, { body: tensorFile(2000) });
      statuses.add(answer.status);
      if (answer.status === 503) assert.equal(await codeOf(answer), 'restoring');
      if (answer.status === 503) assert.ok(Number(answer.headers.get('retry-after')) > 0);
    }
  })();
  const told = await done(`/v1/backups/${first}/restore?wait=true&safety=false`);
  isOver = true;
  await writing;
  assert.equal(told.job?.result?.entries, 12);
  assert.ok(
    [...statuses].every((status) => [200, 201, 503].includes(status)),
    `${[...statuses]}`,
  );
  for (let i = 0; i < 5; i++) await ask('DELETE', `/v1/tensors/meanwhile/${i}`);
  await assertHolds(model);
});

test('before a restore, what is there is backed up, and can be restored in its turn', async () => {
  const now: Model = new Map(model);
  await put(now, 'newest', 70_000);
  const told = await done(`/v1/backups/${first}/restore?wait=true`);
  await assertHolds(model);
  const safety = String(told.job?.result?.safety);
  await done(`/v1/backups/${safety}/restore?wait=true`);
  await assertHolds(now);
  await done(`/v1/backups/${first}/restore?wait=true`);
});

test('a second thing at a time is refused', async () => {
  const [one, two] = await Promise.all([ask('POST', '/v1/backups?wait=true'), ask('POST', '/v1/backups?wait=true')]);
  const codes = await Promise.all([one, two].map(async (answer) => (answer.ok ? 'ok' : codeOf(answer))));
  assert.deepEqual(codes.sort(), ['backup_busy', 'ok']);
});

test('a damaged backup is found, told, and not restored', async () => {
  const { id } = await done('/v1/backups?wait=true');
  const file = filesBelow(join(blatam.dataDir, 'backups', id)).find((path) => path.endsWith('audit.jsonl'));
  writeFileSync(file ?? assert.fail('no rows'), 'changed');
  const told = await done(`/v1/backups/${id}/verify?wait=true`);
  assert.deepEqual([told.state, told.job?.result?.ok], ['damaged', false]);
  assert.match(told.faults[0] ?? '', /audit\.jsonl/);
  const pack = filesBelow(join(blatam.dataDir, 'backups', id)).find((path) => path.includes('/packs/'));
  writeFileSync(pack ?? assert.fail('no pack'), 'changed');
  const refused = await ask('POST', `/v1/backups/${id}/restore?wait=true`);
  assert.deepEqual([refused.status, await codeOf(refused)], [409, 'backup_damaged']);
  const drilled = await ask('POST', `/v1/backups/${id}/drill?wait=true`);
  assert.equal(drilled.status, 409);
  assert.match(await (await fetch(`${blatam.core}/metrics`)).text(), /^blatam_backup_drill_failed 1$/m);
  const ready = (await (await fetch(`${blatam.core}/readyz`)).json()) as { ready: boolean; checks: object };
  assert.ok(ready.ready);
  assert.match(JSON.stringify(ready.checks), /ALARM: a drill failed/);
  await assertHolds(model);
});

test('after a restart it is the restored state, and what was done stands in the audit log', async () => {
  await blatam.kill('SIGKILL');
  blatam = await startBlatam({ dataDir: blatam.dataDir, environment: ENVIRONMENT });
  await assertHolds(model);
  await blatam.kill('SIGTERM');
  const database = await openDatabase({ dataDir: blatam.dataDir, log: () => {} });
  const lines = await database.query.select().from(audit);
  for (const action of [
    'backup.created',
    'backup.verified',
    'backup.drilled',
    'backup.restored',
    'backup.drill.failed',
  ])
    assert.ok(
      lines.some((line) => line.action === action && line.actor === admin.keyid),
      action,
    );
  // What is gone of tenants and keys comes back with a restore.
  await database.query.delete(keys);
  await database.query.delete(tenants);
  await database.close();
});

test('tenants and keys that are gone come back with a restore', async () => {
  blatam = await startBlatam({ dataDir: blatam.dataDir, environment: ENVIRONMENT });
  assert.equal(await codeOf(await ask('GET', '/v1/tensors', {}, other)), 'signature_invalid');
  const told = await done(`/v1/backups/${first}/restore?wait=true`);
  assert.deepEqual(told.job?.result?.rows, { tenants: 1, keys: 1 });
  const isKnown = async () => (await ask('GET', '/v1/tensors', {}, other)).status === 200; // that it was not is kept for seconds
  for (let i = 0; !(await isKnown()); i++) {
    assert.ok(i < 600, 'the key is not found again');
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  await assertHolds(model);
});
