// The events of a tenant's blocks, as the server sends them, read one by one. Where the answer ends or is cut, or the server is not
// there, it is asked again from the last number on, after growing pauses; who is refused, or has asked too often in a row
// without an answer, gets the error. Pure.

import { type KvNumberedEvent, kvEventGapSchema, kvEventSchema } from '../core/contract/kv-calls.ts';
import { BlatamError, refusal, withQuery } from './client-answers.ts';
import { type Answer, type Ask, TransferError } from './client-wire.ts';
import { type Message, messagesOf } from './event-messages.ts';

const PAUSE_MS = 500;
const PAUSE_MS_MAX = 15_000;
const ASKED_MAX = 8;

export interface KvEventsOptions {
  /** The number of the last event that is known; 0 for all that are kept. Default: from now on. */
  readonly after?: number | undefined;
  /** Ends the events, without an error. */
  readonly signal?: AbortSignal | undefined;
}

export async function* kvEvents(
  ask: (ask: Ask) => Promise<Answer>,
  { after, signal }: KvEventsOptions,
): AsyncGenerator<KvNumberedEvent, void, undefined> {
  let last = after;
  for (let asked = 0; !signal?.aborted; asked++) {
    try {
      const answer = await ask({
        path: withQuery('/v1/kv/events', { after: last }),
        headers: { accept: 'text/event-stream' },
      });
      if (answer.status !== 200) throw await refusal(answer);
      for await (const message of messagesIn(answer, signal)) {
        asked = 0;
        if (message.id !== undefined) last = message.id;
        if (message.data !== undefined) yield readEvent(answer, message);
      }
    } catch (thrown) {
      if (signal?.aborted) return;
      if (!isPassing(thrown) || asked + 1 >= ASKED_MAX) throw thrown;
    }
    await pause(Math.min(PAUSE_MS * 2 ** asked, PAUSE_MS_MAX), signal);
  }
}

/** What another try may not meet. */
const isPassing = (thrown: unknown): boolean =>
  thrown instanceof BlatamError
    ? thrown.status >= 502
    : thrown instanceof TransferError && ['unreachable', 'cut', 'timeout'].includes(thrown.fault);

async function* messagesIn({ asked, stream, close }: Answer, signal: AbortSignal | undefined) {
  const refuse = (why: string) => new TransferError('unreadable', `The answer to ${asked} ${why}.`);
  try {
    for await (const message of messagesOf(stream, signal, refuse)) {
      // An edge says that its core went away.
      if (message.event === 'error') throw new TransferError('cut', `The answer to ${asked} was cut.`);
      yield message;
    }
  } finally {
    close();
  }
}

function readEvent({ asked }: Answer, { id, data = '' }: Message): KvNumberedEvent {
  try {
    const event = kvEventSchema.or(kvEventGapSchema).parse(JSON.parse(data));
    if (Number.isSafeInteger(id)) return { id: Number(id), ...event };
  } catch {} // not JSON, or none of ours
  throw new TransferError('unreadable', `${asked} sent what is no event: ${data.slice(0, 200)}`);
}

function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal?.addEventListener('abort', end);
    if (signal?.aborted) end();
  });
}
