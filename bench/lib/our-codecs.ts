// The codecs of core/codec as contestants, by their CPU references, whose bits the kernels give too: each alone, and in pairs
// for attention, where K and V may have different rates and what attention sees most may stay in f16.
import type { RecordCodec } from '../../core/codec/codec.ts';
import { recordCodec } from '../../core/codec/record-codecs.ts';
import { RECORD_NAMES, type RecordName } from '../../shaders/records.ts';
import { type Coder, type Contestant, remembering, rotated } from './coded.ts';
import { countOf, SINKS } from './kv-data.ts';
import { EC, EC_UNEVEN } from './our-entropy-codecs.ts';

// ---- records

const byRecords =
  (codec: RecordCodec): Coder =>
  ({ values, dim }) => {
    const result = new Float32Array(values.length);
    const record = new Uint32Array(codec.words(dim));
    for (let at = 0; at < values.length; at += dim) {
      codec.encode(values.subarray(at, at + dim), record);
      codec.decode(record, result.subarray(at, at + dim));
    }
    return { values: result, bits: (record.length * 32) / dim };
  };

/** One for each name, so that what several contestants share is coded once: the search through a trellis takes its time. */
const CODERS = new Map(
  RECORD_NAMES.map((name) => {
    const codec = recordCodec(name);
    const code = codec.rotated ? rotated(byRecords(codec)) : byRecords(codec);
    return [name, remembering(code)];
  }),
);

function recordCoder(name: RecordName): Coder {
  const found = CODERS.get(name);
  if (!found) throw new RangeError(`there is no codec ${name}`);
  return found;
}

function recordContestant(name: RecordName, series?: string): Contestant {
  const code = recordCoder(name);
  const { rotated: isRotated } = recordCodec(name);
  return { name, isOurs: true, series, keys: code, values: code, ...(isRotated ? { takesMean: true } : {}) };
}

const RECORDS: readonly Contestant[] = [
  recordContestant('f16'),
  recordContestant('bf16'),
  recordContestant('q8r'),
  recordContestant('tq4'),
  recordContestant('tcq4', 'tcq'),
  recordContestant('tcq4f'),
  recordContestant('tcq4e', 'tcq exact'),
  recordContestant('tcq3', 'tcq'),
  recordContestant('tcq3f'),
  recordContestant('tcq3e', 'tcq exact'),
  recordContestant('tcq2', 'tcq'),
  recordContestant('tcq2f'),
  recordContestant('tcq2e', 'tcq exact'),
];

// ---- pairs

/** Made for speed, and in all else what the codec is that they are named after: not shown twice in attention. */
const FAST = /^tcq\df$/;

const pair = (name: string, k: RecordName, v: RecordName): Contestant => ({
  ...{ name, isOurs: true, keys: recordCoder(k), values: recordCoder(v), takesMean: true },
});

/** The newest tokens, which attention looks at most. */
const WINDOW = 128;

/** The sinks and the newest tokens in f16, the others as `code` has them. */
const keepingEnds =
  (code: Coder): Coder =>
  (vectors) => {
    const { values, dim } = vectors;
    const coded = code(vectors);
    const isKept = (i: number) => i < SINKS * dim || i >= values.length - WINDOW * dim;
    const share = (SINKS + WINDOW) / countOf(vectors);
    return {
      values: coded.values.map((value, i) => (isKept(i) ? Math.f16round(values[i] ?? 0) : value)),
      bits: coded.bits * (1 - share) + 16 * share,
    };
  };

const withEnds = (contestant: Contestant): Contestant => ({
  ...{ ...contestant, name: `${contestant.name}, ends f16` },
  ...{ keys: keepingEnds(contestant.keys), values: keepingEnds(contestant.values) },
});

export const OURS: readonly Contestant[] = [...RECORDS, ...EC];
export const OUR_PAIRS: readonly Contestant[] = [
  ...RECORDS.filter(({ name }) => !FAST.test(name)),
  ...EC,
  EC_UNEVEN,
  pair('K q8r, V tcq4', 'q8r', 'tcq4'),
  pair('K tcq4, V tcq3', 'tcq4', 'tcq3'),
  pair('K tcq3, V tcq4', 'tcq3', 'tcq4'),
  pair('K tcq3, V tcq2', 'tcq3', 'tcq2'),
  withEnds(pair('tcq4', 'tcq4', 'tcq4')),
];
