// The codec `ec` for what is seldom read: values are rounded to steps of one size and the counts of steps are coded by rANS,
// with frequencies chosen for each channel or each vector. Its rate is whatever an error, a size or a step asks for.
// The kernels ec-*.wgsl write and read the same bytes where the steps are the same (a step is chosen in f64 here).
//
// `channels` suits keys, not rotated: of each channel of a block the mean is taken out, and its own class says how wide it
// is. `vectors` suits values, rotated: no mean, a class for each vector. Rotation is the caller's.
// A block is 64 vectors (one head of a KV page); blocks are independent of one another. In u32 words:
//   0  'BLE1'    1  axis (0 channels, 1 vectors, 2 plain) | dim << 8    2  vectors    3  words of the container
//   directory and streams as in rans-streams.ts, 1 + dim/16 to a block:
//     stream 0   the step, a bf16, << 16 | bits of a mean; classes of the channels or vectors, 4 bits each; means of
//                the channels, in half steps, + 2^(bits-1): as many to a word as fit, low first
//     stream 1+l symbols of channels 4l…4l+3 and all that lie a multiple of dim/4 further, vector by vector: the count of
//                steps + 128; then, of each value that no count stands for, two words: its place in the block, its f32
//   or, where that would be larger (plain): the f32 themselves
//   the checksum of all before it, 4 words (checksum.ts): a container with any bit changed is refused
//
// What comes back: mean + steps * step * gain of the class (ec-classes.ts), the same bits from every decoder. A value that
// is not finite, or more steps from the mean than its class reaches, comes back as the f32 it was; -0 and what is smaller
// than half a step of 2^-100 come back as 0. A block of zeros costs next to nothing. One huge value makes the step that an
// error asks for so wide that all others of its block become their mean.
import { EC_AXIS, EC_BLOCK, EC_LANE_CHANNELS } from '../../shaders/entropy-kernels.ts';
import { type BlockCodec, type BlockShape, CorruptContainer } from './block-codec.ts';
import { SEAL_WORDS, sealed, unsealed } from './checksum.ts';
import { classOf, EC_CLASSES, GAIN_UNIT, STEPS_MAX, SYMBOL_ZERO } from './ec-classes.ts';
import { streamReader, streamWriter } from './rans.ts';
import { directoryWords, layStreams, rangesOf } from './rans-streams.ts';

export type EcAxis = keyof typeof EC_AXIS;

/** One of the three says how finely. */
export type EcRate =
  /** At most about this share of each block's energy: a mean square error relative to its mean square. */
  | { readonly error: number }
  /** At most so many bits a value, all counted. */
  | { readonly bits: number }
  /** For each block, as `stepNear` gives it. */
  | { readonly steps: ArrayLike<number> };

export type EcOptions = { readonly axis: EcAxis } & EcRate;

export const EC_DIM_MAX = 256;
export const EC_HEADER_WORDS = 4;
const MEAN_MAX = 32_767;
const MEAN_BITS_MAX = 16;
const MAGIC = 0x3145_4c42;
const PLAIN = 2;
const CLASS_BITS = 4;
const STEP_MIN = 2 ** -100;
const STEP_MAX = 2 ** 100;

/** Streams of a block. */
export const ecStreams = (dim: number): number => 1 + dim / EC_LANE_CHANNELS;

/** The next bf16 at or below, between 2^-100 and 2^100: all that is multiplied by it stays exact in f32. */
export function stepNear(step: number): number {
  if (!(step >= 0))
    throw new Error(`a step of ec is a size, not ${step}; ask for an error of 0 or more, or a step a block`);
  const bounded = Math.min(Math.max(step, STEP_MIN), STEP_MAX);
  const unit = 2 ** (Math.floor(Math.log2(bounded)) - 7);
  return Math.floor(bounded / unit) * unit;
}

/** What kernels take of a step: it, its inverse, and what turns a sum of `vectors` values into half steps of their mean. */
export function stepFactors(step: number, vectors: number): readonly [number, number, number] {
  const inverse = Math.fround(1 / step);
  return [step, inverse, Math.fround((2 * inverse) / vectors)];
}

/** For an error relative to the energy that a block has on average in a value. */
export const stepForError = (error: number, energy: number): number => stepNear(Math.sqrt(12 * error * energy));

function energyOf(values: Float32Array): number {
  let sum = 0;
  for (const x of values) if (Number.isFinite(x)) sum += x * x;
  return sum / values.length;
}

/** To the nearest whole number, ties to even. */
function rounded(x: number): number {
  const near = Math.round(x);
  return near - x === 0.5 && near % 2 !== 0 ? near - 1 : near;
}

// ---- encoding

function* blocksOf({ vectors, dim }: BlockShape) {
  for (let first = 0; first < vectors; first += EC_BLOCK)
    yield { begin: first * dim, end: Math.min(vectors, first + EC_BLOCK) * dim };
}

const isDim = (dim: number) => dim > 0 && dim <= EC_DIM_MAX && dim % EC_LANE_CHANNELS === 0;

function checkShape({ vectors, dim }: BlockShape): void {
  if (!isDim(dim)) throw new Error(`ec codes vectors of 16, 32, … ${EC_DIM_MAX} values, not ${dim}; fill them up`);
  if (!Number.isInteger(vectors) || vectors < 0 || vectors * dim > 2 ** 29)
    throw new Error(`ec takes 2^29 values at most, not ${vectors} vectors of ${dim}; encode them in parts`);
}

function encode(values: Float32Array, shape: BlockShape, options: EcOptions): Uint8Array<ArrayBuffer> {
  checkShape(shape);
  if (values.length !== shape.vectors * shape.dim)
    throw new Error(`${shape.vectors} vectors of ${shape.dim} are not ${values.length} values`);
  if ('bits' in options) return encodeWithin(values, shape, options.axis, options.bits);
  const blocks = [...blocksOf(shape)];
  const steps = blocks.map(({ begin, end }, i) =>
    'steps' in options
      ? stepNear(options.steps[i] ?? Number.NaN)
      : stepForError(options.error, energyOf(values.subarray(begin, end))),
  );
  return encodeSteps(values, shape, options.axis, steps);
}

/** The least of 256 errors, an eighth of an octave apart, that keeps to the size. */
function encodeWithin(values: Float32Array, shape: BlockShape, axis: EcAxis, bits: number): Uint8Array<ArrayBuffer> {
  const bytesMax = (bits * values.length) / 8;
  const at = (i: number) => encode(values, shape, { axis, error: 2 ** (-i / 8) });
  let good = 0;
  let bad = 256;
  let best = at(good);
  while (bad - good > 1) {
    const middle = (good + bad) >> 1;
    const tried = at(middle);
    if (tried.length > bytesMax) bad = middle;
    else [good, best] = [middle, tried];
  }
  if (best.length > bytesMax)
    throw new Error(`ec cannot bring ${values.length} values to ${bits} bits each; ask for more`);
  return best;
}

function encodeSteps(
  values: Float32Array,
  { vectors, dim }: BlockShape,
  axis: EcAxis,
  steps: readonly number[],
): Uint8Array<ArrayBuffer> {
  const streams = [...blocksOf({ vectors, dim })].flatMap(({ begin, end }, i) =>
    encodeBlock(values.subarray(begin, end), dim, axis, steps[i] ?? 0),
  );
  const directory = steps.length * directoryWords(ecStreams(dim));
  const length = directory + streams.reduce((sum, stream) => sum + stream.length, 0);
  const isPlain = length >= values.length;
  const words = new Uint32Array(EC_HEADER_WORDS + (isPlain ? values.length : length) + SEAL_WORDS);
  words.set(ecHead(isPlain ? PLAIN : EC_AXIS[axis], { vectors, dim }, words.length));
  if (isPlain) words.set(new Uint32Array(values.buffer, values.byteOffset, values.length), EC_HEADER_WORDS);
  else layStreams(words, EC_HEADER_WORDS, ecStreams(dim), streams);
  return sealed(words);
}

/** The first words of a container; its axis is one of EC_AXIS, or 2 where it is plain. */
export const ecHead = (axis: number, { vectors, dim }: BlockShape, words: number) => [
  MAGIC,
  axis | (dim << 8),
  vectors,
  words,
];

/** What a block's values are counted from and by. */
export interface EcScale {
  readonly step: number;
  /** In half steps, of each channel; none along vectors. */
  readonly means: Int32Array;
  /** Of each channel or vector. */
  readonly classes: Uint8Array;
}

function encodeBlock(values: Float32Array, dim: number, axis: EcAxis, step: number): Uint32Array[] {
  const { scale, counts } = scaleOf(values, dim, axis, step);
  const lanes = Array.from({ length: dim / EC_LANE_CHANNELS }, (_, lane) => lane);
  return [packScale(scale), ...lanes.map((lane) => encodeLane(values, counts, dim, axis, scale.classes, lane))];
}

/** Of a block: its scale, and how many steps each value is from it. */
export function scaleOf(values: Float32Array, dim: number, axis: EcAxis, step: number) {
  const [, inverse, toMean] = stepFactors(step, values.length / dim);
  const means = axis === 'channels' ? meansOf(values, dim, toMean) : new Int32Array(0);
  const counts = countsOf(values, dim, means, step, inverse);
  const scale: EcScale = { step, means, classes: classesOf(counts, dim, axis) };
  return { scale, counts };
}

/** In half steps: summed in f32, in the order of the vectors, as the kernel does; one that is out of reach is 0. */
function meansOf(values: Float32Array, dim: number, toMean: number): Int32Array {
  return Int32Array.from({ length: dim }, (_, channel) => {
    let sum = 0;
    for (let at = channel; at < values.length; at += dim) {
      const value = values[at] ?? 0;
      if (Number.isFinite(value)) sum = Math.fround(sum + value);
    }
    const halves = Math.fround(sum * toMean);
    return Math.abs(halves) <= MEAN_MAX ? rounded(halves) : 0;
  });
}

const BEYOND = -128;

/** Steps from the mean, -127 to 127; BEYOND for a value that no count stands for. */
function countsOf(values: Float32Array, dim: number, means: Int32Array, step: number, inverse: number): Int8Array {
  const counts = new Int8Array(values.length);
  for (let i = 0; i < values.length; i++) {
    const value = values[i] ?? 0;
    const mean = ((means[i % dim] ?? 0) * step) / 2;
    const steps = Math.fround(Math.fround(value - mean) * inverse);
    counts[i] = Number.isFinite(value) && Math.abs(steps) < STEPS_MAX + 0.5 ? rounded(steps) : BEYOND;
  }
  return counts;
}

function classesOf(counts: Int8Array, dim: number, axis: EcAxis): Uint8Array {
  const vectors = counts.length / dim;
  const sums = new Uint32Array(axis === 'channels' ? dim : vectors);
  for (let i = 0; i < counts.length; i++) {
    const count = counts[i] ?? 0;
    const group = axis === 'channels' ? i % dim : Math.floor(i / dim);
    if (count !== BEYOND) sums[group] = (sums[group] ?? 0) + Math.abs(count);
  }
  return Uint8Array.from(sums, (sum) => classOf(sum, counts.length / sums.length));
}

/** Places in a block, in the order in which a lane codes them. */
function* placesOf(lane: number, dim: number, length: number): Generator<number> {
  for (let four = lane * 4; four < length; four += dim / 4) for (let i = 0; i < 4; i++) yield four + i;
}

function encodeLane(
  values: Float32Array,
  counts: Int8Array,
  dim: number,
  axis: EcAxis,
  classes: Uint8Array,
  lane: number,
): Uint32Array {
  const places = [...placesOf(lane, dim, values.length)];
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const writer = streamWriter();
  const apart: number[] = [];
  for (const place of places.toReversed()) {
    const { table } = classAt(classes, place, dim, axis);
    const symbol = (counts[place] ?? 0) + SYMBOL_ZERO;
    const isCoded = (table.frequencies[symbol] ?? 0) > 0;
    if (!isCoded) apart.push(bits[place] ?? 0, place); // backwards, as all is here
    writer.put(isCoded ? symbol : SYMBOL_ZERO, table);
  }
  return Uint32Array.from([...writer.finish(), ...apart.reverse()]);
}

function classAt(classes: Uint8Array, place: number, dim: number, axis: EcAxis) {
  const own = EC_CLASSES[classes[axis === 'channels' ? place % dim : Math.floor(place / dim)] ?? 0];
  if (!own) throw new Error('a class that there is not'); // four bits, sixteen classes
  return own;
}

// ---- scales, packed

const bitsFor = (means: Int32Array): number => {
  const largest = means.reduce((most, mean) => Math.max(most, Math.abs(mean)), 0);
  return largest === 0 ? 0 : 33 - Math.clz32(largest);
};

/** No field lies across words. */
const fieldsPerWord = (bits: number): number => Math.floor(32 / bits);
const packedWords = (fields: number, bits: number): number =>
  bits === 0 ? 0 : Math.ceil(fields / fieldsPerWord(bits));

function putField(words: Uint32Array, base: number, index: number, bits: number, field: number): void {
  const at = base + Math.floor(index / fieldsPerWord(bits));
  words[at] = (words[at] ?? 0) | (field << ((index % fieldsPerWord(bits)) * bits));
}

function fieldAt(words: Uint32Array, base: number, index: number, bits: number): number {
  const perWord = fieldsPerWord(bits);
  return ((words[base + Math.floor(index / perWord)] ?? 0) >>> ((index % perWord) * bits)) & (2 ** bits - 1);
}

const bf16Of = (step: number) => new Uint32Array(Float32Array.of(step).buffer)[0] ?? 0;

function packScale({ step, means, classes }: EcScale): Uint32Array {
  const bits = bitsFor(means);
  const meansAt = 1 + packedWords(classes.length, CLASS_BITS);
  const words = new Uint32Array(meansAt + packedWords(means.length, bits));
  words[0] = bf16Of(step) | bits;
  for (const [i, own] of classes.entries()) putField(words, 1, i, CLASS_BITS, own);
  if (bits > 0) for (const [i, mean] of means.entries()) putField(words, meansAt, i, bits, mean + 2 ** (bits - 1));
  return words;
}

function unpackScale(words: Uint32Array, dim: number, vectors: number, axis: EcAxis): EcScale {
  const [head = 0] = words;
  const bits = head & 0xffff;
  const step = new Float32Array(Uint32Array.of(head & 0xffff_0000).buffer)[0] ?? 0;
  const groups = axis === 'channels' ? dim : vectors;
  const meansAt = 1 + packedWords(groups, CLASS_BITS);
  const fits = words.length === meansAt + packedWords(axis === 'channels' ? dim : 0, bits);
  if (bits > MEAN_BITS_MAX || !fits || !(step >= STEP_MIN && step <= STEP_MAX))
    throw new CorruptContainer('a scale is not one of ec');
  const classes = Uint8Array.from({ length: groups }, (_, i) => fieldAt(words, 1, i, CLASS_BITS));
  const means = new Int32Array(bits === 0 ? 0 : dim).map((_, i) => fieldAt(words, meansAt, i, bits) - 2 ** (bits - 1));
  return { step, means, classes };
}

// ---- decoding

function decode(bytes: Uint8Array) {
  const words = unsealed(bytes);
  const [magic, head = 0, vectors = 0, total] = words;
  const shape = { vectors, dim: head >>> 8 };
  const axis = head & 0xff;
  if (magic !== MAGIC || axis > PLAIN || !isDim(shape.dim) || total !== words.length + SEAL_WORDS)
    throw new CorruptContainer('its header is not one of ec');
  if (axis !== PLAIN)
    return { values: decodeBlocks(words, shape, axis === EC_AXIS.channels ? 'channels' : 'vectors'), shape };
  if (words.length !== EC_HEADER_WORDS + vectors * shape.dim)
    throw new CorruptContainer('it is not as long as it says');
  return { values: new Float32Array(words.slice(EC_HEADER_WORDS).buffer), shape };
}

function decodeBlocks(words: Uint32Array, shape: BlockShape, axis: EcAxis): Float32Array<ArrayBuffer> {
  const { vectors, dim } = shape;
  const streams = ecStreams(dim);
  const begins = rangesOf(words, EC_HEADER_WORDS, streams, Math.ceil(vectors / EC_BLOCK));
  const values = new Float32Array(vectors * dim);
  let stream = 0;
  for (const { begin, end } of blocksOf(shape)) {
    const own = values.subarray(begin, end);
    const scale = unpackScale(words.subarray(begins[stream], begins[stream + 1]), dim, own.length / dim, axis);
    for (let lane = 0; lane < streams - 1; lane++) {
      const at = stream + 1 + lane;
      decodeLane(words, begins[at] ?? 0, begins[at + 1] ?? 0, own, scale, dim, axis, lane);
    }
    stream += streams;
  }
  return values;
}

function decodeLane(
  words: Uint32Array,
  begin: number,
  end: number,
  values: Float32Array,
  { step, means, classes }: EcScale,
  dim: number,
  axis: EcAxis,
  lane: number,
): void {
  const reader = streamReader(words, begin, end);
  for (const place of placesOf(lane, dim, values.length)) {
    const { table, gain } = classAt(classes, place, dim, axis);
    const steps = reader.next(table) - SYMBOL_ZERO;
    // both products are exact; the sum is rounded once
    values[place] = (steps * gain * step) / GAIN_UNIT + ((means[place % dim] ?? 0) * step) / 2;
  }
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let at = reader.finish(); at < end; at += 2) {
    const place = words[at] ?? 0;
    const isOwn = place < values.length && ((place % dim) >> 2) % (dim / EC_LANE_CHANNELS) === lane;
    if (!isOwn || at + 1 >= end) throw new CorruptContainer('a value that stands apart has no place');
    bits[place] = words[at + 1] ?? 0;
  }
}

export const ec: BlockCodec<EcOptions> = { name: 'ec', encode, decode };
