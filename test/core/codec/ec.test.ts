// The codec `ec`: its error at its rate, all bytes counted, on seeded data; what it makes of values that are none; and that
// nothing comes back from a damaged container.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { CorruptContainer } from '../../../core/codec/block-codec.ts';
import { checksumOf, sealed } from '../../../core/codec/checksum.ts';
import { type EcAxis, type EcOptions, ec, stepForError, stepNear } from '../../../core/codec/ec.ts';
import { classOf, classWords, EC_CLASSES } from '../../../core/codec/ec-classes.ts';
import { hadamard } from '../../../shaders/references.ts';
import { seeded } from '../../support/seeded.ts';
import { heavyValues, kvRandom, normalVectors, outlierKeys, relativeError } from './kv-data.ts';

const random = seeded();
const where = `SEED=${random.seed}`;
const AXES = ['channels', 'vectors'] as const;
const DIM = 128;

function roundTrip(values: Float32Array, dim: number, options: EcOptions) {
  const shape = { vectors: values.length / dim, dim };
  const container = ec.encode(values, shape, options);
  const got = ec.decode(container);
  assert.deepEqual(got.shape, shape);
  return { container, values: got.values, bits: (container.length * 8) / values.length };
}

/** Page by page, each in a container of its own: what it costs at worst. */
function pages(values: Float32Array, options: EcOptions) {
  const got = new Float32Array(values.length);
  let bytes = 0;
  for (let at = 0; at < values.length; at += 64 * DIM) {
    const page = roundTrip(values.subarray(at, at + 64 * DIM), DIM, options);
    got.set(page.values, at);
    bytes += page.container.length;
  }
  return { got, bits: (bytes * 8) / values.length, error: relativeError(values, got) };
}

describe('the rate of ec, every page a container of its own', () => {
  const TOKENS = 2048;
  const holds = (values: Float32Array, options: EcOptions, bitsMax: number, errorMax: number) => {
    const { bits, error } = pages(values, options);
    assert.ok(bits <= bitsMax && error <= errorMax, `${bits} bits, error ${error}`);
  };

  test('normal numbers: 3.10 bits for an error of .0265, 3.85 for .0094', () => {
    const values = normalVectors(1, TOKENS, DIM);
    holds(values, { axis: 'vectors', error: 0.0265 }, 3.1, 0.0265);
    holds(values, { axis: 'vectors', error: 0.0094 }, 3.85, 0.0094);
    holds(values, { axis: 'channels', error: 0.0272 }, 3.1, 0.0265);
  });

  test('keys with outlier channels: 3.2 bits for an error of .0031', () => {
    holds(outlierKeys(3, TOKENS), { axis: 'channels', error: 0.0031 }, 3.2, 0.0031);
  });

  test('heavy-tailed values, rotated: 3.85 bits for an error of .0066', () => {
    const rotated = Float32Array.from(hadamard(heavyValues(4, TOKENS), DIM));
    holds(rotated, { axis: 'vectors', error: 0.0066 }, 3.85, 0.0066);
  });

  test('keeps to a number of bits, and takes what that allows', () => {
    const keys = outlierKeys(5, 512);
    for (const [bits, error] of [
      [2, 0.0145],
      [3, 0.0036],
      [4, 0.0009],
    ] as const) {
      const found = roundTrip(keys, DIM, { axis: 'channels', bits });
      assert.ok(found.bits <= bits && found.bits > bits - 0.15, `${found.bits} of ${bits}`);
      assert.ok(relativeError(keys, found.values) < error, `${bits} bits: ${relativeError(keys, found.values)}`);
    }
    assert.throws(() => roundTrip(keys, DIM, { axis: 'channels', bits: 0.01 }), {
      message: /to 0.01 bits each; ask for/,
    });
  });
});

describe('attention over keys and values of ec', () => {
  const TOKENS = 4096;
  const QUERIES = 48;
  const meanOf = (keys: Float32Array, channel: number) => {
    let sum = 0;
    for (let at = channel; at < keys.length; at += DIM) sum += keys[at] ?? 0;
    return sum / TOKENS;
  };

  /** Queries that look at one key, and noise, scaled so that logits have a standard deviation of 2. */
  function queriesOf(keys: Float32Array): Float64Array[] {
    const next = kvRandom.gaussian(77);
    const means = Array.from({ length: DIM }, (_, channel) => meanOf(keys, channel));
    return Array.from({ length: QUERIES }, (_, i) => {
      const token = 4 + Math.floor(kvRandom.uniform(500 + i)() * (TOKENS - 8));
      const key = means.map((mean, channel) => (keys[token * DIM + channel] ?? 0) - mean);
      const length = Math.hypot(...key);
      const query = Float64Array.from(key, (x) => (0.35 * x) / length + next() / Math.sqrt(DIM));
      const logits = logitsOf(query, keys);
      const mean = logits.reduce((a, b) => a + b, 0) / TOKENS;
      const deviation = Math.sqrt(logits.reduce((sum, x) => sum + (x - mean) ** 2, 0) / TOKENS);
      return query.map((x) => (2 * x) / deviation);
    });
  }

  function logitsOf(query: Float64Array, keys: Float32Array): Float64Array {
    const logits = new Float64Array(TOKENS);
    for (let token = 0; token < TOKENS; token++) {
      let sum = 0;
      for (let channel = 0; channel < DIM; channel++) sum += (query[channel] ?? 0) * (keys[token * DIM + channel] ?? 0);
      logits[token] = sum;
    }
    return logits;
  }

  function attend(query: Float64Array, keys: Float32Array, values: Float32Array): Float64Array {
    const logits = logitsOf(query, keys);
    const most = logits.reduce((a, b) => Math.max(a, b));
    const output = new Float64Array(DIM);
    let total = 0;
    for (let token = 0; token < TOKENS; token++) {
      const weight = Math.exp((logits[token] ?? 0) - most);
      total += weight;
      for (let channel = 0; channel < DIM; channel++)
        output[channel] = (output[channel] ?? 0) + weight * (values[token * DIM + channel] ?? 0);
    }
    return output.map((x) => x / total);
  }

  function holds(
    keys: Float32Array,
    plainValues: Float32Array,
    errors: readonly [number, number],
    limit: number,
  ): void {
    const values = Float32Array.from(hadamard(plainValues, DIM)); // orthonormal: outputs are as far apart as unrotated ones
    const [k, v] = [
      pages(keys, { axis: 'channels', error: errors[0] }),
      pages(values, { axis: 'vectors', error: errors[1] }),
    ];
    const apart = queriesOf(keys).map((query) => {
      const wanted = attend(query, keys, values);
      const got = attend(query, k.got, v.got);
      return Math.hypot(...got.map((x, i) => x - (wanted[i] ?? 0))) / Math.hypot(...wanted);
    });
    const error = apart.reduce((a, b) => a + b, 0) / QUERIES;
    const ratio = (k.bits + v.bits) / 32;
    assert.ok(
      ratio <= 0.3 && error <= limit,
      `output error ${error} at ${ratio} of f16 (${k.bits} and ${v.bits} bits)`,
    );
  }

  test('normal keys and values: an output error of .10 in .30 of the size of f16', () => {
    holds(normalVectors(11, TOKENS, DIM), normalVectors(12, TOKENS, DIM), [0.0013, 0.0054], 0.1);
  });

  test('keys with outliers, heavy values with means: .05 in .30', () => {
    const next = kvRandom.gaussian(15);
    const means = Array.from({ length: DIM }, () => 0.7 * next());
    const values = heavyValues(14, TOKENS).map((x, i) => x + (means[i % DIM] ?? 0));
    holds(outlierKeys(13, TOKENS), values, [0.0002, 0.0037], 0.05);
  });
});

describe('what comes back from ec', () => {
  test('is as near as the steps, for every dim, axis and number of vectors', () => {
    for (const axis of AXES)
      for (const [dim, vectors] of [
        [16, 1],
        [64, 64],
        [80, 65],
        [96, 3],
        [128, 200],
        [256, 127],
        [48, 0],
      ] as const) {
        const values = normalVectors(random.below(1e9), vectors, dim).map((x, i) => x * (1 + (i % dim)));
        const step = 0.25;
        const steps = new Array(Math.ceil(vectors / 64)).fill(step);
        const { values: got } = roundTrip(values, dim, { axis, steps });
        const lowestGain = Math.min(...EC_CLASSES.map(({ gain }) => gain)) / 256;
        for (const [i, value] of values.entries()) {
          const apart = Math.abs(value - (got[i] ?? 0));
          assert.ok(apart <= step * (0.5 + 127 * (1 - lowestGain)), `${axis} ${dim}: ${apart}, ${where}`);
        }
        if (values.length > 0) assert.ok(relativeError(values, got) < 0.01);
      }
  });

  test('does not change when its steps are coded again', () => {
    const keys = outlierKeys(21, 64);
    const options = { axis: 'channels', steps: [0.5] } as const;
    assert.deepEqual(
      ec.encode(keys, { vectors: 64, dim: DIM }, options),
      ec.encode(keys, { vectors: 64, dim: DIM }, options),
    );
  });

  test('is the very f32 where a value is not finite or beyond all steps', () => {
    const values = normalVectors(7, 64, 64);
    const bits = new Uint32Array(values.buffer);
    const odd = [0x7f80_0000, 0xff80_0000, 0x7fc0_0001, 0xffc1_2345, 0x7f80_0001, 0x7f7f_ffff, 0xff7f_ffff];
    const places = odd.map((_, i) => 17 + i * 501);
    for (const [i, place] of places.entries()) bits[place] = odd[i] ?? 0;
    for (const axis of AXES) {
      const { values: got } = roundTrip(values, 64, { axis, steps: [0.25] });
      const found = new Uint32Array(got.buffer);
      for (const [i, place] of places.entries()) assert.equal(found[place], odd[i], `${axis} ${i}`);
      for (const [i, value] of values.entries())
        if (!places.includes(i)) assert.ok(Math.abs(value - (got[i] ?? 0)) < 0.5, `${axis} ${i}`);
    }
  });

  test('is zeros for zeros, for -0 and for denormals, at next to no cost', () => {
    for (const axis of AXES) {
      const zeros = roundTrip(new Float32Array(64 * DIM), DIM, { axis, error: 0.01 });
      assert.ok(zeros.values.every((x) => Object.is(x, 0)));
      assert.ok(zeros.bits < 0.2, `${zeros.bits}`);
      const tiny = new Float32Array(64 * DIM).map((_, i) => (i % 2 ? -0 : 2 ** -140));
      assert.ok(roundTrip(tiny, DIM, { axis, error: 0.01 }).values.every((x) => Object.is(x, 0)));
    }
  });

  test('is within the error that was asked for, even where one value outweighs all others', () => {
    for (const axis of AXES) {
      const values = normalVectors(9, 64, DIM);
      values[4321] = 1e30;
      const { values: got, bits } = roundTrip(values, DIM, { axis, error: 0.01 });
      assert.ok(relativeError(values, got) <= 0.01);
      assert.ok(bits < 0.3, `${bits}`);
      assert.ok(got.every((x, i) => i === 4321 || Math.abs(x) < 1e29));
    }
  });

  test('is every f32 as it was where nothing can be gained: such a container is plain', () => {
    const values = new Float32Array(random.bytes(64 * DIM * 4).slice().buffer);
    for (const axis of AXES) {
      const { container, values: got } = roundTrip(values, DIM, { axis, steps: [2 ** -100] });
      assert.equal(container.length, values.byteLength + 32);
      assert.deepEqual(new Uint32Array(got.buffer), new Uint32Array(values.buffer));
    }
  });

  test('needs the same blocks alone as among others', () => {
    const keys = outlierKeys(23, 192);
    const all = roundTrip(keys, DIM, { axis: 'channels', error: 0.003 });
    for (let block = 0; block < 3; block++) {
      const part = keys.subarray(block * 64 * DIM, (block + 1) * 64 * DIM);
      const alone = roundTrip(part, DIM, { axis: 'channels', error: 0.003 }).values;
      assert.deepEqual(alone, all.values.slice(block * 64 * DIM, (block + 1) * 64 * DIM));
    }
  });
});

describe('ec.encode()', () => {
  test('says which shapes it takes', () => {
    const encode = (length: number, vectors: number, dim: number) =>
      ec.encode(new Float32Array(length), { vectors, dim }, { axis: 'vectors', error: 0.1 });
    assert.throws(() => encode(100, 1, 100), { message: /16, 32, … 256 values, not 100/ });
    assert.throws(() => encode(512, 1, 512), { message: /not 512; fill them up/ });
    assert.throws(() => encode(100, 2, 64), { message: /2 vectors of 64 are not 100 values/ });
    assert.throws(() => encode(0, 2 ** 30, 64), { message: /2\^29 values at most/ });
    const one = (rate: { error: number } | { steps: number[] }) =>
      ec.encode(new Float32Array(64).fill(1), { vectors: 1, dim: 64 }, { axis: 'vectors', ...rate });
    assert.throws(() => one({ error: -1 }), { message: /not NaN; ask for an error of 0 or more/ });
    assert.throws(() => one({ error: Number.NaN }), { message: /0 or more/ });
    assert.throws(() => one({ steps: [-1] }), { message: /not -1/ });
    assert.throws(() => one({ steps: [] }), { message: /not NaN; ask for .* a step a block/ });
  });

  test('takes steps that stay exact in f32: 8 bits, never above what was asked', () => {
    for (let round = 0; round < 1000; round++) {
      const asked = 2 ** (random.next() * 240 - 120);
      const step = stepNear(asked);
      const [bits = 1] = new Uint32Array(Float32Array.of(step).buffer);
      assert.ok(step === Math.fround(step) && (bits & 0xffff) === 0, `${step}, ${where}`);
      if (asked >= 2 ** -100 && asked <= 2 ** 100)
        assert.ok(step <= asked && step > asked * 0.99, `${asked}, ${where}`);
    }
    assert.equal(stepForError(0.01, 0), 2 ** -100);
    assert.equal(stepNear(Number.POSITIVE_INFINITY), 2 ** 100);
  });
});

describe('ec.decode()', () => {
  const container = () =>
    ec.encode(
      outlierKeys(31, 64, 128).subarray(0, 20 * DIM),
      { vectors: 20, dim: DIM },
      { axis: 'channels', error: 0.01 },
    );

  test('refuses a container with any one bit changed', () => {
    const good = container();
    for (let bit = 0; bit < good.length * 8; bit++) {
      const changed = good.slice();
      changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      assert.throws(() => ec.decode(changed), CorruptContainer, `bit ${bit}`);
    }
  });

  test('refuses a container that is cut or longer', () => {
    const good = container();
    for (const length of [0, 3, 16, 32, good.length - 4, good.length - 1])
      assert.throws(() => ec.decode(good.subarray(0, length)), CorruptContainer);
    const longer = new Uint8Array(good.length + 4);
    longer.set(good);
    assert.throws(() => ec.decode(longer), CorruptContainer);
  });

  test('gives an answer of the stated shape or refuses, even where the checksum is right', () => {
    const values = normalVectors(3, 70, 64);
    values[99] = Number.NaN;
    const good = AXES.map((axis: EcAxis) => ec.encode(values, { vectors: 70, dim: 64 }, { axis, error: 0.01 }));
    let refused = 0;
    for (let round = 0; round < 2000; round++) {
      const changed = new Uint32Array((good[round % 2] ?? new Uint8Array(0)).slice().buffer);
      const at = random.below(3) === 0 ? random.below(20) : random.below(changed.length - 4);
      changed[at] = random.below(4) === 0 ? random.below(2 ** 32) : (changed[at] ?? 0) ^ (1 << random.below(32));
      const fresh = sealed(changed);
      try {
        const { values: got, shape } = ec.decode(fresh);
        assert.equal(got.length, shape.vectors * shape.dim, where);
      } catch (error) {
        assert.ok(error instanceof CorruptContainer, `${error}, ${where}`);
        refused++;
      }
    }
    assert.ok(refused > 1000, `${refused} refused`);
  });
});

describe('the classes of ec', () => {
  test('are these words for ever', () => {
    const { encode, decode } = classWords();
    const sums = [encode, decode].map((words) => [...checksumOf(words)].map((word) => word.toString(16)).join(' '));
    assert.deepEqual(sums, KNOWN);
  });

  test('are told by the mean number of steps, rising', () => {
    const froms = EC_CLASSES.map(({ from }) => from);
    assert.deepEqual(
      froms,
      [...froms].sort((a, b) => a - b),
    );
    assert.equal(classOf(0, 64), 0);
    assert.equal(classOf(127 * 256, 256), 15);
    for (const [i, from] of froms.entries()) if (i > 0) assert.equal(classOf(from, 4096), i);
  });
});

const KNOWN = ['3fd6fa50 a93ad819 b3b89e38 dda5dba6', 'a83f3ea0 b8cde063 44182177 53b51974'];
