// All fixed-rate codecs there are, by name.
import { RECORD_NAMES, type RecordName } from '../../shaders/records.ts';
import type { RecordCodec } from './codec.ts';
import { bf16, f16, f32 } from './plain.ts';
import { q8r } from './q8r.ts';
import { tq4 } from './tq4.ts';
import { trellisCodec } from './trellis.ts';

const UNLIKE = new Map([f32, f16, bf16, q8r, tq4].map((codec) => [codec.name, codec]));
const ALL = new Map<string, RecordCodec>(RECORD_NAMES.map((name) => [name, UNLIKE.get(name) ?? trellisCodec(name)]));

/** Throws for a name that no codec has. */
export function recordCodec(name: RecordName): RecordCodec {
  const found = ALL.get(name);
  if (!found) throw new RangeError(`there is no codec ${name}; there is ${[...ALL.keys()].join(', ')}`);
  return found;
}
