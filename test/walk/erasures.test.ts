// An erasure over HTTP, from a real server: afterwards no file below DATA_DIR holds the names or the bytes, backups and PostgreSQL's
// files included; what others have, and what else the tenant has, is as it was; the receipt verifies, and a changed one does
// not; a server that is killed in the middle finishes at its next start.
import assert from 'node:assert/strict';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { isGenuine, type SignedReceipt } from '../../core/contract/erasure.ts';
import { type Dtype, joinParts, tensorParts } from '../../core/contract/tensors.ts';
import { verifyBackup } from '../../core/store/backup.ts';
import { main } from '../../edge/cli.ts';
import { BlatamError, type Client, createClient } from '../../edge/client.ts';
import { adminKey, type Blatam, call, type KeyFile, startBlatam, temporaryFolder } from '../support/blatam.ts';
import { commandIo } from '../support/command-io.ts';
import { seeded } from '../support/seeded.ts';
import { keysOf } from '../support/tenants.ts';
import { tracesIn } from '../support/traces.ts';

const random = seeded();
const dataDir = temporaryFolder();
const PREFIX = 'secret/alice/';

let blatam: Blatam;
let backup: string;
let acmeKey: KeyFile;
let otherKey: KeyFile;

const start = () => startBlatam({ dataDir, environment: { BACKUP_EVERY_HOURS: '0', BACKUP_DRILL_EVERY_HOURS: '0' } });
const clientOf = (key: KeyFile): Client => createClient({ url: blatam.edge, ...key });
const admin = () => clientOf(adminKey(dataDir));

/** A safetensors file of so many random bytes, and some of them that are nowhere else. */
function file(bytes: number): { body: Uint8Array; trace: Uint8Array } {
  const data = random.bytes(bytes);
  const body = joinParts(tensorParts([{ name: 'x', dtype: 'U8' as Dtype, shape: [bytes], data }]));
  return { body, trace: data.subarray(0, 48) };
}

const traces: Record<string, Uint8Array | string> = {};
const kept = new Map<string, Uint8Array>();

async function putSecret(client: Client, name: string, bytes: number): Promise<void> {
  const { body, trace } = file(bytes);
  traces[name] = `${PREFIX}${name}`;
  traces[`bytes of ${name}`] = trace;
  await client.put(`${PREFIX}${name}`, body);
}
async function putKept(client: Client, key: string, bytes: number): Promise<void> {
  const { body } = file(bytes);
  kept.set(key, body);
  await client.put(key, body);
}

before(async () => {
  [acmeKey, otherKey] = (await keysOf(dataDir, 'acme', 'other')) as [KeyFile, KeyFile];
  blatam = await start();
  const acme = clientOf(acmeKey);
  for (let i = 0; i < 20; i++) await putSecret(acme, `small-${i}`, 300 + i);
  await putSecret(acme, 'large', 300_000);
  await putSecret(acme, 'deleted', 500);
  await acme.delete(`${PREFIX}deleted`);
  await putKept(acme, 'public/small', 400);
  await putKept(acme, 'public/large', 200_000);
  await putKept(clientOf(otherKey), `${PREFIX}same-name`, 400);
  delete traces['same-name'];
  const made = await call(adminKey(dataDir), 'POST', `${blatam.edge}/v1/backups?wait=true`);
  assert.ok(made.ok, await made.text());
  backup = join(dataDir, 'backups', readdirSync(join(dataDir, 'backups'))[0] ?? '');
  await blatam.kill('SIGTERM');
  cpSync(join(dataDir, 'cache'), join(dataDir, 'upgrade', 'before', 'cache'), { recursive: true });
  mkdirSync(join(dataDir, 'upgrade', 'after', 'cache', 'kv'), { recursive: true });
  blatam = await start();
});
after(() => blatam.stop());

/** The command line's surroundings, in which somebody types. */
const saying = (...typed: string[]) => ({
  ...commandIo(blatam),
  stdin: Readable.from(typed.map((line) => Buffer.from(line))),
});

const refusedAs = (code: string) => (thrown: unknown) => thrown instanceof BlatamError && thrown.code === code;

async function assertKept(): Promise<void> {
  for (const [key, body] of kept) {
    const client = clientOf(key.startsWith('public/') ? acmeKey : otherKey);
    const fetched = await client.get(key);
    assert.deepEqual(Buffer.from(await new Response(fetched?.stream).arrayBuffer()), Buffer.from(body), key);
  }
  const { ok, faults } = await verifyBackup(backup).then(
    () => ({ ok: true, faults: '' }),
    (error: Error) => ({ ok: false, faults: error.message }),
  );
  assert.ok(ok, faults);
}

test('what may not be erased is refused, and what is asked badly', async () => {
  const { erasures } = clientOf(acmeKey);
  await assert.rejects(erasures.begin({ tenant: 'acme' }), refusedAs('scope_missing'));
  await assert.rejects(erasures.begin({ tenant: 'other', prefix: 'x' }), refusedAs('scope_missing'));
  await assert.rejects(erasures.begin({}), refusedAs('body_malformed'));
  await assert.rejects(erasures.begin({ prefix: 'x', model: 'm' }), refusedAs('body_malformed'));
  await assert.rejects(erasures.find('0'.repeat(32)), refusedAs('erasure_unknown'));
  const { secret, keyid } = await admin().keys.create({
    ...{ name: 'narrow', scopes: ['cache:admin'], restrictions: { prefixes: ['public/'], models: ['m'] } },
    tenant: 'third',
  });
  const narrow = clientOf({ keyid, secret }).erasures;
  await assert.rejects(narrow.begin({ prefix: 'hidden/' }), refusedAs('key_restricted'));
  await assert.rejects(narrow.begin({ salt: 's' }), refusedAs('key_restricted'));
  const none = await narrow.begin({ prefix: 'public/none/' });
  assert.deepEqual([none.state, none.signed?.receipt.places['ways back']], ['done', { removed: 0 }]);
});

let receipt: SignedReceipt;

test('an erased prefix leaves nothing in any file, and all else as it was', async () => {
  assert.ok(tracesIn(dataDir, traces).length > 2 * 22, 'store and backup hold it');
  const { erasures } = clientOf(acmeKey);
  const { id, state, signed } = await erasures.begin({ prefix: PREFIX });
  assert.ok(signed);
  receipt = signed;
  const { places } = signed.receipt;
  assert.deepEqual([state, places.tensors?.tensors, places.backups?.entries], ['done', 21, 21]);
  assert.equal(places['ways back']?.removed, 1);
  assert.deepEqual(tracesIn(dataDir, traces), []);
  assert.deepEqual(readdirSync(join(dataDir, 'upgrade')), ['after'], 'what has nothing of the tenant stays');
  assert.deepEqual(readdirSync(join(dataDir, 'upgrade', 'after', 'cache')), [], 'but for KV, which does not tell');
  await assertKept();
  assert.deepEqual((await clientOf(acmeKey).list({ prefix: PREFIX })).entries, []);
  assert.deepEqual((await erasures.find(id)).signed, signed);
  assert.deepEqual((await admin().erasures.find(id)).signed, signed);
  await assert.rejects(clientOf(otherKey).erasures.find(id), refusedAs('erasure_unknown'));
});

test('a receipt verifies, and one that was changed does not', async () => {
  const { publicKey } = await admin().erasures.key();
  assert.equal(await isGenuine(receipt, publicKey), true);
  const changed = structuredClone(receipt);
  changed.receipt.by = 'somebody else';
  assert.equal(await isGenuine(changed), false);
  assert.equal(await isGenuine(receipt, `${publicKey.slice(0, -4)}AAA=`), false);
  assert.doesNotMatch(JSON.stringify(receipt), /alice/);
  const path = join(dataDir, 'receipts', `${receipt.receipt.id}.json`);
  const genuine = saying();
  assert.equal(await main(['erase', 'verify', path, '--public-key', publicKey], genuine), 0);
  assert.match(genuine.out(), /^genuine/);
  const copy = join(dataDir, 'receipts', 'changed.json');
  writeFileSync(copy, JSON.stringify(changed));
  const forged = saying();
  assert.equal(await main(['erase', 'verify', copy], forged), 1);
  assert.match(forged.err(), /NOT genuine/);
  rmSync(copy);
});

test('blatam erase asks first, and writes the receipt to a file', async () => {
  const declined = saying('no\n');
  assert.equal(await main(['erase', '--prefix', 'none/'], declined), 1);
  assert.match(declined.err(), /There is no way back\. Type erase: .*nothing was erased/);
  const out = join(dataDir, 'receipt.json');
  const agreed = saying('erase\n');
  assert.equal(await main(['erase', '--prefix', 'none/', '--out', out], agreed), 0);
  assert.match(agreed.out(), /^erased; the receipt is [0-9a-f]{32}/);
  assert.equal(await isGenuine(JSON.parse(readFileSync(out, 'utf8')) as SignedReceipt), true);
  assert.equal(await main(['erase'], saying()), 2);
});

test('a server that is killed while it erases finishes before it serves again', async () => {
  console.log(`SEED=${random.seed}`);
  for (let round = 0; round < 2; round++) {
    const acme = clientOf(acmeKey);
    for (let i = 0; i < 30; i++) await putSecret(acme, `round-${round}-${i}`, 400);
    const { id } = await acme.erasures.begin({ prefix: PREFIX }, { wait: false });
    await sleep(random.below(60));
    await blatam.kill('SIGKILL');
    assert.ok(
      existsSync(join(dataDir, 'erasures', `${id}.json`)) || existsSync(join(dataDir, 'receipts', `${id}.json`)),
    );
    blatam = await start();
    const { state, signed } = await clientOf(acmeKey).erasures.find(id);
    assert.equal(state, 'done');
    assert.ok(signed && (await isGenuine(signed)));
    assert.deepEqual(tracesIn(dataDir, traces), []);
    assert.deepEqual(readdirSync(join(dataDir, 'erasures')), []);
    await assertKept();
  }
});

test('the KV of a model goes, that of another stays', async () => {
  const { kv, erasures } = clientOf(acmeKey);
  const tokens = Int32Array.from({ length: 128 }, () => random.below(30_000));
  const numbers = () => Float32Array.from({ length: 128 * 64 }, () => random.next());
  for (const model of ['goes', 'stays'])
    await kv.store({
      model,
      shape: { layers: 1, kvHeads: 1, dim: 64 },
      dtype: 'F32',
      tokens,
      k: numbers(),
      v: numbers(),
    });
  const { signed } = await erasures.begin({ model: 'goes' });
  assert.equal(signed?.receipt.places.kv?.blocks, 2);
  assert.deepEqual(signed?.receipt.places.disk, {});
  assert.equal((await kv.lookup({ model: 'goes', tokens })).matchedTokens, 0);
  assert.equal((await kv.lookup({ model: 'stays', tokens })).matchedTokens, 128);
});

test('a whole tenant goes with its keys, and the administrator stays', async () => {
  assert.equal(tracesIn(join(backup, 'rows'), { row: `"keyid":"${acmeKey.keyid}"` }).length, 1);
  const { signed } = await admin().erasures.begin({ tenant: 'acme' });
  assert.equal(signed?.receipt.places.kv?.blocks, 2);
  assert.deepEqual(signed?.receipt.places.database, { keys: 1, tenants: 1 });
  await assert.rejects(clientOf(acmeKey).list(), refusedAs('signature_invalid'));
  assert.deepEqual(tracesIn(join(backup, 'rows'), { row: `"keyid":"${acmeKey.keyid}"` }), []);
  for (const key of kept.keys()) if (key.startsWith('public/')) kept.delete(key);
  await assertKept();
  const own = await admin().erasures.begin({ tenant: 'default' });
  assert.deepEqual(own.signed?.receipt.places.database?.tenants, 0, 'the administrator has it');
  assert.equal((await admin().erasures.begin({ tenant: 'nobody' })).state, 'done');
});
