// Who may use which function (OWASP API5), and whose objects (API1; more in tenants.test.ts and keys.test.ts): each route of the core, as its
// sources have it, refuses whoever lacks its scope and names that, at the edge and at the core; what is for edges alone is for nobody else.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { CALLER_HEADER, encodeCaller } from '../../core/contract/internal.ts';
import { SCOPES } from '../../core/contract/keys.ts';
import { createClient } from '../../edge/client.ts';
import { adminKey, type Blatam, call, codeOf, type KeyFile, ROOT, startBlatam, tensorFile } from '../support/blatam.ts';

type Scope = (typeof SCOPES)[number];

/** The scope of each route; of a batch, by what it is. */
const WANTED: Readonly<Record<string, Scope | 'internal'>> = {
  'get /v1/tensors': 'tensors:read',
  'get /v1/tensors/:key{.+}': 'tensors:read',
  'put /v1/tensors/:key{.+}': 'tensors:write',
  'delete /v1/tensors/:key{.+}': 'tensors:write',
  'post /v1/tensors:batch': 'tensors:read',
  'post /v1/tensors:claim': 'tensors:write',
  'post /v1/tensors:renew': 'tensors:write',
  'post /v1/tensors:release': 'tensors:write',
  'post /v1/tensors:move': 'cache:admin',
  'post /v1/kv/store': 'kv:write',
  'post /v1/kv/load': 'kv:read',
  'post /v1/kv/attention': 'kv:read',
  'post /v1/kv/lookup': 'kv:read',
  'post /v1/kv/pin': 'kv:write',
  'post /v1/kv/unpin': 'kv:write',
  'post /v1/kv/clear': 'kv:write',
  'post /v1/kv/recode': 'kv:write',
  'post /v1/kv/move': 'cache:admin',
  'post /v1/kv/prefetch': 'kv:read',
  'get /v1/kv/events': 'kv:read',
  'get /v1/cache/stats': 'tensors:read',
  'get /v1/cache/policy': 'tensors:read',
  'put /v1/cache/policy': 'cache:admin',
  'post /v1/cache/check': 'cache:admin',
  'get /v1/adapters': 'tensors:read',
  'post /v1/adapters/:id/drain': 'cache:admin',
  'post /v1/adapters/:id/resume': 'cache:admin',
  'post /v1/adapters/:id/restart': 'cache:admin',
  'post /v1/keys': 'keys:admin',
  'get /v1/keys': 'keys:admin',
  'post /v1/keys/:keyid/rotate': 'keys:admin',
  'delete /v1/keys/:keyid': 'keys:admin',
  'get /v1/audit': 'keys:admin',
  'post /v1/backups': 'backups:admin',
  'get /v1/backups': 'backups:admin',
  'get /v1/backups/:id': 'backups:admin',
  'get /v1/backups/:id/events': 'backups:admin',
  'post /v1/backups/:id/verify': 'backups:admin',
  'post /v1/backups/:id/drill': 'backups:admin',
  'post /v1/backups/:id/restore': 'operator',
  'post /v1/erasures': 'cache:admin',
  'get /v1/erasures/key': 'cache:admin',
  'get /v1/erasures/:id': 'cache:admin',
  'get /v1/internal/keys/:keyid': 'internal',
  'post /v1/internal/refusals': 'internal',
  'get /v1/internal/changes': 'internal',
};

/** As the sources of the core have them. */
function routes(): string[] {
  const folder = join(ROOT, 'core');
  const sources = readdirSync(folder).filter((name) => /^server\.ts$|-routes\.ts$/.test(name));
  const texts = sources.map((name) => readFileSync(join(folder, name), 'utf8')).join('\n');
  return [...texts.matchAll(/\bapp\.(get|put|post|delete)\(\s*'(\/v1\/[^']+)'/g)].map(
    ([, how, path]) => `${how} ${path}`,
  );
}

let blatam: Blatam;
let root: KeyFile;
const without = new Map<string, KeyFile>();
before(async () => {
  blatam = await startBlatam();
  root = adminKey(blatam.dataDir);
  const { keys } = createClient({ url: blatam.edge, ...root });
  for (const scope of SCOPES)
    without.set(scope, await keys.create({ scopes: SCOPES.filter((each) => each !== scope), tenant: 'all-but-one' }));
});
after(() => blatam?.stop());

const pathOf = (route: string): string =>
  (route.split(' ')[1] ?? '').replace(/(?<=\/):[a-z]+(\{.+\})?(?=\/|$)/g, 'none');
const methodOf = (route: string): string => (route.split(' ')[0] ?? '').toUpperCase();

async function refusalOf(key: KeyFile, base: string, route: string) {
  const answer = await call(key, methodOf(route), base + pathOf(route));
  const { code, scope } = (await answer.json()) as Record<string, unknown>;
  return [answer.status, code, scope];
}

test('the table has every route that the core has', () => {
  assert.deepEqual(routes().sort(), Object.keys(WANTED).sort());
});

for (const [route, scope] of Object.entries(WANTED))
  test(`${route} is for ${scope}`, async () => {
    if (scope === 'internal') {
      assert.deepEqual(await refusalOf(root, blatam.edge, route), [404, 'route_unknown', undefined]);
      return assert.deepEqual(await refusalOf(root, blatam.core, route), [403, 'scope_missing', scope]);
    }
    const lacking = without.get(scope) ?? assert.fail();
    for (const base of [blatam.edge, blatam.core])
      assert.deepEqual(await refusalOf(lacking, base, route), [403, 'scope_missing', scope]);
    const unsigned = await fetch(blatam.edge + pathOf(route), { method: methodOf(route) });
    assert.deepEqual([unsigned.status, await codeOf(unsigned)], [401, 'signature_missing']);
  });

test('a batch that puts is for tensors:write', async () => {
  const headers = { 'content-type': 'application/vnd.blatam.batch' };
  const lacking = without.get('tensors:write') ?? assert.fail();
  const answer = await call(lacking, 'POST', `${blatam.edge}/v1/tensors:batch`, { headers, body: new Uint8Array(8) });
  assert.equal(await codeOf(answer), 'scope_missing');
});

test('nobody says who they are but by their key: a header of edges is not heard from others', async () => {
  const { keys } = createClient({ url: blatam.edge, ...root });
  const own = await keys.create({ scopes: ['tensors:read', 'tensors:write'], tenant: 'own' });
  const said = encodeCaller({ keyid: root.keyid, tenant: 'default', scopes: [...SCOPES] });
  for (const base of [blatam.edge, blatam.core]) {
    const headers = { [CALLER_HEADER]: said };
    assert.equal(await codeOf(await call(own, 'GET', `${base}/v1/keys`, { headers })), 'scope_missing');
    assert.equal((await call(own, 'PUT', `${base}/v1/tensors/mine`, { headers, body: tensorFile(10) })).ok, true);
  }
  assert.equal((await call(own, 'GET', `${blatam.edge}/v1/tensors/mine`)).status, 200);
  assert.equal((await call(root, 'GET', `${blatam.edge}/v1/tensors/mine`)).status, 404);
});

test('a tenant may have any name that there can be, and is only itself', async () => {
  const { keys } = createClient({ url: blatam.edge, ...root });
  for (const tenant of ['constructor', 'toString', 'hasOwnProperty', '0']) {
    const client = createClient({
      url: blatam.edge,
      ...(await keys.create({ scopes: ['tensors:read', 'tensors:write'], tenant })),
    });
    assert.deepEqual((await client.list()).entries, []);
    assert.ok((await client.put('x', tensorFile(10))).created);
    assert.equal((await client.list()).entries.length, 1);
    await client.stats();
  }
});
