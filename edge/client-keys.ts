// The client's calls for keys and for the audit log. They need the scope `keys:admin`. Pure.
import type { z } from 'zod';
import type { Crypto } from '../core/contract/crypto.ts';
import {
  type AuditAnswer,
  auditAnswerSchema,
  type KeyAnswer,
  type keyBodySchema,
  keysAnswerSchema,
  type NewKeyAnswer,
  newKeyAnswerSchema,
} from '../core/contract/keys.ts';
import { isMissing, readJson, refusal, withQuery } from './client-answers.ts';
import type { Answer, Ask } from './client-wire.ts';

export type KeyAsked = z.input<typeof keyBodySchema>;
export type AuditEntry = AuditAnswer['entries'][number];

export interface ClientKeys {
  /** Its secret is told this once. */
  create(asked: KeyAsked): Promise<NewKeyAnswer>;
  /** Of the own tenant; an operator's: of one, or all. */
  list(options?: { readonly tenant?: string | undefined }): AsyncGenerator<KeyAnswer, void, undefined>;
  /** A new secret; the one so far works for so many seconds more. Undefined if there is no such key. */
  rotate(keyid: string, overlap?: number): Promise<NewKeyAnswer | undefined>;
  /** False if there was none. */
  revoke(keyid: string): Promise<boolean>;
  /** Entries of the audit log after a number, a page of them. */
  audit(options?: { readonly after?: number | undefined; readonly limit?: number | undefined }): Promise<AuditAnswer>;
}

export function clientKeys(ask: (ask: Ask) => Promise<Answer>, crypto: Pick<Crypto, 'sha256'>): ClientKeys {
  const pathOf = (keyid: string): string => `/v1/keys/${encodeURIComponent(keyid)}`;

  async function post(path: string, said: unknown): Promise<Answer> {
    const body = new TextEncoder().encode(JSON.stringify(said));
    const digest = await crypto.sha256(body);
    return ask({ method: 'POST', path, body, digest, headers: { 'content-type': 'application/json' } });
  }

  return {
    create: async (asked) => readJson(await post('/v1/keys', asked), newKeyAnswerSchema),
    async *list({ tenant } = {}) {
      let cursor: string | undefined;
      do {
        const page = await readJson(await ask({ path: withQuery('/v1/keys', { tenant, cursor }) }), keysAnswerSchema);
        yield* page.keys;
        cursor = page.cursor ?? undefined;
      } while (cursor !== undefined);
    },
    async rotate(keyid, overlap) {
      const answer = await post(`${pathOf(keyid)}/rotate`, { overlap });
      return (await isMissing(answer, 'keyid_unknown')) ? undefined : readJson(answer, newKeyAnswerSchema);
    },
    async revoke(keyid) {
      const answer = await ask({ method: 'DELETE', path: pathOf(keyid) });
      if (await isMissing(answer, 'keyid_unknown')) return false;
      if (answer.status !== 204) throw await refusal(answer);
      answer.close();
      return true;
    },
    audit: async ({ after, limit } = {}) =>
      readJson(await ask({ path: withQuery('/v1/audit', { after, limit }) }), auditAnswerSchema),
  };
}
