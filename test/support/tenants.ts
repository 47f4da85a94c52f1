// Keys of further tenants, in the database of a server that has not started yet.
import { randomBytes } from 'node:crypto';
import { seal } from '../../core/contract/seal.ts';
import { masterKey } from '../../core/first-key.ts';
import { openDatabase } from '../../db/client.ts';
import { ensureTenant, insertKey } from '../../db/keys.ts';
import type { KeyFile } from './blatam.ts';

/** Of these tenants, in order; each may do all that calls for a tenant's own, and manage the cache. */
export const keysOf = (dataDir: string, ...tenants: string[]): Promise<KeyFile[]> =>
  keysWith(
    dataDir,
    tenants.map((tenant) => ({ tenant, scopes: SCOPES })),
  );

/** The same with scopes of their own. */
export async function keysWith(
  dataDir: string,
  asked: readonly { readonly tenant: string; readonly scopes: readonly string[] }[],
): Promise<KeyFile[]> {
  const database = await openDatabase({ dataDir, log: () => {} });
  try {
    const made: KeyFile[] = [];
    for (const [i, { tenant, scopes }] of asked.entries()) {
      const keyid = `${tenant}-key${i}`;
      const secret = randomBytes(32);
      await ensureTenant(database.query, { id: tenant, name: tenant });
      const sealedSecret = Buffer.from(await seal(masterKey(dataDir, undefined), secret, keyid));
      await insertKey(database.query, { keyid, tenant, sealedSecret, scopes: [...scopes] });
      made.push({ keyid, secret: secret.toString('base64') });
    }
    return made;
  } finally {
    await database.close();
  }
}

const SCOPES = ['tensors:read', 'tensors:write', 'kv:read', 'kv:write', 'cache:admin'];
