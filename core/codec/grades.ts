// Codecs of KV as callers name them: what the records on an adapter are, and how they are packed where they leave it.
// `raw` and `lossless` keep the body's own bits everywhere; `ec`, `ec:0.003` (an error relative to the mean square of a head)
// and `ec:4.25b` (bits a value) keep 16 bits on an adapter, and that much of them once they have been in memory.
import type { RecordName } from '../../shaders/records.ts';
import type { KvDtype } from '../contract/kv.ts';
import { problem } from '../contract/problems.ts';
import type { EcGrade, Packing } from './packing-desk.ts';
import { exactFor, type Part, parseRecordCodec, windowFor } from './pages.ts';

export interface Graded {
  readonly record: RecordName;
  readonly packing: Packing;
  /** As it is told, where it is not the record's name. */
  readonly grade: string | undefined;
}

/** About 5.2 bits of K and 4.4 of V (docs/codecs.md). */
const ERRORS: Readonly<Record<Part, number>> = { k: 0.0031, v: 0.0094 };
const AXES = { k: 'channels', v: 'vectors' } as const satisfies Record<Part, EcGrade['axis']>;
const ERROR_MIN = 1e-6;
const ERROR_MAX = 0.5;
const BITS_MIN = 1;
const BITS_MAX = 12;
const EC = /^ec(?::(\d+(?:\.\d+)?)(b?))?$/;

/** Throws for a name that there is not. */
export function parseGraded(name: string, part: Part, dtype: KvDtype): Graded {
  if (name === 'lossless') return { record: exactFor(dtype), packing: 'lossless', grade: undefined };
  if (name !== 'ec' && !name.startsWith('ec:'))
    return { record: parseRecordCodec(name, dtype), packing: 'lossless', grade: undefined };
  const [, number, isBits] = EC.exec(name) ?? [undefined, 'none'];
  const rate = number === undefined ? ERRORS[part] : Number(number);
  const [least, most] = isBits ? [BITS_MIN, BITS_MAX] : [ERROR_MIN, ERROR_MAX];
  if (!(rate >= least && rate <= most))
    throw problem(
      'codec_unknown',
      `There is no codec ${name.slice(0, 64)}; ec takes an error from ${ERROR_MIN} to ${ERROR_MAX}, as in ec:0.003, or bits from ${BITS_MIN} to ${BITS_MAX}, as in ec:4.25b.`,
    );
  const grade = isBits ? { bits: rate } : { error: rate };
  return {
    record: windowFor(dtype),
    packing: { axis: AXES[part], ...grade },
    grade: `ec:${rate}${isBits ? 'b' : ''}`,
  };
}
