// The secrets that the first start makes: the administrator's key, left in DATA_DIR/admin-key.json for the command line and
// for people, and the key that seals secrets in the database. Later starts find and keep them.
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { z } from 'zod';
import { appendAudit } from '../db/audit.ts';
import { ensureTenant, insertKey } from '../db/keys.ts';
import { parseJson } from './contract/json.ts';
import { OPERATOR_SCOPE, SCOPES } from './contract/keys.ts';
import { seal } from './contract/seal.ts';
import type { KeyringOptions } from './keys.ts';
import { readOrMake } from './secrets.ts';

const SECRET_BYTES = 32;

const adminFileSchema = z.object({ keyid: z.string(), secret: z.string(), scopes: z.array(z.string()) });

export interface FirstKey {
  readonly path: string;
  readonly made: boolean;
  readonly keyid: string;
}

/** The administrator's key: file first, row second, so that a start cut in between is made good by the next. */
export async function ensureAdminKey(o: KeyringOptions & { dataDir: string }): Promise<FirstKey> {
  const path = join(o.dataDir, 'admin-key.json');
  const { text, made } = readOrMake(path, () => {
    const key = {
      keyid: `admin-${randomBytes(6).toString('hex')}`,
      secret: randomBytes(SECRET_BYTES).toString('base64'),
      scopes: SCOPES,
    };
    return `${JSON.stringify(key, null, 2)}\n`;
  });
  const parsed = adminFileSchema.safeParse(parseJson(text));
  if (!parsed.success)
    throw new Error(
      `${path} is not a key file any more; restore it, or remove it: a new one is made then, and the old one stays valid`,
    );
  const { keyid, secret } = parsed.data;
  // A file of an earlier version does not say it.
  const scopes = [...new Set([...parsed.data.scopes, OPERATOR_SCOPE])];
  await ensureTenant(o.database.query, { id: 'default', name: 'Default' });
  const sealedSecret = Buffer.from(await seal(o.masterKey, Buffer.from(secret, 'base64'), keyid));
  const fresh = {
    keyid,
    tenant: 'default',
    sealedSecret,
    scopes,
    name: 'administrator',
    note: 'administrator, made by the first start',
  };
  if (await insertKey(o.database.query, fresh))
    await appendAudit(o.database.query, {
      tenant: 'default',
      actor: 'core',
      action: 'key.created',
      subject: keyid,
      detail: { scopes },
    });
  return { path, made, keyid };
}

/** The key that seals secrets: as configured, else a file of its own. */
export function masterKey(dataDir: string, configured: Uint8Array | undefined): Uint8Array {
  if (configured) return configured;
  const { text } = readOrMake(join(dataDir, 'master.key'), () => randomBytes(SECRET_BYTES).toString('base64'));
  return Buffer.from(text, 'base64');
}
