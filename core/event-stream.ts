// An answer of server-sent events: as long as somebody reads, in the form of text/event-stream. When there is nothing to tell, a
// number alone says that we are there, and up to where all was told. Whoever does not take what is sent is cut off, and comes
// back for the rest by its number.
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import { leaving, write } from './bodies.ts';
import { problem } from './contract/problems.ts';
import type { C } from './route.ts';

/** Without anything to tell. */
const QUIET_MS = 15_000;
/** What a browser is to wait before it comes back, in ms. */
const HEAD = 'retry: 2000\n';

/** What it is, and its number among those that are told here; all else is its data. */
export interface NumberedEvent {
  readonly id: number;
  readonly type: string;
}

/** A number comes at once, and then whenever there was nothing to tell for so long. */
export type Follow = (quietMs: number, signal: AbortSignal) => AsyncGenerator<NumberedEvent | number, void, void>;

export async function sendEvents(c: C, follow: Follow, takenMs?: number): Promise<Response> {
  const { outgoing } = c.env;
  if (c.req.method === 'HEAD') throw problem('method_unsupported', 'Events have no end; ask for them with GET.');
  const events = follow(QUIET_MS, leaving(outgoing));
  let next = await events.next(); // a refusal is still an answer of its own
  outgoing.writeHead(200, {
    'content-type': 'text/event-stream',
    'cache-control': 'no-store',
    'x-request-id': c.get('requestId'),
  });
  const send = (text: string) => write(outgoing, Buffer.from(text), takenMs);
  try {
    await send(HEAD);
    for (; !next.done; next = await events.next()) await send(textOf(next.value));
    outgoing.end();
  } catch {
    outgoing.destroy();
  } finally {
    await events.return();
  }
  return RESPONSE_ALREADY_SENT;
}

function textOf(told: NumberedEvent | number): string {
  if (typeof told === 'number') return `id: ${told}\n\n`;
  const { id, ...event } = told;
  return `id: ${id}\nevent: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`;
}
