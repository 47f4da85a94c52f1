// Server-sent events on their way through, whole event by whole event: where the core's answer is cut, what came of an event that
// is not whole is dropped, and the caller is told by an event `error` that carries a problem document. A reader of events cannot
// otherwise tell a cut from an end. Pure.
import { problem, problemDocument } from '../core/contract/problems.ts';

/** An event that is longer goes on in parts. */
const HELD_BYTES_MAX = 1 << 20;
const NEWLINE = 0x0a;

export function withCutTold(events: ReadableStream<Uint8Array>, requestId: string): ReadableStream<Uint8Array> {
  const reader = events.getReader();
  let held: Uint8Array = new Uint8Array(0);

  /** What of `held` and `more` can go on. */
  function wholeEvents(more: Uint8Array): Uint8Array {
    const all = new Uint8Array(held.length + more.length);
    all.set(held);
    all.set(more, held.length);
    let end = all.length;
    while (end >= 2 && !(all[end - 1] === NEWLINE && all[end - 2] === NEWLINE)) end--;
    if (end < 2) end = all.length > HELD_BYTES_MAX ? all.length : 0;
    held = all.slice(end);
    return all.subarray(0, end);
  }

  return new ReadableStream({
    async pull(controller) {
      try {
        for (;;) {
          const { value, done } = await reader.read();
          const whole = done ? held : wholeEvents(value);
          if (whole.length > 0) controller.enqueue(whole);
          if (done) return controller.close();
          if (whole.length > 0) return;
        }
      } catch {
        const detail = 'The core went away in the middle of the events. Ask for those after the last number.';
        const document = problemDocument(problem('core_unreachable', detail), requestId);
        controller.enqueue(new TextEncoder().encode(`event: error\ndata: ${JSON.stringify(document)}\n\n`));
        controller.close();
      }
    },
    cancel: (reason) => reader.cancel(reason),
  });
}
