// How the pages of a block of KV are laid out: one page a layer; in it first the records of K, head by head and token by
// token, then those of V in the same order. Numbers only.

import { PAGE_TOKENS } from '../../shaders/attention.ts';
import { formatOf, RECORD_NAMES, type RecordName, recordWords } from '../../shaders/records.ts';
import type { KvDtype, KvShape } from '../contract/kv.ts';
import { problem } from '../contract/problems.ts';
import { SLAB_BYTES } from '../gpu/arena.ts';

export { RECORD_NAMES };

/** Tokens of a block. */
export const BLOCK_TOKENS = PAGE_TOKENS;

/** What K and V are stored as. */
export interface Form {
  readonly k: RecordName;
  readonly v: RecordName;
}
export type Part = 'k' | 'v';

/** Storage buffers are bound at multiples of this. */
const ALIGNMENT = 256;
export const aligned = (bytes: number): number => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;

export const isRotated = (codec: RecordName): boolean => formatOf(codec).rotated;
export const sameForm = (a: Form, b: Form): boolean => a.k === b.k && a.v === b.v;

/** Bytes of one part of a page. */
export const partBytes = ({ kvHeads, dim }: KvShape, codec: RecordName): number =>
  kvHeads * BLOCK_TOKENS * recordWords(codec, dim) * 4;

/** Throws where a page would be larger than adapters have them. */
export function pageBytes(shape: KvShape, form: Form): number {
  const bytes = aligned(partBytes(shape, form.k) + partBytes(shape, form.v));
  if (bytes <= SLAB_BYTES) return bytes;
  throw problem(
    'kv_malformed',
    `A layer of ${BLOCK_TOKENS} tokens takes ${bytes} bytes as ${form.k} and ${form.v}; ${SLAB_BYTES} at most. Use smaller codecs.`,
  );
}

/** Where the records of a head begin in a page, in words. */
export function recordsAt(shape: KvShape, form: Form, part: Part, head: number): number {
  const begin = part === 'k' ? 0 : partBytes(shape, form.k) / 4;
  return begin + head * BLOCK_TOKENS * recordWords(form[part], shape.dim);
}

const EXACT = { F32: 'f32', F16: 'f16', BF16: 'bf16' } as const satisfies Record<KvDtype, RecordName>;

/** The records that keep every bit of a dtype. */
export const exactFor = (dtype: KvDtype): RecordName => EXACT[dtype];
/** What stays exact beside coded pages: 16 bits, as the body has them. */
export const windowFor = (dtype: KvDtype): RecordName => (dtype === 'BF16' ? 'bf16' : 'f16');

/** A codec as callers name it; `raw` keeps the body's own bits. */
export function parseRecordCodec(name: string, dtype: KvDtype): RecordName {
  if (name === 'raw') return exactFor(dtype);
  const found = RECORD_NAMES.find((each) => each === name);
  if (found) return found;
  throw problem(
    'codec_unknown',
    `There is no codec ${name.slice(0, 64)} for KV; there is raw, ${RECORD_NAMES.join(', ')}.`,
  );
}
