// Keys of further tenants, in the database of a server that has not started yet.
import { randomBytes } from 'node:crypto';
import { seal } from '../../core/contract/seal.ts';
import { masterKey } from '../../core/first-key.ts';
import { openDatabase } from '../../db/client.ts';
import { ensureTenant, insertKey } from '../../db/keys.ts';
import type { KeyFile } from './blatam.ts';

/** Of these tenants, in order; each may do all. */
export async function keysOf(dataDir: string, ...tenants: string[]): Promise<KeyFile[]> {
  const database = await openDatabase({ dataDir, log: () => {} });
  try {
    const made: KeyFile[] = [];
    for (const tenant of tenants) {
      const keyid = `${tenant}-key`;
      const secret = randomBytes(32);
      await ensureTenant(database.query, { id: tenant, name: tenant });
      const sealedSecret = Buffer.from(await seal(masterKey(dataDir, undefined), secret, keyid));
      await insertKey(database.query, { keyid, tenant, sealedSecret, scopes: SCOPES });
      made.push({ keyid, secret: secret.toString('base64') });
    }
    return made;
  } finally {
    await database.close();
  }
}

const SCOPES = ['tensors:read', 'tensors:write', 'kv:read', 'kv:write', 'cache:admin'];
