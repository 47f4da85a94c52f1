// Keys made, rotated and revoked, each with its line in the audit log in one transaction. Nobody makes a key that may more than
// their own, nor rotates or revokes one: a new secret of such a key would be theirs. Keys of other tenants are an operator's
// affair, and to all others as if there were none. A secret is told once, when it is made.
import { randomBytes } from 'node:crypto';
import { appendAudit } from '../db/audit.ts';
import type { Database } from '../db/client.ts';
import {
  countUsableKeys,
  ensureTenant,
  findKey,
  insertKey,
  type ListedKey,
  listKeys,
  revokeKey,
  rotateKey,
} from '../db/keys.ts';
import { databaseCause } from '../db/query.ts';
import {
  beyond,
  type Grant,
  inherit,
  isOperator,
  type KeyAnswer,
  type KeyBody,
  type KeysAnswer,
  type NewKeyAnswer,
  restrictionsSchema,
} from './contract/keys.ts';
import { Problem, problem } from './contract/problems.ts';
import { limitsSchema } from './contract/rates.ts';
import { seal } from './contract/seal.ts';
import type { Caller } from './contract/signatures.ts';
import type { Keyring } from './keys.ts';

const SECRET_BYTES = 32;
const KEYID_BYTES = 8;
/** Usable ones of a tenant. */
const KEYS_MAX = 10_000;

export interface GrantsOptions {
  readonly database: Database;
  readonly masterKey: Uint8Array;
  readonly keyring: Pick<Keyring, 'forget'>;
  readonly now: () => number;
}

export interface Grants {
  create(maker: Caller, asked: KeyBody): Promise<NewKeyAnswer>;
  list(caller: Caller, asked: { tenant?: string | undefined; cursor: string; limit: number }): Promise<KeysAnswer>;
  rotate(caller: Caller, keyid: string, overlapSeconds: number): Promise<NewKeyAnswer>;
  revoke(caller: Caller, keyid: string): Promise<void>;
}

export function createGrants({ database, masterKey, keyring, now }: GrantsOptions): Grants {
  const { query } = database;

  async function newSecret(keyid: string) {
    const secret = randomBytes(SECRET_BYTES);
    return { secret: secret.toString('base64'), sealedSecret: Buffer.from(await seal(masterKey, secret, keyid)) };
  }

  /** A key that the caller may change. */
  async function theirs(caller: Caller, keyid: string): Promise<Grant> {
    const row = await findKey(query, keyid);
    if (!row || (row.tenant !== caller.tenant && !isOperator(caller))) throw unknownKey(keyid);
    const grant = grantOf(row);
    assertWithin(caller, grant);
    return grant;
  }

  return {
    create: told(async (maker, { name, scopes, tenant = maker.tenant, ttl, restrictions, limits }) => {
      const expiresAt = ttl === undefined ? undefined : now() + 1000 * ttl;
      const grant = inherit(maker, { tenant, scopes: [...new Set(scopes)], restrictions, limits, expiresAt });
      assertWithin(maker, grant);
      const keyid = `key-${randomBytes(KEYID_BYTES).toString('hex')}`;
      const { secret, sealedSecret } = await newSecret(keyid);
      const made = await query.transaction(async (transaction) => {
        await ensureTenant(transaction, { id: tenant, name: tenant });
        if ((await countUsableKeys(transaction, tenant)) >= KEYS_MAX)
          throw problem(
            'quota_exceeded',
            `The tenant ${tenant} has ${KEYS_MAX} keys, the most there may be. Revoke some.`,
          );
        const row = await insertKey(transaction, { keyid, name, sealedSecret, ...rowOf(grant) });
        const detail = {
          name,
          scopes: grant.scopes,
          restrictions: grant.restrictions,
          limits,
          expiresAt: grant.expiresAt,
        };
        await appendAudit(transaction, { tenant, actor: maker.keyid, action: 'key.created', subject: keyid, detail });
        return row;
      });
      if (!made) throw new Error(`the key id ${keyid} was taken`);
      return { ...answerOf(made), secret };
    }),

    list: told(async (caller, { tenant, cursor, limit }) => {
      const whose = isOperator(caller) ? tenant : caller.tenant;
      // Of another tenant, as if it had none.
      const isTheirs = tenant === undefined || whose === tenant;
      const rows = isTheirs ? await listKeys(query, { tenant: whose, after: cursor, limit }) : [];
      return { keys: rows.map(answerOf), cursor: rows.length === limit ? (rows.at(-1)?.keyid ?? null) : null };
    }),

    rotate: told(async (caller, keyid, overlapSeconds) => {
      const { tenant } = await theirs(caller, keyid);
      const { secret, sealedSecret } = await newSecret(keyid);
      const rotated = await query.transaction(async (transaction) => {
        const row = await rotateKey(transaction, keyid, sealedSecret, overlapSeconds);
        if (!row) throw unknownKey(keyid);
        const detail = { overlapSeconds };
        await appendAudit(transaction, { tenant, actor: caller.keyid, action: 'key.rotated', subject: keyid, detail });
        return row;
      });
      keyring.forget(keyid);
      return { ...answerOf(rotated), secret };
    }),

    revoke: told(async (caller, keyid) => {
      const { tenant } = await theirs(caller, keyid);
      await query.transaction(async (transaction) => {
        if (!(await revokeKey(transaction, keyid))) throw unknownKey(keyid);
        await appendAudit(transaction, { tenant, actor: caller.keyid, action: 'key.revoked', subject: keyid });
      });
      keyring.forget(keyid);
    }),
  };
}

/** What the database refuses, as a caller is told; its own words may quote what must not be told. */
function told<A extends unknown[], R>(act: (...given: A) => Promise<R>): (...given: A) => Promise<R> {
  return async (...given) => {
    try {
      return await act(...given);
    } catch (error) {
      if (error instanceof Problem) throw error;
      throw problem(
        'database_unavailable',
        'Keys cannot be read or changed just now.',
        {},
        { cause: databaseCause(error) },
      );
    }
  };
}

function assertWithin(maker: Grant & { readonly keyid: string }, grant: Grant): void {
  const excess = beyond(maker, grant);
  if (excess !== undefined)
    throw problem('grant_exceeded', `The key ${maker.keyid} does not have ${excess} itself; ask one that does.`);
}

const unknownKey = (keyid: string) =>
  problem('keyid_unknown', `There is no key ${keyid.slice(0, 128)}, or not any more.`);

const grantOf = ({ tenant, scopes, restrictions, expiresAt }: ListedKey): Grant => ({
  ...{ tenant, scopes, restrictions: restrictionsSchema.parse(restrictions) },
  ...(expiresAt && { expiresAt: expiresAt.getTime() }),
});

const rowOf = ({ tenant, scopes, restrictions, limits, expiresAt }: Grant) => ({
  ...{
    tenant,
    scopes: [...scopes],
    restrictions: { ...restrictions } as Record<string, string[]>,
    limits: { ...limits },
  },
  expiresAt: expiresAt === undefined ? null : new Date(expiresAt),
});

const textOf = (moment: Date | null): string | null => moment?.toISOString() ?? null;

const answerOf = (row: ListedKey): KeyAnswer => ({
  keyid: row.keyid,
  tenant: row.tenant,
  name: row.name,
  scopes: row.scopes,
  restrictions: restrictionsSchema.parse(row.restrictions),
  limits: limitsSchema.parse(row.limits),
  createdAt: row.createdAt.toISOString(),
  expiresAt: textOf(row.expiresAt),
  revokedAt: textOf(row.revokedAt),
  overlapUntil: textOf(row.previousUntil),
});
