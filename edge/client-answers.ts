// What an answer of the server says, for the client: JSON of a shape, all bytes, or a refusal; and the query that asks for it.
// A refusal is a `BlatamError`, with what its problem document says; what is none of ours is a `TransferError`. Pure.

import { z } from 'zod';
import type { ProblemCode } from '../core/contract/problems.ts';
import { joinParts } from '../core/contract/tensors.ts';
import { type Answer, pieces, readText, TransferError } from './client-wire.ts';

/** The server answered no. */
export class BlatamError extends Error {
  readonly status: number;
  /** A code of the problem document; `http_<status>` where whoever answered sent none. */
  readonly code: string;
  readonly detail: string;
  readonly requestId: string | undefined;
  /** The problem document; empty where there was none. */
  readonly document: Readonly<Record<string, unknown>>;
  constructor(asked: string, answer: Pick<BlatamError, 'status' | 'code' | 'detail' | 'requestId' | 'document'>) {
    super(`${asked} was refused with ${answer.status} ${answer.code}: ${answer.detail}`);
    this.name = 'BlatamError';
    this.status = answer.status;
    this.code = answer.code;
    this.detail = answer.detail;
    this.requestId = answer.requestId;
    this.document = answer.document;
  }
}

const PROBLEM_BYTES_MAX = 64 * 1024;
const JSON_BYTES_MAX = 64 * 1024 * 1024;
const TEXT_SHOWN = 200;

export function withQuery(
  path: string,
  query: Readonly<Record<string, string | number | boolean | undefined>>,
): string {
  const given = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) if (value !== undefined) given.set(name, String(value));
  return given.size === 0 ? path : `${path}?${given}`;
}

/** All bytes, without a second copy where their number is known. */
export async function collect(stream: ReadableStream<Uint8Array>, length: number | undefined): Promise<Uint8Array> {
  if (length === undefined) {
    const parts: Uint8Array[] = [];
    for await (const part of pieces(stream)) parts.push(part);
    return joinParts(parts);
  }
  const bytes = new Uint8Array(length);
  let at = 0;
  for await (const part of pieces(stream)) {
    bytes.set(part, at); // fits, as `stream` fails at the first byte too many
    at += part.length;
  }
  return bytes;
}

export async function readJson<S extends z.ZodType>(answer: Answer, schema: S): Promise<z.infer<S>> {
  if (answer.status < 200 || answer.status > 299) throw await refusal(answer);
  const parsed = schema.safeParse(jsonOf(await readText(answer, JSON_BYTES_MAX)));
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const fault = `${issue?.path.join('.') || 'the whole'}: ${issue?.message}`;
  const advice = `Is ${answer.origin} a Blatam of this version?`;
  throw new TransferError('unreadable', `The answer to ${answer.asked} has another shape (${fault}). ${advice}`);
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

// ---- refusals

export async function refusal(answer: Answer): Promise<BlatamError> {
  const { asked, status, headers } = answer;
  const text = await readText(answer, PROBLEM_BYTES_MAX).catch(() => '');
  const parsed = jsonOf(text);
  const document = z.record(z.string(), z.unknown()).catch({}).parse(parsed);
  const said = (name: string) => (typeof document[name] === 'string' ? document[name] : undefined);
  return new BlatamError(asked, {
    status,
    code: said('code') ?? `http_${status}`,
    detail: said('detail') ?? said('title') ?? undocumented(text, headers),
    requestId: said('requestId') ?? headers.get('x-request-id') ?? undefined,
    document,
  });
}

function undocumented(text: string, headers: Headers): string {
  const location = headers.get('location');
  if (location !== null) return `It points to ${location}. Use the url that answers itself.`;
  const shown = text.trim().slice(0, TEXT_SHOWN);
  return shown === '' ? 'The answer says no more.' : shown;
}

/** That what was asked for is not held, as against no such route, or a server that is none of ours. */
export async function isMissing(answer: Answer, code: ProblemCode): Promise<boolean> {
  if (answer.status !== 404) return false;
  const error = await refusal(answer);
  if (error.code === code) return true;
  throw error;
}
