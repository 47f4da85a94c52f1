// The link that refuses what has two readings, or hides what it says, before anybody else reads it:
//   the path    percent-encoded twice or wrongly, backslashes, empty and dot segments, control and bidirectional characters
//   the query   the latter, and more fields than anything asks for
//   the header  fields of one value that came twice, two lengths at once, control characters, more of them than anybody sends
//   the body    one that is compressed: nothing is unpacked here, so that no bomb can be
// What the bytes of the connection themselves hide (folded lines, two lengths, spaces before colons), a runtime refuses before it
// makes a request of them. JSON is judged where it is read (core/contract/json.ts). Pure.
import type { MiddlewareHandler } from 'hono';
import { problem } from '../core/contract/problems.ts';
import type { EdgeEnv } from './app.ts';

const HEADERS_MAX = 64;
const QUERY_FIELDS_MAX = 32;
const TENSORS = '/v1/tensors/';

/** Fields whose value has no comma: with one, they came twice. */
const SINGLE = [
  ...['authorization', 'content-digest', 'content-encoding', 'content-length', 'content-type', 'host', 'signature'],
  ...['transfer-encoding', 'x-deadline-ms', 'x-request-id'],
];

/** C0, DEL, C1; marks, embeddings, overrides and isolates that turn text around; and what is invisible and breaks lines. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]/;
/** What a value may have beside: a tab, and bytes of other encodings. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const CONTROL = /[\u0000-\u0008\u000a-\u001f\u007f]/;

export const sanitize: MiddlewareHandler<EdgeEnv> = (c, next) => {
  const { url, headers } = c.req.raw;
  judgeHeaders(headers);
  const [path = '', query] =
    url
      .slice(url.indexOf('/', url.indexOf('://') + 3))
      .split('#', 1)[0]
      ?.split(/\?(.*)/s) ?? [];
  judgePath(path);
  if (query) judgeQuery(query);
  return next();
};

function judgeHeaders(headers: Headers): void {
  let count = 0;
  for (const [name, value] of headers) {
    count += 1;
    if (CONTROL.test(value)) throw malformed(`The field ${name} has control characters.`);
  }
  if (count > HEADERS_MAX) throw malformed(`${count} fields were sent; at most ${HEADERS_MAX} may be.`);
  for (const name of SINGLE)
    if (headers.get(name)?.includes(',')) throw malformed(`The field ${name} came twice; send it once.`);
  if (headers.has('transfer-encoding') && headers.has('content-length'))
    throw malformed('Both content-length and transfer-encoding say how long the body is.');
  const encoding = headers.get('content-encoding');
  if (encoding !== null && encoding.toLowerCase() !== 'identity')
    throw problem('media_type_unsupported', 'The body has a content-encoding; send it as it is, not compressed.');
}

function judgePath(path: string): void {
  const text = decoded(path);
  const segments = text?.split('/').slice(1) ?? [];
  const isPlain = text !== undefined && !HIDDEN.test(text) && !/[%\\]/.test(text);
  if (isPlain && segments.every((segment) => !/^\.*$/.test(segment))) return;
  const detail = 'The path has empty or dot-only segments, backslashes, hidden characters, or is encoded twice.';
  throw problem(path.startsWith(TENSORS) ? 'key_malformed' : 'route_unknown', detail);
}

function judgeQuery(query: string): void {
  const fields = query.split('&');
  if (fields.length > QUERY_FIELDS_MAX)
    throw problem('query_malformed', `The query has ${fields.length} fields; at most ${QUERY_FIELDS_MAX} may be.`);
  const text = decoded(query.replaceAll('+', ' '));
  if (text === undefined || HIDDEN.test(text))
    throw problem('query_malformed', 'The query has hidden characters, or percent signs that encode none.');
}

function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

const malformed = (detail: string) => problem('header_malformed', detail);
