// The part of structured fields (RFC 9651) that signatures and digests are written in: dictionaries whose members are
// inner lists or single items; bare items that are strings, integers, byte sequences, or the `true` of a key alone.
// Stricter than the RFC, because what is signed must have one reading: a repeated key is refused where the RFC lets the
// last one win, base64 must be canonical, and a field over TEXT_LENGTH_MAX is refused unread. Tokens, decimals, dates and
// written booleans occur in none of these fields and are refused.

import { fromBase64, toBase64 } from './crypto.ts';
import { type Problem, type ProblemCode, problem } from './problems.ts';

export const TEXT_LENGTH_MAX = 4096;

export type Bare = string | number | true | Uint8Array;
export type Params = ReadonlyMap<string, Bare>;
export interface Item {
  readonly value: Bare;
  readonly params: Params;
}
export interface InnerList {
  readonly items: readonly Item[];
  readonly params: Params;
}

interface Cursor {
  readonly field: string;
  readonly text: string;
  /** What a fault in this field is called. */
  readonly code: ProblemCode;
  at: number;
}

const KEY = /[a-z*][a-z0-9_.*-]*/y;
const INTEGER = /-?[0-9]{1,15}(?![0-9.])/y;
const STRING = /"(?:[ !#-[\]-~]|\\["\\])*"/y;
const BYTES = /:[A-Za-z0-9+/=]*:/y;
const SPACES = / */y;
const SPACES_AND_TABS = /[ \t]*/y;

const QUOTE = 0x22;
const COLON = 0x3a;
const noParams: Params = new Map();

/** `field` is the name that faults are told under; they are Problems of the given code. */
export function parseDictionary(field: string, text: string, code: ProblemCode): Map<string, Item | InnerList> {
  if (text.length > TEXT_LENGTH_MAX)
    throw problem(code, `${field} is ${text.length} characters long; at most ${TEXT_LENGTH_MAX} are read.`);
  const cursor: Cursor = { field, text, code, at: 0 };
  const members = new Map<string, Item | InnerList>();
  skip(cursor, SPACES);
  while (cursor.at < text.length) {
    const key = newKey(cursor, members);
    members.set(key, parseMember(cursor));
    skip(cursor, SPACES_AND_TABS);
    if (cursor.at === text.length) return members;
    if (!skipCharacter(cursor, ',')) throw expected(cursor, 'a comma or the end');
    skip(cursor, SPACES_AND_TABS);
    if (cursor.at === text.length) throw expected(cursor, 'a member after the comma');
  }
  return members;
}

function parseMember(cursor: Cursor): Item | InnerList {
  if (!skipCharacter(cursor, '=')) return { value: true, params: parseParams(cursor) };
  if (!skipCharacter(cursor, '(')) return { value: parseBare(cursor), params: parseParams(cursor) };
  const items: Item[] = [];
  for (;;) {
    skip(cursor, SPACES);
    if (skipCharacter(cursor, ')')) return { items, params: parseParams(cursor) };
    if (items.length > 0 && cursor.text[cursor.at - 1] !== ' ') throw expected(cursor, 'a space or )');
    items.push({ value: parseBare(cursor), params: parseParams(cursor) });
  }
}

function parseParams(cursor: Cursor): Params {
  if (cursor.text[cursor.at] !== ';') return noParams;
  const params = new Map<string, Bare>();
  while (skipCharacter(cursor, ';')) {
    skip(cursor, SPACES);
    const key = newKey(cursor, params);
    params.set(key, skipCharacter(cursor, '=') ? parseBare(cursor) : true);
  }
  return params;
}

function parseBare(cursor: Cursor): Bare {
  const first = cursor.text.charCodeAt(cursor.at);
  if (first === QUOTE) {
    const inner = take(cursor, STRING, 'a quoted string of printable ASCII').slice(1, -1);
    return inner.includes('\\') ? inner.replace(/\\(.)/g, '$1') : inner;
  }
  if (first === COLON) {
    const bytes = fromBase64(take(cursor, BYTES, 'base64 between colons').slice(1, -1));
    if (bytes === undefined) throw expected(cursor, 'canonical, padded base64 before the colon');
    return bytes;
  }
  return Number(take(cursor, INTEGER, 'a string, an integer or base64 between colons'));
}

function newKey(cursor: Cursor, seen: ReadonlyMap<string, unknown>): string {
  const key = take(cursor, KEY, 'a key');
  if (seen.has(key)) throw expected(cursor, `no second "${key}"`);
  return key;
}

// The patterns are sticky, and `test` moves their lastIndex to the end of what it found: no match array is made.
function take(cursor: Cursor, pattern: RegExp, what: string): string {
  pattern.lastIndex = cursor.at;
  if (!pattern.test(cursor.text)) throw expected(cursor, what);
  const start = cursor.at;
  cursor.at = pattern.lastIndex;
  return cursor.text.slice(start, cursor.at);
}

function skip(cursor: Cursor, pattern: RegExp): void {
  pattern.lastIndex = cursor.at;
  if (pattern.test(cursor.text)) cursor.at = pattern.lastIndex;
}

function skipCharacter(cursor: Cursor, character: string): boolean {
  if (cursor.text[cursor.at] !== character) return false;
  cursor.at += 1;
  return true;
}

const expected = (cursor: Cursor, what: string): Problem =>
  problem(cursor.code, `${cursor.field}, character ${cursor.at}: expected ${what}.`);

/** The canonical text, `;created=1;nonce="…"`: the form that both sides sign, however it was spaced on the wire. */
export function serializeParams(params: Params): string {
  let text = '';
  for (const [key, value] of params) text += value === true ? `;${key}` : `;${key}=${serializeBare(value)}`;
  return text;
}

export function serializeBare(value: Exclude<Bare, true>): string {
  if (typeof value === 'number') return String(value);
  if (typeof value !== 'string') return `:${toBase64(value)}:`;
  return /["\\]/.test(value) ? `"${value.replace(/["\\]/g, '\\$&')}"` : `"${value}"`;
}

/** The bytes of a member that is a byte sequence. */
export const bytesOf = (member: Item | InnerList | undefined): Uint8Array | undefined =>
  member !== undefined && 'value' in member && member.value instanceof Uint8Array ? member.value : undefined;
