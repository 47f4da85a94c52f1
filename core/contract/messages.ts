// What callers send and get, as zod schemas, from which the types follow. Pure: edge and core read the same file.
import { z } from 'zod';
import { faultOf, parseJson } from './json.ts';
import { problem } from './problems.ts';
import { integer } from './settings.ts';

export const SAFETENSORS = 'application/vnd.safetensors';
/** Bit-exact; the core answers which codec it used. */
const CODECS = ['lossless', 'raw'] as const;
/** What an owner of a claim is given. */
export const claimSchema = z.string().regex(/^[0-9a-f]{32}$/, 'is no claim');
const DURABILITIES = ['through', 'back', 'none'] as const;
const KEY_CHARS_MAX = 512;
const LIST_MAX = 1000;
export const TTL_SECONDS_MAX = 10 * 365 * 86_400;

export const durabilitySchema = z.enum(DURABILITIES);
export type Durability = (typeof DURABILITIES)[number];

/** 1 to 512 of A–Z a–z 0–9 . _ - : /, in segments that are neither empty nor only dots. */
export const keySchema = z
  .string()
  .min(1)
  .max(KEY_CHARS_MAX)
  .regex(/^[A-Za-z0-9._:/-]+$/, 'only A–Z a–z 0–9 . _ - : / are allowed')
  .refine((key) => key.split('/').every((s) => /[^.]/.test(s)), 'no segment may be empty or of dots only');

export const putQuerySchema = z.strictObject({
  codec: z.string().default('lossless'),
  ttl: integer(1, TTL_SECONDS_MAX).optional(),
  priority: integer(0, 100).default(50),
  durability: durabilitySchema.default('through'),
  /** Of the owner who computed it. */
  claim: claimSchema.optional(),
});

export const listQuerySchema = z.strictObject({
  prefix: z.string().max(KEY_CHARS_MAX).default(''),
  cursor: z.string().max(KEY_CHARS_MAX).default(''),
  limit: integer(1, LIST_MAX).default(100),
});

const ADAPTER_CHARS_MAX = 64;

export const checkQuerySchema = z.strictObject({
  /** Also reads the KV pages, and compares them with their checksums. */
  pages: z
    .enum(['true', 'false'])
    .default('false')
    .transform((text) => text === 'true'),
});

/** What is to move, by key or by prefix, and where to. */
export const moveBodySchema = z
  .strictObject({
    key: keySchema.optional(),
    prefix: z.string().max(KEY_CHARS_MAX).optional(),
    adapter: z.string().min(1).max(ADAPTER_CHARS_MAX),
  })
  .refine(({ key, prefix }) => (key === undefined) !== (prefix === undefined), 'name either a key or a prefix')
  .transform(({ key, prefix = '', adapter }) => ({ what: key === undefined ? { prefix } : { key }, adapter }));

export const tensorEntrySchema = z.object({
  key: z.string(),
  /** sha-256 of the safetensors file, hex; also its ETag. */
  digest: z.string(),
  codec: z.string(),
  /** Of the only tensor; null when there are several. */
  dtype: z.string().nullable(),
  shape: z.array(z.number()).nullable(),
  tensors: z.number(),
  bytes: z.number(),
  storedBytes: z.number(),
  tier: z.enum(['hot', 'cold']),
  adapter: z.string().nullable(),
  priority: z.number(),
  expiresAt: z.string().nullable(),
});
export const putAnswerSchema = tensorEntrySchema.extend({
  deduplicated: z.boolean(),
  /** How long a crash of the core can still take it: 0 once it is on disk, null if it never will be. */
  flushedWithinMs: z.number().nullable().optional(),
  /** How much a crash can take at once, this and others together. */
  flushedWithinBytes: z.number().nullable().optional(),
});
export const listAnswerSchema = z.object({ entries: z.array(tensorEntrySchema), cursor: z.string().nullable() });

export type TensorEntry = z.infer<typeof tensorEntrySchema>;
export type PutAnswer = z.infer<typeof putAnswerSchema>;
export type ListAnswer = z.infer<typeof listAnswerSchema>;

/** The key of a `/v1/tensors/…` path, decoded and checked. */
export function parseKey(encoded: string): string {
  let key: string;
  try {
    key = decodeURIComponent(encoded);
  } catch {
    throw problem('key_malformed', 'The key is not valid percent-encoding.');
  }
  const parsed = keySchema.safeParse(key);
  if (parsed.success) return parsed.data;
  throw problem('key_malformed', `The key is malformed: ${parsed.error.issues[0]?.message ?? 'unknown fault'}.`);
}

/** A query against its schema; a repeated or unknown name is a fault like any other. */
export function parseQuery<S extends z.ZodType>(schema: S, query: URLSearchParams): z.infer<S> {
  const names = [...query.keys()];
  const repeated = names.find((name, i) => names.indexOf(name) !== i);
  if (repeated) throw problem('query_malformed', `The query names ${repeated.slice(0, 64)} twice.`);
  const parsed = schema.safeParse(Object.fromEntries(query));
  if (parsed.success) return parsed.data;
  const { first, faults } = faultsOf(parsed.error);
  throw problem('query_malformed', `The query is malformed. ${first}.`, { faults });
}

/** A JSON body against its schema. */
export function parseBody<S extends z.ZodType>(schema: S, body: Uint8Array): z.infer<S> {
  const json = parseJson(new TextDecoder().decode(body));
  if (json === undefined) throw problem('body_malformed', 'The body is not JSON.');
  return parseShape(schema, json);
}

/** What a body says, against its schema. */
export function parseShape<S extends z.ZodType>(schema: S, said: unknown): z.infer<S> {
  const fault = faultOf(said);
  if (fault !== undefined) throw problem('body_malformed', `The body is malformed. ${fault}.`);
  const parsed = schema.safeParse(said);
  if (parsed.success) return parsed.data;
  const { first, faults } = faultsOf(parsed.error);
  throw problem('body_malformed', `The body is malformed. ${first}.`, { faults });
}

const FAULTS_TOLD_MAX = 16;

/** Faults with their paths, as many as somebody reads, and the first in words. */
function faultsOf({ issues }: z.ZodError) {
  const faults = issues
    .slice(0, FAULTS_TOLD_MAX)
    .map((issue) => ({ path: issue.path.join('.'), message: issue.message }));
  const [first] = faults.map(({ path, message }) => (path ? `${path}: ${message}` : message));
  return { first, faults };
}

/** Only bit-exact storing exists so far, and it is what the default asks for. */
export function parseCodec(codec: string): void {
  if (CODECS.includes(codec as (typeof CODECS)[number])) return;
  throw problem('codec_unknown', `There is no codec ${codec.slice(0, 64)}; this core has ${CODECS.join(', ')}.`);
}
