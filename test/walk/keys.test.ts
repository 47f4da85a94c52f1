// Keys over HTTP, on a real start with an edge elsewhere: made, restricted, rotated and revoked; who may do it to which; and what the
// audit log has of it.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { main } from '../../edge/cli.ts';
import { BlatamError, type Client, createClient, type KeyAsked, type NewKeyAnswer } from '../../edge/client.ts';
import { adminKey, type Blatam, call, codeOf, type KeyFile, startBlatam, tensorFile } from '../support/blatam.ts';
import { folder } from '../support/folders.ts';

const INTERNAL_SECRET = randomBytes(32).toString('base64');
const ALL = ['tensors:read', 'tensors:write', 'kv:read', 'kv:write', 'cache:admin', 'keys:admin'] as const;
const file = tensorFile(100);

let blatam: Blatam;
let far: Blatam;
let root: KeyFile;
let operator: Client;
before(async () => {
  blatam = await startBlatam({ environment: { INTERNAL_SECRET } });
  far = await startBlatam({ environment: { INTERNAL_SECRET, CORE_URLS: blatam.core, EDGE_KEY_SECONDS: '1' } });
  root = adminKey(blatam.dataDir);
  operator = as(root);
});
after(async () => {
  await far?.stop();
  await blatam?.stop();
});

const as = (key: KeyFile, url = blatam.edge): Client => createClient({ url, keyid: key.keyid, secret: key.secret });
const make = (asked: Partial<KeyAsked>, by: Client = operator): Promise<NewKeyAnswer> =>
  by.keys.create({ scopes: [...ALL], ...asked });
const refused = (attempt: Promise<unknown>, code: string) =>
  assert.rejects(attempt, (thrown) => {
    assert.ok(thrown instanceof BlatamError, String(thrown));
    assert.equal(thrown.code, code, thrown.message);
    return true;
  });

test('a key is made with less than its maker has, and its secret is told once', async () => {
  const made = await make({ name: 'reader', scopes: ['tensors:read'], ttl: 3600 });
  assert.equal(Buffer.from(made.secret, 'base64').length, 32);
  assert.ok(Math.abs(Date.parse(made.expiresAt ?? '') - Date.now() - 3_600_000) < 60_000);
  assert.deepEqual((await as(made).list()).entries, []);
  await refused(as(made).put('a', file), 'scope_missing');
  await refused(as(made).keys.create({ scopes: ['tensors:read'] }), 'scope_missing');
  for await (const listed of operator.keys.list()) assert.ok(!('secret' in listed));
  const answer = await call(root, 'GET', `${blatam.edge}/v1/keys`);
  assert.ok(!(await answer.text()).includes(made.secret));
});

test('nobody grants more than they have: scopes, tenants, life, restrictions', async () => {
  const limited = await make({ scopes: ['tensors:read', 'keys:admin'], ttl: 3600, restrictions: { prefixes: ['a/'] } });
  const by = as(limited);
  await refused(make({ scopes: ['tensors:write'] }, by), 'grant_exceeded');
  await refused(make({ scopes: ['operator'] }, by), 'grant_exceeded');
  await refused(make({ scopes: ['tensors:read'], tenant: 'elsewhere' }, by), 'grant_exceeded');
  await refused(make({ scopes: ['tensors:read'], ttl: 7200 }, by), 'grant_exceeded');
  await refused(make({ scopes: ['tensors:read'], restrictions: { prefixes: ['b/'] } }, by), 'grant_exceeded');
  const child = await make({ scopes: ['tensors:read'] }, by);
  assert.deepEqual(child.restrictions, { prefixes: ['a/'] });
  assert.equal(child.expiresAt, limited.expiresAt);
});

test('a key of a tenant sees and changes keys of that tenant alone, and none that may more', async () => {
  const one = await make({ tenant: 'one' });
  const two = await make({ tenant: 'two' });
  const weak = await make({ scopes: ['keys:admin'] }, as(one));
  const seen: string[] = [];
  for await (const { tenant } of as(one).keys.list()) seen.push(tenant);
  assert.deepEqual(seen, ['one', 'one']);
  for await (const key of as(one).keys.list({ tenant: 'two' })) assert.fail(key.keyid);
  for (const keyid of [two.keyid, root.keyid, 'none']) {
    assert.equal(await as(one).keys.revoke(keyid), false);
    assert.equal(await as(one).keys.rotate(keyid), undefined);
  }
  await refused(as(weak).keys.rotate(one.keyid), 'grant_exceeded');
  await refused(as(weak).keys.revoke(one.keyid), 'grant_exceeded');
  assert.ok((await as(one).put('same', file)).created);
  assert.equal(await as(two).get('same'), undefined);
});

test('restrictions hold on every call that names a tensor or a model', async () => {
  const restrictions = { prefixes: ['mine/'], models: ['m'] };
  const key = await make({ restrictions });
  const client = as(key);
  const post = async (path: string, said: unknown) =>
    codeOf(
      await call(key, 'POST', `${blatam.edge}/v1/${path}`, {
        body: Buffer.from(JSON.stringify(said)),
        headers: { 'content-type': 'application/json' },
      }),
    );
  assert.ok((await client.put('mine/a', file)).created);
  assert.ok(await client.get('mine/a'));
  assert.equal((await client.list({ prefix: 'mine/' })).entries.length, 1);
  for (const attempt of [
    () => client.put('others/a', file),
    () => client.get('others/a'),
    () => client.head('min'),
    () => client.delete('others/a'),
    () => client.list(),
    () => client.list({ prefix: 'm' }),
    () => client.getMany(['mine/a', 'others/a']),
    () => client.putMany([{ key: 'others/a', file }]),
  ])
    await assert.rejects(attempt, (thrown) => thrown instanceof BlatamError && thrown.status === 403, String(attempt));
  const claim = '0'.repeat(32);
  for (const [path, said] of [
    ['tensors:claim', { key: 'others/a' }],
    ['tensors:renew', { key: 'others/a', claim }],
    ['tensors:release', { key: 'others/a', claim }],
    ['tensors:move', { key: 'others/a', adapter: 'adapter-0' }],
    ['tensors:move', { prefix: '', adapter: 'adapter-0' }],
    ['kv/clear', {}],
    ['kv/unpin', { pin: 'x' }],
    ...['load', 'lookup', 'unpin', 'recode', 'prefetch'].map(
      (name) => [`kv/${name}`, { model: 'n', tokens: [1] }] as const,
    ),
    ['kv/pin', { model: 'n', tokens: [1], ttl: 1 }],
    ['kv/move', { model: 'n', tokens: [1], tier: 'cold' }],
  ] as const)
    assert.equal(await post(path, said), 'key_restricted', `${path} ${JSON.stringify(said)}`);
  for (const path of ['kv/store?model=n', 'kv/attention?model=n&layer=0'])
    assert.equal(await codeOf(await call(key, 'POST', `${blatam.edge}/v1/${path}`)), 'key_restricted', path);
  assert.equal(await codeOf(await call(key, 'GET', `${blatam.edge}/v1/kv/events`)), 'key_restricted');
  assert.equal(await post('kv/lookup', { model: 'm', tokens: [1] }), '');
  // An edge elsewhere says so to the core.
  await refused(as(key, far.edge).put('others/a', file), 'key_restricted');
});

test('a key for other addresses is let in nowhere: edge, core, an edge elsewhere', async () => {
  const there = await make({ restrictions: { addresses: ['10.0.0.0/8'] } });
  const here = await make({ restrictions: { addresses: ['127.0.0.0/8', '::1'] } });
  for (const url of [blatam.edge, blatam.core, far.edge]) {
    assert.equal(await codeOf(await call(there, 'GET', `${url}/v1/tensors`)), 'address_refused', url);
    assert.equal((await call(here, 'GET', `${url}/v1/tensors`)).status, 200, url);
  }
});

test('a rotated key has two secrets for the overlap, then one', async () => {
  const key = await make({});
  await as(key).list();
  const rotated = (await operator.keys.rotate(key.keyid, 3600)) ?? assert.fail();
  assert.notEqual(rotated.secret, key.secret);
  await as(key).list();
  await as(rotated).list();
  const again = (await operator.keys.rotate(key.keyid, 0)) ?? assert.fail();
  for (const old of [key, rotated]) await refused(as(old).list(), 'signature_invalid');
  await as(again).list();
});

test('a revoked key is refused at once here, and elsewhere within its cache age', async () => {
  const key = await make({});
  await as(key).list();
  await as(key, far.edge).list();
  assert.equal(await operator.keys.revoke(key.keyid), true);
  assert.equal(await operator.keys.revoke(key.keyid), false);
  await refused(as(key).list(), 'signature_invalid');
  await refused(as(key, blatam.core).list(), 'signature_invalid');
  const asked = performance.now();
  for (;;) {
    const began = performance.now();
    const code = await codeOf(await call(key, 'GET', `${far.edge}/v1/tensors`));
    if (code === 'signature_invalid') break;
    assert.ok(began - asked < 1000, 'EDGE_KEY_SECONDS=1');
    await sleep(50);
  }
});

test('an expired key is refused to the second, though it is kept for longer', async () => {
  const key = await make({ ttl: 1 });
  const until = Date.parse(key.expiresAt ?? '');
  for (;;) {
    const began = Date.now();
    const code = await codeOf(await call(key, 'GET', `${blatam.edge}/v1/tensors`));
    if (code === 'signature_invalid') break;
    assert.ok(began < until);
    await sleep(20);
  }
  assert.ok(Date.now() >= until);
});

test('the audit log has every change, every administrative act and who was refused; a tenant sees its own', async () => {
  const own = await make({ tenant: 'watched' });
  const { after: begin } = await lastOf(operator);
  const child = await make({ name: 'child' }, as(own));
  await as(own).keys.rotate(child.keyid, 5);
  await as(own).keys.revoke(child.keyid);
  await as(own).cache.setPolicy({ strategy: 'adaptive' });
  const weak = await make({ scopes: ['tensors:read'] }, as(own));
  await refused(as(weak).put('x', file), 'scope_missing');
  await refused(as({ keyid: 'nobody', secret: own.secret }).list(), 'signature_invalid');
  await blatam.kill('SIGTERM'); // what is left of a window is written at the end
  const next = await startBlatam({ dataDir: blatam.dataDir, environment: { INTERNAL_SECRET } });
  await far.stop();
  blatam = next;
  far = await startBlatam({ environment: { INTERNAL_SECRET, CORE_URLS: next.core, EDGE_KEY_SECONDS: '1' } });
  const { entries } = await as(own).keys.audit({ limit: 1000 });
  assert.ok(entries.every(({ tenant }) => tenant === 'watched'));
  const acts = entries.filter(({ id }) => id > begin).map(({ actor, action, subject }) => [actor, action, subject]);
  assert.deepEqual(acts.slice(0, 5), [
    [own.keyid, 'key.created', child.keyid],
    [own.keyid, 'key.rotated', child.keyid],
    [own.keyid, 'key.revoked', child.keyid],
    [own.keyid, 'policy', 'PUT /v1/cache/policy'],
    [own.keyid, 'key.created', weak.keyid],
  ]);
  assert.deepEqual(acts.slice(5), [[weak.keyid, 'refused', 'PUT /v1/tensors/x']]);
  const all = await as(root).keys.audit({ after: begin, limit: 1000 });
  assert.ok(all.entries.some(({ actor, detail }) => actor === 'unknown' && detail.code === 'signature_invalid'));
  assert.ok(!JSON.stringify(all).includes(own.secret));
});

test('an edge elsewhere tells the core whom it refused', async () => {
  const { after } = await lastOf(as(root));
  await refused(as({ keyid: 'stranger', secret: root.secret }, far.edge).list(), 'signature_invalid');
  await far.stop();
  const { entries } = await as(root).keys.audit({ after, limit: 1000 });
  assert.ok(entries.some(({ actor, action }) => actor === 'unknown' && action === 'refused'));
});

test('the command line makes a key file, lists, rotates, revokes and reads the log', async (t) => {
  const place = folder(t);
  const out = join(place, 'reader.json');
  const env = { DATA_DIR: blatam.dataDir, BLATAM_URL: blatam.edge };
  const run = async (line: string) => {
    let [said, told] = ['', ''];
    const stdout = {
      write(text: string) {
        said += text;
        return true;
      },
    };
    const stderr = {
      write(text: string) {
        told += text;
      },
    };
    const io = {
      env,
      stdin: [],
      stdout,
      stderr,
      signal: new AbortController().signal,
    };
    const code = await main(line.split(' '), io as unknown as Parameters<typeof main>[1]);
    return { code, said, told };
  };
  const made = await run(`keys create reader --scopes tensors:read --prefixes a/,b/ --ttl 60 --out ${out}`);
  assert.deepEqual([made.code, made.told], [0, '']);
  assert.equal(statSync(out).mode & 0o777, 0o600);
  const key = JSON.parse(readFileSync(out, 'utf8')) as KeyFile;
  assert.equal((await as(key).list({ prefix: 'a/' })).entries.length, 0);
  assert.match((await run('keys list')).said, new RegExp(`^${key.keyid} .*reader .*prefixes a/,b/.* works$`, 'm'));
  assert.match((await run(`keys create again --scopes tensors:read --out ${out}`)).told, /exists/);
  assert.match((await run('keys create bad --scopes nothing')).told, /--scopes: /);
  const rotated = await run(`keys rotate ${key.keyid} --overlap 0`);
  const { secret } = JSON.parse(rotated.said) as KeyFile;
  await as({ ...key, secret }).list({ prefix: 'a/' });
  assert.equal((await run(`keys revoke ${key.keyid}`)).code, 0);
  assert.equal((await run(`keys revoke ${key.keyid}`)).code, 4);
  assert.match((await run('audit')).said, new RegExp(`key\\.revoked ${key.keyid}`));
});

async function lastOf(client: Client) {
  for (let after = 0; ; ) {
    const page = await client.keys.audit({ after, limit: 1000 });
    if (page.entries.length === 0) return page;
    after = page.after;
  }
}
