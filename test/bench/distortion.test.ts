// The measures of the codec benchmark, on cases whose answer is known without measuring.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { attentionErrors, LOGIT_DEVIATIONS, SCENES } from '../../bench/lib/attention-error.ts';
import { cosine, distortionOf } from '../../bench/lib/distortion.ts';
import { DIM, gaussian, normal } from '../../bench/lib/kv-data.ts';

const TOKENS = 256;
const near = (got: number, wanted: number, within = 1e-6) =>
  assert.ok(Math.abs(got - wanted) <= within, `${got}, not ${wanted} within ${within}`);

describe('distortionOf()', () => {
  const vectors = gaussian(1, TOKENS);
  const { values } = vectors;

  test('is zero for what came back as it was', () => {
    const { error, centredError, angle } = distortionOf(vectors, { values, bits: 16 });
    near(error, 0);
    near(centredError, 0);
    near(angle, 0);
  });

  test('is the square of a common factor, which changes no angle; all is lost at 1', () => {
    const half = distortionOf(vectors, { values: values.map((value) => value / 2), bits: 1 });
    near(half.error, 0.25);
    near(half.angle, 0);
    near(half.overLimit, 1);
    near(distortionOf(vectors, { values: new Float32Array(values.length), bits: 0 }).error, 1);
  });

  test('centred, does not see what is the same in all vectors of a channel', () => {
    const moved = values.map((value, i) => value + 5 + (i % DIM));
    const { error, centredError } = distortionOf(vectors, { values: moved, bits: 1 });
    assert.ok(error > 100);
    near(centredError, 0);
  });

  test('worst is of the vector that suffers most', () => {
    const one = values.map((value, i) => (Math.floor(i / DIM) === 3 ? 0 : value));
    const { error, worst } = distortionOf(vectors, { values: one, bits: 1 });
    assert.equal(worst, 1);
    assert.ok(error < 0.01);
  });

  test('is not to be had of a wrong number of values, nor hidden by NaN', () => {
    assert.throws(() => distortionOf(vectors, { values: values.slice(1), bits: 1 }), /came back of/);
    const broken = values.slice();
    broken[7] = Number.NaN;
    assert.ok(Number.isNaN(distortionOf(vectors, { values: broken, bits: 1 }).error));
  });

  test('cosine() is 1, 0 and -1 where it has to be', () => {
    assert.deepEqual(
      [cosine([1, 2], [2, 4]), cosine([1, 0], [0, 3]), cosine([1, 1], [-1, -1])].map(Math.round),
      [1, 0, -1],
    );
    assert.equal(cosine([0, 0], [0, 0]), 1);
  });
});

describe('attentionErrors()', () => {
  const scene = SCENES.gauss(0, TOKENS);
  const exact = (vectors: typeof scene.keys) => ({ values: vectors.values, bits: 32 });

  test("queries' logits have deviation 1 over the keys", () => {
    for (const query of scene.queries) {
      const logits = Array.from({ length: TOKENS }, (_, token) =>
        query.reduce((sum, value, i) => sum + value * (scene.keys.values[token * DIM + i] ?? 0), 0),
      );
      const mean = logits.reduce((a, b) => a + b) / TOKENS;
      near(Math.sqrt(logits.reduce((sum, logit) => sum + (logit - mean) ** 2, 0) / TOKENS), 1);
    }
  });

  test('exact K and V have no error; one vector added to all keys makes none', () => {
    const shifted = scene.keys.values.map((value, i) => value + ((i % DIM) % 7));
    for (const keys of [exact(scene.keys), { values: shifted, bits: 32 }])
      for (const { error, angle } of attentionErrors(scene, keys, exact(scene.values))) {
        near(error, 0, 1e-4);
        near(angle, 0, 1e-8);
      }
  });

  test('V with a relative squared error e, K exact: the output has the relative error sqrt(e) or near it', () => {
    const next = normal(3);
    const noisy = { values: scene.values.values.map((value) => value + 0.1 * next()), bits: 4 };
    const errors = attentionErrors(scene, exact(scene.keys), noisy);
    assert.equal(errors.length, LOGIT_DEVIATIONS.length);
    for (const { error } of errors) near(error, 0.1, 0.02);
  });

  test('an error of K weighs more the further logits lie apart', () => {
    const next = normal(3);
    const noisy = { values: scene.keys.values.map((value) => value + 0.05 * next()), bits: 4 };
    const [at1, at2] = attentionErrors(scene, noisy, exact(scene.values));
    assert.ok((at1?.error ?? 0) > 0.02);
    assert.ok((at2?.error ?? 0) > (at1?.error ?? 0));
  });

  test('a repetition has other data, the same one has the same', () => {
    assert.deepEqual(SCENES.outliers(0, 64).queries, SCENES.outliers(0, 64).queries);
    assert.notDeepEqual(SCENES.outliers(0, 64).queries, SCENES.outliers(1, 64).queries);
    assert.notDeepEqual(SCENES.gauss(0, 64).values, SCENES.gauss(1, 64).values);
  });
});
