// An edge without a core beside it: the walk through a second process, forwarded over HTTP and signed anew, and what
// only the core behind can refuse.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import { nodeCrypto } from '../../core/contract/crypto-node.ts';
import { CALLER_HEADER, encodeCaller } from '../../core/contract/internal.ts';
import { signRequest } from '../../core/contract/signatures.ts';
import { createClient } from '../../edge/client.ts';
import {
  adminKey,
  type Blatam,
  call,
  codeOf,
  type KeyFile,
  signed,
  startBlatam,
  tensorFile,
} from '../support/blatam.ts';
import { edgeWalk } from '../support/edge-walk.ts';

const INTERNAL_SECRET = randomBytes(32).toString('base64');
let core: Blatam;
let edge: Blatam;
let alone: Blatam;
let key: KeyFile;

before(async () => {
  core = await startBlatam({ environment: { INTERNAL_SECRET } });
  edge = await startBlatam({ environment: { INTERNAL_SECRET, CORE_URLS: core.core } });
  alone = await startBlatam({ environment: { INTERNAL_SECRET, CORE_URLS: 'http://127.0.0.1:9' } });
  key = adminKey(core.dataDir);
});
after(async () => {
  for (const started of [alone, edge, core]) await started?.stop();
});

edgeWalk(() => ({ edge: edge.edge, alone: alone.edge, core, key }));

test('nobody but an edge with the secret names a caller or asks for keys', async () => {
  const target = `${core.core}/v1/tensors`;
  const forged = await signed(key, 'GET', target);
  const said = encodeCaller({ keyid: 'x', tenant: 'other', scopes: ['internal'] });
  assert.equal(
    (await fetch(target, { headers: { ...forged, [CALLER_HEADER]: said } })).status,
    200,
    'as the key itself',
  );
  const secret = Buffer.from(INTERNAL_SECRET, 'base64');
  const uncovered = await signRequest({ method: 'GET', url: target, keyid: 'internal', secret }, nodeCrypto);
  const answer = await fetch(target, { headers: { ...uncovered, [CALLER_HEADER]: said } });
  assert.equal(await codeOf(answer), 'signature_incomplete');
  const keys = await call(key, 'GET', `${core.core}/v1/internal/keys/${key.keyid}`);
  assert.equal(await codeOf(keys), 'scope_missing');
});

test('batches and claims pass the edge; who waits and leaves it leaves the line behind it', async () => {
  const url = edge.edge;
  const client = createClient({ url, ...key });
  const files = [1, 2, 3].map((i) => ({ key: `elsewhere/${i}`, file: tensorFile(100 * i) }));
  for (const { stored } of await client.putMany(files)) assert.ok(stored?.created);
  const found = await client.getMany(files.map(({ key }) => key));
  assert.deepEqual(
    found.map(({ file }) => file),
    files.map(({ file }) => file),
  );

  const standing = async (name: string) => {
    const text = await (await fetch(`${core.core}/metrics`)).text();
    return Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(text)?.[1]);
  };
  const stands = async (name: string, count: number) => {
    for (const end = performance.now() + 20_000; performance.now() < end; )
      if ((await standing(name)) === count) return;
    assert.equal(await standing(name), count, name);
  };
  let give: (file: Uint8Array) => void = () => {};
  const owned = client.getOrCompute('elsewhere/once', () => new Promise((resolve) => (give = resolve)));
  await stands('blatam_claims', 1);
  const never = () => Promise.reject(new Error('it is computed once'));
  const leaves = new AbortController();
  const left = assert.rejects(
    createClient({ url, ...key }).getOrCompute('elsewhere/once', never, { signal: leaves.signal }),
    /enough/,
  );
  const waits = createClient({ url, ...key }).getOrCompute('elsewhere/once', never);
  await stands('blatam_claims_waiting', 2);
  leaves.abort(new Error('enough'));
  await left;
  await stands('blatam_claims_waiting', 1);
  const file = tensorFile(50);
  give(file);
  assert.deepEqual([await owned, await waits], [file, file]);
  await stands('blatam_claims', 0);
});
