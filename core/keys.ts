// The keys that callers sign with: found in the database, unsealed, kept for a while. The first start makes one for the
// administrator and leaves it in DATA_DIR/admin-key.json, for the command line and for people.
// A key that is revoked is refused within KEEP_MS. While the database is away, keys seen in the last hour go on working.
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { z } from 'zod';
import { appendAudit } from '../db/audit.ts';
import type { Database } from '../db/client.ts';
import { ensureTenant, findKey, insertKey } from '../db/keys.ts';
import { problem } from './contract/problems.ts';
import { seal, unseal } from './contract/seal.ts';
import type { Key } from './contract/signatures.ts';
import { readOrMake } from './secrets.ts';

const KEEP_MS = 30_000;
const KEEP_UNKNOWN_MS = 5_000;
const KEEP_WHILE_AWAY_MS = 3_600_000;
const KEPT_MAX = 10_000;
const SECRET_BYTES = 32;

export const ADMIN_SCOPES = [
  'tensors:read',
  'tensors:write',
  'kv:read',
  'kv:write',
  'cache:admin',
  'keys:admin',
  'backups:admin',
  'metrics:read',
] as const;

export interface Keyring {
  keyOf(keyid: string): Promise<Key | undefined>;
}

const adminFileSchema = z.object({ keyid: z.string(), secret: z.string(), scopes: z.array(z.string()) });

export interface KeyringOptions {
  readonly database: Database;
  readonly masterKey: Uint8Array;
  readonly now: () => number;
}

export function openKeyring({ database, masterKey, now }: KeyringOptions): Keyring {
  const kept = new Map<string, { key: Key | undefined; at: number }>();
  const asked = new Map<string, Promise<Key | undefined>>();

  async function load(keyid: string): Promise<Key | undefined> {
    const row = await findKey(database.query, keyid);
    const key = row && {
      keyid,
      tenant: row.tenant,
      scopes: row.scopes,
      secret: await unseal(masterKey, row.sealedSecret, keyid),
    };
    kept.delete(keyid);
    kept.set(keyid, { key, at: now() });
    const [oldest] = kept.keys();
    if (kept.size > KEPT_MAX && oldest !== undefined) kept.delete(oldest);
    return key;
  }

  return {
    async keyOf(keyid) {
      const known = kept.get(keyid);
      const age = known ? now() - known.at : Number.POSITIVE_INFINITY;
      if (known && age < (known.key ? KEEP_MS : KEEP_UNKNOWN_MS)) return known.key;
      const load_ = asked.get(keyid) ?? load(keyid).finally(() => asked.delete(keyid));
      asked.set(keyid, load_);
      try {
        return await load_;
      } catch (cause) {
        if (known?.key && age < KEEP_WHILE_AWAY_MS) return known.key;
        throw problem('database_unavailable', 'The key cannot be looked up just now.', {}, { cause });
      }
    },
  };
}

export interface FirstKey {
  readonly path: string;
  readonly made: boolean;
}

/** The administrator's key: file first, row second, so that a start cut in between is made good by the next. */
export async function ensureAdminKey(o: KeyringOptions & { dataDir: string }): Promise<FirstKey> {
  const path = join(o.dataDir, 'admin-key.json');
  const { text, made } = readOrMake(path, () => {
    const key = {
      keyid: `admin-${randomBytes(6).toString('hex')}`,
      secret: randomBytes(SECRET_BYTES).toString('base64'),
      scopes: ADMIN_SCOPES,
    };
    return `${JSON.stringify(key, null, 2)}\n`;
  });
  const parsed = adminFileSchema.safeParse(parseJson(text));
  if (!parsed.success) throw new Error(`${path} is not a key file any more; restore it, or remove it for a new key`);
  const { keyid, secret, scopes } = parsed.data;
  await ensureTenant(o.database.query, { id: 'default', name: 'Default' });
  const sealedSecret = Buffer.from(await seal(o.masterKey, Buffer.from(secret, 'base64'), keyid));
  const fresh = { keyid, tenant: 'default', sealedSecret, scopes, note: 'administrator, made by the first start' };
  if (await insertKey(o.database.query, fresh))
    await appendAudit(o.database.query, {
      tenant: 'default',
      actor: 'core',
      action: 'key.created',
      subject: keyid,
      detail: { scopes },
    });
  return { path, made };
}

/** The key that seals secrets: as configured, else a file of its own. */
export function masterKey(dataDir: string, configured: Uint8Array | undefined): Uint8Array {
  if (configured) return configured;
  const { text } = readOrMake(join(dataDir, 'master.key'), () => randomBytes(SECRET_BYTES).toString('base64'));
  return Buffer.from(text, 'base64');
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
