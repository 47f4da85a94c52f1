// One request of the client and its answer: signed, sent once, watched. Pure: runs on every runtime.
//
// The server's silence has a limit, on the way there and back, for as long as it is the server who is awaited. An answer's
// stream fails if it ends before its content-length or goes on after it. Whatever keeps an answer from coming whole is a
// `TransferError`; a failure of the caller's own stream or signal reaches the caller as it is. What an answer means is
// not looked at here.

import { type Crypto, fromBase64 } from '../core/contract/crypto.ts';
import { signRequest } from '../core/contract/signatures.ts';
import { joinParts } from '../core/contract/tensors.ts';

export interface WireOptions {
  /** Of the edge: `http://127.0.0.1:8000`. */
  readonly url: string;
  readonly keyid: string;
  /** Base64, as it stands in the key file. */
  readonly secret: string;
  readonly fetch?: typeof fetch;
  /**
   * The longest silence of the server, not the length of a whole transfer: it is counted while the server is awaited,
   * never while the caller's stream or reader is. A body given as bytes gets a second more for each MiB.
   */
  readonly timeoutMs?: number;
  /** Gives up whatever is under way, and all that follows. */
  readonly signal?: AbortSignal;
}

/** A body that is sent piece by piece; its sha-256 goes ahead of it, so it has to be known. */
export interface StreamBody {
  readonly stream: () => ReadableStream<Uint8Array>;
  readonly digest: Uint8Array;
  readonly length: number;
}

/**
 * unreachable: no connection. cut: it ended before the answer was whole. timeout: the server kept silent.
 * damaged: the bytes are not those of the digest. unreadable: the answer is not one of this contract.
 */
export type TransferFault = 'unreachable' | 'cut' | 'timeout' | 'damaged' | 'unreadable';

/** There is no answer that could be used. */
export class TransferError extends Error {
  readonly fault: TransferFault;
  constructor(fault: TransferFault, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'TransferError';
    this.fault = fault;
  }
}

const TIMEOUT_MS = 60_000;
const TIMEOUT_MS_MAX = 2 ** 31 - 1;
const BYTES_A_MS = 1024;

export interface Ask {
  readonly method?: 'GET' | 'HEAD' | 'PUT' | 'POST' | 'DELETE';
  /** With its query. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array | StreamBody;
  readonly digest?: Uint8Array;
  /** The server was asked to keep silent for so long. */
  readonly waitMs?: number;
  /** Gives up this request. */
  readonly signal?: AbortSignal | undefined;
}

export interface Answer {
  /** Method and URL, for messages. */
  readonly asked: string;
  readonly origin: string;
  readonly status: number;
  readonly headers: Headers;
  readonly stream: ReadableStream<Uint8Array>;
  /** No more is wanted of this request. */
  close(): void;
}

export function openWire(options: WireOptions, crypto: Crypto): (ask: Ask) => Promise<Answer> {
  const { keyid, fetch: send = fetch, timeoutMs = TIMEOUT_MS, signal } = options;
  const base = baseOf(options.url);
  const secret = fromBase64(options.secret);
  if (!secret?.length) throw new RangeError('The secret is not base64, as the key file has it.');
  if (!(timeoutMs >= 1 && timeoutMs <= TIMEOUT_MS_MAX))
    throw new RangeError(`timeoutMs is ${timeoutMs}, not 1 to ${TIMEOUT_MS_MAX}.`);

  return async ({ method = 'GET', path, headers, body, digest, waitMs = 0, signal: own }) => {
    const given = [signal, own].filter((one) => one !== undefined);
    for (const one of given) one.throwIfAborted();
    const url = base + path;
    const asked = `${method} ${url}`;
    const signed = await signRequest({ method, url, keyid, secret, ...(digest && { digest }) }, crypto);
    const whole = body instanceof Uint8Array ? body : undefined;
    const limitMs = Math.min(timeoutMs + waitMs + Math.ceil((whole?.length ?? 0) / BYTES_A_MS), TIMEOUT_MS_MAX);
    const watch = openWatch(asked, limitMs, given);
    const upload = body && !whole ? openUpload(body as StreamBody, watch) : undefined;
    const close = () => {
      watch.close();
      upload?.stop();
    };
    watch.wait();
    try {
      const response = await send(url, {
        method,
        // A coded answer has another length than its content, and safetensors hardly shrink.
        headers: { 'accept-encoding': 'identity', ...headers, ...signed, ...upload?.headers },
        ...(whole && { body: unshared(whole) }),
        redirect: 'manual', // a signature is for one path
        ...upload?.init,
        signal: watch.signal,
      });
      watch.rest();
      const stream = openDownload(response, asked, watch);
      return { asked, origin: base, status: response.status, headers: response.headers, stream, close };
    } catch (thrown) {
      close();
      if (watch.signal.aborted) throw watch.signal.reason;
      throw upload?.fault ?? unanswered(asked, thrown);
    }
  };
}

function baseOf(url: string): string {
  const parsed = URL.parse(url);
  if (parsed === null || !/^https?:$/.test(parsed.protocol))
    throw new RangeError(`The url ${JSON.stringify(url)} does not begin with http:// or https://.`);
  if (parsed.search || parsed.hash || parsed.username || parsed.password)
    throw new RangeError('The url has a query, a fragment or a password; give scheme, host and port.');
  return parsed.href.replace(/\/+$/, '');
}

// No fetch takes a view of shared memory.
const unshared = (bytes: Uint8Array): Uint8Array<ArrayBuffer> =>
  bytes.buffer instanceof ArrayBuffer ? (bytes as Uint8Array<ArrayBuffer>) : new Uint8Array(bytes);

const CLOSED = new Set(['ECONNRESET', 'EPIPE', 'UND_ERR_SOCKET']);

function unanswered(asked: string, cause: unknown): TransferError {
  const inner = cause instanceof Error && cause.cause instanceof Error ? cause.cause : cause;
  const code = inner instanceof Error && 'code' in inner ? String(inner.code) : '';
  if (CLOSED.has(code))
    return new TransferError('cut', `The connection was closed before ${asked} was answered (${code}).`, { cause });
  const reason = code || (inner instanceof Error ? inner.message : String(inner));
  return new TransferError('unreachable', `${asked} reached no server (${reason}).`, { cause });
}

interface Watch {
  /** Aborted when a wait was too long, or the caller gave up. */
  readonly signal: AbortSignal;
  /** From now on, the server is awaited. */
  wait(): void;
  /** It is not. */
  rest(): void;
  close(): void;
}

function openWatch(asked: string, limitMs: number, outer: readonly AbortSignal[]): Watch {
  const controller = new AbortController();
  let timer: ReturnType<typeof setTimeout> | undefined;
  let closed = false;
  const silent = () =>
    controller.abort(new TransferError('timeout', `${asked}: the server kept silent for ${limitMs} ms.`));
  const rest = () => clearTimeout(timer);
  return {
    signal: outer.length > 0 ? AbortSignal.any([controller.signal, ...outer]) : controller.signal,
    wait() {
      rest();
      if (!closed) timer = setTimeout(silent, limitMs);
    },
    rest,
    close() {
      closed = true;
      rest();
    },
  };
}

interface Upload {
  readonly init: RequestInit;
  readonly headers: Readonly<Record<string, string>>;
  /** Why the caller's stream failed. */
  readonly fault: unknown;
  stop(): void;
}

function openUpload({ stream, length }: StreamBody, watch: Watch): Upload {
  const reader = stream().getReader();
  let fault: unknown;
  let sent = 0;

  async function next(controller: ReadableStreamDefaultController<Uint8Array>): Promise<void> {
    watch.rest();
    const { done, value } = await reader.read();
    watch.wait();
    sent += value?.length ?? 0;
    if (done ? sent < length : sent > length)
      throw new RangeError(`The stream of the body gave ${sent} bytes, and its length was said to be ${length}.`);
    if (done) controller.close();
    else controller.enqueue(value);
  }

  const counted = new ReadableStream<Uint8Array>(
    {
      pull: (controller) =>
        next(controller).catch((thrown: unknown) => {
          fault = thrown;
          throw thrown;
        }),
      cancel: (reason) => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  );
  return {
    init: streaming(counted, length),
    headers: { 'content-length': String(length) }, // Node sends it; browsers leave it out
    get fault() {
      return fault;
    },
    stop: () => void reader.cancel().catch(() => {}),
  };
}

// Workers take the length from a stream of their own kind, and know no redirect: 'error'. Node's fetch, in case of a
// redirect, keeps all that was sent in memory, unless there can be none: that takes both 'error' and no window.
function streaming(stream: ReadableStream<Uint8Array>, length: number): RequestInit {
  type Sized = new (length: number) => TransformStream<Uint8Array, Uint8Array>;
  const FixedLengthStream: Sized | undefined = Reflect.get(globalThis, 'FixedLengthStream');
  if (FixedLengthStream) return { body: stream.pipeThrough(new FixedLengthStream(length)), duplex: 'half' };
  return { body: stream, duplex: 'half', redirect: 'error', window: null };
}

function openDownload(response: Response, asked: string, watch: Watch): ReadableStream<Uint8Array> {
  const length = response.body === null ? undefined : lengthOf(response.headers); // HEAD tells of bytes it does not send
  const reader = response.body?.getReader();
  let received = 0;
  const cut = (cause?: unknown) =>
    new TransferError('cut', `The answer to ${asked} ended after ${received} of ${length ?? 'unknown'} bytes.`, {
      cause,
    });

  async function read(): Promise<Uint8Array | undefined> {
    watch.wait();
    try {
      return (await reader?.read())?.value;
    } catch (thrown) {
      throw watch.signal.aborted ? watch.signal.reason : cut(thrown);
    } finally {
      watch.rest();
    }
  }

  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const piece = await read();
        received += piece?.length ?? 0;
        if (piece ? received > (length ?? received) : received < (length ?? received)) {
          await reader?.cancel().catch(() => {});
          throw cut();
        }
        if (piece) controller.enqueue(piece);
        else controller.close();
      },
      cancel: (reason) => reader?.cancel(reason),
    },
    { highWaterMark: 0 },
  );
}

// ---- reading

/** Of the content itself: what is coded on the way has another. */
export function lengthOf(headers: Headers): number | undefined {
  const text = headers.get('content-length');
  return text === null || headers.has('content-encoding') ? undefined : Number(text);
}

// Not every browser iterates a stream.
export async function* pieces(stream: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
  const reader = stream.getReader();
  try {
    for (let read = await reader.read(); !read.done; read = await reader.read()) yield read.value;
  } finally {
    await reader.cancel().catch(() => {}); // of no effect where it ended
  }
}

export async function readText(answer: Answer, bytesMax: number): Promise<string> {
  const parts: Uint8Array[] = [];
  let length = 0;
  try {
    for await (const part of pieces(answer.stream)) {
      length += part.length;
      if (length > bytesMax)
        throw new TransferError('unreadable', `The answer to ${answer.asked} has more than ${bytesMax} bytes.`);
      parts.push(part);
    }
  } finally {
    answer.close();
  }
  return new TextDecoder().decode(joinParts(parts));
}
