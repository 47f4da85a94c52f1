// An attention request's body, whole in memory: its tokens and queries. How much of that there is at once is bounded; who
// comes beyond waits in line.
import { type KvAttentionBody, readAttentionBody } from '../contract/kv.ts';
import { problem } from '../contract/problems.ts';
import type { TensorInfo } from '../contract/tensors.ts';
import { createFlight } from '../gpu/flight.ts';
import type { Pieces } from '../gpu/pieces.ts';
import type { Digests } from './digest.ts';
import { type Body, pour } from './pour.ts';

export const QUESTION_BYTES_MAX = 64 << 20;
const BOUNDS = { framesMax: 16, bytesMax: 2 * QUESTION_BYTES_MAX, lineMax: 1000 };

export interface Question {
  readonly body: KvAttentionBody;
  readonly tokens: Int32Array;
  readonly q: Float32Array;
}

export interface QuestionBody {
  readonly body: Body;
  readonly digest: { readonly bytes: Uint8Array; readonly proven: boolean } | undefined;
  readonly signal: AbortSignal;
}

export interface Questions {
  /** Calls `answer` with the question; its memory is counted until that is done. */
  ask<T>(asked: QuestionBody, answer: (question: Question) => Promise<T>): Promise<T>;
}

export function createQuestions(pieces: Pieces, digests: Digests): Questions {
  const flight = createFlight(BOUNDS);

  function turn(bytes: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      let leaveLine: (() => boolean) | undefined;
      const giveUp = () => {
        if (leaveLine?.()) reject(signal.reason);
      };
      signal.addEventListener('abort', giveUp, { once: true });
      leaveLine = flight.enter(bytes, () => {
        signal.removeEventListener('abort', giveUp);
        resolve();
      });
      if (!leaveLine)
        reject(problem('pieces_exhausted', `${BOUNDS.lineMax} questions wait already. Send it again later.`));
    });
  }

  async function read({ body, digest, signal }: QuestionBody): Promise<Question> {
    let whole = new Uint8Array(0);
    const poured = await pour(body, {
      ...{ pieces, digests, bytesMax: QUESTION_BYTES_MAX, signal },
      digest: digest?.proven ? digest.bytes : undefined,
      async sinks(layout) {
        readAttentionBody(layout);
        whole = new Uint8Array(layout.totalBytes);
        return [async (piece, length, offset) => whole.set(piece.bytes.subarray(0, length), offset)];
      },
    });
    if (digest && !Buffer.from(poured.digest).equals(digest.bytes))
      throw problem(
        'digest_mismatch',
        'The body is not the one that was signed: its sha-256 differs from content-digest.',
      );
    const asked = readAttentionBody(poured.layout);
    const bytesOf = ({ begin, end }: TensorInfo): ArrayBuffer =>
      whole.buffer.slice(poured.layout.headerBytes + begin, poured.layout.headerBytes + end); // aligned
    return { body: asked, tokens: new Int32Array(bytesOf(asked.tokens)), q: new Float32Array(bytesOf(asked.q)) };
  }

  return {
    async ask(asked, answer) {
      const bytes = Math.min(asked.body.length ?? QUESTION_BYTES_MAX, QUESTION_BYTES_MAX);
      await turn(bytes, asked.signal);
      try {
        return await answer(await read(asked));
      } finally {
        flight.leave(bytes);
      }
    },
  };
}
