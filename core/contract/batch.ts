// Many small tensors in one request: a frame as safetensors itself is framed, eight bytes with the length N of the header, N bytes
// of JSON, then safetensors files one after another, each as long as the header says. Asking for files takes only JSON.
// What can be seen wrong in a frame as a whole is a problem of the whole; what befalls one entry is its own. Pure.
import { z } from 'zod';
import { parseJson } from './json.ts';
import {
  claimSchema,
  durabilitySchema,
  keySchema,
  parseShape,
  TTL_SECONDS_MAX,
  tensorEntrySchema,
} from './messages.ts';
import { problem } from './problems.ts';

export const BATCH = 'application/vnd.blatam.batch';
export const BATCH_ENTRIES_MAX = 512;
/** Of files, without the header. */
export const BATCH_BYTES_MAX = 16 << 20;
const PREFIX_BYTES = 8;
const HEADER_BYTES_MAX = 1 << 20;
/** Of a whole frame. */
export const BATCH_FRAME_BYTES_MAX = PREFIX_BYTES + HEADER_BYTES_MAX + BATCH_BYTES_MAX;

const keys = <S extends z.ZodType>(entries: z.ZodArray<S>, keyOf: (entry: z.infer<S>) => string) =>
  entries
    .min(1)
    .max(BATCH_ENTRIES_MAX, `at most ${BATCH_ENTRIES_MAX} entries; make it several batches`)
    .superRefine((all, context) => {
      const seen = new Set<string>();
      for (const [i, entry] of all.entries()) {
        const key = keyOf(entry);
        if (seen.has(key)) context.addIssue({ code: 'custom', path: [i], message: `names ${key} again` });
        seen.add(key);
      }
    });

const putEntrySchema = z.strictObject({
  key: keySchema,
  /** Of its file. */
  bytes: z.int().min(0),
  ttl: z.int().min(1).max(TTL_SECONDS_MAX).optional(),
  priority: z.int().min(0).max(100).default(50),
  durability: durabilitySchema.default('through'),
  claim: claimSchema.optional(),
});
export const putHeaderSchema = z.strictObject({ put: keys(z.array(putEntrySchema), ({ key }) => key) });
export const getBodySchema = z.strictObject({ get: keys(z.array(keySchema), (key) => key) });

const refusedSchema = z.object({ key: z.string(), status: z.number(), code: z.string(), detail: z.string() });
const storedSchema = tensorEntrySchema.extend({ status: z.number(), deduplicated: z.boolean() });
const foundSchema = z.object({ key: z.string(), status: z.literal(200), ...{ bytes: z.number(), digest: z.string() } });

/** An entry that has `code` was refused. */
export const putAnswersSchema = z.object({ entries: z.array(z.union([refusedSchema, storedSchema])) });
export const getAnswersSchema = z.object({
  entries: z.array(z.union([refusedSchema, foundSchema.extend({ cache: z.string() })])),
});

export type BatchPut = z.infer<typeof putEntrySchema>;
export type BatchRefused = z.infer<typeof refusedSchema>;
export type BatchFound = z.infer<typeof foundSchema> & { readonly cache: string };

/** The first bytes of a frame; its files follow. */
export function frameHead(header: unknown): Uint8Array {
  const json = new TextEncoder().encode(JSON.stringify(header));
  const head = new Uint8Array(PREFIX_BYTES + json.length);
  new DataView(head.buffer).setBigUint64(0, BigInt(json.length), true);
  head.set(json, PREFIX_BYTES);
  return head;
}

export interface Frame {
  readonly header: unknown;
  /** All files, one after another. */
  readonly files: Uint8Array;
}

export function openFrame(frame: Uint8Array): Frame {
  if (frame.length < PREFIX_BYTES)
    throw malformed(`has ${frame.length} bytes, and its first 8 tell its header's length`);
  const length = new DataView(frame.buffer, frame.byteOffset, PREFIX_BYTES).getBigUint64(0, true);
  if (length > HEADER_BYTES_MAX)
    throw malformed(`announces a header of ${length} bytes, and at most ${HEADER_BYTES_MAX} are read`);
  const end = PREFIX_BYTES + Number(length);
  if (end > frame.length) throw malformed(`announces a header of ${length} bytes, and ends within it`);
  const header = parseJson(new TextDecoder().decode(frame.subarray(PREFIX_BYTES, end)));
  if (header === undefined) throw malformed('has a header that is not JSON');
  return { header, files: frame.subarray(end) };
}

/** Each entry's file: views that cover all of them exactly. */
export function filesOf(files: Uint8Array, lengths: readonly number[]): Uint8Array[] {
  const told = lengths.reduce((sum, length) => sum + length, 0);
  if (told > BATCH_BYTES_MAX)
    throw problem(
      'body_too_large',
      `The batch has ${told} bytes of files, the limit is ${BATCH_BYTES_MAX}. Split it.`,
      {
        bytesMax: BATCH_BYTES_MAX,
      },
    );
  if (told !== files.length) throw malformed(`has ${files.length} bytes of files, and its header tells of ${told}`);
  let at = 0;
  return lengths.map((length) => {
    at += length;
    return files.subarray(at - length, at);
  });
}

export function readPuts(frame: Uint8Array): { readonly entry: BatchPut; readonly file: Uint8Array }[] {
  const { header, files } = openFrame(frame);
  const { put } = parseShape(putHeaderSchema, header);
  const cut = filesOf(
    files,
    put.map(({ bytes }) => bytes),
  );
  return put.map((entry, i) => ({ entry, file: cut[i] ?? files.subarray(0, 0) }));
}

const malformed = (fault: string) => problem('body_malformed', `The batch ${fault}.`);
