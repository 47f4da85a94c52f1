// Server-sent events out of a stream of bytes, one by one. Pure.

export interface Message {
  readonly event: string | undefined;
  readonly id: number | undefined;
  readonly data: string | undefined;
}

const LINE_CHARS_MAX = 1 << 20;

/** Ends with the stream, or by the signal; the stream is left then. `refuse` makes the error for what is no such stream. */
export async function* messagesOf(
  stream: ReadableStream<Uint8Array>,
  signal: AbortSignal | undefined,
  refuse: (why: string) => Error,
): AsyncGenerator<Message, void, undefined> {
  let fields = new Map<string, string>();
  for await (const line of linesOf(stream, signal, refuse)) {
    if (line !== '') {
      const [, name = '', value = ''] = /^([^:]*)(?:: ?(.*))?$/.exec(line) ?? [];
      fields.set(name, value);
    } else if (fields.size > 0) {
      const id = fields.get('id');
      yield { event: fields.get('event'), id: id === undefined ? undefined : Number(id), data: fields.get('data') };
      fields = new Map();
    }
  }
}

async function* linesOf(
  stream: ReadableStream<Uint8Array>,
  signal: AbortSignal | undefined,
  refuse: (why: string) => Error,
) {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  const leave = () => void reader.cancel().catch(() => {});
  signal?.addEventListener('abort', leave);
  let text = '';
  try {
    for (let read = await reader.read(); !read.done; read = await reader.read()) {
      text += decoder.decode(read.value, { stream: true });
      if (text.length > LINE_CHARS_MAX) throw refuse(`has a line of more than ${LINE_CHARS_MAX} characters`);
      const lines = text.split('\n');
      text = lines.pop() ?? '';
      yield* lines;
    }
  } finally {
    signal?.removeEventListener('abort', leave);
    leave();
  }
}
