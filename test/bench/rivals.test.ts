// Other people's formats as the codec benchmark has them: by hand on small examples, and by figures that their makers publish.
// (That q8_0, q4_0 and iq4_nl are ggml's bits, the benchmark itself confirms where ggml is installed.)
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Coder, lessMean, meanOfHead, plusMean, remembering, rotated } from '../../bench/lib/coded.ts';
import { distortionOf } from '../../bench/lib/distortion.ts';
import { openGgml } from '../../bench/lib/ggml.ts';
import { DIM, gaussian, outlierKeys, rotaryEmbedding, type Vectors, vectorsOf } from '../../bench/lib/kv-data.ts';
import { RIVALS } from '../../bench/lib/rivals.ts';
import { fp8, iq4_nl, kivi, nvfp4, q4_0, q8_0 } from '../../bench/lib/rivals-blocks.ts';
import { lloydMax, normalShare, turboQuant } from '../../bench/lib/rivals-turboquant.ts';

const COUNT = 512;
const close = (got: number, wanted: number, share: number, what: string) =>
  assert.ok(Math.abs(got / wanted - 1) <= share, `${what}: ${got}, not ${wanted} within ${100 * share} %`);

/** One vector that begins with these values, zeros after them. */
const beginning = (...values: number[]) => {
  const vector = new Float32Array(DIM);
  vector.set(values);
  return vectorsOf(vector);
};
const begun = (code: Coder, ...values: number[]) => [...code(beginning(...values)).values.slice(0, values.length)];

describe('rivals', () => {
  test('q8_0 has 127 steps to the largest of 32; halves go away from zero', () => {
    assert.deepEqual(begun(q8_0, 127, -127, 2.5, -2.5, 0.4), [127, -127, 3, -3, 0]);
  });

  test('q4_0 puts the largest of 32 at -8 steps, and has 7 on the other side', () => {
    assert.deepEqual(begun(q4_0, -8, 8, 3.4, -3.6, 0.5), [-8, 7, 3, -4, 1]);
    assert.deepEqual(begun(q4_0, 16, -16, 2), [16, -14, 2]);
  });

  test('iq4_nl takes its own levels as they are', () => {
    assert.deepEqual(begun(iq4_nl, -127, 113, 25, -35, 1), [-127, 113, 25, -35, 1]);
  });

  test('fp8 has three bits of mantissa, steps of 2^-9 near zero, and ends at 448', () => {
    assert.deepEqual(begun(fp8, 1.0625, 1.1875, 17, 2 ** -9, 2 ** -11, -1000), [1, 1.25, 16, 2 ** -9, 0, -448]);
  });

  test('NVFP4 has the levels 0 to 6 times a scale of 16 values', () => {
    const levels = [0, 0.5, 1, 1.5, 2, 3, 4, 6, -6, -0.5];
    assert.deepEqual(begun(nvfp4, ...levels), levels);
    assert.deepEqual(begun(nvfp4, 6, 5, 2.4), [6, 4, 2]); // 5 is a tie: to even
  });

  test('KIVI codes V by token and K by channel, both ends exactly', () => {
    const values = Float32Array.from({ length: 32 * DIM }, (_, i) => 3 * (i % DIM) + 12 * Math.floor(i / DIM));
    const { keys, values: code } = kivi(2, 32);
    const [byChannel, byToken] = [keys(vectorsOf(values)), code(vectorsOf(values))];
    assert.deepEqual([byChannel.bits, byToken.bits], [3, 3]);
    assert.equal(byToken.values[31], 93, 'the largest of its group');
    assert.equal(byToken.values[1], 0, 'steps of 31 within a token');
    assert.equal(byChannel.values[1], 3, 'the least of its channel');
    assert.equal(byChannel.values[31 * DIM + 5], 15 + 12 * 31, 'the largest of its channel');
  });

  test("normalShare() and lloydMax() have the distribution's and the codebooks' known figures", () => {
    close(normalShare(1), 0.841344746, 1e-8, 'below 1');
    close(normalShare(-3), 0.001349898, 1e-6, 'below -3');
    assert.deepEqual([normalShare(9), normalShare(-9)], [1, 0]);
    assert.deepEqual(
      lloydMax(1).map((level) => level.toFixed(4)),
      ['-0.7979', '0.7979'],
    );
    assert.deepEqual(
      lloydMax(2).map((level) => level.toFixed(4)),
      ['-1.5104', '-0.4528', '0.4528', '1.5104'],
    );
  });

  test('on N(0,1) each has the error that is known of it', () => {
    const vectors = gaussian(1, COUNT);
    const known: readonly (readonly [Coder, number, number])[] = [
      [q8_0, 8.5, 2.88e-5],
      [q4_0, 4.5, 0.0074],
      [rotated(q4_0), 4.5, 0.0074],
      [fp8, 8, 7.06e-4],
      [nvfp4, 4.5, 0.009],
      [kivi(2, 64).values, 2.5, 0.203],
      [turboQuant(2), 2.125, 0.117],
      [turboQuant(3), 3.125, 0.0345],
      [turboQuant(4), 4.125, 0.0095],
    ];
    for (const [code, bits, error] of known) {
      const found = distortionOf(vectors, code(vectors));
      assert.equal(found.bits, bits);
      close(found.error, error, 0.03, `${bits} bits`);
    }
  });

  test('all give zeros for zeros, and leave what they are given as it is', () => {
    for (const { name, keys, values } of RIVALS)
      for (const code of [keys, values]) {
        assert.ok(
          code(vectorsOf(new Float32Array(64 * DIM))).values.every((value) => value === 0),
          name,
        );
        const vectors = gaussian(5, 64);
        code(vectors);
        assert.deepEqual(vectors.values, gaussian(5, 64).values, name);
      }
  });
});

describe('what is put around a codec', () => {
  const exact: Coder = ({ values }) => ({ values, bits: 3 });

  test('rotated() spreads one large value over its vector, and gives it back', () => {
    let seen = new Float32Array();
    const spy: Coder = (vectors) => {
      seen = vectors.values;
      return exact(vectors);
    };
    const back = rotated(spy)(beginning(0, 128)).values;
    assert.ok(seen.every((value) => Math.abs(Math.abs(value) - Math.sqrt(128)) < 1e-4));
    assert.ok(back.every((value, i) => Math.abs(value - (i === 1 ? 128 : 0)) < 1e-4));
  });

  test('lessMean() takes one f16 vector from all, plusMean() counts its bits and gives it back', () => {
    const vectors = outlierKeys(3, 512);
    const mean = meanOfHead(vectors);
    assert.deepEqual(mean.values.subarray(0, DIM), mean.values.subarray(7 * DIM, 8 * DIM));
    assert.ok(mean.values.every((value) => value === Math.f16round(value)));
    const rest = lessMean(vectors, mean);
    assert.ok(Math.abs(rest.values[300 * DIM + 75] ?? 99) < 10, 'the outlier is near zero');
    const coded = plusMean(exact(rest), mean);
    assert.equal(coded.bits, 3 + 16 / 512);
    assert.ok(coded.values.every((value, i) => Math.abs(value - (vectors.values[i] ?? 0)) < 1e-5));
  });

  test('a mean that is turned with the tokens leaves as little after a rotary embedding as before', () => {
    const keys = outlierKeys(3, 512);
    const mean = meanOfHead(keys);
    const errorOf = (vectors: Vectors, means: Vectors) =>
      distortionOf(vectors, plusMean(rotated(q4_0)(lessMean(vectors, means)), means)).error;
    close(errorOf(rotaryEmbedding(keys), rotaryEmbedding(mean)), errorOf(keys, mean), 0.1, 'error');
  });

  test('remembering() codes the same vectors once', () => {
    let times = 0;
    const code = remembering((vectors) => {
      times++;
      return exact(vectors);
    });
    const vectors = gaussian(1, 4);
    assert.equal(code(vectors), code(vectors));
    code(gaussian(1, 4));
    assert.equal(times, 2);
  });
});

test('openGgml() says where it looked when there is no library', async () => {
  const found = await openGgml('/nowhere');
  assert.ok(typeof found === 'string' && /no libggml-base\.so in \/nowhere; .*BENCH_GGML/.test(found), String(found));
});
