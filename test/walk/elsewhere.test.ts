// What a core refuses who says that it is an edge elsewhere. The walk through such edges is in test/runtimes.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import { nodeCrypto } from '../../core/contract/crypto-node.ts';
import { CALLER_HEADER, encodeCaller } from '../../core/contract/internal.ts';
import { signRequest } from '../../core/contract/signatures.ts';
import { adminKey, type Blatam, call, codeOf, type KeyFile, signed, startBlatam } from '../support/blatam.ts';

const INTERNAL_SECRET = randomBytes(32).toString('base64');
let core: Blatam;
let key: KeyFile;

before(async () => {
  core = await startBlatam({ environment: { INTERNAL_SECRET } });
  key = adminKey(core.dataDir);
});
after(() => core?.stop());

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
