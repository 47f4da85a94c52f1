// An attention request's body, whole in memory: its tokens and queries. How much of that there is at once is bounded, over all
// and for each tenant, by bytes that have really come: whoever would exceed it is told to come again.
import { type KvAttentionBody, readAttentionBody } from '../../contract/kv.ts';
import { problem } from '../../contract/problems.ts';
import type { TensorInfo } from '../../contract/tensors.ts';
import type { Pieces } from '../../gpu/pieces.ts';
import type { Digests } from '../digest.ts';
import { type Body, pour, type SignedDigest } from '../pour.ts';

const QUESTION_BYTES_MAX = 64 << 20;
const TENANT_BYTES_MAX = 2 * QUESTION_BYTES_MAX;
const ALL_BYTES_MAX = 4 * QUESTION_BYTES_MAX;

export interface Question {
  readonly body: KvAttentionBody;
  readonly tokens: Int32Array;
  readonly q: Float32Array;
}

export interface QuestionBody {
  readonly tenant: string;
  readonly body: Body;
  readonly digest: SignedDigest | undefined;
  readonly signal: AbortSignal;
}

export interface Questions {
  /** Calls `answer` with the question; its memory is counted until that is done. */
  ask<T>(asked: QuestionBody, answer: (question: Question) => Promise<T>): Promise<T>;
}

export function createQuestions(pieces: Pieces, digests: Digests): Questions {
  let all = 0;
  const ofTenant = new Map<string, number>();

  function count(tenant: string, bytes: number): void {
    const own = (ofTenant.get(tenant) ?? 0) + bytes;
    if (bytes > 0 && (all + bytes > ALL_BYTES_MAX || own > TENANT_BYTES_MAX))
      throw problem('pieces_exhausted', 'Too many questions are in memory already. Send it again later.');
    all += bytes;
    if (own > 0) ofTenant.set(tenant, own);
    else ofTenant.delete(tenant);
  }

  return {
    async ask({ tenant, body, digest, signal }, answer) {
      const parts: { readonly offset: number; readonly bytes: Uint8Array }[] = [];
      let counted = 0;
      try {
        const poured = await pour(body, {
          ...{ pieces: pieces.of(tenant), digests, bytesMax: QUESTION_BYTES_MAX, signal },
          digest,
          async sinks(layout) {
            readAttentionBody(layout);
            return [
              async (piece, length, offset) => {
                count(tenant, length);
                counted += length;
                parts.push({ offset, bytes: piece.bytes.slice(0, length) });
              },
            ];
          },
        });
        const asked = readAttentionBody(poured.layout);
        const whole = Buffer.concat(parts.sort((a, b) => a.offset - b.offset).map(({ bytes }) => bytes));
        parts.length = 0;
        const read = ({ begin, end }: TensorInfo): ArrayBuffer => {
          const { headerBytes } = poured.layout;
          return Uint8Array.from(whole.subarray(headerBytes + begin, headerBytes + end)).buffer; // aligned
        };
        return await answer({
          body: asked,
          tokens: new Int32Array(read(asked.tokens)),
          q: new Float32Array(read(asked.q)),
        });
      } finally {
        count(tenant, -counted);
      }
    },
  };
}
