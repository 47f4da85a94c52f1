// The seeded data of the codec benchmark: the same numbers for everybody, and of the kind that their names say.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  countOf,
  DIM,
  gaussian,
  heavyValues,
  normal,
  outlierKeys,
  rotaryEmbedding,
  sumOfSquares,
  uniform,
  unitSphere,
  type Vectors,
  withChannelMeans,
} from '../../bench/lib/kv-data.ts';

const COUNT = 1024;
const close = (got: number, wanted: number, within: number, what: string) =>
  assert.ok(Math.abs(got - wanted) <= within, `${what}: ${got}, not ${wanted} within ${within}`);

/** The values of one channel. */
const channelOf = ({ values }: Vectors, channel: number): Float32Array => values.filter((_, i) => i % DIM === channel);
const meanOf = (values: Float32Array): number => values.reduce((sum, value) => sum + value, 0) / values.length;
const momentOf = (values: Float32Array, power: number): number => {
  const mean = meanOf(values);
  return values.reduce((sum, value) => sum + (value - mean) ** power, 0) / values.length;
};
const kurtosisOf = (values: Float32Array): number => momentOf(values, 4) / momentOf(values, 2) ** 2;

describe('data of the codec benchmark', () => {
  test('uniform() and normal() give the numbers that others computed from the same seeds', () => {
    const next = uniform(1);
    assert.deepEqual([next(), next()], [0.6270739405881613, 0.002735721180215478]);
    const deviate = normal(1);
    assert.deepEqual([deviate(), deviate()], [1.4043387784152637, 0.024141617523036025]);
  });

  test('the first vectors of a long run are those of a short one', () => {
    for (const make of [gaussian, unitSphere, outlierKeys, heavyValues]) {
      const [short, long] = [make(9, 16), make(9, 48)];
      assert.equal(countOf(short), 16);
      assert.deepEqual(long.values.subarray(0, 16 * DIM), short.values, make.name);
      assert.notDeepEqual(make(10, 16).values, short.values, make.name);
    }
  });

  test('gaussian() is standard normal, unitSphere() has length 1', () => {
    const { values } = gaussian(1, COUNT);
    close(meanOf(values), 0, 0.01, 'mean');
    close(momentOf(values, 2), 1, 0.02, 'variance');
    close(kurtosisOf(values), 3, 0.1, 'kurtosis');
    const sphere = unitSphere(2, 8).values;
    for (let at = 0; at < sphere.length; at += DIM)
      close(sumOfSquares(sphere.subarray(at, at + DIM)), 1, 1e-5, 'length');
  });

  test('outlierKeys() have four channels far from zero, tokens like their neighbours, and small sinks', () => {
    const keys = outlierKeys(3, COUNT);
    const far = Array.from({ length: DIM }, (_, i) => i).filter((i) => Math.abs(meanOf(channelOf(keys, i))) > 8);
    assert.deepEqual(far, [11, 37, 75, 101]);
    const channel = channelOf(keys, 75).map((value, _, all) => value - meanOf(all));
    const likeness =
      channel.slice(1).reduce((sum, value, i) => sum + value * (channel[i] ?? 0), 0) / sumOfSquares(channel);
    close(likeness, 0.7, 0.1, 'likeness');
    const usual = (token: number) =>
      sumOfSquares(keys.values.subarray(token * DIM, (token + 1) * DIM).filter((_, i) => !far.includes(i)));
    for (const sink of [0, 1, 2, 3]) assert.ok(usual(sink) < usual(sink + 4) / 9, `sink ${sink}`);
  });

  test('rotaryEmbedding() keeps lengths, and the first token as it is', () => {
    const keys = outlierKeys(3, 64);
    const turned = rotaryEmbedding(keys);
    assert.deepEqual(turned.values.subarray(0, DIM), keys.values.subarray(0, DIM));
    assert.notDeepEqual(turned.values.subarray(DIM), keys.values.subarray(DIM));
    for (let at = 0; at < keys.values.length; at += DIM) {
      const [before, after] = [keys, turned].map(({ values }) => sumOfSquares(values.subarray(at, at + DIM)));
      close((after ?? 0) / (before ?? 0), 1, 1e-5, 'length');
    }
  });

  test('heavyValues() have heavy tails; withChannelMeans() moves channels by means of their own', () => {
    const values = heavyValues(4, COUNT);
    assert.ok(kurtosisOf(values.values) > 8);
    const moved = withChannelMeans(values, 15);
    const by = moved.values.map((value, i) => value - (values.values[i] ?? 0));
    for (const i of [0, 17, 127]) close(by[i] ?? 0, by[5 * DIM + i] ?? 1, 1e-5, `channel ${i}`);
    assert.ok(Math.abs((by[0] ?? 0) - (by[1] ?? 0)) > 1e-3);
  });
});
