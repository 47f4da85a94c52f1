// Every record codec on one adapter, against its CPU reference: the same bytes of every vector, odd ones among them, at
// every dimension, for counts around the size of a workgroup, and each record alone. The searches over 512 states take
// seconds to compile, so that each adapter tries the forms that it would choose for some, and the others for the rest.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import type { AnyDispatch } from '../../core/gpu/kernel-choice.ts';
import { formatOf, HEAD_DIMS, RECORD_NAMES, type RecordName, recordWords } from '../../shaders/records.ts';
import { type Seeded, seeded } from '../support/seeded.ts';
import { openSource, type Source, workOn } from './adapters.ts';
import { bytesExpected, type Case, dispatchOf, faultOf, wantedBy } from './cases.ts';
import {
  apart,
  decodeCase,
  decodedBy,
  dense,
  encodeCase,
  encodedBy,
  normalVectors,
  oddVectors,
} from './codec-cases.ts';

const COUNTS = [1, 63, 64, 65];
const isSearched = (codec: RecordName) => formatOf(codec).trellis !== undefined;
const isFast = (codec: RecordName) => (formatOf(codec).trellis?.stateBits ?? 0) < 9;

export interface Plan {
  readonly robustness: boolean;
  /** Trellis codecs over 512 states that are encoded by a lane alone, at 128; all others there by a group of lanes. */
  readonly alone: readonly RecordName[];
  /** At every dimension; what is searched and not named here, at 128 only. */
  readonly encodedAtAll: readonly RecordName[];
  readonly decodedAtAll: readonly RecordName[];
}

export async function testCodecsOn(
  source: Source,
  { robustness, alone, encodedAtAll, decodedAtAll }: Plan,
): Promise<void> {
  const opened = await openSource(source, { robustness });
  if (typeof opened === 'string') {
    test(source, { skip: opened }, () => {});
    return;
  }
  const { kernels, bench } = workOn(opened);
  after(() => {
    assert.deepEqual(opened.errors, []);
    opened.device.destroy();
  });

  async function run(each: Case, variant?: string): Promise<Uint8Array<ArrayBuffer>> {
    const target = bench.target(bytesExpected(each));
    const wanted = { ...wantedBy(each, '', {}), variant } as AnyDispatch;
    const sources = Object.fromEntries(Object.entries(each.sources).map(([name, data]) => [name, bench.source(data)]));
    await kernels.run([dispatchOf(wanted, each, { ...sources, target })]);
    const got = await target.read(bytesExpected(each));
    for (const buffer of bench.made()) kernels.forget(buffer);
    bench.clear();
    return got;
  }

  for (const codec of RECORD_NAMES)
    test(`${source}: ${codec} is encoded as its reference does it, odd vectors too`, async () => {
      const seed = seeded();
      const everywhere = !isSearched(codec) || encodedAtAll.includes(codec);
      for (const dim of everywhere ? HEAD_DIMS : [128]) {
        const odd = oddVectors(seed, dim);
        const vectors = [...odd.map(([, vector]) => vector), ...normalVectors(seed, 5, dim)];
        const each = encodeCase({ codec, dim, vectors, walk: apart });
        const inGroup = isSearched(codec) && !isFast(codec) && !alone.includes(codec);
        const got = await run(each, inGroup ? groupFor(codec) : undefined);
        const fault = faultOf(each, got);
        assert.equal(fault, undefined, `${each.name}, SEED=${seed.seed}, odd ones: ${odd.map(([name]) => name)}`);
      }
    });

  for (const codec of RECORD_NAMES)
    test(`${source}: ${codec} is decoded as its reference does it, whatever the bits`, async () => {
      const seed = seeded();
      for (const dim of decodedAtAll.includes(codec) ? HEAD_DIMS : [128]) {
        const words = recordWords(codec, dim);
        const records = [
          ...oddVectors(seed, dim).map(([, vector]) => encodedBy(codec, vector)),
          ...Array.from({ length: 12 }, () => anyRecord(seed, codec, words)),
        ];
        const vectors = records.map(() => new Float32Array(dim));
        const each = decodeCase({ codec, dim, vectors });
        const source_ = new Uint32Array(records.flatMap((record) => [...record]));
        const got = new Float32Array((await run({ ...each, sources: { source: source_ } })).buffer);
        for (const [i, record] of records.entries()) {
          const wanted = decodedBy(codec, dim, record);
          const at = wanted.findIndex((value, t) => !isSame(got[i * dim + t] ?? 0, value));
          const name = `${codec} of ${dim}, record ${i}, value ${at}: ${got[i * dim + at]}, not ${wanted[at]}`;
          assert.equal(at, -1, `${name}, SEED=${seed.seed}`);
        }
      }
    });

  test(`${source}: records of any number of vectors, dense and apart`, async () => {
    const seed = seeded();
    for (const codec of ['tq4', 'tcq3f'] as const)
      for (const count of codec === 'tq4' ? [...COUNTS, 1000] : COUNTS)
        for (const walk of [dense, apart]) {
          const vectors = normalVectors(seed, count, 64);
          for (const each of [
            encodeCase({ codec, dim: 64, vectors, walk }),
            decodeCase({ codec, dim: 64, vectors, walk }),
          ])
            assert.equal(faultOf(each, await run(each)), undefined, `${each.kernel} ${each.name}, SEED=${seed.seed}`);
        }
  });

  test(`${source}: one record of many is decoded alone`, async () => {
    const seed = seeded();
    const vectors = normalVectors(seed, 9, 128);
    const words = recordWords('tcq4', 128);
    const all = decodeCase({ codec: 'tcq4', dim: 128, vectors });
    const one = decodeCase({ codec: 'tcq4', dim: 128, vectors: vectors.slice(7, 8) });
    const parameters = { ...one.parameters, source_first: 7 * words };
    assert.equal(faultOf(one, await run({ ...one, sources: all.sources, parameters })), undefined);
  });

  test(`${source}: what no kernel is made for is refused before it runs`, async () => {
    const seed = seeded();
    const good = decodeCase({ codec: 'tq4', dim: 64, vectors: normalVectors(seed, 2, 64) });
    const changed = (parameters: object, constants: object = {}) =>
      run({
        ...good,
        parameters: { ...good.parameters, ...parameters },
        constants: { ...good.constants, ...constants },
      });
    await assert.rejects(changed({ run: 0 }), /a run of vectors is to have one at least/);
    await assert.rejects(changed({ target_first: 2 }), /multiples of 4 values/);
    await assert.rejects(changed({ vectors: 3, run: 3 }), /holds \d+ bytes, and \d+ will be touched/);
    await assert.rejects(changed({}, { CODEC: 99 }), /does not work with .*"CODEC":99/);
    await assert.rejects(changed({}, { DIM: 100 }), /does not work with .*"DIM":100/);
  });
}

/** Any bits, but for the scale of tq4, which no encoder makes smaller than this: denormals may be zero to an adapter. */
function anyRecord(seed: Seeded, codec: RecordName, words: number): Uint32Array<ArrayBuffer> {
  const record = new Uint32Array(seed.bytes(words * 4).buffer as ArrayBuffer);
  if (codec === 'tq4') new Float32Array(record.buffer)[0] = (1 + seed.next()) * 2 ** (seed.below(190) - 94);
  return record;
}

/** Equal numbers, zeros of either sign, or both NaN. */
const isSame = (a: number, b: number): boolean => a === b || (Number.isNaN(a) && Number.isNaN(b));

const groupFor = (codec: RecordName): string => {
  const { stateBits = 0, shiftBits = 0 } = formatOf(codec).trellis ?? {};
  return `trellis-group-${Math.max(64, 2 ** (stateBits - shiftBits))}`;
};
