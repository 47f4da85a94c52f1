// HTTP/1.1 for wire.ts: requests with a known length, answers with content-length. Chunked answers are refused: no route
// that is measured sends any.
import type { Dialect } from './wire.ts';

export interface HttpHead {
  readonly status: number;
  readonly headers: ReadonlyMap<string, string>;
}

export const httpDialect: Dialect<HttpHead> = {
  headEnd: '\r\n\r\n',
  parseHead(text) {
    const [first = '', ...lines] = text.split('\r\n');
    const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(first)?.[1]);
    if (!status) throw new Error(`this is no HTTP/1.1 answer: ${first.slice(0, 100)}`);
    const headers = new Map(lines.map(fieldOf));
    if (headers.has('transfer-encoding')) throw new Error('an answer is chunked; this client wants content-length');
    const bodyBytes = Number(headers.get('content-length') ?? 0);
    return { head: { status, headers }, bodyBytes, afterBytes: 0, fault: status >= 400 };
  },
};

export function requestHead(method: string, path: string, fields: Readonly<Record<string, string>>): Uint8Array {
  const lines = Object.entries(fields).map(([name, value]) => `${name}: ${value}\r\n`);
  return Buffer.from(`${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n`, 'latin1');
}

function fieldOf(line: string): [string, string] {
  const colon = line.indexOf(':');
  return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
}
