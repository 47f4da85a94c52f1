// The JSON of a safetensors header, read strictly: objects whose keys never repeat, strings, lists of whole numbers.
// JSON.parse keeps the last of two equal keys and takes 1e3 and 1.0 for whole numbers, so two readers could see two
// different files in the same bytes; here each of these is refused. There is no recursion, and each character is read
// once, so neither depth nor length can do harm. It knows nothing of tensors, and leaves numbers other than whole
// ones, booleans and null unread, for no header has them. Pure: runs on every runtime.

import { type Problem, type ProblemCode, problem } from './problems.ts';

/** A place in the header's text. `tensor` is the entry being read, for messages. */
export interface Cursor {
  readonly text: string;
  at: number;
  tensor: string | undefined;
}

const QUOTED_CHARS_MAX = 100;

/** Text from outside, safe to put in a message: escaped, and cut. */
export const quote = (text: string): string =>
  JSON.stringify(text.length > QUOTED_CHARS_MAX ? `${text.slice(0, QUOTED_CHARS_MAX)}…` : text);

export function openHeader(json: Uint8Array): Cursor {
  if (json[0] !== 0x7b) {
    throw problem('tensors_header_malformed', 'The header does not begin with {. Send a safetensors file.');
  }
  return { text: decode(json), at: 0, tensor: undefined };
}

function decode(json: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(json);
  } catch {
    throw problem('tensors_header_malformed', 'The header is not UTF-8. Encode its names and metadata as UTF-8.');
  }
}

/** What may follow the header's object: the spaces that pad it. */
export function closeHeader(cursor: Cursor): void {
  while (cursor.text.charCodeAt(cursor.at) === 0x20) cursor.at++;
  if (cursor.at < cursor.text.length) throw unexpected(cursor, 'only spaces after its last }');
}

/** The keys of an object, one by one; the caller reads each value before it asks for the next key. */
export function* readMembers(cursor: Cursor, repeated: (key: string) => Problem): Generator<string, void, undefined> {
  if (!take(cursor, '{')) throw unexpected(cursor, 'an object');
  if (take(cursor, '}')) return;
  const seen = new Set<string>();
  do {
    const key = readString(cursor, 'a name in double quotes');
    if (seen.has(key)) throw repeated(key);
    seen.add(key);
    if (!take(cursor, ':')) throw unexpected(cursor, 'a colon');
    yield key;
  } while (take(cursor, ','));
  if (!take(cursor, '}')) throw unexpected(cursor, 'a comma or }');
}

export function readString(cursor: Cursor, wanted: string, code?: ProblemCode): string {
  skipSpace(cursor);
  const begin = cursor.at;
  if (cursor.text[begin] !== '"') throw unexpected(cursor, wanted, code);
  const end = closingQuote(cursor, begin + 1);
  const value = unescaped(cursor.text.slice(begin, end + 1));
  if (value === undefined) throw unexpected(cursor, 'a string whose escapes JSON knows and Unicode allows');
  cursor.at = end + 1;
  return value;
}

function closingQuote(cursor: Cursor, from: number): number {
  const { text } = cursor;
  for (let at = from; at < text.length; at++) {
    const unit = text.charCodeAt(at);
    if (unit === 0x22) return at;
    if (unit === 0x5c) at++;
  }
  cursor.at = text.length;
  throw unexpected(cursor, 'the closing quote of a string');
}

function unescaped(literal: string): string | undefined {
  try {
    const value = JSON.parse(literal) as string;
    return value.isWellFormed() ? value : undefined;
  } catch {
    return undefined;
  }
}

/** A list of whole numbers that JavaScript holds exactly, in plain digits. */
export function readIntegers(cursor: Cursor, wanted: string, countMax: number, code: ProblemCode): number[] {
  const values: number[] = [];
  if (!take(cursor, '[')) throw unexpected(cursor, wanted, code);
  if (take(cursor, ']')) return values;
  do {
    if (values.length === countMax) throw unexpected(cursor, wanted, code);
    values.push(readInteger(cursor, wanted, code));
  } while (take(cursor, ','));
  if (!take(cursor, ']')) throw unexpected(cursor, wanted, code);
  return values;
}

function readInteger(cursor: Cursor, wanted: string, code: ProblemCode): number {
  skipSpace(cursor);
  const { text, at: begin } = cursor;
  let end = begin;
  let value = 0;
  for (; isDigit(text.charCodeAt(end)); end++) value = value * 10 + (text.charCodeAt(end) - 0x30);
  const padded = end > begin + 1 && text[begin] === '0';
  if (end === begin || padded || !Number.isSafeInteger(value)) throw unexpected(cursor, wanted, code);
  cursor.at = end;
  return value;
}

const isDigit = (unit: number): boolean => unit >= 0x30 && unit <= 0x39;

function take(cursor: Cursor, mark: string): boolean {
  skipSpace(cursor);
  const found = cursor.text[cursor.at] === mark;
  if (found) cursor.at++;
  return found;
}

function skipSpace(cursor: Cursor): void {
  for (; ; cursor.at++) {
    const unit = cursor.text.charCodeAt(cursor.at);
    if (unit !== 0x20 && unit !== 0x0a && unit !== 0x0d && unit !== 0x09) return;
  }
}

/** What is wrong at the cursor; a text that ends is malformed whatever was being read. */
function unexpected(cursor: Cursor, wanted: string, code: ProblemCode = 'tensors_header_malformed'): Problem {
  const { text, at, tensor } = cursor;
  const place = tensor === undefined ? 'The header' : `The header, in tensor ${quote(tensor)},`;
  const ended = at >= text.length;
  const found = ended ? 'it ends' : `it has ${quote(text.slice(at, at + 24))}`;
  const detail = `${place} needs ${wanted} at character ${at}; ${found}. Write the file with a safetensors library.`;
  return problem(ended ? 'tensors_header_malformed' : code, detail);
}
