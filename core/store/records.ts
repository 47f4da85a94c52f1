// What a record on disk says: which key holds which payload. What does not read as a record is damaged, never guessed at.
import { createHash } from 'node:crypto';
import { z } from 'zod';

export const recordSchema = z.strictObject({
  tenant: z.string(),
  key: z.string(),
  /** sha-256 of the payload, hex: its file's name. */
  digest: z.string().regex(/^[0-9a-f]{64}$/),
  bytes: z.int().nonnegative(),
  codec: z.string(),
  dtype: z.string().nullable(),
  shape: z.array(z.int().nonnegative()).nullable(),
  tensors: z.int().nonnegative(),
  priority: z.int(),
  /** Milliseconds since 1970. */
  createdAt: z.int(),
  expiresAt: z.int().nullable(),
});

export type StoredRecord = z.infer<typeof recordSchema>;

type R = StoredRecord;
/** A record without the names of its fields. */
export type RecordFields = readonly [
  ...[tenant: string, key: string, digest: string, bytes: number, codec: string, dtype: R['dtype'], shape: R['shape']],
  ...[tensors: number, priority: number, createdAt: number, expiresAt: R['expiresAt']],
];
export const fieldsOf = (r: StoredRecord): RecordFields => [
  ...([r.tenant, r.key, r.digest, r.bytes, r.codec, r.dtype, r.shape] as const),
  ...([r.tensors, r.priority, r.createdAt, r.expiresAt] as const),
];
export function recordOf(fields: RecordFields): StoredRecord {
  // By number: a start does this a million times, and an iterator would cost more than all of it.
  return {
    tenant: fields[0],
    key: fields[1],
    digest: fields[2],
    bytes: fields[3],
    codec: fields[4],
    dtype: fields[5],
    shape: fields[6],
    tensors: fields[7],
    priority: fields[8],
    createdAt: fields[9],
    expiresAt: fields[10],
  };
}

/** A payload's name: tenants do not share payloads, or one could tell what another holds. */
export const payloadName = (tenant: string, digest: string): string => `${digest}.${tenantHash(tenant)}`;

export const tenantHash = (tenant: string): string => createHash('sha256').update(tenant).digest('hex').slice(0, 16);

/** In format 1, the file of a record. Tenants and keys hold no NUL, so that two owners never share a name. */
export const recordName = (tenant: string, key: string): string =>
  createHash('sha256').update(`${tenant}\0${key}`).digest('hex');

/** What the other frames of a pack say. */
/** `compacted`: synced as a whole before it got its name. */
export const headSchema = z.object({ pack: z.int(), compacted: z.boolean().optional() });
export const deleteSchema = z.object({ tenant: z.string(), key: z.string() });
/** `file`: it lies beside the packs. */
export const payloadSchema = z.object({
  tenant: z.string(),
  digest: z.string().regex(/^[0-9a-f]{64}$/),
  bytes: z.int().nonnegative(),
  file: z.boolean(),
});
