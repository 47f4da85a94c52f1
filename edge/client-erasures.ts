// The client's calls for erasures: everything of a tenant, a model, a salt or a prefix of keys, with a signed receipt. Pure.
import type { Crypto } from '../core/contract/crypto.ts';
import {
  type ErasureAnswer,
  type ErasureBody,
  erasureAnswerSchema,
  type ReceiptKey,
  receiptKeySchema,
} from '../core/contract/erasure.ts';
import { readJson } from './client-answers.ts';
import type { Answer, Ask } from './client-wire.ts';

export interface ClientErasures {
  /** Answers when it is done, with the receipt; `wait: false`: as soon as it is written down that it is to be done. */
  begin(what: ErasureBody, options?: { readonly wait?: boolean }): Promise<ErasureAnswer>;
  find(id: string): Promise<ErasureAnswer>;
  /** What receipts of this server are signed with. */
  key(): Promise<ReceiptKey>;
}

export function clientErasures(ask: (ask: Ask) => Promise<Answer>, crypto: Pick<Crypto, 'sha256'>): ClientErasures {
  return {
    async begin(what, { wait = true } = {}) {
      const body = new TextEncoder().encode(JSON.stringify(what));
      const headers = { 'content-type': 'application/json' };
      const path = `/v1/erasures${wait ? '' : '?wait=false'}`;
      return readJson(
        await ask({ method: 'POST', path, body, digest: await crypto.sha256(body), headers }),
        erasureAnswerSchema,
      );
    },
    find: async (id) => readJson(await ask({ path: `/v1/erasures/${encodeURIComponent(id)}` }), erasureAnswerSchema),
    key: async () => readJson(await ask({ path: '/v1/erasures/key' }), receiptKeySchema),
  };
}
