// metadata.json: which format the folder has, the mark that its frames bear, and where a start may begin. With a checksum:
// what does not match it says nothing, and the packs are asked instead. Formats are never guessed: a newer one is refused.
import { randomBytes } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { z } from 'zod';
import { parseJson } from '../contract/json.ts';
import { type Disk, readWhole, replaceWhole } from './disk.ts';
import type { CheckpointName } from './journal.ts';

export const FORMAT = 2;

export interface Metadata {
  readonly mark: string;
  /** Of this folder since it was made or restored: within it, a pack's number means one pack. */
  readonly lineage: string;
  readonly checkpoint: CheckpointName | undefined;
}

/** `damaged`: something is there, and does not say what. */
export type Found = { readonly format: number; readonly metadata?: Metadata } | 'none' | 'damaged';

/** 8 bytes that nobody else has. */
export const newId = (): string => randomBytes(8).toString('hex');

const schema = z.object({
  format: z.literal(FORMAT),
  mark: z.string().regex(/^[0-9a-f]{16}$/),
  lineage: z.string().regex(/^[0-9a-f]{16}$/),
  checkpoint: z.object({ number: z.int(), serial: z.int(), seq: z.int() }).nullable(),
});
const anySchema = z.object({ format: z.int().positive(), checksum: z.int().optional() });

const sumOf = (value: object): number => crc32(JSON.stringify(value));

export async function readMetadata(disk: Disk, path: string): Promise<Found> {
  const bytes = await readWhole(disk, path);
  if (bytes === undefined) return 'none';
  const value = parseJson(bytes.toString());
  const any = anySchema.safeParse(value).data;
  if (!any) return 'damaged';
  const { checksum, ...rest } = value as { checksum?: number };
  if (checksum !== undefined && checksum !== sumOf(rest)) return 'damaged';
  if (any.format > FORMAT)
    throw new Error(
      `${path} says format ${any.format}; this Blatam reads formats up to ${FORMAT}. Use the version that wrote it.`,
    );
  if (any.format < FORMAT) return { format: any.format };
  const known = checksum === undefined ? undefined : schema.safeParse(rest).data;
  if (!known) return 'damaged';
  return {
    format: FORMAT,
    metadata: { mark: known.mark, lineage: known.lineage, checkpoint: known.checkpoint ?? undefined },
  };
}

export async function writeMetadata(disk: Disk, path: string, { mark, lineage, checkpoint }: Metadata): Promise<void> {
  const value = { format: FORMAT, mark, lineage, checkpoint: checkpoint ?? null };
  const text = `${JSON.stringify({ ...value, checksum: sumOf(value) }, undefined, 2)}\n`;
  await replaceWhole(disk, path, Buffer.from(text));
}
