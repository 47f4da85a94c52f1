// One connection on loopback, one request at a time, for every protocol alike: only how an answer's head is read differs
// (http.ts, resp.ts), so no rival is helped by its client. What is sent is handed to the kernel from where it lies, in one
// gathered write; what comes is read into one fixed buffer and counted, or, to be compared, copied out.
// The clock runs from before the first byte is written until the last byte of the answer is in.
import { connect } from 'node:net';

const READ_BYTES = 256 << 10;
const HEAD_BYTES_MAX = 16 << 10;
const ANSWER_MS_MAX = 60_000;

export interface Head<H> {
  readonly head: H;
  readonly bodyBytes: number;
  /** What follows the body and is not of it. */
  readonly afterBytes: number;
  /** The body says what went wrong: kept even if bodies are only counted. */
  readonly fault: boolean;
}
export interface Dialect<H> {
  /** Ends an answer's head. */
  readonly headEnd: string;
  readonly parseHead: (text: string) => Head<H>;
}
export interface Answer<H> {
  readonly head: H;
  readonly bodyBytes: number;
  /** Undefined where it was only counted. */
  readonly body: Uint8Array | undefined;
}
export interface Wire<H> {
  exchange(parts: readonly Uint8Array[], body: 'keep' | 'count'): Promise<Answer<H> & { readonly ms: number }>;
  close(): void;
}

export async function openWire<H>(port: number, dialect: Dialect<H>): Promise<Wire<H>> {
  let receive: ((chunk: Uint8Array) => void) | undefined;
  let fail: ((error: Error) => void) | undefined;
  const socket = connect({
    host: '127.0.0.1',
    port,
    noDelay: true,
    onread: {
      buffer: Buffer.alloc(READ_BYTES, 1),
      callback(length, buffer) {
        if (receive) receive(buffer.subarray(0, length));
        else socket.destroy(new Error('an answer came that nobody asked for'));
        return true;
      },
    },
  });
  const ended = (error: Error) => fail?.(error);
  socket.on('error', ended);
  socket.on('close', () => ended(new Error('the connection was closed before the answer was complete')));
  await new Promise<void>((resolve, reject) => {
    fail = reject;
    socket.once('connect', resolve);
  });

  return {
    exchange(parts, keeping) {
      if (receive) throw new Error('one request at a time');
      if (socket.destroyed) throw new Error('the connection was closed while nothing was asked');
      const read = createReader(dialect, keeping === 'keep');
      return new Promise((resolve, reject) => {
        const timer = setTimeout(() => socket.destroy(new Error(`no answer in ${ANSWER_MS_MAX} ms`)), ANSWER_MS_MAX);
        const settle = () => {
          clearTimeout(timer);
          receive = undefined;
          fail = undefined;
        };
        fail = (error) => {
          settle();
          reject(error);
        };
        receive = (chunk) => {
          try {
            const answer = read(chunk);
            if (!answer) return;
            const ms = performance.now() - started;
            settle();
            resolve({ ...answer, ms });
          } catch (error) {
            socket.destroy(error as Error);
          }
        };
        const started = performance.now();
        socket.cork();
        for (const part of parts) socket.write(part);
        socket.uncork();
      });
    },
    close: () => socket.destroy(),
  };
}

/** Takes an answer's chunks as they come; the answer, once it is complete. */
function createReader<H>(dialect: Dialect<H>, keep: boolean) {
  let start = Buffer.alloc(0);
  let parsed: Head<H> | undefined;
  let body: Uint8Array | undefined;
  let received = 0;

  /** What of the chunk comes after the head; undefined while the head is not complete. */
  function readHead(chunk: Uint8Array): Uint8Array | undefined {
    const before = start.length;
    start = Buffer.concat([start, chunk.subarray(0, HEAD_BYTES_MAX)]);
    const end = start.indexOf(dialect.headEnd);
    if (end === -1) {
      if (start.length >= HEAD_BYTES_MAX) throw new Error(`an answer's head is longer than ${HEAD_BYTES_MAX} bytes`);
      return undefined;
    }
    parsed = dialect.parseHead(start.toString('latin1', 0, end));
    if (keep || parsed.fault) body = new Uint8Array(parsed.bodyBytes);
    return chunk.subarray(end + dialect.headEnd.length - before);
  }

  return (chunk: Uint8Array): Answer<H> | undefined => {
    const rest = parsed ? chunk : readHead(chunk);
    if (!parsed || !rest) return undefined;
    const { head, bodyBytes, afterBytes } = parsed;
    if (body && received < bodyBytes) body.set(rest.subarray(0, bodyBytes - received), received);
    received += rest.length;
    if (received < bodyBytes + afterBytes) return undefined;
    if (received > bodyBytes + afterBytes) throw new Error('there are bytes behind the end of an answer');
    return { head, bodyBytes, body };
  };
}
