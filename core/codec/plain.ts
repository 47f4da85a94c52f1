// Records of f32, f16 and bf16 values as they are, not rotated: value t is the t-th element, the lower half of a word first.
// f32 copies bits. f16 and bf16 round to nearest, ties to even; beyond their range lies infinity; -0 and denormals stay;
// NaN keeps its sign and the upper bits of its payload, and becomes quiet.
import { type RecordName, recordWords } from '../../shaders/records.ts';
import { packBf16, packF16, unpackBf16, unpackF16 } from '../../shaders/sixteen-bits.ts';
import type { RecordCodec } from './codec.ts';

const bitsOf = ({ buffer, byteOffset, length }: Float32Array) => new Uint32Array(buffer, byteOffset, length);

export const f32: RecordCodec = {
  ...base('f32'),
  encode: (vector, record) => record.set(bitsOf(vector)),
  decode: (record, vector) => bitsOf(vector).set(record.subarray(0, vector.length)),
};

export const f16 = sixteenBits('f16', packF16, unpackF16);
export const bf16 = sixteenBits('bf16', packBf16, unpackBf16);

function base(name: RecordName) {
  return { name, rotated: false, exact: true, words: (dim: number) => recordWords(name, dim) };
}

function sixteenBits(name: RecordName, pack: (bits: number) => number, unpack: (bits: number) => number): RecordCodec {
  return {
    ...base(name),
    encode(vector, record) {
      const bits = bitsOf(vector);
      for (let i = 0; i < recordWords(name, vector.length); i++)
        record[i] = pack(bits[2 * i] ?? 0) | (pack(bits[2 * i + 1] ?? 0) << 16);
    },
    decode(record, vector) {
      const bits = bitsOf(vector);
      for (let i = 0; i < bits.length; i++) bits[i] = unpack(((record[i >> 1] ?? 0) >>> (16 * (i & 1))) & 0xffff);
    },
  };
}
