// Whose work a request is part of: W3C Trace Context (traceparent and tracestate, version 00). Pure.
// A traceparent that is well formed is gone on with, under a new span of ours; one of a later version as the recommendation says, by the
// fields that version 00 knows. Any other begins a new trace, not sampled, and its tracestate is forgotten. Of the flags only `sampled`
// is passed on. tracestate goes on as it came, shortened by whole entries: those of more than 128 characters first, then the last ones.

export const TRACEPARENT = 'traceparent';
export const TRACESTATE = 'tracestate';

/** What stands in a traceparent. */
export interface Parent {
  /** 32 hexadecimal digits. */
  readonly traceId: string;
  /** 16 hexadecimal digits: the caller's own step. */
  readonly spanId: string;
  readonly sampled: boolean;
}

/** With our own span. */
export interface Trace extends Parent {
  readonly state: string | undefined;
}

const PARENT = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/s;
const SPAN_CHARS = 16;
const ZEROS = /^0+$/;

export function parseTraceparent(field: string): Parent | undefined {
  const [, version, traceId = '', spanId = '', flags = '', more] = PARENT.exec(field) ?? [];
  if (version === undefined || version === 'ff' || (version === '00' && more !== undefined)) return undefined;
  if (ZEROS.test(traceId) || ZEROS.test(spanId)) return undefined;
  return { traceId, spanId, sampled: (Number.parseInt(flags, 16) & 1) === 1 };
}

export const traceparentOf = ({ traceId, spanId, sampled }: Parent): string =>
  `00-${traceId}-${spanId}-${sampled ? '01' : '00'}`;

const STATE_CHARS_MAX = 512;
const STATE_READ_CHARS_MAX = 8192;
const ENTRIES_MAX = 32;
const LONG_ENTRY_CHARS = 128;
const ENTRY =
  /^(?:[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]$/;

/** What is passed on of it: at most 512 characters; undefined where nothing is left, or it is malformed. */
export function boundTracestate(field: string): string | undefined {
  if (field.length > STATE_READ_CHARS_MAX) return undefined;
  const entries = field.split(',').flatMap((entry) => entry.replace(/^[ \t]+|[ \t]+$/g, '') || []);
  const names = new Set(entries.map((entry) => entry.split('=', 1)[0]));
  if (entries.length > ENTRIES_MAX || names.size < entries.length || !entries.every((entry) => ENTRY.test(entry)))
    return undefined;
  while (entries.join().length > STATE_CHARS_MAX) {
    const long = entries.findLastIndex((entry) => entry.length > LONG_ENTRY_CHARS);
    entries.splice(long, 1); // -1 is the last
  }
  return entries.join() || undefined;
}

/** The trace of a request. `uuid` is random, new with each: our span, and the name of a trace that begins here. */
export function traceOf(headers: Headers, uuid: string): Trace {
  const id = uuid.replaceAll('-', '');
  const spanId = id.slice(-SPAN_CHARS);
  const said = headers.get(TRACEPARENT);
  const parent = said === null ? undefined : parseTraceparent(said);
  if (!parent) return { traceId: id, spanId, sampled: false, state: undefined };
  const state = headers.get(TRACESTATE);
  return { ...parent, spanId, state: state === null ? undefined : boundTracestate(state) };
}

/** Of the request to the next hop. */
export const traceFields = (trace: Trace): Readonly<Record<string, string>> => ({
  [TRACEPARENT]: traceparentOf(trace),
  ...(trace.state !== undefined && { [TRACESTATE]: trace.state }),
});
