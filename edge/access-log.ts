// The access log (ACCESS_LOG=on): one line of JSON for each request. It says who asked for what and how that ended, and has no
// header field, no body, and no value of the query, which may be a secret. Whatever a caller sends, a line is bounded and ASCII.
// Lines are handed to `write` in the background, one bunch after the other; while that is slow they gather up to
// PENDING_CHARS_MAX, and what comes then is dropped and counted: no request waits for its line.

export interface AccessLine {
  readonly method: string;
  /** As it was sent, its query included. */
  readonly url: string;
  readonly status: number;
  readonly ms: number;
  /** Of the answer's body, where its head says. */
  readonly bytes: number | undefined;
  readonly keyid: string | undefined;
  readonly tenant: string | undefined;
  readonly address: string | undefined;
  readonly requestId: string;
  readonly traceId: string;
}

export interface AccessLog {
  note(line: AccessLine): void;
  /** Lines for which there was no room. */
  readonly dropped: number;
  /** Resolves when what was noted is written, or after 1 s. */
  close(): Promise<void>;
}

const PENDING_CHARS_MAX = 256 << 10;
const CLOSE_MS_MAX = 1_000;
const PATH_CHARS_MAX = 512;
const QUERY_CHARS_MAX = 256;
const WORD_CHARS_MAX = 128;

/** `write` takes whole lines, and resolves when it can take more. */
export function createAccessLog(write: (lines: string) => Promise<unknown>, now: () => number): AccessLog {
  let pending: string[] = [];
  let pendingChars = 0;
  let dropped = 0;
  let writing: Promise<void> | undefined;

  async function writeAll(): Promise<void> {
    while (pending.length > 0) {
      const lines = pending.join('');
      pending = [];
      pendingChars = 0;
      await write(lines).catch(() => {}); // whoever reads it has left
    }
    writing = undefined;
  }

  return {
    note(line) {
      const text = lineOf(line, now());
      if (pendingChars + text.length > PENDING_CHARS_MAX) {
        dropped += 1;
        return;
      }
      pending.push(text);
      pendingChars += text.length;
      writing ??= Promise.resolve().then(writeAll);
    },
    get dropped() {
      return dropped;
    },
    async close() {
      let timer: ReturnType<typeof setTimeout> | undefined;
      const late = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, CLOSE_MS_MAX);
      });
      await Promise.race([writing, late]);
      clearTimeout(timer);
    },
  };
}

/** With its end of line. */
export function lineOf({ method, url, ms, ...line }: AccessLine, now: number): string {
  const { status, bytes, requestId, traceId } = line;
  const [keyid, tenant, address] = [line.keyid, line.tenant, line.address].map((text) =>
    text?.slice(0, WORD_CHARS_MAX),
  );
  const time = new Date(now).toISOString();
  const said = { time, method: method.slice(0, WORD_CHARS_MAX), path: pathOf(url), status, ms: Number(ms.toFixed(3)) };
  const text = JSON.stringify({ ...said, bytes, keyid, tenant, address, requestId, traceId });
  return `${text.replace(/[^\x20-\x7e]/g, escapeUnit)}\n`;
}

const escapeUnit = (unit: string): string => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`;

/** Path and the names in the query; `…` stands for their values, and for what has no name. */
function pathOf(url: string): string {
  const from = url.indexOf('/', url.indexOf('://') + 3);
  const [path = '', query] = from === -1 ? ['/'] : (url.slice(from).split('#', 1)[0] ?? '').split(/\?(.*)/s);
  if (!query) return path.slice(0, PATH_CHARS_MAX);
  const fields = query.slice(0, QUERY_CHARS_MAX).split('&');
  const names = fields.map((field) => (field.includes('=') ? `${field.split('=', 1)[0]}=…` : '…'));
  return `${path.slice(0, PATH_CHARS_MAX)}?${names.join('&')}`;
}
