// Other people's block formats, written from their definitions, value by value as their own quantizers round: ggml's q8_0,
// q4_0 and iq4_nl as its KV cache writes them (no search; ggml.ts compares them with ggml itself), fp8 and NVFP4, and the
// group quantizer of KIVI. Arithmetic is in f32 where theirs is: what divides two levels falls on the same side. Pure.
import { type Coder, type Contestant, inGroups } from './coded.ts';
import { type Vectors, vectorsOf } from './kv-data.ts';

const f32 = Math.fround;
const { f16round } = Math;

// ---- ggml

const GGML_BLOCK = 32;

/** The value of the largest size, with its sign. */
function extreme(values: Float32Array): number {
  let found = 0;
  for (const value of values) if (Math.abs(value) > Math.abs(found)) found = value;
  return found;
}

const inverse = (scale: number): number => (scale === 0 ? 0 : f32(1 / scale));

const roundedAway = (value: number): number => Math.sign(value) * Math.floor(Math.abs(value) + 0.5);

export const q8_0: Coder = (vectors) => ({
  bits: 8 + 16 / GGML_BLOCK,
  values: inGroups(vectors, GGML_BLOCK, (source, target) => {
    const scale = f32(Math.abs(extreme(source)) / 127);
    const by = inverse(scale);
    for (const [i, value] of source.entries()) target[i] = roundedAway(f32(value * by)) * f16round(scale);
  }),
});

export const q4_0: Coder = (vectors) => ({
  bits: 4 + 16 / GGML_BLOCK,
  values: inGroups(vectors, GGML_BLOCK, (source, target) => {
    const scale = f32(extreme(source) / -8);
    const by = inverse(scale);
    for (const [i, value] of source.entries()) {
      const level = Math.min(15, Math.trunc(f32(f32(value * by) + 8.5)));
      target[i] = (level - 8) * f16round(scale);
    }
  }),
});

const IQ4_LEVELS = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
const TINY = 1e-15;

/** Between two levels at equal distance, the upper one. */
function nearestLevel(levels: readonly number[], value: number): number {
  let best = levels[0] ?? 0;
  for (const level of levels) if (f32(level - value) <= f32(Math.abs(best - value))) best = level;
  return best;
}

export const iq4_nl: Coder = (vectors) => ({
  bits: 4 + 16 / GGML_BLOCK,
  values: inGroups(vectors, GGML_BLOCK, (source, target) => {
    const largest = extreme(source);
    if (Math.abs(largest) < TINY) return void target.fill(0);
    const by = f32(1 / f32(largest / -127));
    let [likeness, size] = [0, 0];
    for (const [i, value] of source.entries()) {
      const level = nearestLevel(IQ4_LEVELS, f32(by * value));
      const weight = f32(value * value);
      likeness = f32(likeness + f32(f32(weight * level) * value));
      size = f32(size + f32(f32(weight * level) * level));
      target[i] = level;
    }
    const scale = f16round(f32(likeness / size));
    for (const [i, level] of target.entries()) target[i] = level * scale;
  }),
});

// ---- floats of few bits

/** To the nearest float of so many mantissa bits, ties to even; above `max`, `max`. `bias` sets the smallest exponent. */
function roundedFloat(value: number, mantissaBits: number, bias: number, max: number): number {
  const size = Math.min(Math.abs(value), max);
  if (size === 0) return 0;
  const exponent = Math.max(Math.floor(Math.log2(size)), 1 - bias);
  const unit = 2 ** (exponent - mantissaBits);
  const below = Math.floor(size / unit);
  const rest = size / unit - below;
  const isUp = rest > 0.5 || (rest === 0.5 && below % 2 === 1);
  return Math.sign(value) * Math.min((below + (isUp ? 1 : 0)) * unit, max);
}

const E4M3_MAX = 448;
const E2M1_MAX = 6;
const e4m3 = (value: number): number => roundedFloat(value, 3, 7, E4M3_MAX);
const e2m1 = (value: number): number => roundedFloat(value, 1, 1, E2M1_MAX);

/** Scale 1, as a KV cache without calibration uses it. */
export const fp8: Coder = ({ values }) => ({ bits: 8, values: values.map(e4m3) });

const NVFP4_BLOCK = 16;
export const nvfp4: Coder = (vectors) => {
  const whole = Math.abs(extreme(vectors.values)) / (E4M3_MAX * E2M1_MAX);
  return {
    bits: 4 + 8 / NVFP4_BLOCK,
    values: inGroups(vectors, NVFP4_BLOCK, (source, target) => {
      const scale = whole === 0 ? 0 : e4m3(Math.abs(extreme(source)) / E2M1_MAX / whole) * whole;
      for (const [i, value] of source.entries()) target[i] = scale === 0 ? 0 : e2m1(value / scale) * scale;
    }),
  };
};

// ---- KIVI

/** From the least to the largest of a group in equal steps: an f16 step and an f16 zero for each group. */
const minToMax =
  (bits: number, group: number): Coder =>
  (vectors) => ({
    bits: bits + 32 / group,
    values: inGroups(vectors, group, (source, target) => {
      const levels = 2 ** bits - 1;
      const least = source.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
      const most = source.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
      const step = f16round((most - least) / levels);
      const zero = f16round(least);
      for (const [i, value] of source.entries()) {
        const level = step === 0 ? 0 : Math.max(0, Math.min(levels, Math.round((value - zero) / step)));
        target[i] = level * step + zero;
      }
    }),
  });

/** Rows become columns: what was one channel of successive tokens lies together. */
function transposed({ values, dim }: Vectors): Vectors {
  const count = values.length / dim;
  const result = new Float32Array(values.length);
  for (let row = 0; row < count; row++)
    for (let i = 0; i < dim; i++) result[i * count + row] = values[row * dim + i] ?? 0;
  return vectorsOf(result, count);
}

const byChannel =
  (code: Coder): Coder =>
  (vectors) => {
    const columns = transposed(vectors);
    const { values, bits } = code(columns);
    return { values: transposed(vectorsOf(values, columns.dim)).values, bits };
  };

/** Groups of K are of one channel and successive tokens, groups of V of one token. */
export const kivi = (bits: number, group: number): Contestant => ({
  ...{ name: `KIVI int${bits} g${group}`, isOurs: false },
  ...{ keys: byChannel(minToMax(bits, group)), values: minToMax(bits, group) },
});
