// The keys that callers sign with: found in the database, unsealed, kept for a while. A key that is revoked or rotated here is
// forgotten at once; by another core, within KEEP_MS. While the database is away, keys seen in the last hour go on working. That a key does not exist is kept too, but
// apart: whoever tries names at random pushes out no key that is in use.
import type { Database } from '../db/client.ts';
import { findKey, type Key as Row } from '../db/keys.ts';
import { restrictionsSchema } from './contract/keys.ts';
import { problem } from './contract/problems.ts';
import { limitsSchema } from './contract/rates.ts';
import { unseal } from './contract/seal.ts';
import type { Key } from './contract/signatures.ts';

const KEEP_MS = 30_000;
const KEEP_UNKNOWN_MS = 5_000;
const KEEP_WHILE_AWAY_MS = 3_600_000;
const KEPT_MAX = 10_000;

export interface Keyring {
  keyOf(keyid: string): Promise<Key | undefined>;
  /** It was changed: asked for anew from now on. */
  forget(keyid: string): void;
}

export interface KeyringOptions {
  readonly database: Database;
  readonly masterKey: Uint8Array;
  readonly now: () => number;
}

export function openKeyring({ database, masterKey, now }: KeyringOptions): Keyring {
  const kept = new Map<string, Kept<Key>>();
  const unknown = new Map<string, Kept<undefined>>();
  const asked = new Map<string, Promise<Key | undefined>>();

  /** Who asked before a key was changed may have been answered with what it was. */
  let changes = 0;

  async function load(keyid: string): Promise<Key | undefined> {
    const before = changes;
    const row = await findKey(database.query, keyid);
    const key = row && (await open(row, masterKey));
    if (before !== changes) return key;
    kept.delete(keyid);
    unknown.delete(keyid);
    if (key) keep(kept, keyid, { key, at: now() });
    else keep(unknown, keyid, { key, at: now() });
    return key;
  }

  function ask(keyid: string): Promise<Key | undefined> {
    const loading = load(keyid).finally(() => {
      if (asked.get(keyid) === loading) asked.delete(keyid);
    });
    asked.set(keyid, loading);
    return loading;
  }

  return {
    forget(keyid) {
      changes += 1;
      for (const map of [kept, unknown, asked]) map.delete(keyid);
    },
    async keyOf(keyid) {
      const known = kept.get(keyid) ?? unknown.get(keyid);
      const age = known ? now() - known.at : Number.POSITIVE_INFINITY;
      if (known && age < (known.key ? KEEP_MS : KEEP_UNKNOWN_MS)) return known.key;
      const loading = asked.get(keyid) ?? ask(keyid);
      try {
        return await loading;
      } catch (cause) {
        if (known?.key && age < KEEP_WHILE_AWAY_MS) return known.key;
        throw problem('database_unavailable', 'The key cannot be looked up just now.', {}, { cause });
      }
    },
  };
}

async function open(row: Row, masterKey: Uint8Array): Promise<Key> {
  const { keyid, tenant, scopes, restrictions, limits, expiresAt, previousSecret, previousUntil } = row;
  const previous = previousSecret &&
    previousUntil && { secret: await unseal(masterKey, previousSecret, keyid), until: previousUntil.getTime() };
  return {
    ...{
      keyid,
      tenant,
      scopes,
      restrictions: restrictionsSchema.parse(restrictions),
      limits: limitsSchema.parse(limits),
    },
    secret: await unseal(masterKey, row.sealedSecret, keyid),
    ...(expiresAt && { expiresAt: expiresAt.getTime() }),
    ...(previous && { previous }),
  };
}

interface Kept<K> {
  readonly key: K;
  readonly at: number;
}

/** Last in line; the first goes when there are too many. */
function keep<K>(map: Map<string, Kept<K>>, keyid: string, entry: Kept<K>): void {
  map.set(keyid, entry);
  const [oldest] = map.keys();
  if (map.size > KEPT_MAX && oldest !== undefined) map.delete(oldest);
}
