// How blocks lie on disk. A segment is two files: `N.data` holds records one after the other, `N.index` a line for each, and for each
// root that they stand behind. A line begins with the checksum of what follows it, so that one that is torn or damaged is only
// itself not believed. A record is a package: JSON that says what its parts are, then the mean of K, then the parts; the line has
// its checksum, and it bears its block's name.
// Invariant: what is decoded is what was encoded, for that block, or nothing.
import { crc32 } from 'node:zlib';
import { z } from 'zod';
import type { Means } from '../../../codec/means.ts';
import type { Packed } from '../../../codec/packing-desk.ts';
import { BLOCK_TOKENS, RECORD_NAMES } from '../../../codec/pages.ts';
import { parseJson } from '../../../contract/json.ts';
import { ROPE_PAIRS } from '../../../contract/kv.ts';
import { type Root, rootOf } from '../blocks.ts';
import type { Package } from '../packages.ts';

/** Of lines and records; others are not read, and removed. */
export const FORMAT = 1;

const record = z.enum(RECORD_NAMES);
const grade = z.string().nullable();
const count = z.int().nonnegative();
const hex = z.string().regex(/^[0-9a-f]{32}$/);

const rootLine = z.strictObject({
  format: z.literal(FORMAT),
  root: count,
  scope: z.string(),
  model: z.string(),
  shape: z.strictObject({ layers: z.int().positive(), kvHeads: z.int().positive(), dim: z.int().positive() }),
  rope: z
    .strictObject({
      theta: z.number(),
      scale: z.number(),
      pairs: z.enum(ROPE_PAIRS),
      dims: z.number(),
    })
    .nullable(),
});

const blockLine = z.strictObject({
  block: hex,
  /** The line of its root, in the same segment. */
  root: count,
  parent: hex.nullable(),
  /** In base64. */
  tokens: z.string(),
  at: count,
  bytes: z.int().positive(),
  sum: z.int(),
  form: z.strictObject({ k: record, v: record }),
  grades: z.strictObject({ k: grade, v: grade }),
  priority: z.number(),
  expiresAt: z.number().nullable(),
  /** Of whose share it is, and all who have stored it. */
  tenant: z.string(),
  tenants: z.array(z.string()),
});

export type BlockLine = z.infer<typeof blockLine>;
type RootLine = z.infer<typeof rootLine>;

export const lineOf = (content: RootLine | BlockLine): Buffer => {
  const text = JSON.stringify(content);
  return Buffer.from(`${sumOf(Buffer.from(text))} ${text}\n`);
};

export const rootLineOf = (number: number, { scope, model, shape, rope }: Root): RootLine => ({
  ...{ format: FORMAT, root: number, scope, model },
  shape: { layers: shape.layers, kvHeads: shape.kvHeads, dim: shape.dim },
  rope: rope ? { theta: rope.theta, scale: rope.scale, pairs: rope.pairs, dims: rope.dims } : null,
});

export interface Lines {
  readonly roots: ReadonlyMap<number, Root>;
  readonly blocks: readonly BlockLine[];
  /** Some were not believed, or are torn. */
  readonly isDamaged: boolean;
}

export function readLines(bytes: Buffer): Lines {
  const roots = new Map<number, Root>();
  const blocks: BlockLine[] = [];
  const lines = bytes.toString().split('\n');
  let isDamaged = lines.pop() !== '';
  for (const line of lines) {
    const content = contentOf(line);
    const block = blockLine.safeParse(content);
    const root = block.success ? undefined : rootLine.safeParse(content);
    if (block.success) blocks.push(block.data);
    else if (root?.success) roots.set(root.data.root, rootFrom(root.data));
    else isDamaged = true;
  }
  return { roots, blocks, isDamaged };
}

function contentOf(line: string): unknown {
  const text = line.slice(9);
  return line.slice(0, 9) === `${sumOf(Buffer.from(text))} ` ? parseJson(text) : undefined;
}

const rootFrom = ({ scope, model, shape, rope }: RootLine): Root =>
  rootOf(scope, model, shape, BLOCK_TOKENS, rope ?? undefined);

export const sumOfBytes = (bytes: Uint8Array): number => crc32(bytes);
const sumOf = (bytes: Uint8Array): string => crc32(bytes).toString(16).padStart(8, '0');

export const tokensText = ({ buffer, byteOffset, byteLength }: Int32Array): string =>
  Buffer.from(buffer, byteOffset, byteLength).toString('base64');

/** Undefined unless they are a block's. */
export function tokensOf(text: string): Int32Array | undefined {
  const bytes = Buffer.from(text, 'base64');
  if (bytes.length !== BLOCK_TOKENS * 4) return undefined;
  return new Int32Array(Uint8Array.from(bytes).buffer);
}

// ---- records

interface Head extends Pick<Package, 'form' | 'wanted' | 'packing'> {
  readonly block: string;
  readonly meanBytes: number;
  /** Of pages; in words. */
  readonly seals: readonly number[] | null;
  /** K and V of each layer. */
  readonly parts: readonly { how: Packed['how']; bytes: number; seal: readonly number[] | null }[];
}

const WORD = 4;

/** What lies one after the other; their sum is that of all of it. */
export interface Encoded {
  readonly chunks: readonly Uint8Array[];
  readonly bytes: number;
  readonly sum: number;
}

export function encodeRecord(block: string, { form, wanted, packing, means, layers, seals }: Package): Encoded {
  const parts = layers.flatMap(({ k, v }) => [k, v]);
  const head: Head = {
    ...{ block, form, wanted, packing, meanBytes: means?.values.byteLength ?? 0 },
    seals: seals ? [...seals] : null,
    parts: parts.map(({ how, bytes, seal }) => ({ how, bytes: bytes.length, seal: seal ? [...seal] : null })),
  };
  const text = Buffer.from(JSON.stringify(head));
  const begin = Buffer.alloc(WORD + Math.ceil(text.length / WORD) * WORD, ' ');
  begin.writeUInt32LE(begin.length - WORD);
  text.copy(begin, WORD);
  const mean = means && new Uint8Array(means.values.buffer, means.values.byteOffset, means.values.byteLength);
  const chunks = [begin, ...(mean ? [mean] : []), ...parts.map(({ bytes }) => bytes)];
  return {
    chunks,
    bytes: chunks.reduce((sum, { length }) => sum + length, 0),
    sum: chunks.reduce((sum, chunk) => crc32(chunk, sum), 0),
  };
}

/** Undefined where the bytes are not those that this block's record had. */
export function decodeRecord(block: string, bytes: Uint8Array<ArrayBuffer>, sum: number): Package | undefined {
  if (crc32(bytes) !== sum) return undefined;
  const begin = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  let at = WORD + begin.readUInt32LE(0);
  const head = JSON.parse(begin.toString('utf8', WORD, at)) as Head; // our own, says its checksum
  if (head.block !== block) return undefined;
  const take = (length: number): Uint8Array<ArrayBuffer> => {
    at += length;
    return bytes.subarray(at - length, at);
  };
  const means = head.meanBytes > 0 ? meansFrom(take(head.meanBytes)) : undefined;
  const parts = head.parts.map(
    ({ how, bytes, seal }): Packed => ({ how, bytes: take(bytes), seal: seal ? Uint32Array.from(seal) : undefined }),
  );
  const { form, wanted, packing } = head;
  const seals = head.seals ? Uint32Array.from(head.seals) : undefined;
  const sealBytes = parts.reduce((all, { seal }) => all + (seal?.byteLength ?? 0), seals?.byteLength ?? 0);
  const partBytes = parts.reduce((all, part) => all + part.bytes.length, 0);
  return { form, wanted, packing, means, layers: layersOf(parts), seals, bytes: partBytes + sealBytes };
}

/** A copy: what holds it does not hold the record too. */
const meansFrom = (bytes: Uint8Array): Means => ({ values: new Float32Array(Uint8Array.from(bytes).buffer) });

const layersOf = (parts: readonly Packed[]): Package['layers'] =>
  Array.from({ length: parts.length / 2 }, (_, layer) => {
    const [k, v] = parts.slice(layer * 2, layer * 2 + 2);
    if (!k || !v) throw new Error(`layer ${layer} of a record has no K or no V`);
    return { k, v };
  });
