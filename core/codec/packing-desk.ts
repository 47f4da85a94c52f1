// What packing has in common, whichever way a part goes: what a part is, how many of them a run takes, and where each lies.
import { CATALOGUE } from '../../shaders/catalogue.ts';
import type { RecordName } from '../../shaders/records.ts';
import { PIECE_BYTES, type Piece } from '../gpu/pieces.ts';
import type { Work, WorkDispatch, WorkRange } from '../gpu/work.ts';
import type { EcAxis } from './ec.ts';

/** Where the part lies, and what its records are. */
export interface PagePart {
  readonly range: WorkRange;
  readonly codec: RecordName;
  readonly vectors: number;
  readonly dim: number;
}

/** How finely `ec` keeps it: within a share of each head's energy, or within so many bits a value. */
export type EcGrade = { readonly axis: EcAxis } & ({ readonly error: number } | { readonly bits: number });

/** How a part is to be packed; what is coded already goes as it is, whatever is asked. */
export type Packing = 'lossless' | EcGrade;

export interface Packed {
  readonly how: 'records' | 'lossless' | 'ec';
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Of records; containers end in theirs. */
  readonly seal: Uint32Array | undefined;
}

/** The adapter, and the piece that all goes through; both are the caller's. */
export interface Desk {
  readonly piece: Piece;
  run(work: Work): Promise<unknown>;
}

type ExactName = 'f32' | 'f16' | 'bf16';
/** A part whose records are plain values. */
export type ExactPart = PagePart & { readonly codec: ExactName };

export const isExact = (part: PagePart): part is ExactPart =>
  part.codec === 'f32' || part.codec === 'f16' || part.codec === 'bf16';

/** As many of them in each as a piece and a run have room for. */
export function* batches<T>(
  all: readonly T[],
  bytesOf: (each: T) => number,
  countMax: number,
): Generator<T[], void, void> {
  let batch: T[] = [];
  let bytes = 0;
  for (const each of all) {
    if (batch.length > 0 && (bytes + bytesOf(each) > PIECE_BYTES || batch.length >= countMax)) {
      yield batch;
      [batch, bytes] = [[], 0];
    }
    batch.push(each);
    bytes += bytesOf(each);
  }
  if (batch.length > 0) yield batch;
}

/** Where each begins, one after the other. */
export function placesOf(sizes: readonly number[]): number[] {
  let at = 0;
  return sizes.map((size) => {
    at += size;
    return at - size;
  });
}

export const wordsOf = ({ buffer, byteOffset, byteLength }: Uint8Array): Uint32Array =>
  new Uint32Array(buffer, byteOffset, byteLength / 4);

/** A step of lossless-steps.ts or ec-steps.ts with those of the ranges that its kernel takes. */
export function dispatch(
  step: Pick<WorkDispatch, 'kernel'> | undefined,
  ranges: Readonly<Record<string, WorkRange | undefined>>,
): WorkDispatch {
  if (!step) throw new Error('a step is missing');
  const names = Object.keys(CATALOGUE[step.kernel].bindings);
  return { ...step, bindings: Object.fromEntries(names.map((name) => [name, ranges[name]])) } as WorkDispatch; // as declared
}

export const bytesOf = (view: ArrayBufferView | undefined): Uint8Array =>
  view ? new Uint8Array(view.buffer as ArrayBuffer, view.byteOffset, view.byteLength) : new Uint8Array(0);
