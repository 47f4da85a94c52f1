// The codecs' CPU references: how far from the vector their records are, what becomes of odd vectors, and that each record
// stands for itself. The bounds on the error are at least three standard deviations of the sample away.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { recordCodec } from '../../../core/codec/record-codecs.ts';
import { inverseOf, largestCode, measure, rmsCode, SCALES, scaleOf } from '../../../core/codec/scale.ts';
import { formatOf, HEAD_DIMS, RECORD_NAMES, type RecordName } from '../../../shaders/records.ts';
import { decodedBy, encodedBy, normalVectors, oddVectors } from '../../kernels/codec-cases.ts';
import { seeded } from '../../support/seeded.ts';

const ROTATED = RECORD_NAMES.filter((name) => formatOf(name).rotated);

/** Sum of squared differences over sum of squares. */
function relativeError(codec: RecordName, vectors: readonly Float32Array[]): number {
  let error = 0;
  let power = 0;
  for (const vector of vectors) {
    const decoded = decodedBy(codec, vector.length, encodedBy(codec, vector));
    for (const [i, value] of vector.entries()) {
      error += (value - (decoded[i] ?? 0)) ** 2;
      power += value ** 2;
    }
  }
  return error / power;
}

test('records of normal values are as near to them, at their bits a value, as they are to be', () => {
  const seed = seeded();
  const vectors = normalVectors(seed, 512, 128);
  const asked = {
    ...{ q8r: [8.14, 4.3e-5], tq4: [4.25, 0.0095] },
    ...{ tcq4: [4.25, 0.0043], tcq3: [3.25, 0.016], tcq2: [2.25, 0.0605] },
    ...{ tcq4e: [4, 0.0058], tcq3e: [3, 0.0222], tcq2e: [2, 0.087] },
    ...{ tcq4f: [4.25, 0.0049], tcq3f: [3.25, 0.0176], tcq2f: [2.25, 0.0655] },
  };
  for (const [codec, [bits, error]] of Object.entries(asked) as [RecordName, [number, number]][]) {
    assert.ok((recordCodec(codec).words(128) * 32) / 128 <= bits, codec);
    const found = relativeError(codec, vectors);
    assert.ok(found <= error, `${codec}: ${found}, SEED=${seed.seed}`);
  }
});

test('records of every dimension are about as near', () => {
  const seed = seeded();
  for (const codec of ROTATED)
    for (const dim of HEAD_DIMS) {
      const bits = (recordCodec(codec).words(dim) * 32) / dim;
      const found = relativeError(codec, normalVectors(seed, 12, dim));
      // what no code can beat is 4^-bits; these are within a factor of it that the scale takes, and rounding to words
      assert.ok(found < 5 * 4 ** -bits, `${codec} of ${dim}: ${found} at ${bits} bits, SEED=${seed.seed}`);
    }
});

test('f32 keeps every bit; f16 and bf16 keep every value of theirs, and make a signalling NaN quiet', () => {
  const bits = Uint32Array.from({ length: 64 }, (_, i) => (i * 0x0408_1021) >>> 0).with(3, 0x7f80_0001);
  const vector = new Float32Array(bits.buffer);
  assert.deepEqual(encodedBy('f32', vector), bits);
  assert.deepEqual(new Uint32Array(decodedBy('f32', 64, bits).buffer), bits);
  for (const [codec, quiet] of [
    ['f16', 0x0200],
    ['bf16', 0x0040],
  ] as const)
    for (let first = 0; first < 0x1_0000; first += 64) {
      const record = Uint32Array.from({ length: 32 }, (_, i) => (first + 2 * i) | ((first + 2 * i + 1) << 16));
      const back = encodedBy(codec, decodedBy(codec, 64, record));
      for (const half of [0, 16])
        for (const [i, word] of back.entries()) {
          const was = ((record[i] ?? 0) >>> half) & 0xffff;
          const is = (word >>> half) & 0xffff;
          assert.ok(is === was || is === (was | quiet), `${codec} ${was.toString(16)}: ${is.toString(16)}`);
        }
    }
});

test('a vector of zeros, of either sign, or too small for any scale, is a record of zeros', () => {
  for (const codec of ROTATED)
    for (const value of [0, -0, 1e-40, codec === 'tq4' ? 2 ** -91 : 1e-6])
      for (const dim of HEAD_DIMS) {
        const record = encodedBy(codec, new Float32Array(dim).fill(value));
        assert.ok(
          record.every((word) => word === 0),
          `${codec} of ${value}`,
        );
        assert.ok(decodedBy(codec, dim, record).every((each) => each === 0));
      }
});

test('a vector with a value that is not finite decodes to NaN throughout, and nothing of it is stored', () => {
  for (const codec of ROTATED)
    for (const value of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
      const record = encodedBy(codec, new Float32Array(96).fill(1).with(95, value));
      assert.equal(record[0], codec === 'tq4' ? 0x7fc0_0000 : 255);
      assert.ok(record.subarray(1).every((word) => word === 0));
      assert.ok(decodedBy(codec, 96, record).every(Number.isNaN));
    }
});

test('a finite vector decodes to finite values; one too large for every scale keeps its direction', () => {
  const seed = seeded();
  for (const codec of ROTATED)
    for (const [name, vector] of oddVectors(seed, 128)) {
      if (!vector.every(Number.isFinite)) continue;
      const decoded = decodedBy(codec, 128, encodedBy(codec, vector));
      assert.ok(decoded.every(Number.isFinite), `${codec}, ${name}`);
      if (!['beyond f16', 'the largest'].includes(name)) continue;
      assert.ok(cosine(vector, decoded) > 0.93, `${codec}, ${name}: ${cosine(vector, decoded)}`);
    }
});

test('one huge value among normal ones comes back, within what its bits are worth', () => {
  const seed = seeded();
  const within = { q8r: 0.02, tq4: 0.001, tcq4: 0.1, tcq3: 0.1, tcq2: 0.2, tcq4e: 0.1, tcq3e: 0.1, tcq2e: 0.2 };
  for (const [codec, share] of Object.entries(within) as [RecordName, number][])
    for (let at = 0; at < 128; at += 17) {
      const [vector = new Float32Array(0)] = normalVectors(seed, 1, 128).map((each) => each.with(at, 1000));
      const decoded = decodedBy(codec, 128, encodedBy(codec, vector));
      const off = Math.abs((decoded[at] ?? 0) / 1000 - 1);
      assert.ok(off <= share, `${codec} at ${at}: ${decoded[at]}, SEED=${seed.seed}`);
    }
});

test('encode() writes the whole record, whatever was there', () => {
  const seed = seeded();
  for (const codec of RECORD_NAMES)
    for (const vector of [...normalVectors(seed, 1, 80), new Float32Array(80)]) {
      const dirty = new Uint32Array(recordCodec(codec).words(80)).fill(0xffff_ffff);
      recordCodec(codec).encode(vector, dirty);
      assert.deepEqual(dirty, encodedBy(codec, vector), codec);
    }
});

test('records are read and written where they lie, alone', () => {
  const seed = seeded();
  for (const codec of RECORD_NAMES) {
    const { words, encode, decode } = recordCodec(codec);
    const vectors = normalVectors(seed, 3, 64);
    const page = new Uint32Array(3 * words(64));
    const place = (i: number) => page.subarray(i * words(64), (i + 1) * words(64));
    for (const i of [2, 0, 1]) encode(vectors[i] ?? new Float32Array(64), place(i));
    const all = new Float32Array(2 * 64);
    decode(place(1), all.subarray(64));
    assert.deepEqual(all.slice(64), decodedBy(codec, 64, encodedBy(codec, vectors[1] ?? all)), codec);
    assert.ok(all.subarray(0, 64).every((value) => value === 0));
  }
});

test('scaleOf() has an eighth of an octave to a step; largestCode() is the least that holds, rmsCode() the nearest', () => {
  const seed = seeded();
  assert.deepEqual([0, 128, 136, 120, 1, 254].map(scaleOf), [0, 1, 2, 0.5, scaleOf(9) / 2, scaleOf(246) * 2]);
  assert.ok(Number.isNaN(scaleOf(255)));
  for (let code = 2; code < 255; code++) {
    assert.ok(Math.abs(scaleOf(code) / scaleOf(code - 1) - 2 ** (1 / 8)) < 1e-6);
    assert.ok(Math.abs(scaleOf(code) * inverseOf(code) - 1) < 1e-6);
    const alone = measure(new Float32Array(64).with(5, scaleOf(code)));
    assert.equal(largestCode(alone), code);
    assert.equal(largestCode(measure(new Float32Array(64).with(5, scaleOf(code) * (1 + 2 ** -23)))), code + 1);
  }
  assert.equal(SCALES[4], Math.fround(Math.SQRT2));
  for (const dim of HEAD_DIMS)
    for (const [vector = new Float32Array(dim)] of Array.from({ length: 20 }, () => normalVectors(seed, 1, dim))) {
      const factor = 2 ** (12 * seed.next() - 6);
      const scaled = vector.map((value) => value * factor);
      const rms = Math.sqrt(scaled.reduce((sum, value) => sum + value * value, 0) / dim);
      const off = 128 + 8 * Math.log2(rms) - rmsCode(measure(scaled), dim);
      assert.ok(Math.abs(off) < 0.51, `${dim}: off by ${off}, SEED=${seed.seed}`);
    }
});

function cosine(a: Float32Array, b: Float32Array): number {
  const dot = (x: Float32Array, y: Float32Array) => x.reduce((sum, value, i) => sum + value * (y[i] ?? 0), 0);
  const unit = Math.max(...a.map(Math.abs));
  const near = a.map((value) => value / unit);
  return dot(near, b) / Math.sqrt(dot(near, near) * dot(b, b));
}
